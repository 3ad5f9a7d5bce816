//! Captures that `sessions export` writes, read by tshark: it has to find what was said, in the protocol in which it was said.

use staunch::names::SessionId;
use staunch::recording::format::envelope::Identities;
use staunch::recording::format::frame::Plane;
use staunch::recording::format::traffic::TrafficSecret;
use staunch::recording::keeper::{Origin, Recordings};
use staunch::recording::settings::Settings;
use staunch::recording::writer::{Mode, Recorder, Tape};
use staunch::tls::record::{Content, Sealer, Suite};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Recordings of a gateway that never was.
struct Bench {
    folder: tempfile::TempDir,
    recordings: Option<(Recordings, Recorder)>,
}

/// A client leg of TLS 1.3 whose records are recorded as they are sent.
struct Leg {
    secret: TrafficSecret,
    sealer: Sealer,
}

impl Leg {
    fn begin(bench: &mut Bench, session: u64, suite: Suite, number: u64) -> (Leg, Tape) {
        let secret =
            || TrafficSecret::new(suite, &vec![session as u8; TrafficSecret::length(suite)]).unwrap();
        let sealer = Sealer::new(&secret().key().secrets(), number, 1 << 24).unwrap();
        let recorder = bench.recorder();
        let mut tape = recorder.begin(SessionId(session), 0, Mode::Strict).unwrap();
        recorder.carry(&mut tape, Plane::Down, secret(), number).unwrap();
        recorder.seal(&mut tape, Plane::Up, suite).unwrap();
        (Leg { secret: secret(), sealer }, tape)
    }

    fn send(&mut self, bench: &mut Bench, tape: &mut Tape, bytes: &[u8]) {
        let mut records = Vec::new();
        self.sealer.seal(Content::Data, bytes, &mut records).unwrap();
        bench.recorder().append(tape, Plane::Down, &[IoSlice::new(&records)]).unwrap();
    }

    fn update(&mut self, bench: &mut Bench, tape: &mut Tape) {
        let mut records = Vec::new();
        self.sealer.seal(Content::Handshake, &[24, 0, 0, 1, 0], &mut records).unwrap();
        bench.recorder().append(tape, Plane::Down, &[IoSlice::new(&records)]).unwrap();
        self.secret = self.secret.next();
        self.sealer.rekey(&self.secret.key().secrets()).unwrap();
        bench.recorder().rekey(tape, Plane::Down).unwrap();
    }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let auditor = Identities::generate();
        std::fs::write(folder.path().join("auditor.key"), &*auditor.expose()).unwrap();
        let mut settings = Settings::new(folder.path().join("recordings"), auditor.recipients());
        settings.segment_size = 64 * 1024;
        let recordings = Recordings::open(settings, &Origin::default()).unwrap();
        let recorder = Recorder::new(recordings.archive().clone(), 0);
        Bench { folder, recordings: Some((recordings, recorder)) }
    }

    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recordings.as_mut().unwrap().1
    }

    fn up(&mut self, tape: &mut Tape, bytes: &[u8]) {
        self.recorder().append_plaintext(tape, Plane::Up, &[IoSlice::new(bytes)]).unwrap();
    }

    /// A session in turns, up then down.
    fn say(&mut self, session: u64, suite: Suite, turns: &[(&[u8], &[u8])]) {
        let (mut leg, mut tape) = Leg::begin(self, session, suite, 4);
        for (up, down) in turns {
            self.up(&mut tape, up);
            leg.send(self, &mut tape, down);
        }
        self.recorder().end(tape).unwrap();
    }

    fn export(&mut self, session: u64, more: &[&str]) -> PathBuf {
        if let Some((recordings, recorder)) = self.recordings.take() {
            drop(recorder);
            drop(recordings);
        }
        let path = self.folder.path().join(format!("{session}.pcapng"));
        let output = Command::new(env!("CARGO_BIN_EXE_staunch"))
            .args(["sessions", "export", &format!("{session:016x}"), "--force", "-o"])
            .arg(&path)
            .arg("-d")
            .arg(self.folder.path().join("recordings"))
            .arg("-i")
            .arg(self.folder.path().join("auditor.key"))
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    }
}

