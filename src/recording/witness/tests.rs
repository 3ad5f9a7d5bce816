//! A witness's memory: what it gives out, and what it keeps over a restart.

use super::super::directory::Directory;
use super::super::log::keys::read_public;
use super::super::log::note::SignedCheckpoint;
use super::super::log::proof::consistency;
use super::super::log::store::Log;
use super::super::log::witness::{AddCheckpoint, Refusal};
use super::super::writer::tests::CLOCK;
use super::memory::{MemoryFault, WitnessMemory, origin_hash};
use std::path::Path;

/// A log with `entries` heartbeats more.
fn grow(directory: &Directory, entries: u64) {
    let mut log = Log::open(directory, CLOCK).unwrap();
    (0..entries).for_each(|n| log.append(&format!("heartbeat number={n}")).unwrap());
    log.checkpoint().unwrap();
}

fn request(directory: &Directory, old: u64) -> String {
    let text = std::fs::read_to_string(directory.log().join("checkpoint")).unwrap();
    let size = SignedCheckpoint::parse(&text).unwrap().checkpoint.size;
    AddCheckpoint::body(old, &consistency(&directory.log(), old, size).unwrap(), &text)
}

fn open(folder: &Path) -> WitnessMemory {
    WitnessMemory::open(folder, "gw.example/witness", CLOCK).unwrap()
}

#[test]
fn a_fork_is_new_once_until_the_log_goes_on_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(&folder.path().join("r")).unwrap();
    grow(&directory, 5);
    let memory = open(&folder.path().join("w"));
    memory.set_logs(&[read_public(&directory.log()).unwrap()]).unwrap();
    memory.add_checkpoint(&request(&directory, 0)).unwrap();
    // The same log with another entry in its past: the proof does not hold.
    grow(&directory, 1);
    let good = request(&directory, 7);
    let forked = good.replacen("old 7\n", &format!("old 7\n{}\n", "A".repeat(43) + "="), 1);
    let is_new = |answer| match answer {
        Err(MemoryFault::Forked { origin, is_new }) => {
            assert!(origin.starts_with("staunch/"));
            is_new
        }
        other => panic!("{other:?}"),
    };
    assert!(is_new(memory.add_checkpoint(&forked)));
    assert!(!is_new(memory.add_checkpoint(&forked)), "as often as it asks");
    memory.add_checkpoint(&good).unwrap();
    grow(&directory, 1);
    let forked = request(&directory, 8).replacen("old 8\n", &format!("old 8\n{}\n", "A".repeat(43) + "="), 1);
    assert!(is_new(memory.add_checkpoint(&forked)));
}

fn refusal(answer: Result<String, MemoryFault>) -> Refusal {
    match answer {
        Err(MemoryFault::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_cosigned_is_remembered_over_a_restart_and_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(&folder.path().join("r")).unwrap();
    grow(&directory, 5);
    let log = read_public(&directory.log()).unwrap();
    let place = folder.path().join("w");
    let memory = open(&place);
    assert_eq!(refusal(memory.add_checkpoint(&request(&directory, 0))), Refusal::Unknown);
    memory.set_logs(std::slice::from_ref(&log)).unwrap();
    assert_eq!(refusal(memory.add_checkpoint("old 0\n\nnonsense\n")), Refusal::Malformed);
    let hash = origin_hash(log.name());
    assert_eq!(memory.checkpoint(&hash), None);
    let line = memory.add_checkpoint(&request(&directory, 0)).unwrap();
    let shown = memory.checkpoint(&hash).unwrap();
    let note = SignedCheckpoint::parse(&shown).unwrap();
    assert!(shown.ends_with(&line) && note.is_signed_by(&log), "{shown}");
    assert_eq!(note.signed_at(&memory.verifier()), Some(CLOCK() / 1_000_000_000));
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("— ")).count(),
        2,
        "of the log's key and the witness's alone"
    );
    // Neither a reload without the log nor a restart makes it forget.
    memory.set_logs(&[]).unwrap();
    assert_eq!(refusal(memory.add_checkpoint(&request(&directory, 0))), Refusal::Unknown);
    memory.set_logs(std::slice::from_ref(&log)).unwrap();
    assert_eq!(refusal(memory.add_checkpoint(&request(&directory, 0))), Refusal::Conflict(7));
    let key = memory.verifier();
    drop(memory);
    let memory = open(&place);
    assert_eq!(memory.verifier(), key);
    memory.set_logs(std::slice::from_ref(&log)).unwrap();
    grow(&directory, 4);
    assert_eq!(refusal(memory.add_checkpoint(&request(&directory, 0))), Refusal::Conflict(7));
    memory.add_checkpoint(&request(&directory, 7)).unwrap();
    for strange in ["", "..", "../witness.key", &hash.to_uppercase(), &hash[1..]] {
        assert_eq!(memory.checkpoint(strange), None, "{strange}");
    }
}

#[test]
fn a_memory_that_cannot_be_read_or_written_cosigns_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(&folder.path().join("r")).unwrap();
    grow(&directory, 5);
    let log = read_public(&directory.log()).unwrap();
    let place = folder.path().join("w");
    let memory = open(&place);
    memory.set_logs(std::slice::from_ref(&log)).unwrap();
    let file = place.join("logs").join(origin_hash(log.name()));
    // A folder where the file is written first: no space, no right.
    std::fs::create_dir(place.join("logs").join(format!("{}.new", origin_hash(log.name())))).unwrap();
    assert!(matches!(memory.add_checkpoint(&request(&directory, 0)), Err(MemoryFault::Directory(_))));
    std::fs::remove_dir(place.join("logs").join(format!("{}.new", origin_hash(log.name())))).unwrap();
    // What was not remembered was not cosigned.
    memory.add_checkpoint(&request(&directory, 0)).unwrap();
    assert!(WitnessMemory::open(&place, "gw.example/witness", CLOCK).is_err(), "it is in use");
    drop(memory);
    let text = std::fs::read_to_string(&file).unwrap();
    for bad in ["", "nonsense", &text.replacen("\n7\n", "\n6\n", 1)] {
        std::fs::write(&file, bad).unwrap();
        let fault = open(&place).set_logs(std::slice::from_ref(&log)).unwrap_err().to_string();
        assert!(fault.contains("not cosigned by this witness"), "{fault}");
    }
}
