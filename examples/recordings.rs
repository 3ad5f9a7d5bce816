//! Writes a directory of recordings of made-up sessions, to try the readers on: `cargo run --example recordings -- FOLDER SECONDS`.
//! `FOLDER/auditor.key` opens them, `FOLDER/gateway.log` names the sessions that were not recorded.

use serde_json::{Value, json};
use staunch::names::SessionId;
use staunch::recording::format::envelope::Identities;
use staunch::recording::format::frame::Plane;
use staunch::recording::keeper::{Origin, Recordings};
use staunch::recording::settings::Settings;
use staunch::recording::writer::{Mode, Recorder};
use staunch::tls::record::Suite;
use std::error::Error;
use std::io::{IoSlice, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A generator of numbers that is the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of these, the earlier ones more often.
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let (a, b) = (self.roll() as usize % from.len(), self.roll() as usize % from.len());
        from[a.min(b)]
    }
}

const SUBJECTS: [&str; 9] = [
    "ci-nightly",
    "agent-planner",
    "ann@example.com",
    "agent-coder",
    "bob@example.com",
    "eva@example.com",
    "etl",
    "mia@example.com",
    "li@example.com",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("give a folder and for how many seconds")?);
    let seconds = arguments.next().ok_or("give for how many seconds")?.parse::<u64>()?;
    std::fs::create_dir(&folder)?;
    let auditor = Identities::generate();
    std::fs::write(folder.join("auditor.key"), &*auditor.expose())?;
    let mut log = std::fs::File::create(folder.join("gateway.log"))?;
    let mut settings = Settings::new(folder.join("recordings"), auditor.recipients());
    settings.segment_size = 1 << 20;
    let recordings = Recordings::open(settings, &Origin::default())?;
    let mut recorder = Recorder::new(recordings.archive().clone(), 0);
    let (mut dice, begun, mut number) = (Dice(0x5eed), Instant::now(), 0x5f3a_0000_0000_0000_u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        number += 1 + dice.roll() % 0xffff_ffff;
        let facts = facts(&mut dice, number);
        if dice.roll().is_multiple_of(40) {
            recordings.archive().count_unrecorded();
            writeln!(log, "{}", with(&facts, json!({"event": "session closed", "time": now()})))?;
            continue;
        }
        record(&mut recorder, &mut dice, number, &facts)?;
        // Busier at times.
        let phase = begun.elapsed().as_millis() as f64 / 1000.0 / seconds as f64 * 12.0;
        std::thread::sleep(Duration::from_millis(40 + ((phase.sin() + 1.0) * 110.0) as u64));
    }
    Ok(())
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    staunch::evidence::when::When(now.as_nanos() as u64).to_string()
}

fn with(facts: &Value, more: Value) -> Value {
    let mut all = facts.clone();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

/// What a closing line says of a session.
fn facts(dice: &mut Dice, number: u64) -> Value {
    let route = dice.pick(&["openai", "warehouse", "agents", "cache"]);
    let is_old = dice.roll().is_multiple_of(17);
    let (version, cipher, group) = match (is_old, dice.roll() % 20) {
        (true, _) => ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "secp256r1"),
        (false, 0..=13) => ("TLSv1.3", "TLS13_AES_128_GCM_SHA256", "X25519MLKEM768"),
        (false, 14..=17) => ("TLSv1.3", "TLS13_AES_256_GCM_SHA384", "X25519"),
        _ => ("TLSv1.3", "TLS13_CHACHA20_POLY1305_SHA256", "X25519"),
    };
    let (upstream_version, upstream_cipher, upstream_group) = match route {
        "cache" => ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "X25519"),
        "warehouse" => ("TLSv1.3", "TLS13_AES_256_GCM_SHA384", "X25519"),
        _ => ("TLSv1.3", "TLS13_AES_128_GCM_SHA256", "X25519MLKEM768"),
    };
    let certificate: String = route.bytes().cycle().take(32).map(|byte| format!("{byte:02x}")).collect();
    json!({
        "session": SessionId(number).to_string(), "route": route, "sni": format!("{route}.gw.example.com"),
        "remote": format!("192.0.2.{}:{}", dice.roll() % 200 + 1, 40_000 + dice.roll() % 9_000),
        "listener": "192.0.2.250:443", "issuer": "corp", "subject": dice.pick(&SUBJECTS), "proof": "token",
        "groups": [dice.pick(&["agents", "analytics", "ops"])],
        "client_version": version, "client_cipher": cipher, "client_group": group, "client_verified": "not_asked",
        "upstream_version": upstream_version, "upstream_cipher": upstream_cipher, "upstream_group": upstream_group,
        "upstream_certificate": certificate, "upstream_verified": dice.pick(&["chain", "chain_and_pin"]),
        "reason": dice.pick(&["client_closed", "upstream_closed", "idle", "truncated"]),
        "duration_us": 40_000,
    })
}

fn record(
    recorder: &mut Recorder,
    dice: &mut Dice,
    number: u64,
    facts: &Value,
) -> Result<(), Box<dyn Error>> {
    let mut tape = recorder.begin(SessionId(number), 0, Mode::Strict)?;
    let fact = |event: &str, more: Value| with(&with(facts, json!({ "event": event })), more).to_string();
    recorder.fact(&mut tape, fact("session opened", json!({})).as_bytes())?;
    for plane in Plane::ALL {
        recorder.seal(&mut tape, plane, Suite::Aes128Gcm)?;
    }
    let (up, down): (Vec<u8>, Vec<u8>) = match facts["route"].as_str().unwrap_or_default() {
        "warehouse" => (
            b"Q\0\0\0\x21select region, sum(amount) f\0".to_vec(),
            b"T\0\0\0\x1f\0\x01region\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0D\0\0\0\x0f\0\x01\0\0\0\x05northC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I".to_vec(),
        ),
        "cache" => (b"*2\r\n$3\r\nGET\r\n$7\r\nsession\r\n".to_vec(), b"$5\r\nvalue\r\n".to_vec()),
        _ => {
            let words = ["The ", "quick ", "brown ", "fox ", "answers."];
            let events = words.map(|word| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": word}}]})));
            let body = events.concat();
            let down = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            (b"POST /v1/chat/completions HTTP/1.1\r\nHost: openai.gw.example.com\r\nContent-Length: 2\r\n\r\n{}".to_vec(), down.into_bytes())
        }
    };
    for n in 1..=1 + dice.roll() % 3 {
        let refused = dice.roll().is_multiple_of(30);
        let request = match refused {
            true => {
                json!({"path": "/v1/models", "status": 403, "verdict": "refused", "refusal": "not_permitted"})
            }
            false => {
                json!({"path": "/v1/chat/completions", "status": 200, "verdict": "permitted", "method": "POST"})
            }
        };
        recorder.append_plaintext(&mut tape, Plane::Up, &[IoSlice::new(&up)])?;
        recorder.append_plaintext(&mut tape, Plane::Down, &[IoSlice::new(&down)])?;
        recorder.fact(&mut tape, fact("request", with(&request, json!({ "request": n }))).as_bytes())?;
    }
    recorder.fact(&mut tape, fact("session closed", json!({})).as_bytes())?;
    recorder.end(tape)?;
    Ok(())
}
