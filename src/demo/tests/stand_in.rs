//! Enough of a gateway to hold the tour against: one request per connection, blocking, HTTP/1.1.

use super::super::Files;
use crate::mask::{Detector, Format, HoldAction, HoldLimit, Kind, Mode, Rule, Rules, Stream};
use crate::names::SessionId;
use crate::recording::format::frame::Plane;
use crate::recording::keeper::{Origin, Recordings};
use crate::recording::settings::Settings;
use crate::recording::writer::{self as record, Recorder};
use crate::tls::record::Suite;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// A promise that this stand-in breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Buffers,
    AnswersPlaintext,
    BelievesAnyToken,
    LeaksToken,
    LogsToken,
    PassesCards,
    RecordsToken,
    RecordsAnotherAnswer,
    /// It was told to stop, and the plaintext request is one that it did not come to refuse.
    ToldToStop,
}

/// What waiting for the stand-in gives.
pub(super) const ENDED_WITH: i32 = 3;

pub(super) struct StandIn {
    told: bool,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Inner {
    fault: Fault,
    upstream: SocketAddr,
    key: String,
    jwks: (SocketAddr, Arc<ClientConfig>),
    server: Arc<ServerConfig>,
    log: PathBuf,
    recordings: Recordings,
    sessions: AtomicU64,
}

impl super::super::Running for StandIn {
    fn wait(&mut self) -> i32 {
        ENDED_WITH
    }

    fn told(&self) -> bool {
        self.told
    }

    fn ended(&mut self) -> bool {
        self.told
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl StandIn {
    /// Reads the configuration as the gateway would: every value is taken from there.
    pub(super) fn start(files: &Files<'_>, fault: Fault) -> Result<StandIn, String> {
        let config: toml::Value = toml::from_str(&fs::read_to_string(files.config).unwrap()).unwrap();
        let route = &config["route"][0];
        let read = |value: &toml::Value| fs::read(value.as_str().unwrap()).unwrap();
        let chain = CertificateDer::from_pem_slice(&read(&route["certificate"]["chain"])).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&read(&route["certificate"]["key"])).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&read(&route["upstream"]["ca"])).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = |value: &toml::Value, scheme| -> SocketAddr {
            value.as_str().unwrap().strip_prefix(scheme).unwrap().parse().unwrap()
        };
        let secret = config["secrets"]["model-key"].as_str().unwrap().strip_prefix("file:").unwrap();
        assert_eq!(route["inject"]["value"].as_str(), Some("Bearer {secret:model-key}"));
        let inner = Inner {
            fault,
            upstream: address(&route["upstream"]["address"], "tls://"),
            key: fs::read_to_string(secret).unwrap(),
            jwks: (address(&config["issuer"][0]["oidc"], "https://"), Arc::new(client)),
            server: Arc::new(server),
            log: files.log.to_owned(),
            recordings: {
                let section = &config["recording"];
                let auditors = section["auditors"].as_array().unwrap();
                let auditors = auditors.iter().map(|text| text.as_str().unwrap().parse().unwrap()).collect();
                let mut settings = Settings::new(section["directory"].as_str().unwrap().into(), auditors);
                settings.segment_size = 4 << 20;
                Recordings::open(settings, &Origin::default()).unwrap()
            },
            sessions: AtomicU64::new(1),
        };
        let listener = TcpListener::bind(address(&config["listener"][0]["address"], "")).unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for tcp in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                inner.session(tcp.unwrap());
            }
        });
        Ok(StandIn { told: fault == Fault::ToldToStop, address, stop, thread: Some(thread) })
    }
}

impl Inner {
    fn session(&self, mut tcp: TcpStream) {
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut first = [0];
        if tcp.peek(&mut first).unwrap_or(0) == 0 {
            return;
        }
        if first != [0x16] {
            let _ = tcp.read(&mut [0; 1024]);
            let status = if matches!(self.fault, Fault::AnswersPlaintext | Fault::ToldToStop) {
                "200 OK"
            } else {
                "400 Bad Request"
            };
            let _ =
                tcp.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 9\r\n\r\nspeak TLS").as_bytes());
            return;
        }
        let mut client = StreamOwned::new(ServerConnection::new(self.server.clone()).unwrap(), tcp);
        let Some((head, body)) = read_request(&mut client) else { return };
        let token = head.lines().find_map(|l| l.strip_prefix("authorization: Bearer ")).unwrap_or_default();
        let (status, error) = match self.who(token) {
            None => ("401 Unauthorized", if token.is_empty() { "" } else { ", error=\"invalid_token\"" }),
            Some(claims) if claims["groups"] != json!(["agents"]) => {
                ("403 Forbidden", ", error=\"insufficient_scope\"")
            }
            Some(claims) => {
                self.forward(&mut client, &head, &body, token);
                let session = self.record(&head, &body, token);
                return self.log(&head, &claims, token, session);
            }
        };
        let challenge = format!("Bearer realm=\"staunch\"{error}");
        let answer =
            format!("HTTP/1.1 {status}\r\nwww-authenticate: {challenge}\r\ncontent-length: 2\r\n\r\n{{}}");
        client.write_all(answer.as_bytes()).unwrap();
        client.conn.send_close_notify();
        let _ = client.flush();
    }

