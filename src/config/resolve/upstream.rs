//! Where a route leads, and with which certificates on both legs.

use super::context::{Context, server_authorities};
use crate::config::advice;
use crate::config::certificates;
use crate::config::fault::FaultCollector;
use crate::config::model::{self, Text};
use crate::config::units;
use crate::dial::{DEFAULT_DNS_TTL, Upstream};
use crate::secret::shown_url;
use crate::tls::PostQuantum;
use crate::tls::client::{ClientSettings, leg_config};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// Longer, and a service that has moved is missed for too long.
const MAX_DNS_TTL: Duration = Duration::from_secs(3600);

impl Context<'_> {
    /// Reads a certificate and its key; faults stand at whichever of the two they are in.
    pub(super) fn pair(
        &self,
        chain: &Text,
        key: &Text,
        notes: &mut FaultCollector<'_>,
    ) -> Option<certificates::Pair> {
        let leaf = notes.take(chain.span(), certificates::chain(chain.get_ref(), self.base, self.now));
        let private = notes.take(key.span(), certificates::key(key.get_ref(), self.base));
        let (leaf, private) = (leaf?, private?);
        if let Some(warning) = &leaf.warning {
            notes.warn(chain.span(), warning);
        }
        let shown = |text: &Text| certificates::shown(text.get_ref(), self.base);
        notes.take(key.span(), certificates::pair(leaf, private, &shown(chain), &shown(key)))
    }

    /// The upstream, its key exchange, and the authority that requests to it carry.
    pub(super) fn upstream(
        &mut self,
        written: &Spanned<model::Upstream>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<(Upstream, PostQuantum, String)> {
        let base = self.base;
        let (address, span, table) = match written.get_ref() {
            model::Upstream::Address(address) => (address, written.span(), None),
            model::Upstream::Table(table) => (table.address.get_ref(), table.address.span(), Some(&**table)),
        };
        let target = notes.take(span.clone(), tls_address(address));
        let roots = match table.and_then(|table| table.ca.as_ref()) {
            Some(ca) => server_authorities(ca, base, notes)
                .and_then(|all| notes.take(ca.span(), own_roots(all, &base.join(ca.get_ref())))),
            None => Some(self.system_roots.get_or_insert_with(system_roots).clone()),
        };
        let pin = match table.and_then(|table| table.pin.as_ref()) {
            Some(text) => notes.take(text.span(), pin(text.get_ref())).map(Some),
            None => Some(None),
        };
        let certificate = match table.and_then(|table| table.certificate.as_ref()) {
            Some(written) => {
                self.pair(&written.chain, &written.key, notes).map(|pair| Some((pair.chain, pair.key)))
            }
            None => Some(None),
        };
        let pq = self.pq(table.map_or(&None, |table| &table.pq), notes);
        let own_name = target.as_ref().and_then(|(host, _)| notes.take(span.clone(), server_name(host)));
        let name = match table.and_then(|table| table.sni.as_ref()) {
            Some(sni) => notes.take(sni.span(), server_name(sni.get_ref())),
            None => own_name.clone(),
        };
        let dns_ttl = match table.and_then(|table| table.dns_ttl.as_ref()) {
            Some(text) => {
                let ttl = notes.take(text.span(), units::duration(text.get_ref()));
                if ttl.is_some_and(|ttl| ttl > MAX_DNS_TTL) {
                    notes.fault(
                        text.span(),
                        "addresses older than an hour are wrong too often; write at most \"1h\"",
                    );
                }
                ttl
            }
            None => Some(DEFAULT_DNS_TTL),
        };
        if let Some(user) = table.and_then(|table| table.peer_user.as_ref()) {
            notes.fault(
                user.span(),
                "peer_user is for a Unix socket; an upstream with TLS proves itself by its certificate",
            );
        }
        let ((host, port), _, name, pq, pin) = (target?, own_name?, name?, pq?, pin?);
        let settings = ClientSettings { roots: roots?, pin, certificate: certificate?, pq };
        let tls = notes.take(span, leg_config(settings).map_err(|fault| fault.to_string()))?;
        // A server that has several names expects the one that TLS was begun with (RFC 9110 section 7.4).
        let called = table.and_then(|table| table.sni.as_ref()).map_or(&host, |sni| sni.get_ref());
        let shown = if called.contains(':') { format!("[{called}]") } else { called.clone() };
        let authority = if port == 443 { shown } else { format!("{shown}:{port}") };
        let upstream = Upstream::new(host, port, name, tls, pin.is_some()).with_dns_ttl(dns_ttl?);
        Some((upstream, pq, authority))
    }
}

/// `tls://host:port` → host (without brackets) and port.
fn tls_address(text: &str) -> Result<(String, u16), String> {
    if text.contains('@') {
        // Not repeated: a password may stand there.
        return Err("an upstream has no user and no password in its address; write \"tls://host:port\", and inject for the account".into());
    }
    let wrong = || format!("{} is no upstream; {}", shown_url(text), advice::upstream(text));
    let (host, port) =
        text.strip_prefix("tls://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| {
        let advice = if text.is_ascii() { "" } else { "; write its form in ASCII, which begins with xn--" };
        format!("{text:?} is neither a DNS name nor an address{advice}")
    })
}

fn own_roots(authorities: Vec<CertificateDer<'_>>, path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate).map_err(|fault| format!("{}: {fault}", path.display()))?;
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn pin(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("{text:?} is no pin; write \"sha256/\" and the base64 of the key's SHA-256");
    let base64 = text.strip_prefix("sha256/").ok_or_else(wrong)?;
    BASE64_STANDARD.decode(base64).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)
}
