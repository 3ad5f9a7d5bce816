//! The commands against a directory, as a person runs them.

use super::sessions::{Command, run};
use super::{identities, keygen};
use crate::names::SessionId;
use crate::recording::format::frame::Plane;
use crate::recording::keeper::{Origin, Recordings};
use crate::recording::settings::Settings;
use crate::recording::writer::{Mode, Recorder};
use crate::tls::record::Suite;
use clap::Parser;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// Runs a command line; gives code, output and what was told.
fn command(line: &[&str]) -> (u8, String, String) {
    let (mut out, mut told) = (Vec::new(), Vec::new());
    let parsed = match Line::try_parse_from([&["sessions"], line].concat()) {
        Ok(parsed) => parsed,
        Err(error) => return (2, String::new(), error.to_string()),
    };
    let code = run(parsed.command, &mut out, &mut told).unwrap_or_else(|fault| {
        told.extend(fault.to_string().bytes());
        fault.exit_code()
    });
    (code, String::from_utf8(out).unwrap(), String::from_utf8(told).unwrap())
}

fn record(folder: &Path) -> (PathBuf, PathBuf) {
    let key = folder.join("auditor.key");
    let mut told = Vec::new();
    let arguments = keygen::Arguments { output: Some(key.clone()) };
    assert_eq!(keygen::run(&arguments, &mut Vec::new(), &mut told).unwrap(), 0);
    assert!(String::from_utf8(told).unwrap().contains("auditors = [\"age1"));
    assert!(keygen::run(&arguments, &mut Vec::new(), &mut Vec::new()).is_err(), "never overwritten");
    let root = folder.join("recordings");
    let mut settings = Settings::new(root.clone(), identities(&key).unwrap().recipients());
    settings.segment_size = 1 << 20;
    let recordings = Recordings::open(settings, &Origin::default()).unwrap();
    let mut recorder = Recorder::new(recordings.archive().clone(), 0);
    for (session, route) in [(1, "openai"), (2, "warehouse")] {
        let mut tape = recorder.begin(SessionId(session), 0, Mode::Strict).unwrap();
        let fact = format!("{{\"event\":\"session_open\",\"route\":\"{route}\",\"subject\":\"=alice\"}}");
        recorder.fact(&mut tape, fact.as_bytes()).unwrap();
        for (plane, text) in [(Plane::Up, &b"GET /\x1b[31m"[..]), (Plane::Down, b"200 OK")] {
            recorder.seal(&mut tape, plane, Suite::Aes128Gcm).unwrap();
            recorder.append_plaintext(&mut tape, plane, &[IoSlice::new(text)]).unwrap();
        }
        recorder.end(tape).unwrap();
    }
    drop(recorder);
    drop(recordings);
    (root, key)
}

#[test]
fn a_newcomer_lists_shows_verifies_holds_and_erases() {
    let folder = tempfile::tempdir().unwrap();
    let (root, key) = record(folder.path());
    let (root, key) = (root.to_str().unwrap(), key.to_str().unwrap());
    let (code, out, told) = command(&["list", "-d", root]);
    assert_eq!((code, out.lines().count(), told.as_str()), (0, 3, ""));
    assert!(out.contains("0000000000000001") && out.contains("openai") && out.contains("complete"), "{out}");
    let (_, out, _) = command(&["list", "-d", root, "--where", "route=warehouse", "--output", "csv"]);
    assert!(out.lines().count() == 2 && out.contains("'=alice"), "{out}");
    let (_, out, _) = command(&["list", "-d", root, "--output", "json"]);
    let line: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(line["route"], "openai");
    let (_, out, _) = command(&["show", "0000000000000001", "-d", root]);
    assert!(out.contains("sealed; no identity") && !out.contains("GET /"), "{out}");
    let (code, out, _) = command(&["show", "0000000000000001", "-d", root, "-i", key]);
    assert!(code == 0 && out.contains("GET /") && !out.contains('\x1b'), "{out}");
    let (_, out, _) = command(&["show", "0000000000000001", "-d", root, "-i", key, "--raw", "down"]);
    assert_eq!(out, "200 OK");
    let (code, out, _) = command(&["verify", "-d", root, "-i", key]);
    assert!(code == 0 && out.contains("integrity: good") && out.contains("4 records opened"), "{out}");
    let order = |verb, session| command(&[verb, session, "-d", root, "--reason", "case 7"]);
    assert_eq!(order("hold", "0000000000000001").0, 0);
    let (code, _, told) = order("erase", "0000000000000001");
    assert!(code == 1 && told.contains("is held"), "{told}");
    assert_eq!(order("release", "0000000000000001").0, 0);
    assert_eq!(order("erase", "0000000000000001").0, 0);
    let (code, out, _) = command(&["verify", "-d", root, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["good"]["erasure"]), (0, &true.into()));
    assert!(report["erased"]["0000000000000001"].is_u64(), "{out}");
    // One byte.
    let segment = Path::new(root).join("segments/1.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, out, _) = command(&["verify", "-d", root]);
    assert!(code == 1 && out.contains("integrity: BAD") && out.contains("1.seg: at byte"), "{out}");
}

#[test]
fn what_is_not_there_is_told_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    for line in [&["list"][..], &["verify"], &["show", "0000000000000001"]] {
        let (code, _, told) = command(&[line, &["-d", nowhere.to_str().unwrap()]].concat());
        assert!(code == 1 && told.contains("nowhere"), "{told}");
    }
    let (code, _, told) =
        command(&["erase", "0000000000000001", "-d", nowhere.to_str().unwrap(), "--reason", "x"]);
    assert!(code == 1 && told.contains("nowhere") && !nowhere.exists(), "{told}");
    assert_eq!(command(&["show", "xyz", "-d", "."]).0, 2);
}
