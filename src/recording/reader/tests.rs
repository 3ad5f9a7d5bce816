//! What the verifier finds: every byte that is changed, every frame that is moved, and nothing where nothing is wrong.

use super::super::directory::Directory;
use super::super::format::envelope::Identities;
use super::super::format::frame::HEAD;
use super::super::log::store::Log;
use super::super::writer::tests::{Bench, Leg, down, up};
use super::super::writer::{Mode, Recorder};
use super::verify::{Area, Report, verify};
use super::{SegmentFile, list, list_segments, play, segments_since};
use crate::names::SessionId;
use crate::tls::record::Suite;
use std::path::PathBuf;
use std::sync::Arc;

struct Sample {
    _folder: tempfile::TempDir,
    root: PathBuf,
    auditor: Arc<Identities>,
}

/// Three sessions in one segment and two in another, complete or, with `open`, as they stand while the gateway runs.
fn sample(is_complete: bool) -> Sample {
    sample_of(is_complete, &[1..4, 4..6])
}

fn sample_of(is_complete: bool, segments: &[std::ops::Range<u64>]) -> Sample {
    let mut bench = Bench::new(|_| {});
    for sessions in segments.iter().cloned() {
        let mut recorder = Recorder::new(bench.archive.clone(), sessions.start as u16);
        for session in sessions {
            let mut leg = Leg::new(Suite::Aes128Gcm, 0);
            let mut tape = leg.begin(&mut recorder, session, Mode::Strict);
            up(&mut recorder, &mut tape, b"ask").unwrap();
            down(&mut recorder, &mut tape, &leg.seal(b"answer one")).unwrap();
            down(&mut recorder, &mut tape, &leg.seal(b"answer two")).unwrap();
            recorder.fact(&mut tape, b"{\"event\":\"session\"}").unwrap();
            recorder.end(tape).unwrap();
        }
        if is_complete {
            drop(recorder);
            bench.settle();
        } else {
            bench.signer.turn();
            std::mem::forget(recorder);
        }
    }
    let root = bench.directory().root().to_owned();
    let (folder, auditor) = if is_complete {
        bench.stop()
    } else {
        let Bench { folder, auditor, archive, signer } = bench;
        drop(signer);
        std::mem::forget(archive);
        (folder, auditor)
    };
    Sample { _folder: folder, root, auditor }
}

impl Sample {
    fn report(&self, has_identity: bool) -> Report {
        let directory = Directory::read(&self.root).unwrap();
        verify(&directory, has_identity.then_some(&*self.auditor), Some(directory.gateway()), &mut ())
            .unwrap()
    }

    /// Verifies with other bytes in a file, and puts the old ones back.
    fn with(&self, file: &str, change: impl FnOnce(&mut Vec<u8>), has_identity: bool) -> Report {
        let path = self.root.join(file);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(good, bad);
        std::fs::write(&path, bad).unwrap();
        let report = self.report(has_identity);
        std::fs::write(&path, good).unwrap();
        report
    }

    /// Offsets and lengths of a segment's frames.
    fn frames(&self, number: u64) -> Vec<(usize, usize)> {
        let mut file = SegmentFile::open(&self.root.join(format!("segments/{number}.seg"))).unwrap();
        let next = || file.next_frame().unwrap().map(|f| (f.offset as usize, HEAD + f.head.length as usize));
        std::iter::from_fn(next).collect()
    }
}

fn names(report: &Report, file: &str) -> bool {
    report.faults().any(|finding| finding.place.file.ends_with(file))
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for is_complete in [true, false] {
        let sample = sample(is_complete);
        for has_identity in [true, false] {
            let report = sample.report(has_identity);
            assert_eq!(report.faults().collect::<Vec<_>>(), Vec::<&super::verify::Finding>::new());
            assert_eq!((report.segments, report.sessions), (2, 5));
            assert_eq!(report.opened, if has_identity { 15 } else { 0 });
            assert!(report.limits.len() >= 2);
        }
    }
}

