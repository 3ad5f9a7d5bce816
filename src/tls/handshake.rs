//! Drives rustls' unbuffered connections to the end of the handshake and takes the keys over.
//!
//! The unbuffered API is used in this file only. What is kept of rustls afterwards is `KernelConnection` in `leg::control`
//! (an upstream's later keys and tickets) and the key log in `renewal` (a client's later keys). rustls 0.24 has no unbuffered
//! API any more. The port: `drive` reads into a buffer of its own and hands it to `Connection::read_tls` and
//! `process_new_packets`, takes flights from `write_tls`, and where this calls `dangerous_into_kernel_connection` it splits the
//! finished connection (`SplitConnection`) and takes traffic secrets and `KernelConnection` from its halves; bytes that were
//! read beyond the handshake must come back from it, as `incoming` does here. `Unbuffered`, `append` and `tell` go;
//! `Established` and all outside `tls` stay as they are.
//!
//! It waits as long as its caller lets it: the deadline is the session's.

use super::handshake_queue;
use super::leg::{Agreed, Leg, Tickets};
use super::peer_certificate::PeerCertificate;
use super::record::MAX_RECORD;
use super::renewal::{CapturedSecrets, Renewal};
use crate::names::Side;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{Acceptor, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{
    CipherSuite, ClientConfig, CommonState, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig,
};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Negotiated parameters of a leg: the evidence of its encryption.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Protocol version; `None`: there is no TLS on this leg.
    pub version: Option<ProtocolVersion>,
    /// Cipher suite by its registered name.
    pub cipher: &'static str,
    /// Key exchange group; `None` only when TLS 1.2 resumed a session, which has no key exchange.
    pub group: Option<NamedGroup>,
    /// True when a session was resumed.
    pub resumed: bool,
    /// The application protocol, if one was negotiated.
    pub alpn: Option<Arc<str>>,
    /// The peer's certificate, if it showed one that verified.
    pub peer_certificate: Option<Arc<PeerCertificate>>,
}

