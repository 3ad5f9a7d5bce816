//! What `staunch check` prints of a good configuration. Holds no secret.

use crate::names::RouteName;
use serde::Serialize;
use std::fmt;
use std::time::SystemTime;
use x509_parser::time::ASN1Time;

/// The resolved configuration, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Where clients connect.
    pub listeners: Vec<String>,
    /// Who issues tokens.
    pub issuers: Vec<String>,
    /// What clients can reach.
    pub routes: Vec<RouteSummary>,
}

/// One route as it is in force.
#[derive(Clone, Debug, Serialize)]
pub struct RouteSummary {
    /// Its name.
    pub name: String,
    /// Names that clients ask for.
    pub sni: Vec<String>,
    /// `http`, `postgres`, `raw` or `redis`.
    pub protocol: String,
    /// Where it leads.
    pub upstream: String,
    /// Who may, one line a rule.
    pub allow: Vec<String>,
    /// Names of the headers that the gateway sets, and users as whom it logs in.
    pub inject: Vec<String>,
    /// How many bytes of each statement are logged; `None`: statements are not.
    pub statements: Option<usize>,
    /// Whether clients show a certificate.
    pub client_certificates: String,
    /// Post-quantum key exchange with clients, and with the upstream.
    pub pq: (String, String),
    /// What expiry does.
    pub on_expiry: String,
    /// Names that the certificate that clients are shown is good for.
    pub certificate_names: Vec<String>,
    /// When that certificate ends, in seconds since 1970.
    pub certificate_not_after: u64,
}

impl Summary {
    /// When each route's certificate ends.
    pub fn certificates(&self) -> Vec<(RouteName, SystemTime)> {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let of = |r: &RouteSummary| (RouteName(r.name.as_str().into()), at(r.certificate_not_after));
        self.routes.iter().map(of).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listens on  {}", self.listeners.join(", "))?;
        if !self.issuers.is_empty() {
            writeln!(f, "believes    {}", self.issuers.join(", "))?;
        }
        for route in &self.routes {
            writeln!(f, "\nroute {} ({})", route.name, route.protocol)?;
            writeln!(f, "  {}  →  {}", route.sni.join(", "), route.upstream)?;
            for rule in &route.allow {
                writeln!(f, "  allows      {rule}")?;
            }
            if !route.inject.is_empty() {
                writeln!(f, "  sets        {}", route.inject.join(", "))?;
            }
            if let Some(limit) = route.statements {
                writeln!(f, "  logs        statements, up to {limit} bytes of each")?;
            }
            writeln!(
                f,
                "  client certificates {}, on expiry {}",
                route.client_certificates, route.on_expiry
            )?;
            writeln!(f, "  post-quantum: clients {}, upstream {}", route.pq.0, route.pq.1)?;
            let left = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(route.certificate_not_after);
            let days = left.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400);
            let names = route.certificate_names.join(", ");
            writeln!(
                f,
                "  certificate for {names}, until {} ({days} days)",
                day(route.certificate_not_after)
            )?;
        }
        Ok(())
    }
}

/// The day of a moment in seconds since 1970, as `2026-11-23`.
fn day(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|s| ASN1Time::from_timestamp(s).ok());
    moment.map_or_else(String::new, |at| {
        let date = at.to_datetime().date();
        format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_moment_has_its_day() {
        assert_eq!(super::day(0), "1970-01-01");
        assert_eq!(super::day(951_782_400), "2000-02-29");
        assert_eq!(super::day(951_868_799), "2000-02-29");
    }
}
