//! Live sessions as they are shown: the same facts for programs (JSON) and for people (the page). Holds no secret.

use super::live::Row;
use crate::audit::{LegFacts, rfc3339};
use crate::policy::Identity;
use crate::session::legs::is_post_quantum;
use crate::session::registry::{Connecting, Facts};
use crate::tls::peer_certificate::PeerCertificate;
use serde::Serialize;
use std::time::SystemTime;

/// One live session.
#[derive(Serialize)]
pub(super) struct SessionView {
    pub(super) id: String,
    /// Stage, as in the log.
    pub(super) stage: &'static str,
    pub(super) route: Option<String>,
    pub(super) protocol: Option<&'static str>,
    pub(super) sni: Option<String>,
    pub(super) remote: String,
    pub(super) listener: String,
    pub(super) worker: usize,
    pub(super) tunnel: bool,
    /// The last identity that was permitted or refused.
    pub(super) identity: Option<IdentityView>,
    /// `None` before the handshake is complete.
    pub(super) client: Option<LegView>,
    /// `None` before the upstream is reached.
    pub(super) upstream: Option<LegView>,
    pub(super) dialled_ahead: bool,
    pub(super) age_seconds: f64,
    pub(super) up_bytes: u64,
    pub(super) down_bytes: u64,
    /// Bytes a second since the last look, or since the session began.
    pub(super) up_rate: f64,
    pub(super) down_rate: f64,
    pub(super) requests: u64,
    pub(super) under_way: u32,
    pub(super) recorded: bool,
    pub(super) database: Option<DatabaseView>,
    /// Badges.
    pub(super) badges: Vec<&'static str>,
}

/// Who speaks.
#[derive(Serialize)]
pub(super) struct IdentityView {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) groups: Vec<String>,
    pub(super) proof: &'static str,
    pub(super) expires: String,
    /// By which a revocation can name this proof alone.
    pub(super) token_id: Option<String>,
    pub(super) serial: Option<String>,
}

/// One leg's encryption.
#[derive(Serialize)]
pub(super) struct LegView {
    pub(super) peer: String,
    /// False where nothing protects the leg.
    pub(super) tls: bool,
    pub(super) version: &'static str,
    pub(super) cipher: &'static str,
    pub(super) group: Option<String>,
    pub(super) post_quantum: bool,
    pub(super) resumed: bool,
    pub(super) alpn: Option<String>,
    pub(super) verified: &'static str,
    pub(super) certificate: Option<CertificateView>,
    /// The gateway's own certificate, on the client leg of one session that is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway_certificate: Option<OwnCertificateView>,
}

/// The certificate that the gateway shows.
#[derive(Serialize)]
pub(super) struct OwnCertificateView {
    pub(super) not_after: String,
    /// Negative after its end.
    pub(super) days_left: i64,
}

/// A peer's certificate.
#[derive(Clone, Serialize)]
pub(super) struct CertificateView {
    pub(super) name: String,
    pub(super) sha256: String,
    pub(super) not_after: Option<String>,
    /// Negative after its end.
    pub(super) days_left: Option<i64>,
}

/// What a database client connected to.
#[derive(Serialize)]
pub(super) struct DatabaseView {
    pub(super) database: String,
    pub(super) client_user: String,
    pub(super) application: String,
    pub(super) user: Option<String>,
}

impl SessionView {
    pub(super) fn new(row: &Row, now: SystemTime) -> Self {
        let (snapshot, facts) = (&row.snapshot, &row.snapshot.facts);
        let route = facts.route.as_ref();
        let leg = |leg: Option<LegFacts<'_>>, handshake: Option<&crate::tls::handshake::Facts>| {
            leg.zip(handshake).map(|(leg, facts)| {
                LegView::new(&leg, is_post_quantum(facts), facts.peer_certificate.as_deref(), now)
            })
        };
        let client = leg(facts.client_leg(), facts.client.as_ref());
        let upstream = leg(facts.upstream_leg(), facts.upstream.as_ref().map(|(facts, _)| facts));
        SessionView {
            id: snapshot.id.to_string(),
            stage: facts.stage.name(),
            route: route.map(|route| route.name.to_string()),
            protocol: route.map(|route| route.protocol.name()),
            sni: facts.sni.as_deref().map(str::to_owned),
            remote: facts.remote.0.to_string(),
            listener: snapshot.listener.to_string(),
            worker: snapshot.worker,
            tunnel: facts.tunnel,
            identity: facts.identity.as_deref().map(IdentityView::new),
            badges: badges(client.as_ref(), upstream.as_ref(), is_recorded(facts)),
            client,
            upstream,
            dialled_ahead: facts.dialled_ahead,
            age_seconds: (snapshot.age.as_secs_f64() * 10.0).round() / 10.0,
            up_bytes: snapshot.up,
            down_bytes: snapshot.down,
            up_rate: row.up_rate.round(),
            down_rate: row.down_rate.round(),
            requests: snapshot.requests,
            under_way: snapshot.under_way,
            recorded: is_recorded(facts),
            database: facts.database.as_deref().map(DatabaseView::new),
        }
    }
}