impl Facts {
    /// False where nothing protects the leg.
    pub fn is_tls(&self) -> bool {
        self.version.is_some()
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFault {
    /// The peer broke a rule, or what it showed does not verify.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The connection ended or failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer's hello or flight is larger than anything honest.
    #[error("handshake messages larger than {MAX_INCOMING} bytes")]
    TooLarge,
    /// The handover of keys failed: a suite that records cannot be made of.
    #[error("the negotiated suite cannot be relayed")]
    Unsupported,
}

/// Most handshake bytes that are held at once: a certificate chain of a few dozen certificates fits.
const MAX_INCOMING: usize = 128 * 1024;
/// First guess for outgoing flights; a chain of three ECDSA certificates fits.
const OUTGOING: usize = 4 * 1024;
/// How long a peer is heard after its alert was sent.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a record's head (RFC 8446 section 5.1).
const RECORD_HEAD: usize = 5;
/// What is read at once during the handshake.
const READ: usize = 4 * 1024;

/// A leg, fresh from its handshake.
pub struct Established {
    /// The connection.
    pub leg: Leg,
    /// What was agreed.
    pub facts: Facts,
    /// Data that came together with the end of the handshake, already opened.
    pub early: Vec<u8>,
}

/// A ClientHello, and the bytes it was read from.
pub struct Hello {
    /// The name it asks for, lower case; `None` without SNI.
    pub sni: Option<String>,
    /// Application protocols it offers, in its order.
    pub alpn: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

/// Reads a whole ClientHello. `bytes` is what was read of it already.
pub async fn read_hello(tcp: &mut TcpStream, mut bytes: Vec<u8>) -> Result<Hello, HandshakeFault> {
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    loop {
        // It takes what it has room for, and makes room when it is asked what it has found.
        if seen < bytes.len() {
            seen += acceptor.read_tls(&mut &bytes[seen..])?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let sni = hello.server_name().map(str::to_ascii_lowercase);
                let alpn = hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect()).unwrap_or_default();
                return Ok(Hello { sni, alpn, bytes });
            }
            Ok(None) if seen < bytes.len() => {}
            Ok(None) => {
                handshake_queue::wait_to_hear(tcp).await?;
                read_more(tcp, &mut bytes).await?;
            }
            Err((error, mut alert)) => {
                let mut out = Vec::new();
                match is_too_old(&bytes) {
                    true => out.extend_from_slice(&PROTOCOL_VERSION),
                    false => alert.write_all(&mut out)?,
                }
                send_alert_and_linger(tcp, &out).await;
                return Err(error.into());
            }
        }
    }
}

/// The fatal alert `protocol_version` in a plaintext record (RFC 8446 section 6.2).
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

/// True for the hello of a client that knows nothing newer than TLS 1.1. rustls first misses an extension in it, and
/// would say that instead.
fn is_too_old(bytes: &[u8]) -> bool {
    const LEGACY_VERSION: std::ops::Range<usize> = 9..11;
    bytes.get(LEGACY_VERSION).is_some_and(|version| version < &[3, 3][..])
}

/// Answers a client whose hello was read, with its route's configuration.
pub async fn accept(
    tcp: TcpStream,
    hello: Hello,
    config: Arc<ServerConfig>,
    records_per_key: u64,
) -> Result<Established, HandshakeFault> {
    handshake_queue::wait_to_answer().await;
    let connection = UnbufferedServerConnection::new(config)?;
    drive(tcp, Side::Client, connection, hello.bytes, records_per_key).await
}

/// Opens the upstream leg on a fresh TCP connection.
pub async fn connect(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    records_per_key: u64,
) -> Result<Established, HandshakeFault> {
    let connection = UnbufferedClientConnection::new(config, name)?;
    drive(tcp, Side::Upstream, connection, Vec::new(), records_per_key).await
}

/// The upstream leg without a handshake, for an upstream that the configuration calls plaintext.
pub fn none(tcp: TcpStream) -> Established {
    let facts = Facts {
        version: None,
        cipher: "none",
        group: None,
        resumed: false,
        alpn: None,
        peer_certificate: None,
    };
    Established { leg: Leg::plaintext(tcp), facts, early: Vec::new() }
}

async fn drive<C: Unbuffered>(
    mut tcp: TcpStream,
    side: Side,
    mut connection: C,
    mut incoming: Vec<u8>,
    records_per_key: u64,
) -> Result<Established, HandshakeFault> {
    let (mut outgoing, mut early, mut closed) = (Vec::new(), Vec::new(), false);
    let mut caught = CapturedSecrets::default();
    // rustls is shown record after record, so that what stands behind the last of the handshake is left for the leg, which has
    // an alert for each of its faults. What it was shown and has not taken, it must be shown again.
    let mut shown = 0;
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut incoming[..shown]);
        caught.gather();
        let (mut blocked, mut done) = (false, false);
        match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => append(&mut outgoing, |b| data.encode(b))?,
            // Written when we have to wait for the peer, or left for the leg.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::BlockedHandshake) => blocked = true,
            Ok(ConnectionState::ReadTraffic(mut data)) => {
                while let Some(record) = data.next_record() {
                    early.extend_from_slice(record?.payload);
                }
            }
            Ok(ConnectionState::PeerClosed) => closed = true,
            Ok(ConnectionState::WriteTraffic(_)) | Ok(ConnectionState::Closed) => done = true,
            Ok(_) => return Err(rustls::Error::General("an unexpected handshake state".into()).into()),
            Err(error) => {
                incoming.truncate(shown);
                incoming.drain(..discard);
                tell(&mut tcp, &mut connection, outgoing, incoming).await;
                return Err(error.into());
            }
        }
        incoming.drain(..discard);
        shown -= discard;
        if done {
            break;
        }
        if blocked && let Some(length) = next_record(&incoming[shown..]) {
            shown += length;
        } else if blocked {
            tcp.write_all(&outgoing).await?;
            outgoing.clear();
            if side == Side::Client {
                handshake_queue::wait_to_hear(&tcp).await?;
            }
            read_more(&mut tcp, &mut incoming).await?;
        }
    }
    let certificate = connection.common().peer_certificates().and_then(|chain| chain.first());
    let facts = facts(connection.common(), certificate).ok_or(HandshakeFault::Unsupported)?;
    let (secrets, agreed) = connection.into_parts(caught)?;
    let version = facts.version.ok_or(HandshakeFault::Unsupported)?;
    let leg = Leg::new(tcp, secrets, version, agreed, incoming, records_per_key);
    let mut leg = leg.ok_or(HandshakeFault::Unsupported)?;
    // All that is left for a client of TLS 1.3 are session tickets, and it waits for none of them.
    leg.queue_handshake(&outgoing, (side, version) != (Side::Client, ProtocolVersion::TLSv1_3));
    leg.rx.closed = closed;
    Ok(Established { leg, facts, early })
}

/// Bytes of the next record, once it is whole; of what cannot be one all, for rustls to say what is wrong with it.
fn next_record(bytes: &[u8]) -> Option<usize> {
    let &[kind, major, _, high, low] = bytes.first_chunk()?;
    let whole = RECORD_HEAD + usize::from(u16::from_be_bytes([high, low]));
    match (20..=24).contains(&kind) && major == 3 && whole <= MAX_RECORD {
        true => (bytes.len() >= whole).then_some(whole),
        false => Some(bytes.len()),
    }
}