#[test]
fn every_byte_of_a_complete_directory_that_is_flipped_is_found_and_its_file_named() {
    // Small: each flip is a verification of the whole.
    let sample = sample_of(true, std::slice::from_ref(&(1..2)));
    let mut files = vec!["segments/1.seg".to_owned(), "segments/1.keys".into(), "log/checkpoint".into()];
    let mut folders = vec![sample.root.join("log/tile")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(&sample.root).unwrap().display().to_string());
            }
        }
    }
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let length = std::fs::metadata(sample.root.join(&file)).unwrap().len() as usize;
        for at in 0..length {
            let report = sample.with(&file, |bytes| bytes[at] ^= 1, false);
            // A hash that does not match its entry is told at the entry.
            let told =
                if file.contains("tile/0") { file.replace("tile/0", "tile/entries") } else { file.clone() };
            assert!(names(&report, &told), "{file} at {at}: {:?}", report.findings);
        }
    }
}

#[test]
fn bytes_of_an_open_segment_that_are_flipped_are_found_with_an_identity() {
    let sample = sample_of(false, std::slice::from_ref(&(1..2)));
    let length = std::fs::metadata(sample.root.join("segments/1.seg")).unwrap().len() as usize;
    let envelopes = sample.frames(1)[0].0;
    for at in (0..96).chain(envelopes..length) {
        let report = sample.with("segments/1.seg", |bytes| bytes[at] ^= 1, true);
        assert!(names(&report, "segments/1.seg"), "{at}: {:?}", report.findings);
    }
}

#[test]
fn frames_that_are_dropped_swapped_doubled_or_moved_are_found() {
    for is_complete in [true, false] {
        let sample = sample(is_complete);
        let frames = sample.frames(1);
        let other = std::fs::read(sample.root.join("segments/2.seg")).unwrap();
        let (foreign, length) = sample.frames(2)[2];
        let foreign = &other[foreign..foreign + length];
        for (place, (at, length)) in frames.iter().copied().enumerate() {
            let range = at..at + length;
            let mut reports = vec![
                sample.with("segments/1.seg", |b| drop(b.drain(range.clone())), false),
                sample.with(
                    "segments/1.seg",
                    |b| {
                        let copy = b[range.clone()].to_vec();
                        b.splice(at..at, copy);
                    },
                    false,
                ),
                sample.with("segments/1.seg", |b| drop(b.splice(at..at, foreign.iter().copied())), false),
            ];
            if let Some((next, more)) = frames.get(place + 1).copied() {
                let swap = |b: &mut Vec<u8>| {
                    let swapped = [&b[next..next + more], &b[range.clone()]].concat();
                    b.splice(at..next + more, swapped);
                };
                reports.push(sample.with("segments/1.seg", swap, false));
            }
            for (what, report) in reports.iter().enumerate() {
                assert!(names(report, "segments/1.seg"), "{place} {what}: {:?}", report.findings);
            }
        }
    }
}

#[test]
fn a_segment_that_is_cut_anywhere_is_found() {
    let sample = sample_of(false, std::slice::from_ref(&(1..2)));
    let length = std::fs::metadata(sample.root.join("segments/1.seg")).unwrap().len() as usize;
    for end in 0..length {
        let report = sample.with("segments/1.seg", |bytes| bytes.truncate(end), false);
        assert!(names(&report, "segments/1.seg"), "{end}: {:?}", report.findings);
    }
}