    /// The claims, if the issuer's published key signed them.
    fn who(&self, token: &str) -> Option<Value> {
        use base64::Engine;
        let decode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let (signed, signature) = token.rsplit_once('.')?;
        let claims = serde_json::from_slice(&decode(signed.split_once('.')?.1)?).ok()?;
        let ask = "GET /jwks.json HTTP/1.1\r\nhost: issuer\r\nconnection: close\r\n\r\n";
        let answer = self.exchange(self.jwks.0, ask.as_bytes());
        let keys: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        let part = |name: &str| decode(keys["keys"][0][name].as_str()?);
        let point = [vec![4], part("x")?, part("y")?].concat();
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point);
        let good = key.verify(signed.as_bytes(), &decode(signature)?).is_ok();
        (good || self.fault == Fault::BelievesAnyToken).then_some(claims)
    }

    fn forward(&self, client: &mut impl Write, head: &str, body: &[u8], token: &str) {
        let mut request = head.replace(token, &self.key);
        request.push_str("connection: close\r\n");
        if self.fault == Fault::LeaksToken {
            request.push_str(&format!("x-forwarded-authorization: Bearer {token}\r\n"));
        }
        let request = [request.as_bytes(), b"\r\n", body].concat();
        if self.fault == Fault::Buffers {
            let answer = self.exchange(self.upstream, &request);
            return client.write_all(answer.as_bytes()).unwrap();
        }
        if memchr::memmem::find(body, b"card").is_some() && self.fault != Fault::PassesCards {
            let answer = self.exchange(self.upstream, &request).into_bytes();
            return client.write_all(&masked(answer)).unwrap();
        }
        let mut upstream = self.connect(self.upstream);
        upstream.write_all(&request).unwrap();
        let mut piece = [0; 4096];
        while let Ok(n) = upstream.read(&mut piece)
            && n > 0
        {
            client.write_all(&piece[..n]).unwrap();
        }
    }

    fn connect(&self, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let name = "127.0.0.1".try_into().unwrap();
        let connection = ClientConnection::new(self.jwks.1.clone(), name).unwrap();
        StreamOwned::new(connection, TcpStream::connect(address).unwrap())
    }

    fn exchange(&self, address: SocketAddr, request: &[u8]) -> String {
        let mut stream = self.connect(address);
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn record(&self, head: &str, body: &[u8], token: &str) -> SessionId {
        let session = SessionId(self.sessions.fetch_add(1, SeqCst));
        let mut recorder = Recorder::new(self.recordings.archive().clone(), 0);
        let mut tape = recorder.begin(session, 0, record::Mode::Strict).unwrap();
        let mut take = |plane, text: &[u8]| {
            recorder.seal(&mut tape, plane, Suite::Aes128Gcm).unwrap();
            recorder.append_plaintext(&mut tape, plane, &[IoSlice::new(text)]).unwrap();
        };
        let seen =
            if self.fault == Fault::RecordsToken { head.to_owned() } else { head.replace(token, "***") };
        take(Plane::Up, &[seen.as_bytes(), b"\r\n", body].concat());
        take(
            Plane::Down,
            if self.fault == Fault::RecordsAnotherAnswer { b"no answer" } else { b"data: [DONE]" },
        );
        recorder.end(tape).unwrap();
        session
    }

    fn log(&self, head: &str, claims: &Value, token: &str, session: SessionId) {
        let path = head.split(' ').nth(1).unwrap();
        let mut line = json!({"event": "request", "session": session.to_string(), "path": path, "subject": claims["sub"], "route": "model",
            "verdict": "permitted", "method": "POST", "status": 200, "down_bytes": 1});
        if self.fault == Fault::LogsToken {
            line["token"] = token.into();
        }
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Overwrites card numbers in the events of a whole answer, its framing left aside.
fn masked(mut answer: Vec<u8>) -> Vec<u8> {
    let hold = HoldLimit { events: 64, time: Duration::from_secs(5), action: HoldAction::Mask };
    let rules = Rules::new(vec![Rule::Known(Detector::Card)], Mode::Mask, hold).unwrap();
    let mut stream = Stream::new(Arc::new(rules), Format::Events);
    let passed = stream.take(&mut answer, Kind::Payload).unwrap();
    answer.truncate(passed.at_hand);
    let held = stream.finish();
    stream.release(held, |bytes| answer.extend_from_slice(bytes));
    answer
}

/// The head without its last empty line, and the body.
fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&piece[..n]);
        let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end + 2].to_vec()).unwrap();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |l| l.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            return Some((head, bytes[end + 4..].to_vec()));
        }
    }
}
