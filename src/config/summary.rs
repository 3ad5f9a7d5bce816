//! What `staunch check` prints of a good configuration. Holds no secret.

use crate::acme::{Certificate, Status};
use crate::names::RouteName;
use serde::Serialize;
use std::fmt;
use std::time::SystemTime;
use x509_parser::time::ASN1Time;

/// The resolved configuration, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Client connections at a time; 0: no limit.
    pub connections: usize,
    /// Bytes of memory that the process may use, where a control group limits that.
    pub memory_limit: Option<u64>,
    /// Where clients connect.
    pub listeners: Vec<String>,
    /// Where sessions are recorded, and for how many auditors.
    pub recordings: Option<(String, usize)>,
    /// Who cosigns the log of recordings.
    pub witnesses: Vec<String>,
    /// Where the log of recordings is time-stamped.
    pub timestamps: Option<String>,
    /// Where others' logs are witnessed, and how many.
    pub witnesses_logs: Option<(String, usize)>,
    /// Who issues tokens.
    pub issuers: Vec<String>,
    /// What the running gateway may still do on its machine.
    pub sandbox: String,
    /// Names that lead to every route.
    pub tunnels: Vec<TunnelSummary>,
    /// What clients can reach.
    pub routes: Vec<RouteSummary>,
}

/// One listener's tunnel.
#[derive(Clone, Debug, Serialize)]
pub struct TunnelSummary {
    /// The listener's address.
    pub listener: String,
    /// The name that clients ask for.
    pub sni: String,
    /// Names that its certificate is good for.
    pub certificate_names: Vec<String>,
    /// When that certificate ends, in seconds since 1970; `None`: it has not been issued yet.
    pub certificate_not_after: Option<u64>,
    /// Who issues it; `None`: it stands in files.
    pub acme: Option<AcmeSummary>,
}

/// A certificate that is ordered and renewed.
#[derive(Clone, Debug, Serialize)]
pub struct AcmeSummary {
    /// Who is asked, in turn.
    pub authorities: Vec<String>,
    /// Orders that failed since the last success.
    pub failures: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// No order before this moment, in seconds since 1970.
    pub next_attempt: Option<u64>,
}

impl AcmeSummary {
    pub(super) fn of(certificate: &Certificate) -> Self {
        let Status { failures, last_error, next_attempt, .. } = certificate.status();
        AcmeSummary { authorities: certificate.authorities(), failures, last_error, next_attempt }
    }
}

/// One route as it is in force.
#[derive(Clone, Debug, Serialize)]
pub struct RouteSummary {
    /// Its name.
    pub name: String,
    /// Names that clients ask for; none where only a tunnel leads to it.
    pub sni: Vec<String>,
    /// True when a tunnel leads to it.
    pub tunnel: bool,
    /// `http`, `postgres`, `raw` or `redis`.
    pub protocol: String,
    /// Its route.
    pub upstream: String,
    /// Who may, one line a rule.
    pub allow: Vec<String>,
    /// Names of the headers that the gateway sets, and users as whom it logs in.
    pub inject: Vec<String>,
    /// How many bytes of each statement are logged; `None`: statements are not.
    pub statements: Option<usize>,
    /// How its sessions are recorded; `None`: they are not.
    pub records: Option<String>,
    /// Whether clients show a certificate.
    pub client_certificates: String,
    /// Post-quantum key exchange with clients, and with the upstream.
    pub pq: (String, String),
    /// True where nothing encrypts or verifies the upstream leg.
    pub plaintext_upstream: bool,
    /// What is masked.
    pub masks: Vec<MaskSummary>,
    /// What expiry does.
    pub on_expiry: String,
    /// Names that the certificate that clients are shown is good for.
    pub certificate_names: Vec<String>,
    /// When that certificate ends, in seconds since 1970; `None` without one.
    pub certificate_not_after: Option<u64>,
    /// Who issues it; `None`: it stands in files.
    pub acme: Option<AcmeSummary>,
    /// When the first of the lists of revoked client certificates is to be replaced, in seconds since 1970, and whether
    /// clients are refused from then on.
    pub crl_next_update: Option<(u64, bool)>,
    /// Serial numbers on these lists.
    #[serde(skip)]
    pub crl_serials: Vec<std::sync::Arc<str>>,
}

/// What is masked in one direction of a route.
#[derive(Clone, Debug, Serialize)]
pub struct MaskSummary {
    /// `up` or `down`.
    pub direction: &'static str,
    /// `mask` or `observe`.
    pub mode: &'static str,
    /// Limits on holding a candidate.
    pub hold: String,
    /// What then becomes of it: `mask` or `pass`.
    pub at_limit: &'static str,
    /// Each rule, what of a value may pass before its hold point, and what it does not find.
    pub rules: Vec<(String, String, String)>,
}

impl Summary {
    /// When each certificate from files ends: by route, and for a tunnel by `tunnel:` and its name, which no
    /// route can be called.
    pub fn certificates(&self) -> Vec<(RouteName, SystemTime)> {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let of = |r: &RouteSummary| Some((RouteName(r.name.as_str().into()), at(r.certificate_not_after?)));
        let of_tunnel = |t: &TunnelSummary| {
            Some((RouteName(format!("tunnel:{}", t.sni).into()), at(t.certificate_not_after?)))
        };
        let routes = self.routes.iter().filter(|route| route.acme.is_none()).filter_map(of);
        let tunnels = self.tunnels.iter().filter(|tunnel| tunnel.acme.is_none()).filter_map(of_tunnel);
        routes.chain(tunnels).collect()
    }
}

