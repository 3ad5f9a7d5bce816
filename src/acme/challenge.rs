//! Pending challenges: TLS-ALPN-01 in handshakes, HTTP-01 on port 80.

use super::settings::Name;
use crate::tls::PostQuantum;
use crate::tls::server::{ClientCertificates, ServerIdentity, ServerSettings, server_config};
use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The application protocol of an authority that checks a TLS-ALPN-01 challenge (RFC 8737 section 4).
pub const TLS_ALPN: &[u8] = b"acme-tls/1";

/// What is answered now. Empty most of the time.
#[derive(Debug, Default)]
pub struct Challenges {
    /// By the name in the handshake.
    tls: RwLock<HashMap<String, Arc<ServerConfig>>>,
    /// By token.
    http: RwLock<HashMap<String, String>>,
}

/// A published challenge response, withdrawn when dropped.
#[derive(Debug)]
pub(super) struct Answer {
    challenges: Arc<Challenges>,
    tls: Option<(String, Arc<ServerConfig>)>,
    http: Option<String>,
}

impl Challenges {
    /// The TLS configuration with which a challenge under this name is answered; `None`: there is none.
    pub fn tls(&self, sni: &str) -> Option<Arc<ServerConfig>> {
        self.tls.read().get(sni).cloned()
    }

    /// The text for a token.
    pub(super) fn http(&self, token: &str) -> Option<String> {
        self.http.read().get(token).cloned()
    }

    /// Answers TLS-ALPN-01 for a name, with the digest of the key authorization.
    pub(super) fn answer_tls(self: &Arc<Self>, name: &Name, digest: &[u8]) -> Result<Answer, String> {
        let config = challenge_config(name, digest)?;
        let sni = sni(name);
        self.tls.write().insert(sni.clone(), config.clone());
        Ok(Answer { challenges: self.clone(), tls: Some((sni, config)), http: None })
    }

    /// Answers HTTP-01 for a token, with the key authorization.
    pub(super) fn answer_http(self: &Arc<Self>, token: &str, authorization: &str) -> Answer {
        self.http.write().insert(token.to_owned(), authorization.to_owned());
        Answer { challenges: self.clone(), tls: None, http: Some(token.to_owned()) }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some((sni, own)) = &self.tls {
            let mut all = self.challenges.tls.write();
            // Another order for the name may have begun to answer meanwhile.
            if all.get(sni).is_some_and(|config| Arc::ptr_eq(config, own)) {
                all.remove(sni);
            }
        }
        self.http.iter().for_each(|token| drop(self.challenges.http.write().remove(token)));
    }
}

/// The name in the handshake of an authority that checks `name`: for an address, its name for reverse look-ups (RFC 8738
/// section 6).
fn sni(name: &Name) -> String {
    match name {
        Name::Dns(name) => name.clone(),
        Name::Ip(IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Name::Ip(IpAddr::V6(ip)) => {
            let digits = format!("{:032x}", ip.to_bits());
            let reversed: String = digits.chars().rev().flat_map(|digit| [digit, '.']).collect();
            format!("{reversed}ip6.arpa")
        }
    }
}

/// A self-signed certificate that carries the digest (RFC 8737 section 3), and offers nothing but the challenge's protocol.
fn challenge_config(name: &Name, digest: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let fault = |error: rcgen::Error| format!("a certificate for the challenge cannot be made: {error}");
    let digest: &[u8; 32] = digest.try_into().map_err(|_| "the digest of a challenge has 32 bytes")?;
    let key = KeyPair::generate().map_err(fault)?;
    let mut params = CertificateParams::new(vec![name.to_string()]).map_err(fault)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(fault)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signing = any_supported_type(&private).map_err(|error| error.to_string())?;
    // Nobody may use it for anything else: its extension is critical, so that it cannot be read as a usual certificate.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
    let settings = ServerSettings {
        identity: ServerIdentity::Renewed(Arc::new(SingleCertAndKey::from(certified))),
        pq: PostQuantum::Off,
        client_certificates: ClientCertificates::None,
        client_ca: Vec::new(),
        client_crl: Vec::new(),
        expired_crl: Default::default(),
    };
    let mut config = (*server_config(settings).map_err(|error| error.to_string())?).clone();
    config.alpn_protocols = vec![TLS_ALPN.to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        let of = |ip: &str| sni(&Name::Ip(ip.parse().unwrap()));
        assert_eq!(of("192.0.2.7"), "7.2.0.192.in-addr.arpa");
        assert_eq!(
            of("2001:db8::1"),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
        assert_eq!(sni(&Name::Dns("a.example".into())), "a.example");
    }

    #[test]
    fn an_answer_is_given_as_long_as_it_is_held() {
        let challenges = Arc::new(Challenges::default());
        assert!(challenges.tls("a.example").is_none() && challenges.http("token").is_none());
        let tls = challenges.answer_tls(&Name::Dns("a.example".into()), &[7; 32]).unwrap();
        let http = challenges.answer_http("token", "token.thumb");
        assert_eq!(challenges.tls("a.example").unwrap().alpn_protocols, [TLS_ALPN]);
        assert_eq!(challenges.http("token").as_deref(), Some("token.thumb"));
        drop((tls, http));
        assert!(challenges.tls("a.example").is_none() && challenges.http("token").is_none());
        assert!(challenges.answer_tls(&Name::Dns("a.example".into()), &[7; 31]).is_err());
    }
}
