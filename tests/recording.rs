//! Recordings read by others: a reader in Python that was written from `config/recording-format.md` alone, sha256sum,
//! ssh-keygen and openssl, none of which knows this program.

use staunch::names::SessionId;
use staunch::recording::clock;
use staunch::recording::directory::Directory;
use staunch::recording::format::envelope::Identities;
use staunch::recording::format::frame::Plane;
use staunch::recording::format::traffic::TrafficSecret;
use staunch::recording::keeper::{Origin, Recordings};
use staunch::recording::log::store::Log;
use staunch::recording::settings::Settings;
use staunch::recording::writer::{Mode, Recorder};
use staunch::tls::record::{Content, Sealer, Suite};
use std::io::{IoSlice, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

/// What each session said: down, up.
type Said = Vec<(u64, Vec<u8>, Vec<u8>)>;

/// Records sessions of every suite over several segments, with key updates, sealed facts, and one that is lost in part.
fn record(folder: &Path) -> (PathBuf, PathBuf, Said) {
    let auditors = [Identities::generate(), Identities::generate()];
    let key = folder.join("auditor.key");
    std::fs::write(&key, format!("# one of two\n{}", &*auditors[1].expose())).unwrap();
    let root = folder.join("recordings");
    let mut settings =
        Settings::new(root.clone(), auditors.iter().flat_map(Identities::recipients).collect());
    settings.segment_size = 256 * 1024;
    settings.queue = 100_000;
    let recordings = Recordings::open(settings, &Origin::default()).unwrap();
    let mut recorder = Recorder::new(recordings.archive().clone(), 0);
    let mut said = Said::new();
    for (session, suite) in (1..).zip(SUITES) {
        let bytes = vec![session as u8; TrafficSecret::length(suite)];
        let mut secret = TrafficSecret::new(suite, &bytes).unwrap();
        let mut sealer = Sealer::new(&secret.key().secrets(), 3, 1 << 24).unwrap();
        let mut tape = recorder.begin(SessionId(session), 0, Mode::Strict).unwrap();
        recorder.fact(&mut tape, format!("{{\"session\":{session}}}").as_bytes()).unwrap();
        let carried = TrafficSecret::new(suite, &bytes).unwrap();
        recorder.carry(&mut tape, Plane::Down, carried, 3).unwrap();
        recorder.seal(&mut tape, Plane::Up, suite).unwrap();
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for n in 0..60u8 {
            let (answer, ask) = (vec![n; 5_000], vec![n ^ 0x55; 500]);
            recorder.append_plaintext(&mut tape, Plane::Up, &[IoSlice::new(&ask)]).unwrap();
            let mut records = Vec::new();
            sealer.seal(Content::Data, &answer, &mut records).unwrap();
            let is_last = n % 20 == 19;
            if is_last {
                sealer.seal(Content::Handshake, &[24, 0, 0, 1, 0], &mut records).unwrap();
            }
            recorder.append(&mut tape, Plane::Down, &[IoSlice::new(&records)]).unwrap();
            if is_last {
                secret = secret.next();
                sealer.rekey(&secret.key().secrets()).unwrap();
                recorder.rekey(&mut tape, Plane::Down).unwrap();
            }
            down.extend(answer);
            up.extend(ask);
        }
        recorder.sealed_fact(&mut tape, b"select 1").unwrap();
        recorder.end(tape).unwrap();
        said.push((session, down, up));
    }
    let mut tape = recorder.begin(SessionId(9), 0, Mode::Async).unwrap();
    recorder.seal(&mut tape, Plane::Down, Suite::Aes128Gcm).unwrap();
    for (text, length) in [(1, 1_000), (2, 200_000), (3, 1_000)] {
        recorder.append_plaintext(&mut tape, Plane::Down, &[IoSlice::new(&vec![text; length])]).unwrap();
    }
    recorder.end(tape).unwrap();
    said.push((9, [vec![1; 1_000], vec![3; 1_000]].concat(), Vec::new()));
    drop(recorder);
    drop(recordings);
    (root, key, said)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn python_reader(root: &Path, key: &Path) -> Output {
    python("recording_reader.py", &[root, key])
}

/// Runs one of the readers in `tests/e2e`.
fn python(reader: &str, arguments: &[&Path]) -> Output {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = home.join("tests/.tools/venv/bin/python");
    let python = if own.exists() { own } else { "python3".into() };
    let reader = home.join("tests/e2e").join(reader);
    Command::new(python).arg(reader).args(arguments).output().expect("Python runs")
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_reader_that_was_written_from_the_document_opens_every_session_and_finds_a_flipped_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (root, key, said) = record(folder.path());
    let output = python_reader(&root, &key);
    assert!(output.status.success(), "{}", text(&output));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read.as_object().unwrap().len(), said.len());
    for (session, down, up) in &said {
        let got = &read[format!("{session:016x}")];
        assert_eq!(got["complete"], true, "{got}");
        assert_eq!(got["down"]["text"], sha256(down), "{session}");
        let expected = if up.is_empty() { String::new() } else { sha256(up) };
        assert_eq!(got["up"]["text"], expected, "{session}");
        assert_eq!(got["lost"], if *session == 9 { 200_000 } else { 0 });
        if *session != 9 {
            assert!(got["segments"].as_array().unwrap().len() >= 2, "{got}");
            assert_eq!(got["facts"], serde_json::json!([format!("{{\"session\":{session}}}"), "select 1"]));
        }
    }
    // In the last frame but its head: a byte of a record, a fact or the totals.
    for name in ["1.seg", "1.keys"] {
        let path = root.join("segments").join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() - 40] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let output = python_reader(&root, &key);
        assert!(!output.status.success() && text(&output).contains("1.seg: at byte"), "{}", text(&output));
        std::fs::write(&path, good).unwrap();
    }
}