#[test]
fn a_segment_key_file_or_log_that_is_gone_is_found_and_hides_no_other() {
    let sample = sample(true);
    let gone = |file: &str| {
        let (path, aside) = (sample.root.join(file), sample.root.join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let report = sample.report(true);
        let directory = Directory::read(&sample.root).unwrap();
        let (sessions, _) = list(&directory, None, &mut ()).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        (report, sessions.len())
    };
    let (report, sessions) = gone("segments/1.seg");
    assert!(names(&report, "segments/1.seg") && !report.is_good(Area::Completeness));
    assert_eq!((sessions, report.opened), (2, 6));
    let (report, sessions) = gone("segments/1.keys");
    assert!(names(&report, "segments/1.keys"), "{:?}", report.findings);
    assert_eq!((sessions, report.opened), (5, 6));
    for file in ["log/checkpoint", "log/log.pub", "log/tile"] {
        let (report, sessions) = gone(file);
        assert!(!report.is_good(Area::Integrity) && sessions == 5, "{file}");
    }
}

#[test]
fn a_corrupt_a_foreign_and_a_newer_segment_hide_no_other() {
    let sample = sample(true);
    // Of another number, and of another gateway.
    let own = std::fs::read(sample.root.join("segments/1.seg")).unwrap();
    let others = self::sample(true);
    let foreign = std::fs::read(others.root.join("segments/1.seg")).unwrap();
    for bad in [&b"x"[..], b"", b"STAUNSEG\0\x02", &[0; 4_096], &own, &foreign] {
        std::fs::write(sample.root.join("segments/9.seg"), bad).unwrap();
        let directory = Directory::read(&sample.root).unwrap();
        let (sessions, faults) = list(&directory, None, &mut ()).unwrap();
        assert_eq!((sessions.len(), faults.len()), (5, 1));
        assert!(faults[0].file.ends_with("segments/9.seg") && faults[0].offset == 0);
        let mut heard = 0;
        let faults = play(&directory, SessionId(2), Some(&sample.auditor), |_, _| heard += 1).unwrap();
        assert_eq!((heard, faults.len()), (5, 1));
    }
}

#[test]
fn what_is_no_file_what_never_ends_and_what_is_there_twice_is_named_and_hides_no_other() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let sample = sample(true);
    let at = |name: &str| sample.root.join("segments").join(name);
    let pipe = |name: &str| mknodat(CWD, at(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let sessions = || list(&Directory::read(&sample.root).unwrap(), None, &mut ()).unwrap();
    // The same segment under other spellings is none.
    std::fs::copy(at("1.seg"), at("01.seg")).unwrap();
    std::fs::copy(at("1.seg"), at("+1.seg")).unwrap();
    assert_eq!(sample.report(true).faults().count(), 0);
    pipe("9.seg");
    std::os::unix::fs::symlink("/dev/zero", at("8.seg")).unwrap();
    let (found, faults) = sessions();
    assert_eq!((found.len(), faults.len()), (5, 2), "{faults:?}");
    let report = sample.report(true);
    assert!(names(&report, "segments/9.seg") && names(&report, "segments/8.seg"), "{:?}", report.findings);
    assert_eq!(report.opened, 15);
    std::fs::remove_file(at("1.keys")).unwrap();
    pipe("1.keys");
    let report = sample.report(true);
    assert!(names(&report, "segments/1.keys"), "{:?}", report.findings);
    assert_eq!(report.opened, 6);
    std::fs::remove_file(at("1.keys")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("1.keys")).unwrap();
    assert!(names(&sample.report(true), "segments/1.keys"));
}

#[test]
fn a_checkpoint_that_tells_of_more_entries_than_there_are_is_found_and_not_counted_to_its_end() {
    let sample = sample(true);
    let size = Directory::read(&sample.root).and_then(|d| super::super::log::verify::checkpoint_size(&d));
    let size = format!("\n{}\n", size.unwrap());
    for told in [u64::MAX, 1 << 40, 100_000] {
        let change = |bytes: &mut Vec<u8>| {
            let text = std::str::from_utf8(bytes).unwrap().replacen(&size, &format!("\n{told}\n"), 1);
            *bytes = text.into_bytes();
        };
        let report = sample.with("log/checkpoint", change, false);
        assert!(names(&report, "log/checkpoint") && !report.is_good(Area::Integrity), "{told}");
        assert!(report.findings.len() < 50, "{}", report.findings.len());
    }
}

#[test]
fn an_older_log_in_the_place_of_the_newer_is_found() {
    let mut bench = Bench::new(|_| {});
    let record = |bench: &mut Bench, session| {
        let mut recorder = Recorder::new(bench.archive.clone(), 0);
        let mut tape = Leg::new(Suite::Aes128Gcm, 0).begin(&mut recorder, session, Mode::Strict);
        up(&mut recorder, &mut tape, b"ask").unwrap();
        recorder.end(tape).unwrap();
        drop(recorder);
        bench.settle();
    };
    record(&mut bench, 1);
    let log = bench.directory().log();
    let kept = |name: &str| (log.join(name), std::fs::read(log.join(name)).unwrap());
    let size = bench.signer.log().size();
    let old = [
        kept("checkpoint"),
        kept(&format!("tile/entries/000.p/{size}")),
        kept(&format!("tile/0/000.p/{size}")),
    ];
    record(&mut bench, 2);
    for (path, bytes) in old {
        std::fs::write(path, bytes).unwrap();
    }
    let report = verify(&bench.directory(), None, None, &mut ()).unwrap();
    assert!(names(&report, "segments/2.seg"), "{:?}", report.findings);
    assert!(report.faults().any(|finding| finding.place.reason.contains("older log")));
}

#[test]
fn another_gateway_s_identity_is_found() {
    let sample = sample(true);
    let expected = super::super::format::segment::GatewayId([1; 16]);
    let report = verify(&Directory::read(&sample.root).unwrap(), None, Some(expected), &mut ()).unwrap();
    assert!(!report.is_good(Area::Integrity));
}

#[test]
fn the_segments_of_a_time_hold_the_whole_of_each_session_that_was_open_then() {
    let mut bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut legs: Vec<Leg> = (0..2).map(|_| Leg::new(Suite::Aes128Gcm, 0)).collect();
    let mut tapes: Vec<_> = legs
        .iter()
        .zip([100, 101])
        .map(|(leg, session)| leg.begin(&mut recorder, session, Mode::Strict))
        .collect();
    for session in 1..9 {
        let mut leg = Leg::new(Suite::Aes128Gcm, 0);
        let mut tape = leg.begin(&mut recorder, session, Mode::Strict);
        // One of these fills most of a segment.
        (0..3).for_each(|_| down(&mut recorder, &mut tape, &leg.seal(&[7; 15_000])).unwrap());
        recorder.end(tape).unwrap();
        // One session that speaks in the first segment and the last, one that speaks in the third.
        if session == 1 || session == 8 {
            down(&mut recorder, &mut tapes[0], &legs[0].seal(b"seldom")).unwrap();
        }
        if session == 3 {
            down(&mut recorder, &mut tapes[1], &legs[1].seal(b"once")).unwrap();
        }
    }
    for tape in tapes {
        recorder.end(tape).unwrap();
    }
    drop(recorder);
    bench.settle();
    let directory = bench.directory();
    let (all, _) = list(&directory, None, &mut ()).unwrap();
    let numbers = directory.segments().unwrap();
    assert!(numbers.len() >= 6 && all.len() == 10, "{numbers:?}");
    let mut read = Vec::new();
    for from in all.iter().flat_map(|session| [session.first, session.last, session.last + 1]) {
        let wanted = segments_since(&directory, from).unwrap();
        let (mut found, faults) = list_segments(&directory, &wanted, None, &mut ());
        assert!(faults.is_empty());
        found.retain(|session| session.last >= from);
        let expected: Vec<_> = all.iter().filter(|session| session.last >= from).cloned().collect();
        assert_eq!(found, expected, "{wanted:?}");
        read.push(wanted.len());
    }
    // Not all of them each time: the newest alone, and what the two that go on need.
    assert!(
        read.iter().min() < Some(&numbers.len()) && read.iter().max() == Some(&numbers.len()),
        "{read:?}"
    );
    // A segment whose head cannot be read is among them, whenever it was.
    let first = directory.segment(2, "seg");
    std::fs::write(&first, b"STAUN").unwrap();
    let latest = all.iter().map(|session| session.last).max().unwrap();
    assert!(segments_since(&directory, latest).unwrap().contains(&2));
}

/// Deletes a segment while it is verified, as retention does.
struct Deleting<'a> {
    directory: &'a Directory,
    log: Option<Log>,
}

impl super::Observer for Deleting<'_> {
    fn segment(&mut self, place: usize, _: usize) {
        if place == 0 {
            std::fs::remove_file(self.directory.segment(1, "seg")).unwrap();
            std::fs::remove_file(self.directory.segment(1, "keys")).unwrap();
            if let Some(log) = &mut self.log {
                log.append("retire segment=1 sessions=3").unwrap();
                log.checkpoint().unwrap();
            }
        }
    }
}

