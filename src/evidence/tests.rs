//! The commands against a directory, as a person runs them.

use super::sessions::{Command, run};
use super::{identities, keygen};
use crate::names::SessionId;
use crate::recording::format::envelope::Identities;
use crate::recording::format::frame::Plane;
use crate::recording::keeper::{Origin, Recordings};
use crate::recording::log::tree;
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
fn an_auditor_who_came_later_opens_what_was_recorded_before() {
    let folder = tempfile::tempdir().unwrap();
    let (root, key) = record(folder.path());
    let (root, key) = (root.to_str().unwrap(), key.to_str().unwrap());
    let late = Identities::generate();
    let public = late.recipients()[0].to_string();
    let path = folder.path().join("late.key");
    std::fs::write(&path, &*late.expose()).unwrap();
    let late = path.to_str().unwrap();
    let shown = |key| command(&["show", "0000000000000001", "-d", root, "-i", key]).1;
    assert!(shown(late).contains("no identity opens it"));
    // Who cannot open them gives nothing away, and says so.
    let (code, out, told) = command(&["rewrap", "-d", root, "-i", late, "-r", &public, "--unlogged"]);
    assert!(code == 1 && out.is_empty() && told.contains("opens no segment"), "{out}{told}");
    let (code, out, told) = command(&["rewrap", "-d", root, "-i", key, "-r", &public]);
    assert!(
        code == 0 && out.contains("of the log") && out.contains(&public) && told.is_empty(),
        "{out}{told}"
    );
    assert!(shown(late).contains("GET /") && shown(key).contains("GET /"));
    assert_eq!(command(&["erase", "0000000000000001", "-d", root, "--reason", "x"]).0, 0);
    assert!(!shown(late).contains("GET /"));
    let (code, out, _) = command(&["verify", "-d", root, "-i", late]);
    assert!(code == 0 && out.contains("integrity: good"), "{out}");
    let directory = crate::recording::directory::Directory::read(Path::new(root)).unwrap();
    let log = crate::recording::reader::log_view::LogView::read(&directory).unwrap();
    let line = log.orders.iter().find(|(_, _, line)| line.starts_with("rewrap ")).unwrap();
    assert!(line.2.contains(&format!("recipients={public} ")), "{line:?}");
    // What somebody else puts there opens nothing.
    let stranger = folder.path().join("stranger.key");
    std::fs::write(&stranger, &*Identities::generate().expose()).unwrap();
    std::fs::write(Path::new(root).join("segments/1.bytes.age"), b"age-encryption.org/v1\nnonsense").unwrap();
    let (code, _, told) =
        command(&["show", "0000000000000002", "-d", root, "-i", stranger.to_str().unwrap()]);
    assert!(code == 1 && told.contains("1.seg"), "{told}");
    assert_eq!(command(&["show", "0000000000000002", "-d", root, "-i", key]).0, 0);
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
    assert!(out.contains("no identity opens it") && !out.contains("GET /"), "{out}");
    let (code, out, _) = command(&["show", "0000000000000001", "-d", root, "-i", key]);
    assert!(code == 0 && out.contains("GET /") && !out.contains('\x1b'), "{out}");
    let (_, out, _) = command(&["show", "0000000000000001", "-d", root, "-i", key, "--raw", "down"]);
    assert_eq!(out, "200 OK");
    let (_, out, _) = command(&["show", "0000000000000001", "-d", root, "-i", key, "--json"]);
    let items: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&items[0]["kind"], &items[2]["text"]), (&"fact".into(), &"200 OK".into()), "{out}");
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

