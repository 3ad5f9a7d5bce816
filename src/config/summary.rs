//! What `staunch check` prints of a good configuration. Holds no secret.

use crate::names::RouteName;
use serde::Serialize;
use std::fmt;
use std::time::SystemTime;

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
    /// `http` or `raw`.
    pub protocol: String,
    /// Where it leads.
    pub upstream: String,
    /// Who may, one line a rule.
    pub allow: Vec<String>,
    /// Names of the headers that the gateway sets.
    pub inject: Vec<String>,
    /// Whether clients show a certificate.
    pub client_certificates: String,
    /// Post-quantum key exchange with clients, and with the upstream.
    pub pq: (String, String),
    /// What expiry does.
    pub on_expiry: String,
    /// When the certificate that clients are shown ends, in seconds since 1970.
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
            writeln!(
                f,
                "  client certificates {}, on expiry {}",
                route.client_certificates, route.on_expiry
            )?;
            writeln!(f, "  post-quantum: clients {}, upstream {}", route.pq.0, route.pq.1)?;
            let left = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(route.certificate_not_after);
            let days = left.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400);
            writeln!(f, "  certificate ends in {days} days")?;
        }
        Ok(())
    }
}