#[test]
fn a_segment_that_retention_deletes_while_it_is_verified_is_no_fault_and_one_that_vanishes_is() {
    for is_retired in [true, false] {
        let sample = sample(true);
        let directory = Directory::read(&sample.root).unwrap();
        let log = is_retired.then(|| Log::open(&directory, crate::recording::clock::system).unwrap());
        let mut deleting = Deleting { directory: &directory, log };
        let gateway = Some(directory.gateway());
        let report = verify(&directory, Some(&sample.auditor), gateway, &mut deleting).unwrap();
        let named = names(&report, "segments/1.seg");
        assert_eq!(named, !is_retired, "{:?}", report.findings);
        assert!(!is_retired || report.faults().next().is_none(), "{:?}", report.findings);
        // The other one was read all the same.
        assert!(report.segments == 2 && report.opened == 6, "{report:?}");
    }
}

#[test]
fn a_complete_segment_of_another_length_is_named_and_not_hashed_to_its_end() {
    let sample = sample(true);
    let path = sample.root.join("segments/1.seg");
    // A hole of 8 TiB takes no space, and hours to read.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 << 40).unwrap();
    let report = sample.report(true);
    assert!(names(&report, "segments/1.seg"), "{:?}", report.findings);
    assert_eq!(report.sessions, 5);
}