/// What tshark finds in these fields, a line a packet, empty ones left out.
fn tshark(capture: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-r", capture.to_str().unwrap(), "-Y", filter, "-T", "fields"]);
    command.args(["-o", "tcp.check_checksum:TRUE", "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.env("HOME", "/nonexistent").output().expect("tshark is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn is_clean(capture: &Path) {
    let bad = "tcp.analysis.flags || tcp.checksum.status == 0 || _ws.malformed || tls.alert_message";
    assert_eq!(tshark(capture, bad, &["frame.number", "_ws.col.Info"]), Vec::<String>::new());
}

#[test]
fn http1_over_key_updates_and_rolled_segments_in_every_suite() {
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
        let mut bench = Bench::new();
        let (mut leg, mut tape) = Leg::begin(&mut bench, 1, suite, 4);
        let open = br#"{"event":"session opened","remote":"[2001:db8::7]:40000","listener":"[2001:db8::1]:8443","sni":"a.example"}"#;
        bench.recorder().fact(&mut tape, open).unwrap();
        for n in 0..30 {
            bench.up(&mut tape, format!("GET /{n} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes());
            let body = vec![b'x'; 9_000];
            let head = format!("HTTP/1.1 20{} OK\r\nContent-Length: {}\r\n\r\n", n % 2, body.len());
            leg.send(&mut bench, &mut tape, &[head.as_bytes(), &body].concat());
            if n % 10 == 9 {
                leg.update(&mut bench, &mut tape);
            }
        }
        bench.recorder().end(tape).unwrap();
        let capture = bench.export(1, &[]);
        assert!(bench.folder.path().join("recordings/segments/3.seg").exists(), "it rolled");
        is_clean(&capture);
        let targets: Vec<String> = (0..30).map(|n| format!("GET\t/{n}\ta.example")).collect();
        let fields = ["http.request.method", "http.request.uri", "http.host"];
        assert_eq!(tshark(&capture, "http.request", &fields), targets);
        let codes: Vec<String> = (0..30).map(|n| format!("20{}\t9000", n % 2)).collect();
        let fields = ["http.response.code", "http.content_length"];
        assert_eq!(tshark(&capture, "http.response", &fields), codes);
        let ends = tshark(
            &capture,
            "tls.handshake.type == 1",
            &["ipv6.src", "ipv6.dst", "tls.handshake.extensions_server_name"],
        );
        assert_eq!(ends, ["2001:db8::7\t2001:db8::1\ta.example"]);
        let plain = bench.export(1, &["--plain"]);
        is_clean(&plain);
        assert_eq!(
            tshark(&plain, "http.request", &["http.request.method", "http.request.uri", "http.host"]),
            targets
        );
    }
}

#[test]
fn a_client_of_tls_1_2_has_both_planes_sealed_by_the_gateway() {
    let mut bench = Bench::new();
    let recorder = bench.recorder();
    let mut tape = recorder.begin(SessionId(1), 0, Mode::Strict).unwrap();
    for plane in Plane::ALL {
        recorder.seal(&mut tape, plane, Suite::Aes256Gcm).unwrap();
    }
    for n in 0..20 {
        bench.up(&mut tape, format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let body = vec![b'y'; 7_000];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let down = [head.as_bytes(), &body].concat();
        bench.recorder().append_plaintext(&mut tape, Plane::Down, &[IoSlice::new(&down)]).unwrap();
    }
    bench.recorder().end(tape).unwrap();
    let capture = bench.export(1, &[]);
    is_clean(&capture);
    assert_eq!(tshark(&capture, "http.request", &["http.request.uri"]).len(), 20);
    assert_eq!(tshark(&capture, "http.response", &["http.response.code"]), ["200"; 20]);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| {
        staunch::protocol::hpack::encode(name.as_bytes(), value.as_bytes(), false, &mut out);
    });
    out
}

#[test]
fn http2_and_grpc() {
    let request = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/pkg.Service/Do"),
        ("content-type", "application/grpc"),
    ];
    let up = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &block(&request)),
        frame(0, 1, 1, b"\0\0\0\0\x04\x0a\x02hi"),
    ]
    .concat();
    let down = [
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &block(&[(":status", "200"), ("content-type", "application/grpc")])),
        frame(0, 0, 1, b"\0\0\0\0\x05\x0a\x03you"),
        frame(1, 5, 1, &block(&[("grpc-status", "0")])),
    ]
    .concat();
    let mut bench = Bench::new();
    bench.say(1, Suite::Aes128Gcm, &[(&up, &down)]);
    let capture = bench.export(1, &[]);
    is_clean(&capture);
    let fields = ["http2.headers.method", "http2.headers.path"];
    assert_eq!(tshark(&capture, "http2.headers.method", &fields), ["POST\t/pkg.Service/Do"]);
    assert_eq!(tshark(&capture, "http2.headers.status", &["http2.headers.status"]), ["200"]);
    assert_eq!(tshark(&capture, "grpc", &["grpc.message_length"]), ["4", "5"]);
}

