//! Later keys of a leg (RFC 8446 section 7.2), from the secrets that its handshake agreed on.
//!
//! rustls would renew them as well, but keeps 0.8 KiB for it and the peer's certificates besides, more than all that an
//! idle connection needs. What it hands over are keys; the secrets that later keys come from it tells to its key log only. So
//! [`SecretCapture`] stands there, asks for exactly these two and passes them to the handshake that is being driven, to nobody else.

use super::record::{Secrets, Suite, Version};
use crate::names::Side;
use rustls::crypto::tls13::OkmBlock;
use rustls::{CipherSuite, KeyLog, SupportedCipherSuite, Tls13CipherSuite};
use std::cell::RefCell;
use zeroize::Zeroizing;

/// Bytes of the longest secret: SHA-384's.
const MAX_SECRET: usize = 48;
/// Bytes of the longest key.
const MAX_KEY: usize = 32;

/// A traffic secret; as long as the suite's hash.
struct Traffic {
    bytes: Zeroizing<[u8; MAX_SECRET]>,
    length: u8,
}

impl Traffic {
    fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; MAX_SECRET]);
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Traffic { bytes, length: secret.len() as u8 })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What a handshake told of its secrets so far.
#[derive(Default)]
pub(super) struct CapturedSecrets {
    client: Option<Traffic>,
    server: Option<Traffic>,
}

thread_local! {
    /// What was told since somebody gathered. A step of a handshake is one call that waits for nothing, so this is about
    /// the connection whose step it was.
    static CAPTURED: RefCell<CapturedSecrets> = const { RefCell::new(CapturedSecrets { client: None, server: None }) };
}

impl CapturedSecrets {
    /// Takes what the last step of the handshake told. Must follow each step, also one that failed.
    pub(super) fn gather(&mut self) {
        let told = CAPTURED.take();
        self.client = told.client.or(self.client.take());
        self.server = told.server.or(self.server.take());
    }
}

/// Stands where rustls would log secrets, and keeps them in the process.
#[derive(Debug)]
pub(super) struct SecretCapture;

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

impl KeyLog for SecretCapture {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        CAPTURED.with_borrow_mut(|told| match label {
            CLIENT => told.client = Traffic::new(secret),
            SERVER => told.server = Traffic::new(secret),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        label == CLIENT || label == SERVER
    }
}

/// What the keys of a leg are renewed from.
pub(super) struct Renewal {
    hash: &'static Tls13CipherSuite,
    suite: Suite,
    rx: Traffic,
    tx: Traffic,
}

/// A key that follows another.
pub(super) struct Renewed {
    suite: Suite,
    key: Zeroizing<[u8; MAX_KEY]>,
    iv: [u8; 12],
}

impl Renewed {
    /// As the record layer takes it.
    pub(super) fn secrets(&self) -> Secrets<'_> {
        let length = self.suite.key_length();
        Secrets { version: Version::Tls13, suite: self.suite, key: &self.key[..length], iv: self.iv }
    }
}

impl Renewal {
    /// `None` unless the suite is one of TLS 1.3 and both secrets were told.
    pub(super) fn new(peer: Side, caught: CapturedSecrets, suite: SupportedCipherSuite) -> Option<Self> {
        let hash = suite.tls13()?;
        let suite = match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Suite::Aes128Gcm,
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Suite::Aes256Gcm,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Suite::Chacha20Poly1305,
            _ => return None,
        };
        let (client, server) = (caught.client?, caught.server?);
        let (rx, tx) = match peer {
            Side::Client => (client, server),
            Side::Upstream => (server, client),
        };
        Some(Renewal { hash, suite, rx, tx })
    }

    /// The secret that our present key comes from.
    pub(super) fn tx_secret(&self) -> &[u8] {
        self.tx.bytes()
    }

    /// The peer's next key.
    pub(super) fn next_rx(&mut self) -> Option<Renewed> {
        Self::next(self.hash, self.suite, &mut self.rx)
    }

    /// Our next key.
    pub(super) fn next_tx(&mut self) -> Option<Renewed> {
        Self::next(self.hash, self.suite, &mut self.tx)
    }

    fn next(hash: &Tls13CipherSuite, suite: Suite, traffic: &mut Traffic) -> Option<Renewed> {
        let mut later = Zeroizing::new([0; MAX_SECRET]);
        expand_label(hash, traffic.bytes(), b"traffic upd", &mut later[..usize::from(traffic.length)])?;
        traffic.bytes = later;
        let (mut key, mut iv) = (Zeroizing::new([0; MAX_KEY]), [0; 12]);
        expand_label(hash, traffic.bytes(), b"key", &mut key[..suite.key_length()])?;
        expand_label(hash, traffic.bytes(), b"iv", &mut iv)?;
        Some(Renewed { suite, key, iv })
    }
}