impl Summary {
    /// Until when lists of revoked certificates count, by route, where clients are refused from then on.
    pub fn revocations(&self) -> Vec<(RouteName, SystemTime)> {
        let of = |route: &RouteSummary| {
            let (seconds, _) = route.crl_next_update.filter(|(_, refuses)| *refuses)?;
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            Some((RouteName(route.name.as_str().into()), at))
        };
        self.routes.iter().filter_map(of).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listens on  {}", self.listeners.join(", "))?;
        if let Some(bytes) = self.memory_limit {
            writeln!(f, "memory      {} MiB: {} connections at most", bytes >> 20, self.connections)?;
        }
        if let Some((directory, auditors)) = &self.recordings {
            writeln!(f, "records     into {directory}, for {auditors} auditors")?;
        }
        if !self.witnesses.is_empty() {
            writeln!(f, "witnessed   by {}", self.witnesses.join(", "))?;
        }
        if let Some(url) = &self.timestamps {
            writeln!(f, "timestamps  by {url}")?;
        }
        if let Some((address, logs)) = &self.witnesses_logs {
            writeln!(f, "witnesses   {logs} logs on {address}")?;
        }
        if !self.issuers.is_empty() {
            writeln!(f, "believes    {}", self.issuers.join(", "))?;
        }
        writeln!(f, "sandbox     {}", self.sandbox)?;
        for tunnel in &self.tunnels {
            writeln!(f, "\ntunnel {} on {}", tunnel.sni, tunnel.listener)?;
            if let Some(ends) = tunnel.certificate_not_after {
                certificate(f, &tunnel.certificate_names, ends)?;
            }
            acme(f, tunnel.acme.as_ref(), tunnel.certificate_not_after, &tunnel.certificate_names)?;
        }
        for route in &self.routes {
            writeln!(f, "\nroute {} ({})", route.name, route.protocol)?;
            let tunnel = route.tunnel.then_some("CONNECT").into_iter();
            let from: Vec<&str> = route.sni.iter().map(String::as_str).chain(tunnel).collect();
            writeln!(f, "  {}  →  {}", from.join(", "), route.upstream)?;
            if route.plaintext_upstream {
                let what = "the upstream leg has no encryption and no verification";
                writeln!(f, "  PLAINTEXT   {what} (unsafe_plaintext_upstream)")?;
            }
            for rule in &route.allow {
                writeln!(f, "  allows      {rule}")?;
            }
            if !route.inject.is_empty() {
                writeln!(f, "  sets        {}", route.inject.join(", "))?;
            }
            if let Some(limit) = route.statements {
                writeln!(f, "  logs        statements, up to {limit} bytes of each")?;
            }
            if let Some(records) = &route.records {
                writeln!(f, "  records     {records}")?;
            }
            for mask in &route.masks {
                writeln!(
                    f,
                    "  {:<11} what goes {}; holds for {}, then {}",
                    if mask.mode == "mask" { "masks" } else { "observes" },
                    mask.direction,
                    mask.hold,
                    if mask.at_limit == "mask" { "masks" } else { "LETS PASS" },
                )?;
                for (name, passes, misses) in &mask.rules {
                    writeln!(f, "    {name:<16} may pass: {passes}; does not find: {misses}")?;
                }
                writeln!(f, "    not looked at: {NOT_LOOKED_AT}")?;
            }
            writeln!(
                f,
                "  client certificates {}, on expiry {}",
                route.client_certificates, route.on_expiry
            )?;
            writeln!(f, "  post-quantum: clients {}, upstream {}", route.pq.0, route.pq.1)?;
            if let Some((next, _)) = route.crl_next_update {
                writeln!(f, "  revocation list to be replaced by {}", day(next))?;
            }
            if let Some(ends) = route.certificate_not_after {
                certificate(f, &route.certificate_names, ends)?;
            }
            acme(f, route.acme.as_ref(), route.certificate_not_after, &route.certificate_names)?;
        }
        Ok(())
    }
}

fn acme(
    f: &mut fmt::Formatter<'_>,
    acme: Option<&AcmeSummary>,
    not_after: Option<u64>,
    names: &[String],
) -> fmt::Result {
    let Some(AcmeSummary { authorities, failures, last_error, .. }) = acme else { return Ok(()) };
    let authorities = authorities.join(", ");
    match not_after {
        Some(_) => writeln!(f, "  renewed by {authorities}")?,
        None => writeln!(
            f,
            "  certificate for {}: none yet, {authorities} is asked when the gateway runs",
            names.join(", ")
        )?,
    }
    if let Some(error) = last_error {
        writeln!(f, "  FAILED      {failures} order(s) since the last success: {error}")?;
    }
    Ok(())
}

/// What no rule looks at.
const NOT_LOOKED_AT: &str = "heads (but for what is taken out of them), images, audio, video, names of JSON members, signed thinking, \
                             base64, comments of event streams, \
                             binary messages of WebSocket";

fn certificate(f: &mut fmt::Formatter<'_>, names: &[String], ends: u64) -> fmt::Result {
    let left = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(ends);
    let days = left.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400);
    writeln!(f, "  certificate for {}, until {} ({days} days)", names.join(", "), day(ends))
}

/// The day of a moment in seconds since 1970, as `2026-11-23`.
pub(super) fn day(seconds: u64) -> String {
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