/// Sessions with the audit lines of a gateway.
fn record_facts(folder: &Path, sessions: &[(u64, &[&str], &[u8])]) -> (PathBuf, PathBuf) {
    let key = folder.join("auditor.key");
    keygen::run(&keygen::Arguments { output: Some(key.clone()) }, &mut Vec::new(), &mut Vec::new()).unwrap();
    let root = folder.join("recordings");
    let mut settings = Settings::new(root.clone(), identities(&key).unwrap().recipients());
    settings.segment_size = 1 << 20;
    let recordings = Recordings::open(settings, &Origin::default()).unwrap();
    let mut recorder = Recorder::new(recordings.archive().clone(), 0);
    for (session, facts, up) in sessions {
        let mut tape = recorder.begin(SessionId(*session), 0, Mode::Strict).unwrap();
        recorder.seal(&mut tape, Plane::Up, Suite::Aes128Gcm).unwrap();
        for fact in *facts {
            match fact.strip_prefix('!') {
                Some(sealed) => recorder.sealed_fact(&mut tape, sealed.as_bytes()).unwrap(),
                None => recorder.fact(&mut tape, fact.as_bytes()).unwrap(),
            }
        }
        recorder.append_plaintext(&mut tape, Plane::Up, &[IoSlice::new(up)]).unwrap();
        recorder.end(tape).unwrap();
    }
    drop(recorder);
    drop(recordings);
    (root, key)
}