/// HKDF-Expand-Label without a context (RFC 8446 section 7.1).
fn expand_label(hash: &Tls13CipherSuite, secret: &[u8], label: &[u8], out: &mut [u8]) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let info: [&[u8]; 5] = [&length, &label_length, PREFIX, label, &[0]];
    hash.hkdf_provider.expander_for_okm(&OkmBlock::new(secret)).expand_slice(&info, out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{PostQuantum, provider};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::server::UnbufferedServerConnection;
    use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
    use std::sync::Arc;

    /// Both ends of a finished handshake with this suite, and what the server's end told.
    fn after_handshake(suite: CipherSuite) -> (UnbufferedServerConnection, CapturedSecrets) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap().der().clone();
        let mut provider = (*provider(PostQuantum::Off).unwrap()).clone();
        provider.cipher_suites.retain(|s| s.suite() == suite);
        let provider = Arc::new(provider);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider.clone());
        let client = client.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider);
        let server = server.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut server = server.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        server.key_log = Arc::new(SecretCapture);
        server.enable_secret_extraction = true;
        server.send_tls13_tickets = 0;
        let name = ServerName::try_from("a.test").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = UnbufferedServerConnection::new(Arc::new(server)).unwrap();
        let (mut caught, mut to_server) = (CapturedSecrets::default(), Vec::new());
        for _ in 0..3 {
            while client.wants_write() {
                client.write_tls(&mut to_server).unwrap();
            }
            let mut to_client = Vec::new();
            loop {
                let UnbufferedStatus { discard, state } = server.process_tls_records(&mut to_server);
                caught.gather();
                let waits = match state.unwrap() {
                    ConnectionState::EncodeTlsData(mut data) => {
                        let from = to_client.len();
                        to_client.resize(from + 4096, 0);
                        let length = data.encode(&mut to_client[from..]).unwrap();
                        to_client.truncate(from + length);
                        false
                    }
                    ConnectionState::TransmitTlsData(data) => {
                        data.done();
                        false
                    }
                    ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => true,
                    other => panic!("{other:?}"),
                };
                to_server.drain(..discard);
                if waits {
                    break;
                }
            }
            client.read_tls(&mut &to_client[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        (server, caught)
    }

    #[test]
    fn later_keys_are_those_that_rustls_would_have_made() {
        for suite in [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ] {
            // As an upstream's peer we stand where the client stood: what the server sends by is what we receive by.
            for peer in [Side::Client, Side::Upstream] {
                let (server, caught) = after_handshake(suite);
                let mut ours = Renewal::new(peer, caught, server.negotiated_cipher_suite().unwrap()).unwrap();
                let (_, mut theirs) = server.dangerous_into_kernel_connection().unwrap();
                for round in 0..3 {
                    let same = |ours: Renewed, theirs| {
                        let theirs = Secrets::from_rustls(&theirs, rustls::ProtocolVersion::TLSv1_3).unwrap();
                        let ours = ours.secrets();
                        assert_eq!(ours.suite, theirs.suite);
                        let equal = ours.key == theirs.key && ours.iv == theirs.iv;
                        assert!(equal, "{suite:?}, {peer:?}, round {round}");
                    };
                    let rx = theirs.update_rx_secret().unwrap().1;
                    let tx = theirs.update_tx_secret().unwrap().1;
                    let (rx, tx) = if peer == Side::Client { (rx, tx) } else { (tx, rx) };
                    same(ours.next_rx().unwrap(), rx);
                    same(ours.next_tx().unwrap(), tx);
                }
            }
        }
    }

    #[test]
    fn secrets_of_one_handshake_are_gathered_once_and_others_are_not_asked_for() {
        let (server, caught) = after_handshake(CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert!(caught.client.is_some() && caught.server.is_some());
        let mut next = CapturedSecrets::default();
        next.gather();
        assert!(next.client.is_none() && next.server.is_none());
        assert!(Renewal::new(Side::Client, next, server.negotiated_cipher_suite().unwrap()).is_none());
        for label in ["CLIENT_RANDOM", "EXPORTER_SECRET", "CLIENT_HANDSHAKE_TRAFFIC_SECRET"] {
            assert!(!SecretCapture.will_log(label));
        }
    }

    #[test]
    fn a_secret_longer_than_any_hash_is_none() {
        assert!(Traffic::new(&[0; MAX_SECRET]).is_some());
        assert!(Traffic::new(&[0; MAX_SECRET + 1]).is_none());
    }
}