/// Levels of tiles, partial and full ones, and epochs of which each has its own key.
#[test]
fn a_reader_of_the_log_that_was_written_from_the_document_checks_each_entry_and_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (root, _, _) = record(folder.path());
    let mut log = Log::open(&Directory::read(&root).unwrap(), clock::system).unwrap();
    let (begin, epochs) = (log.size(), [3, 256, 257, 700]);
    for n in begin..900 {
        if epochs.contains(&n) {
            log.change_epoch().unwrap();
        }
        log.append(&format!("hold session={n:016x} reason=n-{n}")).unwrap();
        if n % 97 == 0 {
            log.checkpoint().unwrap();
        }
    }
    log.checkpoint().unwrap();
    let size = log.size();
    drop(log);
    let output = python("recording_log_reader.py", &[&root]);
    assert!(output.status.success(), "{}", text(&output));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let later = epochs.iter().filter(|epoch| **epoch >= begin).count();
    assert_eq!((&read["entries"], &read["epochs"]), (&size.into(), &(1 + later).into()), "{read}");
    assert!(later >= 3 && read["chunks"].as_u64() > Some(4) && read["segments"].as_u64() > Some(4), "{read}");
    // One byte of each kind of file, in its middle.
    for (name, why) in [
        ("checkpoint", "signature"),
        ("epochs/2", "signature"),
        ("tile/0/001", "not the one that was hashed"),
        ("tile/1/000.p/3", "not that of the one below"),
        ("tile/entries/002", "not the one that was hashed"),
    ] {
        let path = root.join("log").join(name);
        let good = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut bad = good.clone();
        let at = if why == "signature" { good.len() - 30 } else { good.len() / 2 };
        bad[at] ^= if why == "signature" && good[at] != b'@' { 1 << 5 } else { 1 };
        std::fs::write(&path, bad).unwrap();
        let output = python("recording_log_reader.py", &[&root]);
        assert!(!output.status.success(), "{name}: {}", text(&output));
        std::fs::write(&path, good).unwrap();
    }
}

fn run(folder: &Path, program: &str, arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), text(&output))
}

#[test]
fn sha256sum_ssh_keygen_openssl_and_age_verify_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let (root, _, _) = record(folder.path());
    let segments = root.join("segments");
    let gateway = std::fs::read_to_string(root.join("gateway")).unwrap().trim().to_owned();
    let origin = format!("staunch/{gateway}");
    let sums: Vec<PathBuf> = std::fs::read_dir(&segments)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sum"))
        .collect();
    assert!(sums.len() >= 4, "{sums:?}");
    for sum in &sums {
        let name = sum.file_name().unwrap().to_str().unwrap();
        let (good, told) = run(&segments, "sha256sum", &["-c", name], b"");
        assert!(good, "{told}");
        let signature = format!("{name}.sig");
        let verify = [
            "-Y",
            "verify",
            "-f",
            "../log/allowed_signers",
            "-I",
            &origin,
            "-n",
            "staunch-segment@v1",
            "-s",
            &signature,
        ];
        let message = std::fs::read(sum).unwrap();
        let (good, told) = run(&segments, "ssh-keygen", &verify, &message);
        assert!(good, "{told}");
        assert!(!run(&segments, "ssh-keygen", &verify, b"another").0);
    }
    // As the document has it.
    let envelope = r#"
        len=$((0x$(od -An -tx1 -j80 -N4 1.seg | tr -d ' '))); head -c $((96 + len)) 1.seg | tail -c "$len" | age -d -i ../../auditor.key | wc -c
    "#;
    assert_eq!(run(&segments, "bash", &["-o", "pipefail", "-c", envelope], b""), (true, "32\n".to_owned()));
    let script = r#"
        sed '/^$/q' ../log/checkpoint | head -n -1 > body
        grep "^— staunch/$(cat ../gateway) " ../log/checkpoint | cut -d' ' -f3 | base64 -d | tail -c 64 > signature
        openssl pkeyutl -verify -pubin -inkey ../log/log.pem -rawin -in body -sigfile signature || exit 1
        echo x >> body
        ! openssl pkeyutl -verify -pubin -inkey ../log/log.pem -rawin -in body -sigfile signature
    "#;
    let (good, told) = run(&segments, "bash", &["-c", script], b"");
    assert!(good, "{told}");
}