/// Sends the alert that rustls has ready after an error, as far as the peer takes it.
///
/// rustls must be shown the bytes that it has not taken yet, also now: with fewer it panics, which a client without a
/// certificate could bring about that sends already.
async fn tell<C: Unbuffered>(
    tcp: &mut TcpStream,
    connection: &mut C,
    mut outgoing: Vec<u8>,
    mut incoming: Vec<u8>,
) {
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut incoming);
        let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { break };
        let start = outgoing.len();
        // Asked once more after its alert, it would look at the faulty bytes again, and make a second one.
        if append(&mut outgoing, |b| data.encode(b)).is_err() || is_alert(&outgoing[start..]) {
            break;
        }
        incoming.drain(..discard);
    }
    send_alert_and_linger(tcp, &outgoing).await;
}

/// True for a record that holds an alert: by its type, or encrypted in TLS 1.3, where no other content has two bytes (which
/// with their type and tag make 19).
fn is_alert(record: &[u8]) -> bool {
    matches!(record, [21, ..] | [23, _, _, 0, 19, ..])
}

/// Sends an alert, ends our direction, and leaves the peer time to read it: a socket that is closed while bytes stand in it
/// unread is reset, and takes the alert along. The peer may be sending already: a client of TLS 1.3 does not wait for its
/// certificate to be accepted. The fault stands, whatever comes of this.
async fn send_alert_and_linger(tcp: &mut TcpStream, words: &[u8]) {
    let said = async {
        tcp.write_all(words).await?;
        tcp.shutdown().await?;
        let (mut sink, mut left) = (vec![0; READ], MAX_INCOMING);
        while left > 0 {
            match tcp.read(&mut sink).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, said).await;
}

fn append(
    outgoing: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), HandshakeFault> {
    let from = outgoing.len();
    outgoing.resize(from + OUTGOING, 0);
    let written = loop {
        match encode(&mut outgoing[from..]) {
            Ok(written) => break written,
            Err(EncodeError::InsufficientSize(size)) => outgoing.resize(from + size.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => break 0,
        }
    };
    outgoing.truncate(from + written);
    Ok(())
}

async fn read_more(tcp: &mut TcpStream, incoming: &mut Vec<u8>) -> Result<(), HandshakeFault> {
    if incoming.len() + MAX_RECORD > MAX_INCOMING {
        return Err(HandshakeFault::TooLarge);
    }
    incoming.reserve(READ);
    match tcp.read_buf(incoming).await? {
        0 => Err(HandshakeFault::Io(io::ErrorKind::UnexpectedEof.into())),
        _ => Ok(()),
    }
}

fn facts(common: &CommonState, certificate: Option<&CertificateDer<'_>>) -> Option<Facts> {
    Some(Facts {
        version: Some(common.protocol_version()?),
        cipher: cipher_name(common.negotiated_cipher_suite()?.suite()),
        group: common.negotiated_key_exchange_group().map(|group| group.name()),
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        alpn: common.alpn_protocol().map(|name| String::from_utf8_lossy(name).into()),
        peer_certificate: certificate.map(PeerCertificate::of),
    })
}

/// The name in the IANA registry; rustls spells the suites of TLS 1.3 in its own way.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.as_str().unwrap_or("other"),
    }
}

/// What both of rustls' unbuffered connections can do.
trait Unbuffered {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
    fn into_parts(self, caught: CapturedSecrets)
    -> Result<(rustls::ExtractedSecrets, Agreed), rustls::Error>;
}

/// What later keys come from; `None` on TLS 1.2, whose keys are not renewed.
fn renewal<D>(
    side: Side,
    caught: CapturedSecrets,
    kernel: &KernelConnection<D>,
) -> Result<Option<Box<Renewal>>, rustls::Error> {
    let renewal = Renewal::new(side, caught, kernel.negotiated_cipher_suite());
    if renewal.is_none() && kernel.protocol_version() == ProtocolVersion::TLSv1_3 {
        return Err(rustls::Error::General("a handshake that told no secrets".into()));
    }
    Ok(renewal.map(Box::new))
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn common(&self) -> &CommonState {
        self
    }
    fn into_parts(
        self,
        caught: CapturedSecrets,
    ) -> Result<(rustls::ExtractedSecrets, Agreed), rustls::Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Agreed::Server(renewal(Side::Client, caught, &kernel)?)))
    }
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn common(&self) -> &CommonState {
        self
    }
    fn into_parts(
        self,
        caught: CapturedSecrets,
    ) -> Result<(rustls::ExtractedSecrets, Agreed), rustls::Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        let renewal = renewal(Side::Upstream, caught, &kernel)?;
        // TLS 1.2 gives its tickets within the handshake.
        let tickets = if renewal.is_some() { Tickets::Awaited(Box::new(kernel)) } else { Tickets::Over };
        Ok((secrets, Agreed::Client(renewal, tickets)))
    }
}