#[test]
fn a_list_is_narrowed_by_user_group_route_path_status_encryption_time_and_text() {
    let folder = tempfile::tempdir().unwrap();
    let sessions: [(u64, &[&str], &[u8]); 4] = [
        (
            1,
            &[
                r#"{"event":"session opened","route":"openai","sni":"a.example"}"#,
                r#"{"event":"request","path":"/v1/chat","status":200,"subject":"ann"}"#,
                r#"{"event":"request","path":"/v1/secret","status":200,"subject":"eve"}"#,
                r#"{"event":"request","path":"/v1/models","status":404,"subject":"ann"}"#,
                r#"{"event":"session closed","route":"openai","subject":"ann","groups":["ml"],"client_version":"TLSv1.3","client_group":"X25519MLKEM768","upstream_version":"TLSv1.2","upstream_group":"secp256r1"}"#,
            ],
            b"GET /v1/chat HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            2,
            &[
                r#"{"event":"session opened","route":"warehouse","database":"shop"}"#,
                r#"!{"event":"statement","statement":1,"text":"select Salary from staff","subject":"bob"}"#,
                r#"{"event":"session closed","route":"warehouse","subject":"bob","groups":["ops"],"client_version":"TLSv1.3"}"#,
            ],
            b"",
        ),
        (
            3,
            &[r#"{"event":"session closed","route":"warehouse","subject":"bob"}"#],
            b"Q\0\0\0\x11drop table t\0",
        ),
        (4, &[], b"\x01"),
    ];
    let (root, key) = record_facts(folder.path(), &sessions);
    let (root, key) = (root.to_str().unwrap(), key.to_str().unwrap());
    let found = |filters: &[&str]| {
        let (code, out, told) = command(&[&["list", "-d", root, "--output", "json"], filters].concat());
        assert_eq!((code, told.as_str()), (0, ""), "{filters:?}");
        let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["session"].clone();
        let ids = out.lines().map(|line| id(line).as_str().unwrap().trim_start_matches('0').to_owned());
        ids.collect::<Vec<_>>().join(" ")
    };
    let cases: [(&[&str], &str); 21] = [
        // Several people on one connection, each with requests of their own.
        (&["--user", "eve"], "1"),
        (&["--user", "eve", "--path", "/v1/secret"], "1"),
        (&["--user", "ann", "--path", "/v1/secret"], ""),
        (&["--user", "ann", "--group", "ops"], ""),
        (&[], "1 2 3 4"),
        (&["--user", "bob"], "2 3"),
        (&["--group", "ml"], "1"),
        (&["--route", "warehouse"], "2 3"),
        (&["--path", "/v1/*"], "1"),
        (&["--path", "/v1/chat", "--status", "404"], ""),
        (&["--path", "/v1/models", "--status", "4xx"], "1"),
        (&["--status", "200"], "1"),
        (&["--tls", "1.3"], "1 2"),
        (&["--tls", "TLSv1.2"], "1"),
        (&["--key-exchange", "x25519mlkem768"], "1"),
        (&["--from", "2h"], "1 2 3 4"),
        (&["--to", "2020-01-01"], ""),
        (&["--where", "database=shop", "--where", "subject=bob"], "2"),
        (&["--where", "sni=a.example"], "1"),
        (&["--text", "salary", "-i", key], "2"),
        (&["--text", "DROP TABLE", "-i", key], "3"),
    ];
    for (filters, expected) in cases {
        assert_eq!(found(filters), expected, "{filters:?}");
    }
    assert_eq!(command(&["list", "-d", root, "--text", "salary"]).0, 2);
    assert_eq!(command(&["list", "-d", root, "--status", "ok"]).0, 2);
    assert_eq!(command(&["hold", "0000000000000002", "-d", root, "--reason", "x"]).0, 0);
    assert_eq!(command(&["erase", "0000000000000003", "-d", root, "--reason", "x"]).0, 0);
    let (_, out, _) = command(&["list", "-d", root]);
    assert!(
        out.contains("complete, held") && out.contains("erased") && out.contains("X25519MLKEM768"),
        "{out}"
    );
}

#[test]
fn a_broken_record_key_file_or_segment_is_named_and_hides_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let facts: &[&str] = &[r#"{"event":"session opened","route":"a"}"#];
    let (root, key) = record_facts(folder.path(), &[(1, facts, b"first"), (2, facts, b"second")]);
    let segment = root.join("segments/1.seg");
    let whole = std::fs::read(&segment).unwrap();
    let (root_text, key) = (root.to_str().unwrap(), key.to_str().unwrap());
    let show = |session: &str| command(&["show", session, "-d", root_text, "-i", key]);
    // The first record of session 1: behind its KEY frame. Its payload is the first that ends in what was sealed.
    let record = whole.windows(3).position(|window| window == [23, 3, 3]).unwrap();
    let mut bytes = whole.clone();
    bytes[record + 7] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let (code, out, told) = show("0000000000000001");
    assert!(code == 1 && told.contains("1.seg: at byte") && told.contains("does not verify"), "{told}");
    assert!(out.contains("session opened") && out.contains("damaged") && out.contains(" end "), "{out}");
    let (code, out, told) = show("0000000000000002");
    assert!(code == 0 && out.contains("second") && told.is_empty(), "{out}{told}");
    // A newer version, a foreign file, a cut one: each is told, and other segments are listed.
    let mut newer = whole.clone();
    newer[9] = 9;
    let crc = crc32c::crc32c(&newer[..92]).to_be_bytes();
    newer[92..96].copy_from_slice(&crc);
    for (file, what) in [(&newer[..], "version"), (b"not a segment at all", ""), (&whole[..50], "")] {
        std::fs::write(root.join("segments/2.seg"), file).unwrap();
        std::fs::write(&segment, &whole).unwrap();
        let (code, out, told) = command(&["list", "-d", root_text]);
        assert!(code == 1 && told.contains("2.seg: at byte") && told.contains(what), "{told}");
        assert!(out.contains("0000000000000001") && out.contains("0000000000000002"), "{out}");
        let (code, out, _) = show("0000000000000002");
        assert!(code == 1 && out.contains("second"), "{out}");
    }
    std::fs::remove_file(root.join("segments/2.seg")).unwrap();
    // Another's key, and a key file that is gone.
    let other = folder.path().join("other.key");
    keygen::run(&keygen::Arguments { output: Some(other.clone()) }, &mut Vec::new(), &mut Vec::new())
        .unwrap();
    let (code, out, _) =
        command(&["show", "0000000000000002", "-d", root_text, "-i", other.to_str().unwrap()]);
    assert!(code == 0 && out.contains("no identity opens it"), "{out}");
    std::fs::remove_file(root.join("segments/1.keys")).unwrap();
    let (code, _, told) = show("0000000000000002");
    assert!(code == 1 && told.contains("1.keys"), "{told}");
    assert_eq!(command(&["list", "-d", root_text]).0, 0, "needs no key");
    assert!(whole == std::fs::read(&segment).unwrap(), "nothing is changed");
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

#[derive(Parser)]
struct EvidenceLine {
    #[command(flatten)]
    arguments: super::report::Arguments,
}

/// Runs `staunch evidence`; gives code, output and what was told.
fn evidence(line: &[&str]) -> (u8, String, String) {
    let (mut out, mut told) = (Vec::new(), Vec::new());
    let parsed = EvidenceLine::try_parse_from([&["evidence"], line].concat()).unwrap();
    let code = super::report::run(&parsed.arguments, &mut out, &mut told).unwrap_or_else(|fault| {
        told.extend(fault.to_string().bytes());
        fault.exit_code()
    });
    (code, String::from_utf8(out).unwrap(), String::from_utf8(told).unwrap())
}

/// The root that a proof leads to (RFC 6962 section 2.1.1).
fn root_of(leaf: tree::Hash, place: u64, size: u64, proof: &mut Vec<tree::Hash>) -> tree::Hash {
    if size == 1 {
        return leaf;
    }
    let left = 1 << (63 - (size - 1).leading_zeros());
    let beside = proof.pop().unwrap();
    match place < left {
        true => tree::root(&[root_of(leaf, place, left, proof), beside]),
        false => tree::root(&[beside, root_of(leaf, place - left, size - left, proof)]),
    }
}

#[test]
fn a_report_can_be_counted_again_names_what_was_not_recorded_and_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let closed = |subject: &str, version: &str, group: &str| {
        format!(
            r#"{{"event":"session closed","route":"a","subject":"{subject}","client_version":"{version}","client_group":"{group}","upstream_version":"TLSv1.2","upstream_certificate":"a5","upstream_verified":"chain"}}"#
        )
    };
    let facts = [
        closed("<script>alert(1)</script>", "TLSv1.3", "X25519MLKEM768"),
        closed("ann", "TLSv1.3", "X25519"),
        closed("ann", "TLSv1.2", "secp256r1"),
        r#"{"event":"request","verdict":"refused","refusal":"not_permitted","status":403,"route":"b"}"#
            .to_owned(),
    ];
    let sessions: Vec<(u64, [&str; 1])> = (1..).zip(facts.iter().map(|fact| [fact.as_str()])).collect();
    let sessions: Vec<(u64, &[&str], &[u8])> =
        sessions.iter().map(|(n, facts)| (*n, &facts[..], &b"x"[..])).collect();
    let (root, _) = record_facts(folder.path(), &sessions);
    let log = folder.path().join("gateway.log");
    let now = super::when::When(crate::recording::clock::system()).to_string();
    let line = |session: u64| {
        format!(
            "{{\"event\":\"session closed\",\"time\":\"{now}\",\"session\":\"{session:016x}\",\"route\":\"c\"}}\n"
        )
    };
    std::fs::write(&log, format!("{}{}{}no JSON\n", line(1), line(99), line(99))).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let root_text = root.to_str().unwrap();
    let run = |more: &[&str], name: &str| {
        evidence(&[&["-d", root_text, "--from", "1h", "-o", &path(name)], more].concat())
    };
    let (code, out, told) = run(&["--log", log.to_str().unwrap(), "--sample", "2", "--seed", "s"], "report");
    assert!(code == 0 && out.contains("4 sessions recorded"), "{out}{told}");
    assert!(told.contains("1 lines are no JSON"), "{told}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let json_lines = |name: &str| -> Vec<serde_json::Value> {
        read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let report: serde_json::Value = serde_json::from_str(&read("report/report.json")).unwrap();
    // Every figure by sessions, counted again.
    let lines = json_lines("report/sessions.jsonl");
    assert_eq!(report["totals"]["recorded"], lines.len());
    for figure in
        report["figures"].as_array().unwrap().iter().filter(|figure| figure["counted"] == "sessions")
    {
        for count in figure["counts"].as_array().unwrap() {
            let has = |line: &&serde_json::Value| {
                let found =
                    figure["field"].as_str().unwrap().split('.').fold(*line, |value, name| &value[name]);
                found.as_str().filter(|text| !text.is_empty()).unwrap_or("unknown")
                    == count["name"].as_str().unwrap()
            };
            assert_eq!(count["count"], lines.iter().filter(has).count(), "{figure}");
        }
    }
    let of =
        |id: &str| report["figures"].as_array().unwrap().iter().find(|figure| figure["id"] == id).unwrap();
    assert_eq!(of("client_version")["counts"][0], serde_json::json!({"name": "TLSv1.3", "count": 2}));
    assert_eq!(of("refusals")["counts"][0], serde_json::json!({"name": "not_permitted", "count": 1}));
    let unrecorded = json_lines("report/unrecorded.jsonl");
    assert_eq!((unrecorded.len(), &unrecorded[0]["session"]), (1, &"0000000000000063".into()));
    // The sample's proofs lead to the root.
    let sample = json_lines("report/sample.jsonl");
    assert_eq!(sample.len(), 2);
    let hash = |text: &serde_json::Value| <tree::Hash>::try_from(unhex(text.as_str().unwrap())).unwrap();
    for drawn in &sample {
        let proof = &drawn["proofs"][0];
        let mut path: Vec<_> = proof["inclusion"].as_array().unwrap().iter().map(hash).collect();
        let leaf = tree::leaf(proof["line"].as_str().unwrap().as_bytes());
        let size = drawn["tree_size"].as_u64().unwrap();
        assert_eq!(root_of(leaf, proof["entry"].as_u64().unwrap(), size, &mut path), hash(&drawn["root"]));
        assert!(path.is_empty());
    }
    // Signed, as ssh-keygen verifies it; each file by its SHA-256.
    let verify = |input: &str| {
        let gateway = read("recordings/gateway");
        let mut child = std::process::Command::new("ssh-keygen")
            .args(["-Y", "verify", "-n", "staunch-report@v1", "-I", &format!("staunch/{}", gateway.trim())])
            .args(["-f", &path("recordings/log/allowed_signers"), "-s", &path("report/report.sum.sig")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    let sum = read("report/report.sum");
    assert!(verify(&sum) && !verify(&sum.replace(' ', "_")));
    let sha256 = |name: &str| {
        let found = ring::digest::digest(&ring::digest::SHA256, read(name).as_bytes());
        found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(sum, format!("{}  report.json\n", sha256("report/report.json")));
    for (name, sum) in report["files"].as_object().unwrap() {
        assert_eq!(*sum, sha256(&format!("report/{name}")), "{name}");
    }
    for name in ["report/report.html", "report/report.md"] {
        let text = read(name);
        assert!(!text.contains("<script") && text.contains("alert(1)"), "{name}");
        assert!(
            text.contains("does not prove") && text.contains("SC-8") && text.contains("not_permitted"),
            "{name}"
        );
    }
    assert_eq!(command(&["verify", "-d", root_text]).0, 0, "the log has an entry more");
    // The same seed draws the same; a route narrows; what is there is not written over.
    assert_eq!(run(&["--sample", "2", "--seed", "s", "--unsigned"], "again").0, 0);
    let drawn = |name: &str| json_lines(name).iter().map(|line| line["session"].clone()).collect::<Vec<_>>();
    assert_eq!(drawn("report/sample.jsonl"), drawn("again/sample.jsonl"));
    assert!(!folder.path().join("again/report.sum.sig").exists());
    assert!(run(&["--route", "b", "--unsigned"], "b").1.contains("1 sessions recorded"));
    assert!(run(&[], "b").2.contains("is there already"));
    assert_eq!(
        evidence(&["-d", root_text, "--from", "2020-01-02", "--to", "2020-01-01", "-o", &path("c")]).0,
        2
    );
    // One byte.
    let segment = root.join("segments/1.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, out, _) = run(&["--unsigned"], "bad");
    assert!(code == 1 && out.contains("integrity: BAD") && read("bad/report.html").contains("BAD"), "{out}");
}

#[test]
fn a_report_lists_certificates_of_this_version_and_of_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = |text: &str| format!(r#"{{"event":"certificates","certificates":{text}}}"#);
    let shown = certificates(
        r#"[{"by":"gateway","sha256":"01","subject":"CN=<gw>","issuer":"CN=ca | x","serial":"0a","key":"RSA 1024","not_before":0,"not_after":9223372036854775807,"names":["gw"]},
            {"by":"upstream","sha256":"02","subject":"CN=db","issuer":"CN=ca","serial":"0b","key":"Ed25519","not_before":0,"not_after":1,"names":[]}]"#,
    );
    let closed = r#"{"event":"session closed","route":"a","subject":"ann","upstream_certificate":"02","upstream_verified":"chain"}"#;
    let malformed = certificates(r#"[7,{"by":"client"},{"by":"client","sha256":null}]"#);
    let (root, _) = record_facts(
        folder.path(),
        &[
            (1, &[shown.as_str(), closed], b"x"),
            // As recordings of earlier versions have it.
            (2, &[closed], b"x"),
            (3, &[malformed.as_str(), r#"{"event":"session closed","route":"a","subject":"bob"}"#], b"x"),
        ],
    );
    let output = folder.path().join("report");
    let place = ["-d", root.to_str().unwrap(), "--from", "1h", "--unsigned", "-o", output.to_str().unwrap()];
    let (code, _, told) = evidence(&place);
    assert_eq!(code, 0, "{told}");
    let read = |name: &str| std::fs::read_to_string(output.join(name)).unwrap();
    let rows: Vec<serde_json::Value> =
        read("certificates.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(
        (&rows[0]["shown_by"], &rows[0]["leg"], &rows[0]["key_listed"], &rows[0]["not_after"]),
        (&"gateway".into(), &"client".into(), &"too short for SP 800-52r2".into(), &"9999-12-31".into())
    );
    // Both sessions count, and the one tells what the other has not.
    assert_eq!(rows[1]["session_ids"], serde_json::json!(["0000000000000001", "0000000000000002"]));
    assert_eq!(
        (&rows[1]["subject"], &rows[1]["state"], &rows[1]["verified"]),
        (&"CN=db".into(), &"used after its end".into(), &"chain".into())
    );
    assert!(read("report.html").contains("CN=&lt;gw&gt;") && read("report.md").contains("CN=ca \\| x"));
    let listed = command(&["list", "-d", root.to_str().unwrap(), "--output", "json"]).1;
    assert!(listed.contains(r#""subject":"ann""#) && !listed.contains("CN=db"), "{listed}");
}

#[test]
fn a_report_over_a_log_that_cannot_be_read_is_written_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let closed = r#"{"event":"session closed","route":"a","subject":"ann","client_version":"TLSv1.3"}"#;
    let (root, _) = record_facts(folder.path(), &[(1, &[closed], b"x")]);
    std::fs::remove_file(root.join("log/checkpoint")).unwrap();
    let output = folder.path().join("report");
    let place = ["-d", root.to_str().unwrap(), "--from", "1h", "--unsigned", "-o", output.to_str().unwrap()];
    let (code, out, told) = evidence(&[&place[..], &["--sample", "1"]].concat());
    assert!(
        code == 1 && out.contains("1 sessions recorded") && out.contains("integrity: BAD"),
        "{out}{told}"
    );
    assert!(told.contains("log/checkpoint") && told.contains("the sample has no proofs"), "{told}");
    let read = |name: &str| std::fs::read_to_string(output.join(name)).unwrap();
    assert!(read("sessions.jsonl").contains("ann") && read("sample.jsonl").contains("no proof"));
    assert!(read("report.html").contains("BAD"));
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_key_file_that_cannot_be_read_hides_nothing_that_anybody_may_read_and_nothing_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let facts: &[&str] = &[r#"{"event":"session opened","route":"a"}"#];
    let (root, key) = record_facts(folder.path(), &[(1, facts, b"first")]);
    // The other segment is of the same gateway, later.
    let mut settings = Settings::new(root.clone(), identities(&key).unwrap().recipients());
    settings.segment_size = 1 << 20;
    let recordings = Recordings::open(settings, &Origin::default()).unwrap();
    let mut recorder = Recorder::new(recordings.archive().clone(), 0);
    let mut tape = recorder.begin(SessionId(2), 0, Mode::Strict).unwrap();
    recorder.seal(&mut tape, Plane::Up, Suite::Aes128Gcm).unwrap();
    recorder.append_plaintext(&mut tape, Plane::Up, &[IoSlice::new(b"second")]).unwrap();
    recorder.end(tape).unwrap();
    drop((recorder, recordings));
    let keys = root.join("segments/1.keys");
    let whole = std::fs::read(&keys).unwrap();
    let (root_text, key) = (root.to_str().unwrap(), key.to_str().unwrap());
    let on = |verb: &str, session: &str, more: &[&str]| {
        command(&[&[verb, session, "-d", root_text, "-i", key], more].concat())
    };
    let flipped: Vec<u8> = whole.iter().map(|byte| byte ^ 1).collect();
    type Break<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let breaks: [Break<'_>; 7] = [
        ("gone", Box::new(|| ())),
        ("a folder", Box::new(|| std::fs::create_dir(&keys).unwrap())),
        ("a device", Box::new(|| std::os::unix::fs::symlink("/dev/zero", &keys).unwrap())),
        ("empty", Box::new(|| std::fs::write(&keys, []).unwrap())),
        ("cut", Box::new(|| std::fs::write(&keys, &whole[..whole.len() / 2 - 1]).unwrap())),
        ("changed", Box::new(|| std::fs::write(&keys, &flipped).unwrap())),
        ("huge", Box::new(|| std::fs::File::create(&keys).unwrap().set_len(1 << 40).unwrap())),
    ];
    for (what, breaks) in breaks {
        // What the break before has left, if anything.
        let _ = std::fs::remove_file(&keys).or_else(|_| std::fs::remove_dir(&keys));
        breaks();
        let (one, other) = ("0000000000000001", "0000000000000002");
        for (verb, more) in [("show", &[][..]), ("replay", &["--speed", "0"])] {
            let (code, out, told) = on(verb, one, more);
            assert!(
                code == 1 && ["1.keys", "1.seg"].iter().any(|file| told.contains(file)),
                "{what} {verb}: {told}"
            );
            assert!(out.contains("session opened") && !out.contains("first"), "{what} {verb}: {out}");
            let (code, out, told) = on(verb, other, more);
            assert!(out.contains("second") && code <= 1, "{what} {verb}: {out}{told}");
        }
        let capture = folder.path().join("capture");
        let (code, _, told) = on("export", one, &["-o", capture.to_str().unwrap()]);
        assert!(code == 1 && !capture.exists() && told.contains("1."), "{what}: {told}");
        let taken = folder.path().join("other");
        let (_, _, told) = on("export", other, &["--plain", "--force", "-o", taken.to_str().unwrap()]);
        let taken = std::fs::read(&taken).unwrap_or_default();
        assert!(taken.windows(6).any(|window| window == b"second"), "{what}: {told}");
        let (code, out, told) = command(&["verify", "-d", root_text, "-i", key, "--json"]);
        assert!(code == 1 && out.contains("1.keys"), "{what}: {out}{told}");
        assert_eq!(command(&["list", "-d", root_text]).0, 0, "needs no key");
    }
}
