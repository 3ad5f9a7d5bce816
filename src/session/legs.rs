//! The evidence of a leg's encryption, for the closing line and for whoever looks at live sessions.

use super::registry::Facts;
use crate::audit::{LegFacts, NO_TLS, Verified};
use crate::metrics::WorkerMetrics;
use crate::names::{Reached, Side};
use crate::tls::handshake;
use crate::tls::server::ClientCertificates;
use std::time::Duration;

impl Facts {
    /// The client leg, once its handshake is complete.
    pub fn client_leg(&self) -> Option<LegFacts<'_>> {
        let facts = self.client.as_ref()?;
        let asked = self.route.as_ref().filter(|_| !self.tunnel).map(|route| route.client_certificates);
        let verified = match (&facts.peer_certificate, asked) {
            (Some(_), _) => Verified::Chain,
            (None, Some(ClientCertificates::Optional)) => Verified::NotShown,
            (None, _) => Verified::NotAsked,
        };
        Some(leg(facts, self.remote.0.into(), verified))
    }

    /// The upstream leg, once its handshake is complete.
    pub fn upstream_leg(&self) -> Option<LegFacts<'_>> {
        let (facts, address) = self.upstream.as_ref()?;
        let is_pinned = self.route.as_ref().is_some_and(|route| route.upstream.is_pinned());
        let verified = match (facts.is_tls(), is_pinned) {
            (false, _) => Verified::NotAtAll,
            (true, true) => Verified::ChainAndPin,
            (true, false) => Verified::Chain,
        };
        Some(leg(facts, address.clone(), verified))
    }
}

/// True when the key exchange withstands a quantum computer.
pub fn is_post_quantum(facts: &handshake::Facts) -> bool {
    facts.group == Some(rustls::NamedGroup::X25519MLKEM768)
}

/// Counts an upstream leg, which without TLS had no handshake.
pub(super) fn upstream_opened(metrics: &WorkerMetrics, facts: &handshake::Facts, took: Duration) {
    match facts.is_tls() {
        true => metrics.handshake(Side::Upstream, facts.resumed, is_post_quantum(facts), took),
        false => metrics.plaintext_upstream(),
    }
}

fn leg(facts: &handshake::Facts, peer: Reached, verified: Verified) -> LegFacts<'_> {
    LegFacts {
        peer,
        version: match facts.version {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(_) => "other",
            None => NO_TLS,
        },
        cipher: facts.cipher,
        group: facts.group.map(crate::tls::group_name),
        resumed: facts.resumed,
        alpn: facts.alpn.as_deref().map(str::as_bytes),
        certificate_sha256: facts.peer_certificate.as_ref().map(|certificate| certificate.sha256),
        verified,
    }
}
