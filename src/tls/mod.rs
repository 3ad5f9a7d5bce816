//! TLS, both legs: configuration and handshakes through rustls, records through our own hands afterwards.
//!
//! [`server`] answers clients, [`client`] speaks to upstreams; both end in a [`leg::Leg`], which holds the socket
//! and the traffic keys. [`record`] is the pure part: one TLS record opened or sealed in place; only `outbox`
//! seals.

mod cipher;
pub mod client;
pub mod explain;
mod fault;
pub mod handshake;
pub(crate) mod handshake_queue;
pub mod leg;
pub(crate) mod outbox;
pub mod peer_certificate;
pub mod record;
mod renewal;
pub mod server;

use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, NamedGroup};
use std::sync::Arc;

/// Post-quantum key exchange (X25519MLKEM768) on a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PostQuantum {
    /// First choice where both ends can.
    #[default]
    Prefer,
    /// Nothing else: a peer without it is refused. Implies TLS 1.3.
    Require,
    /// Not offered.
    Off,
}

/// True when this processor can compute X25519MLKEM768 with the implementation at hand, graviola's, which has no other
/// way than these instructions. Its X25519 needs no more than they.
pub fn post_quantum_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("aes") && has!("ssse3") && has!("avx2") && has!("adx") && has!("bmi2") && has!("pclmulqdq")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The ring provider, with the key exchange groups that `pq` asks for. X25519 is graviola's where the processor can
/// compute it: a handshake of two legs takes a fifth less time than with ring's, a resumed one a third.
///
/// `None` when `pq` is [`PostQuantum::Require`] and this processor cannot.
pub fn provider(pq: PostQuantum) -> Option<Arc<CryptoProvider>> {
    let mut provider = rustls::crypto::ring::default_provider();
    // As a client, AES-128-GCM first: strong enough, and a good fifth cheaper than AES-256-GCM. Clients of ours choose
    // for themselves, since some of them have no AES instructions.
    provider.cipher_suites.sort_by_key(|s| s.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    if post_quantum_available() {
        let faster: &'static dyn SupportedKxGroup = &rustls_graviola::kx::X25519;
        for group in provider.kx_groups.iter_mut().filter(|group| group.name() == NamedGroup::X25519) {
            *group = faster;
        }
    }
    let hybrid: &'static dyn SupportedKxGroup = rustls_graviola::kx::X25519MLKEM768;
    match (pq, post_quantum_available()) {
        (PostQuantum::Require, false) => return None,
        (PostQuantum::Require, true) => provider.kx_groups = vec![hybrid],
        (PostQuantum::Prefer, true) => provider.kx_groups.insert(0, hybrid),
        (PostQuantum::Prefer, false) | (PostQuantum::Off, _) => {}
    }
    Some(Arc::new(provider))
}

/// The name of a key exchange group as OpenSSL and the registries spell it.
pub fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::secp521r1 => "P-521",
        _ => "other",
    }
}
