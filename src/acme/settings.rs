//! Settings: names, authorities, and the challenge type.

use crate::net::https::HttpsUrl;
use crate::secret::Secret;
use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use std::sync::Arc;

/// Authorities that need no configuration: name, directory, and the directory for trying things out.
pub const BUILT_IN: [(&str, &str, Option<&str>); 2] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
        Some("https://acme-staging-v02.api.letsencrypt.org/directory"),
    ),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory", None),
];

/// The directory of a built-in authority, and the one for trying things out.
pub fn built_in(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    BUILT_IN.iter().find(|(known, ..)| *known == name).map(|(_, directory, staging)| (*directory, *staging))
}

/// One configured certificate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is to be good for, at least one.
    pub names: Vec<Name>,
    /// Asked in turn until one issues, at least one.
    pub authorities: Vec<Arc<Authority>>,
    /// How control of the names is proven.
    pub challenge: ChallengeKind,
    /// The program that sets DNS records, with its first arguments; empty unless `challenge` is DNS-01.
    pub dns_hook: Vec<String>,
}

/// An authority that issues by ACME.
#[derive(Clone, Debug)]
pub struct Authority {
    /// How the configuration calls it: a built-in name, a configured one, or the URL itself.
    pub name: String,
    /// The directory's URL.
    pub directory: HttpsUrl,
    /// A directory whose failures count little: tried before this one once an order has failed.
    pub staging: Option<HttpsUrl>,
    /// Authorities of the directory's own certificate; `None`: the system's.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// The binding to an account elsewhere (RFC 8555 section 7.3.4).
    pub eab: Option<Arc<Eab>>,
    /// The certificate profile to ask for.
    pub profile: Option<String>,
    /// Where the authority writes to, as URLs (`mailto:…`).
    pub contact: Vec<String>,
}

/// An external account binding.
#[derive(Debug)]
pub struct Eab {
    /// The key's identifier.
    pub key_id: String,
    /// The MAC key, decoded.
    pub key: Secret,
}

/// How control of a name is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChallengeKind {
    /// A certificate shown on port 443 under the protocol name `acme-tls/1` (RFC 8737).
    #[default]
    TlsAlpn01,
    /// A text served on port 80 (RFC 8555 section 8.3).
    Http01,
    /// A TXT record (RFC 8555 section 8.4); the only one for wildcards.
    Dns01,
}

impl ChallengeKind {
    /// The word in the configuration and in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            ChallengeKind::TlsAlpn01 => "tls-alpn-01",
            ChallengeKind::Http01 => "http-01",
            ChallengeKind::Dns01 => "dns-01",
        }
    }
}

/// What a certificate is good for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A DNS name, lower case; a leading `*.` stands for one label.
    Dns(String),
    /// An address (RFC 8738).
    Ip(IpAddr),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Dns(name) => f.write_str(name),
            Name::Ip(ip) => ip.fmt(f),
        }
    }
}

impl Settings {
    /// The names as texts, in the order in which they were written.
    pub fn name_texts(&self) -> Vec<String> {
        self.names.iter().map(Name::to_string).collect()
    }

    /// What files of this certificate are called: the first name, and a digest of all of them. It says nothing of the
    /// authority: a certificate of the former one serves until the new one has issued.
    pub fn key(&self) -> String {
        let mut names = self.name_texts();
        names.sort_unstable();
        names.dedup();
        let digest = ring::digest::digest(&ring::digest::SHA256, names.join("\n").as_bytes());
        let digest: String = digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let first: String = self.names.first().map(Name::to_string).unwrap_or_default();
        let first: String = first.chars().map(plain).take(MAX_NAME).collect();
        format!("{first}-{digest}")
    }

    /// The configured authority that has this directory, or this one for trying things out.
    pub(super) fn authority_of(&self, directory: &str) -> Option<&Arc<Authority>> {
        self.authorities.iter().find(|authority| authority.directory.text() == directory)
    }
}

/// Characters of a name in the name of a file.
const MAX_NAME: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_the_names_whatever_their_order() {
        let settings = |names: &[&str]| Settings {
            names: names.iter().map(|name| Name::Dns((*name).into())).collect(),
            authorities: Vec::new(),
            challenge: ChallengeKind::default(),
            dns_hook: Vec::new(),
        };
        let one = settings(&["a.example", "b.example"]).key();
        assert!(one.starts_with("a.example-"), "{one}");
        assert_eq!(one[one.len() - 12..], settings(&["b.example", "a.example"]).key()["b.example-".len()..]);
        assert_ne!(one, settings(&["a.example"]).key());
        assert!(settings(&["*.a.example"]).key().starts_with("_.a.example-"));
    }
}
