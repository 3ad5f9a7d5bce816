//! Imports point down only, and files make no circles: reads every path in the source that begins in the crate and holds
//! it against the table of levels and the list of circles.

#[path = "architecture/circles.rs"]
mod circles;

use circles::{Files, circles};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by level, as in the documentation of the crate. A module with a level of its own below another's name
/// (`tls::record`) is listed by its path.
const LEVELS: [(u8, &[&str]); 6] = [
    (
        5,
        &[
            "main",
            "config",
            "worker",
            "serve",
            "admin",
            "client",
            "evidence",
            "demo",
            "init",
            "mask_try",
            "reference",
        ],
    ),
    (4, &["session"]),
    (3, &["relay", "gateway"]),
    (
        2,
        &[
            "tls",
            "identify",
            "credential",
            "dial",
            "recording",
            "audit",
            "telemetry",
            "acme",
            "net",
            "sandbox",
        ],
    ),
    (1, &["tls::record", "protocol", "policy", "mask"]),
    (0, &["names", "close", "secret", "metrics", "files", "system"]),
];

/// Imports between modules of one level that are wanted, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 22] = [
    ("acme", "net", "authorities are asked by the one HTTPS client"),
    ("acme", "tls", "a challenge is answered by a TLS configuration"),
    ("dial", "tls", "dialling ends in a TLS handshake"),
    ("net", "tls", "the HTTPS client verifies servers as dialling does"),
    ("recording", "net", "witnesses and time-stamping authorities are asked by the one HTTPS client"),
    ("telemetry", "net", "collectors of traces are asked by the one HTTPS client"),
    ("identify", "net", "issuers' keys are fetched by the one HTTPS client"),
    ("metrics", "names", "counters are kept by side and direction"),
    ("metrics", "close", "counters are kept by close reason"),
    ("serve", "config", "serving begins with a configuration, and reloads it"),
    ("mask_try", "config", "masks are tried as the configuration has them"),
    ("serve", "worker", "serving starts the workers"),
    ("admin", "evidence", "the page shows transcripts as `staunch sessions show` prints them"),
    ("serve", "admin", "serving starts the operator's listener"),
    ("config", "admin", "the configuration says how the operator's listener is set up"),
    ("config", "worker", "the configuration says how workers are laid out"),
    ("reference", "config", "the reference lists the keys of the configuration's schema"),
    ("close", "names", "a close reason names its culprit"),
    ("init", "client", "what was written is tried with a login, and says so in the client's words"),
    ("init", "config", "what was written is checked as `staunch check` does"),
    ("init", "demo", "the test authority is the demo's"),
    ("protocol", "mask", "bodies go through the masks where they lie"),
];

/// Groups of files that use each other and are meant to, each with its reason. "To be cut" is no reason to leave it.
const CIRCLES: [(&[&str], &str); 3] = [
    (&["relay", "relay::buffer", "relay::pump", "relay::watch"], "one type, its methods by concern"),
    (&["mask::json", "mask::json::pieces", "mask::text"], "a text may be JSON, whose strings are texts"),
    (&["worker", "worker::thread"], "a thread and the handles by which others reach it"),
];

fn level(module: &str) -> Option<u8> {
    LEVELS.iter().find(|(_, names)| names.contains(&module)).map(|(level, _)| *level)
}

/// The module that a path names, as the table spells it.
fn module_of(path: &str) -> String {
    let mut parts = path.split("::");
    let first = parts.next().unwrap_or_default();
    let second = parts.next().map(|second| format!("{first}::{second}"));
    second.filter(|path| level(path).is_some()).unwrap_or_else(|| first.to_owned())
}

/// Every `crate::…` path of a source text, comments left out.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let path =
                line[at + "crate::".len()..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let path = path.into_iter().next().unwrap_or_default();
            // `use crate::{a, b}` would hide modules from this test.
            assert!(!path.is_empty(), "write one `use crate::…` for each module: {line}");
            found.insert(module_of(path.trim_end_matches(':')));
        }
    }
    found
}

/// A source text without the items that stand behind `#[cfg(test)]`, and with all that comes after them. An item ends
/// with a `;` on its line, or with the brace that closes it at the same depth (the source is formatted).
fn without_tests(text: &str) -> String {
    let (mut kept, mut lines) = (String::new(), text.lines());
    while let Some(line) = lines.next() {
        let Some(depth) = line.strip_suffix("#[cfg(test)]") else {
            kept += line;
            kept.push('\n');
            continue;
        };
        let end = format!("{depth}}}");
        // Other attributes of the item come first.
        let Some(item) = lines.by_ref().find(|line| !line.trim_start().starts_with("#[")) else { break };
        if !item.ends_with(';') && !item.ends_with('}') {
            lines.by_ref().find(|line| *line == end);
        }
    }
    kept
}