#[test]
fn websocket_messages() {
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let mut bench = Bench::new();
    let turns: [(&[u8], &[u8]); 2] = [(upgrade, switched), (b"\x81\x85\0\0\0\0hello", b"\x81\x05there")];
    bench.say(1, Suite::Aes128Gcm, &turns);
    let capture = bench.export(1, &[]);
    is_clean(&capture);
    assert_eq!(tshark(&capture, "websocket", &["websocket.payload.text"]), ["hello", "there"]);
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes()[..3], &[sequence], payload].concat()
}

#[test]
fn statements_of_postgres_mysql_and_commands_of_redis() {
    let mut bench = Bench::new();
    let up = message(b'Q', b"select 42 as answer\0");
    let column = [&b"\0\x01answer\0"[..], &[0; 6], &23_u32.to_be_bytes(), &[0; 8]].concat();
    let down = [
        message(b'T', &column),
        message(b'D', b"\0\x01\0\0\0\x0242"),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    bench.say(1, Suite::Aes128Gcm, &[(&up, &down)]);
    let ok = packet(1, &[0, 0, 0, 2, 0, 0, 0]);
    bench.say(
        2,
        Suite::Aes256Gcm,
        &[(&packet(0, b"\x03delete from t"), &ok), (&packet(0, b"\x03select 7"), &ok)],
    );
    bench.say(3, Suite::Aes128Gcm, &[(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"$5\r\nvalue\r\n")]);
    for more in [&[][..], &["--plain"]] {
        let capture = bench.export(1, more);
        is_clean(&capture);
        assert_eq!(tshark(&capture, "pgsql.query", &["pgsql.query"]), ["select 42 as answer"], "{more:?}");
        assert_eq!(tshark(&capture, "pgsql.tag", &["pgsql.tag"]), ["SELECT 1"]);
        let capture = bench.export(2, more);
        is_clean(&capture);
        let found = tshark(&capture, "mysql.query", &["mysql.query"]);
        assert_eq!(found, ["delete from t", "select 7"], "{more:?}");
    }
    let capture = bench.export(3, &[]);
    is_clean(&capture);
    let found = tshark(&capture, "resp", &["resp.bulk_string.value"]);
    assert!(found.iter().any(|line| line.contains("474554") || line.contains("GET")), "{found:?}");
}

#[test]
fn an_erased_session_or_a_foreign_key_gives_no_file() {
    let mut bench = Bench::new();
    bench.say(1, Suite::Aes128Gcm, &[(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n")]);
    let capture = bench.export(1, &[]);
    std::fs::remove_file(&capture).unwrap();
    let key = bench.folder.path().join("other.key");
    std::fs::write(&key, &*Identities::generate().expose()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_staunch"))
        .args(["sessions", "export", "0000000000000001", "-o"])
        .arg(&capture)
        .arg("-d")
        .arg(bench.folder.path().join("recordings"))
        .arg("-i")
        .arg(&key)
        .output()
        .unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no identity fits"));
    assert!(!capture.exists());
}