/// Sessions of a route that is recorded are, from their first byte.
fn is_recorded(facts: &Facts) -> bool {
    facts.route.as_ref().is_some_and(|route| route.recording.is_some())
}

fn badges(client: Option<&LegView>, upstream: Option<&LegView>, recorded: bool) -> Vec<&'static str> {
    let mut badges = Vec::new();
    let mut add = |badge| {
        if !badges.contains(&badge) {
            badges.push(badge);
        }
    };
    let legs: Vec<_> = client.into_iter().chain(upstream).collect();
    for leg in legs.iter().filter(|leg| leg.tls) {
        add(if leg.version == "TLSv1.3" { "TLS 1.3" } else { "TLS 1.2" });
    }
    let tls = || legs.iter().filter(|leg| leg.tls);
    if tls().next().is_some() && tls().all(|leg| leg.post_quantum) {
        add("post-quantum");
    }
    if legs.iter().any(|leg| !leg.tls) {
        add("plaintext hop");
    }
    if !recorded {
        add("not recorded");
    }
    badges
}

impl IdentityView {
    fn new(identity: &Identity) -> Self {
        let claim = |name| identity.claims.values(name).next().map(str::to_owned);
        IdentityView {
            issuer: identity.issuer.to_string(),
            subject: identity.subject.to_string(),
            groups: identity.groups.iter().take(MAX_GROUPS).map(|group| group.to_string()).collect(),
            proof: identity.proof.name(),
            expires: rfc3339(identity.expires),
            token_id: claim("jti"),
            serial: claim("serial"),
        }
    }
}

/// Groups of an identity that are shown.
const MAX_GROUPS: usize = 32;

impl LegView {
    fn new(
        leg: &LegFacts<'_>,
        post_quantum: bool,
        certificate: Option<&PeerCertificate>,
        now: SystemTime,
    ) -> Self {
        let tls = leg.version != crate::audit::NO_TLS;
        LegView {
            peer: leg.peer.to_string(),
            tls,
            version: leg.version,
            cipher: leg.cipher,
            group: leg.group.map(str::to_owned),
            post_quantum,
            resumed: leg.resumed,
            alpn: leg.alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
            verified: leg.verified.name(),
            certificate: certificate.map(|certificate| CertificateView::of_peer(certificate, now)),
            gateway_certificate: None,
        }
    }
}

impl CertificateView {
    pub(super) fn of_peer(certificate: &PeerCertificate, now: SystemTime) -> Self {
        CertificateView {
            name: certificate.name.to_string(),
            sha256: certificate.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after: certificate.not_after.map(rfc3339),
            days_left: certificate.not_after.map(|end| days_left(end, now)),
        }
    }
}

/// Whole days from `now` to `end`; negative after it.
pub(super) fn days_left(end: SystemTime, now: SystemTime) -> i64 {
    const DAY: u64 = 86_400;
    match end.duration_since(now) {
        Ok(left) => (left.as_secs() / DAY) as i64,
        Err(over) => -((over.duration().as_secs() / DAY) as i64) - 1,
    }
}

impl DatabaseView {
    fn new(connecting: &Connecting) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        DatabaseView {
            database: text(&connecting.database),
            client_user: text(&connecting.client_user),
            application: text(&connecting.application),
            user: connecting.user.as_deref().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn leg(version: &'static str, post_quantum: bool) -> LegView {
        LegView {
            peer: "192.0.2.1:1".into(),
            tls: version != crate::audit::NO_TLS,
            version,
            cipher: "TLS_AES_128_GCM_SHA256",
            group: None,
            post_quantum,
            resumed: false,
            alpn: None,
            verified: "chain",
            certificate: None,
            gateway_certificate: None,
        }
    }

    #[test]
    fn badges_tell_the_weaker_leg() {
        let (new, old, clear) =
            (leg("TLSv1.3", true), leg("TLSv1.2", false), leg(crate::audit::NO_TLS, false));
        assert_eq!(badges(Some(&new), Some(&new), true), ["TLS 1.3", "post-quantum"]);
        assert_eq!(badges(Some(&new), Some(&old), true), ["TLS 1.3", "TLS 1.2"]);
        assert_eq!(
            badges(Some(&new), Some(&clear), false),
            ["TLS 1.3", "post-quantum", "plaintext hop", "not recorded"]
        );
        assert!(badges(None, None, true).is_empty());
    }

    #[test]
    fn days_are_counted_whole_and_below_zero_after_the_end() {
        let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        assert_eq!(days_left(at(10), at(3)), 7);
        assert_eq!(days_left(at(10), at(10)), 0);
        assert_eq!(days_left(at(10), at(10) + Duration::from_secs(1)), -1);
    }
}