/// What is wrong with the imports of one module's text.
fn offences(module: &str, text: &str) -> Vec<String> {
    let Some(own) = level(module) else { return vec![format!("{module} stands in no level of the table")] };
    let wrong = |other: &String| {
        let excepted = EXCEPTIONS.iter().any(|(from, to, _)| *from == module && to == other);
        match level(other) {
            None => Some(format!("{module} imports {other}, which stands in no level")),
            Some(level) if level < own || excepted || other == module => None,
            // Files of one directory may import each other.
            Some(_) if module.split("::").next() == other.split("::").next() => None,
            Some(level) => Some(format!("{module} (level {own}) imports {other} (level {level})")),
        }
    };
    imports(text).iter().filter_map(wrong).collect()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file by its module's path, without tests: those may use what is above them, as a reader would.
fn modules() -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "only {} files found", files.len());
    let mut modules = Files::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().with_extension("");
        let mut path: Vec<_> = relative.iter().map(|part| part.to_str().unwrap()).collect();
        if path == ["lib"] || path.iter().any(|part| *part == "tests" || part.ends_with("_tests")) {
            continue;
        }
        path.pop_if(|last| *last == "mod");
        modules.insert(path.join("::"), without_tests(&std::fs::read_to_string(&file).unwrap()));
    }
    modules
}

#[test]
fn imports_point_down_only() {
    let modules = modules();
    let found: Vec<_> =
        modules.iter().flat_map(|(module, text)| offences(&module_of(module), text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_excepted_is_still_there() {
    let modules = modules();
    let imported = |from: &str, to: &str| {
        modules.iter().any(|(module, text)| module_of(module) == from && imports(text).contains(to))
    };
    let stale: Vec<_> = EXCEPTIONS.iter().filter(|(from, to, _)| !imported(from, to)).collect();
    assert!(stale.is_empty(), "nobody needs these exceptions: {stale:?}");
    let groups = circles(&modules);
    let of_group = |file: &&str| groups.iter().flatten().any(|found| found == *file);
    let stale: Vec<_> = CIRCLES.iter().flat_map(|(files, _)| *files).filter(|file| !of_group(file)).collect();
    assert!(stale.is_empty(), "these files are in no circle: {stale:?}");
}

#[test]
fn files_make_no_circles() {
    let meant = |group: &[String]| {
        CIRCLES.iter().any(|(files, _)| group.iter().all(|file| files.contains(&file.as_str())))
    };
    let found: Vec<_> = circles(&modules()).into_iter().filter(|group| !meant(group)).collect();
    assert!(found.is_empty(), "these files use each other: {found:#?}");
}

#[test]
fn a_circle_of_files_is_found_through_names_that_are_handed_on() {
    let files = |list: &[(&str, &str)]| -> Files {
        list.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect()
    };
    let circle = files(&[
        ("a", "mod x;\nmod y;\npub use x::X;\n"),
        ("a::x", "use super::y::{self, Y as Other};\npub struct X;\n"),
        ("a::y", "use crate::b;\npub struct Y;\n"),
        ("b", "// use crate::c::C;\nfn f(_: crate::a::X) {}\n"),
        ("c", "use crate::{\n    a::X,\n    b,\n};\n"),
    ]);
    assert_eq!(circles(&circle), [["a::x", "a::y", "b"]]);
    let line = files(&[
        ("a", "mod x;\nmod y;\npub use x::X;\npub use y::Y;\n"),
        ("a::x", "use super::Y;\n"),
        ("a::y", "use std::fmt;\npub(in super::super) struct Y;\n"),
    ]);
    assert_eq!(circles(&line), Vec::<Vec<String>>::new());
    let parent = files(&[("a", "mod x;\nuse x::X;\npub struct A;\n"), ("a::x", "use super::A;\n")]);
    assert_eq!(circles(&parent), [["a", "a::x"]]);
}

#[test]
fn only_the_tests_themselves_are_left_out() {
    let text = "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;\nuse crate::session::A;\n\
        #[cfg(test)]\nmod more {\n    use crate::worker::B;\n}\nuse crate::config::C;\n";
    let found = offences("protocol", &without_tests(text));
    let expected =
        ["protocol (level 1) imports config (level 5)", "protocol (level 1) imports session (level 4)"];
    assert_eq!(found, expected);
}

#[test]
fn an_import_that_points_up_is_found() {
    let found = offences("protocol", "use crate::names::Culprit;\nuse crate::session::Session;\n");
    assert_eq!(found, ["protocol (level 1) imports session (level 4)"]);
    assert_eq!(
        offences("identify", "fn f() { crate::dial::H2 }"),
        ["identify (level 2) imports dial (level 2)"]
    );
    assert_eq!(offences("tls::record", "use crate::tls::leg::Leg;"), Vec::<String>::new());
    assert_eq!(offences("newcomer", "").len(), 1);
}

/// A tap at the outbox sees all that a peer will see only as long as nobody else can make ciphertext.
#[test]
fn only_the_outbox_seals() {
    let sealers = ["src/tls/outbox.rs", "src/tls/record.rs", "src/tls/record_tests.rs"].map(PathBuf::from);
    let mut stack = vec![PathBuf::from("src")];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // What recordings, their captures and tests seal goes to files, never to a peer.
            let is_file_only = ["src/recording", "src/evidence"].iter().any(|room| path == Path::new(room));
            if path.is_dir() && !is_file_only {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !sealers.contains(&path) {
                let text = fs::read_to_string(&path).unwrap();
                assert!(!text.contains("Sealer"), "{} can make ciphertext", path.display());
            }
        }
    }
}
