//! Deletes complete segments that are older, or more, than their class allows. A held session keeps its segments.

use super::super::archive::Archive;
use super::super::directory::DirectoryFault;
use super::super::log::store::Log;
use super::super::reader::{BYTES_AGAIN, FACTS_AGAIN, SegmentFile, read_head, sessions_of};
use super::requests::read_held;
use std::collections::BTreeMap;
use std::time::Duration;

struct Kept {
    class: u32,
    opened: u64,
    size: u64,
}

/// What is known of complete segments.
#[derive(Default)]
pub(super) struct Retention {
    known: BTreeMap<u64, Kept>,
    /// The segment whose `retire` entry was appended last.
    entered: Option<u64>,
}

impl Retention {
    pub(super) fn turn(&mut self, archive: &Archive, log: &mut Log) -> Result<(), DirectoryFault> {
        if archive.settings.classes.iter().all(|class| class.age.is_none() && class.size.is_none()) {
            return Ok(());
        }
        self.look(archive)?;
        let due = self.due(archive, (archive.wall)());
        if due.is_empty() {
            return Ok(());
        }
        let directory = &archive.directory;
        let held = read_held(directory, log)?;
        for number in due {
            let path = directory.segment(number, "seg");
            // One that cannot be read may hold anything: nothing is deleted on an error.
            let Ok(sessions) = SegmentFile::open(&path).and_then(sessions_of) else { continue };
            if sessions.keys().any(|session| held.contains(session)) {
                continue;
            }
            // Once for each segment, however often the log cannot be signed.
            if self.entered != Some(number) {
                let begun = sessions.values().filter(|begins| **begins).count();
                log.append(&format!("retire segment={number} sessions={begun}"))?;
                self.entered = Some(number);
            }
            log.checkpoint()?;
            for kind in ["keys", BYTES_AGAIN, FACTS_AGAIN, "seg", "sum.sig", "sum"] {
                let _ = std::fs::remove_file(directory.segment(number, kind));
            }
            self.known.remove(&number);
        }
        Ok(())
    }

    fn look(&mut self, archive: &Archive) -> Result<(), DirectoryFault> {
        let directory = &archive.directory;
        for number in directory.segments()? {
            if self.known.contains_key(&number) || !directory.segment(number, "sum").exists() {
                continue;
            }
            let path = directory.segment(number, "seg");
            if let (Some(head), Ok(found)) = (read_head(&path), std::fs::metadata(&path)) {
                let kept = Kept { class: head.class, opened: head.opened, size: found.len() };
                self.known.insert(number, kept);
            }
        }
        Ok(())
    }

    /// Segments that may be deleted, the oldest first.
    fn due(&self, archive: &Archive, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        for class in &archive.settings.classes {
            let ours = || self.known.iter().filter(|(_, kept)| kept.class == class.code());
            let mut size: u64 = ours().map(|(_, kept)| kept.size).sum();
            for (number, kept) in ours() {
                let age = Duration::from_nanos(now.saturating_sub(kept.opened));
                let too_old = class.age.is_some_and(|limit| age > limit);
                let too_much = class.size.is_some_and(|limit| size > limit);
                if too_old || too_much {
                    due.push(*number);
                    size -= kept.size;
                }
            }
        }
        due
    }
}