#[test]
fn an_identity_file_that_cannot_be_read_is_named_and_hides_no_segment() {
    let sample = sample(true);
    let file = sample.root.join("gateway");
    let id = std::fs::read(&file).unwrap();
    let whole = Directory::read(&sample.root).unwrap().gateway();
    type Break<'a> = Box<dyn Fn() + 'a>;
    let breaks: [Break<'_>; 5] = [
        Box::new(|| std::fs::remove_file(&file).unwrap()),
        Box::new(|| std::fs::write(&file, &id[..20]).unwrap()),
        Box::new(|| std::fs::write(&file, b"\xff\xfe of somebody else").unwrap()),
        Box::new(|| std::fs::write(&file, vec![b'0'; 18 << 20]).unwrap()),
        Box::new(|| {
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
        }),
    ];
    for breaks in breaks {
        breaks();
        let directory = Directory::read(&sample.root).unwrap();
        assert_eq!(directory.gateway(), whole, "as the segments have it");
        let (sessions, faults) = list(&directory, None, &mut ()).unwrap();
        assert!(sessions.len() == 5 && faults.len() == 1 && faults[0].file == file, "{faults:?}");
        let mut heard = 0;
        let faults = play(&directory, SessionId(5), Some(&sample.auditor), |_, event| {
            heard += usize::from(matches!(event, super::Event::Data(_, Some(_))));
        });
        assert_eq!((heard, faults.unwrap().len()), (3, 1));
        let report = sample.report(true);
        assert!(names(&report, "gateway") && report.opened == 15, "{:?}", report.findings);
        // Whoever would write refuses, and makes no other identity, nor keys, beside what is recorded.
        let key = std::fs::read(sample.root.join("log/log.key")).unwrap();
        assert!(Directory::open(&sample.root).unwrap_err().to_string().contains("gateway: "));
        assert_eq!(std::fs::read(sample.root.join("log/log.key")).unwrap(), key);
    }
    std::fs::remove_dir(&file).unwrap();
    for number in [1, 2] {
        std::fs::remove_file(sample.root.join(format!("segments/{number}.seg"))).unwrap();
    }
    assert!(Directory::read(&sample.root).unwrap_err().to_string().contains("gateway: "), "nothing says it");
}

#[test]
fn a_sum_that_is_not_the_log_s_is_found() {
    let sample = sample(true);
    let report = sample.with("segments/1.sum", |sum| sum[3] ^= 1, false);
    assert!(names(&report, "segments/1.sum") && !report.is_good(Area::Integrity), "{:?}", report.findings);
    let report = sample.with("segments/1.sum", Vec::clear, true);
    assert!(names(&report, "segments/1.sum") && report.opened == 15);
}
