//! Writers against a directory, read back by the reader.

use super::super::archive::{Archive, RecordingFault};
use super::super::clock::WallClock;
use super::super::directory::{Directory, DirectoryFault};
use super::super::format::envelope::Identities;
use super::super::format::frame::{Gap, Kind, Plane, Totals};
use super::super::format::traffic::TrafficSecret;
use super::super::keeper::{self, Origin, signer::Signer};
use super::super::reader::{Event, SegmentFile, list, play};
use super::super::settings::{Durability, RetentionClass, Settings};
use super::{How, Mode, Recorder, Tape};
use crate::names::{SessionId, Side};
use crate::tls::record::{Content, Sealer, Suite};
use std::cell::Cell;
use std::io::IoSlice;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

thread_local!(pub(in super::super) static NOW: Cell<u64> = const { Cell::new(1_000_000_000) });

/// A clock that moves when a test says so.
pub(in super::super) const CLOCK: WallClock = || NOW.get();

/// A directory with an auditor, open without threads.
pub(in super::super) struct Bench {
    pub(in super::super) folder: tempfile::TempDir,
    pub(in super::super) auditor: Arc<Identities>,
    pub(in super::super) archive: Arc<Archive>,
    pub(in super::super) signer: Signer,
}

impl Bench {
    pub(in super::super) fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Bench::at(folder, Arc::new(Identities::generate()), change)
    }

    pub(in super::super) fn at(
        folder: tempfile::TempDir,
        auditor: Arc<Identities>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings::new(folder.path().join("r"), auditor.recipients());
        settings.segment_size = 64 * 1024;
        change(&mut settings);
        let (archive, log) = keeper::open(settings, CLOCK, &Origin::default()).unwrap();
        let signer = Signer::new(archive.clone(), log);
        Bench { folder, auditor, archive, signer }
    }

    /// Hashes what is closed and signs all.
    pub(in super::super) fn settle(&mut self) {
        while let Some(closed) = self.archive.wait_closed(Duration::ZERO) {
            keeper::hasher::enter(&self.archive, closed);
        }
        self.signer.turn();
    }

    /// Ends the process as it should; what is left is the directory.
    pub(in super::super) fn stop(mut self) -> (tempfile::TempDir, Arc<Identities>) {
        self.settle();
        self.signer.finish();
        (self.folder, self.auditor)
    }

    pub(in super::super) fn directory(&self) -> Directory {
        Directory::read(self.archive.settings.directory.as_path()).unwrap()
    }
}

/// A client leg: seals what goes down.
pub(in super::super) struct Leg {
    secret: TrafficSecret,
    sealer: Sealer,
    number: u64,
}

impl Leg {
    pub(in super::super) fn new(suite: Suite, number: u64) -> Self {
        let secret = TrafficSecret::new(suite, &vec![7; TrafficSecret::length(suite)]).unwrap();
        let sealer = Sealer::new(&secret.key().secrets(), number, 1 << 24).unwrap();
        Leg { secret, sealer, number }
    }

    pub(in super::super) fn seal(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.sealer.seal(Content::Data, text, &mut out).unwrap();
        out
    }

    pub(in super::super) fn key_update(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.sealer.seal(Content::Handshake, &[24, 0, 0, 1, 0], &mut out).unwrap();
        self.secret = self.secret.next();
        self.sealer.rekey(&self.secret.key().secrets()).unwrap();
        out
    }

    pub(in super::super) fn begin(&self, recorder: &mut Recorder, session: u64, mode: Mode) -> Tape {
        let mut tape = recorder.begin(SessionId(session), 0, mode).unwrap();
        let secret =
            TrafficSecret::new(self.secret.suite(), &vec![7; TrafficSecret::length(self.secret.suite())]);
        recorder.carry(&mut tape, Plane::Down, secret.unwrap(), self.number).unwrap();
        recorder.seal(&mut tape, Plane::Up, self.secret.suite()).unwrap();
        tape
    }
}

pub(in super::super) fn down(
    recorder: &mut Recorder,
    tape: &mut Tape,
    bytes: &[u8],
) -> Result<(), RecordingFault> {
    recorder.append(tape, Plane::Down, &[IoSlice::new(bytes)])
}

pub(in super::super) fn up(
    recorder: &mut Recorder,
    tape: &mut Tape,
    bytes: &[u8],
) -> Result<(), RecordingFault> {
    recorder.append_plaintext(tape, Plane::Up, &[IoSlice::new(bytes)])
}

/// All plaintext of a session's plane.
pub(in super::super) fn text(
    directory: &Directory,
    session: u64,
    plane: Plane,
    auditor: &Identities,
) -> Vec<u8> {
    let mut out = Vec::new();
    let faults = play(directory, SessionId(session), Some(auditor), |_, event| {
        if let Event::Data(of, data) = event
            && of == plane
        {
            out.extend(data.expect("the auditor can open it"));
        }
    });
    assert_eq!(faults.unwrap(), []);
    out
}

/// Waits until what was appended is recorded.
fn recorded(tape: &Tape) -> Result<(), RecordingFault> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(std::future::poll_fn(|cx| tape.poll_recorded(Side::Client, cx)))
}

/// Whether what was appended is recorded already.
fn is_recorded(tape: &Tape) -> bool {
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    tape.poll_recorded(Side::Upstream, cx).is_ready()
}

fn totals(tape: &Tape) -> Totals {
    match &tape.how {
        How::Strict(tape) => tape.track.lock().totals,
        How::Async(_) => Totals::default(),
    }
}

fn kinds(bench: &Bench, number: u64) -> Vec<Kind> {
    let mut file = SegmentFile::open(&bench.directory().segment(number, "seg")).unwrap();
    std::iter::from_fn(|| file.next_frame().unwrap()).map(|frame| frame.head.kind).collect()
}

#[test]
fn both_planes_come_back_and_secrets_stand_before_the_first_record() {
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
        let bench = Bench::new(|_| {});
        let mut recorder = Recorder::new(bench.archive.clone(), 0);
        let mut leg = Leg::new(suite, 4);
        let mut tape = leg.begin(&mut recorder, 9, Mode::Strict);
        recorder.fact(&mut tape, b"{\"event\":\"session_open\"}").unwrap();
        up(&mut recorder, &mut tape, b"GET / ").unwrap();
        let (hello, update) = (leg.seal(b"hello "), leg.key_update());
        recorder
            .append(&mut tape, Plane::Down, &[IoSlice::new(&hello[..3]), IoSlice::new(&hello[3..])])
            .unwrap();
        down(&mut recorder, &mut tape, &update).unwrap();
        recorder.rekey(&mut tape, Plane::Down).unwrap();
        down(&mut recorder, &mut tape, &leg.seal(b"world")).unwrap();
        recorder.sealed_fact(&mut tape, b"select 1").unwrap();
        let totals = totals(&tape);
        recorder.end(tape).unwrap();
        assert_eq!((totals.records, totals.facts), ([3, 1], 2));
        use Kind::{Down, End, Fact, Key, Up};
        assert_eq!(kinds(&bench, 1), [Fact, Key, Up, Key, Down, Down, Down, Fact, End]);
        let directory = bench.directory();
        assert_eq!(text(&directory, 9, Plane::Down, &bench.auditor), b"hello world");
        assert_eq!(text(&directory, 9, Plane::Up, &bench.auditor), b"GET / ");
        let (sessions, faults) = list(&directory, None, &mut ()).unwrap();
        assert_eq!((sessions[0].session, sessions[0].has_beginning, faults), (SessionId(9), true, vec![]));
    }
}

#[test]
fn a_stranger_and_an_indexer_open_no_bytes_and_an_indexer_opens_facts() {
    let indexer = Identities::generate();
    let bench = Bench::new(|settings| settings.indexers = indexer.recipients());
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut tape = Leg::new(Suite::Aes128Gcm, 0).begin(&mut recorder, 9, Mode::Strict);
    up(&mut recorder, &mut tape, b"the body").unwrap();
    recorder.sealed_fact(&mut tape, b"select 1").unwrap();
    for (identities, fact) in
        [(None, None), (Some(Identities::generate()), None), (Some(indexer), Some(b"select 1"))]
    {
        let mut events = Vec::new();
        let take = |_, event| events.push(event);
        assert_eq!(play(&bench.directory(), SessionId(9), identities.as_ref(), take).unwrap(), []);
        let fact = fact.map(|text: &[u8; 8]| text.to_vec());
        assert_eq!(events, [Event::Data(Plane::Up, None), Event::SealedFact(fact)]);
    }
    let disk = std::fs::read(bench.directory().segment(1, "seg")).unwrap();
    assert!(!disk.windows(8).any(|window| window == b"the body" || window == b"select 1"));
}

#[test]
fn a_session_that_outgrows_a_segment_goes_on_in_the_next_under_entries_of_its_own() {
    let mut bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 3);
    let mut leg = Leg::new(Suite::Aes256Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 9, Mode::Strict);
    let (mut sent, mut asked) = (Vec::new(), Vec::new());
    for n in 0..40u8 {
        let (a, b) = (vec![n; 4_000], vec![n ^ 0xff; 1_000]);
        up(&mut recorder, &mut tape, &b).unwrap();
        down(&mut recorder, &mut tape, &leg.seal(&a)).unwrap();
        sent.extend(a);
        asked.extend(b);
    }
    let totals = totals(&tape);
    recorder.end(tape).unwrap();
    assert!(totals.segments >= 4, "{totals:?}");
    bench.settle();
    drop(recorder);
    bench.settle();
    let directory = bench.directory();
    assert_eq!(text(&directory, 9, Plane::Down, &bench.auditor), sent);
    assert_eq!(text(&directory, 9, Plane::Up, &bench.auditor), asked);
    for number in directory.segments().unwrap() {
        let file = SegmentFile::open(&directory.segment(number, "seg")).unwrap();
        assert_eq!((file.head.previous, file.head.worker), (number - 1, 3));
        assert!(file.length <= 64 * 1024);
        // What was reserved and not used is given back.
        let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(file.path()).unwrap());
        assert!(blocks * 512 < file.length + 8_192, "{blocks} blocks for {} bytes", file.length);
        assert_eq!(kinds(&bench, number)[0], Kind::Key);
        assert!(directory.segment(number, "sum.sig").exists());
    }
}

#[test]
fn an_old_segment_is_closed_and_an_empty_one_is_not() {
    let bench = Bench::new(|settings| settings.segment_age = Duration::from_secs(10));
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut tape = Leg::new(Suite::Aes128Gcm, 0).begin(&mut recorder, 1, Mode::Strict);
    NOW.set(NOW.get() + 20_000_000_000);
    recorder.tick();
    assert_eq!(bench.directory().segments().unwrap(), [1]);
    recorder.fact(&mut tape, b"{}").unwrap();
    NOW.set(NOW.get() + 20_000_000_000);
    recorder.tick();
    recorder.fact(&mut tape, b"{}").unwrap();
    assert_eq!(bench.directory().segments().unwrap(), [1, 2]);
    // Back by a day: order holds, and nothing rolls.
    NOW.set(NOW.get() - 15_000_000_000);
    recorder.fact(&mut tape, b"{}").unwrap();
    let mut file = SegmentFile::open(&bench.directory().segment(2, "seg")).unwrap();
    let times: Vec<u64> =
        std::iter::from_fn(|| file.next_frame().unwrap()).map(|frame| frame.head.time).collect();
    assert!(times.len() == 2 && times[0] < times[1]);
}

#[test]
fn what_is_not_whole_records_of_a_plane_is_refused_and_nothing_is_written() {
    let bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 1, Mode::Strict);
    let good = leg.seal(b"x");
    for bad in [&good[1..], &good[..good.len() - 1], b"hello"] {
        assert_eq!(down(&mut recorder, &mut tape, bad), Err(RecordingFault::NotRecords));
    }
    // A plane that we seal takes no records, one that carries them no plaintext.
    let slices = [IoSlice::new(&good)];
    assert_eq!(recorder.append(&mut tape, Plane::Up, &slices), Err(RecordingFault::NotRecords));
    assert_eq!(recorder.append_plaintext(&mut tape, Plane::Down, &slices), Err(RecordingFault::NotRecords));
    let mut bare = recorder.begin(SessionId(2), 0, Mode::Strict).unwrap();
    assert_eq!(down(&mut recorder, &mut bare, &good), Err(RecordingFault::NotRecords));
    assert!(kinds(&bench, 1).iter().all(|kind| *kind == Kind::Key));
    let too_long: Vec<u8> = (0..80).flat_map(|_| leg.seal(&[0; 16_000])).collect();
    assert_eq!(down(&mut recorder, &mut tape, &too_long), Err(RecordingFault::TooLong));
}

#[test]
fn without_space_in_reserve_new_sessions_are_refused_and_live_ones_use_what_is_there() {
    let bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 1, Mode::Strict);
    assert!(bench.archive.has_space());
    let set_full = |full| bench.archive.is_full.store(full, std::sync::atomic::Ordering::Relaxed);
    // The next segment is reserved; none after it can be.
    set_full(true);
    let mut written = 0;
    let fault = loop {
        match down(&mut recorder, &mut tape, &leg.seal(&[1; 4_000])) {
            Ok(()) => written += 1,
            Err(fault) => break fault,
        }
        assert!(written < 100);
    };
    assert_eq!(fault, RecordingFault::NoSpace);
    assert_eq!(bench.directory().segments().unwrap(), [1, 2]);
    assert!(written > 20, "the first segment and the spare: {written}");
    assert!(!bench.archive.has_space());
    let refused = recorder.begin(SessionId(2), 0, Mode::Strict).err();
    assert_eq!(refused, Some(RecordingFault::NoSpace));
    // Space comes back. It is found although nobody comes: who is not ready is sent nobody.
    recorder.tick();
    set_full(false);
    assert!(!bench.archive.has_space());
    NOW.set(NOW.get() + 2_000_000_000);
    recorder.tick();
    assert!(bench.archive.has_space());
    assert!(recorder.begin(SessionId(3), 0, Mode::Strict).is_ok());
    assert!(bench.archive.has_space());
}

#[test]
fn a_segment_whose_sync_failed_is_never_written_again_and_its_sessions_end() {
    let mut bench = Bench::new(|settings| settings.durability = Durability::Commit);
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 1, Mode::Strict);
    let mut quiet = recorder.begin(SessionId(5), 0, Mode::Strict).unwrap();
    down(&mut recorder, &mut tape, &leg.seal(b"one")).unwrap();
    recorded(&tape).unwrap();
    bench.archive.open.lock()[0].lock().damaged = true;
    let length = std::fs::metadata(bench.directory().segment(1, "seg")).unwrap().len();
    // The thread that brings it to the disk finds it.
    down(&mut recorder, &mut tape, &leg.seal(b"two")).unwrap();
    assert_eq!(recorded(&tape), Err(RecordingFault::Damaged));
    assert_eq!(down(&mut recorder, &mut tape, &leg.seal(b"three")), Err(RecordingFault::Damaged));
    assert_eq!(recorded(&tape), Err(RecordingFault::Damaged));
    // Others go on in another segment.
    recorder.fact(&mut quiet, b"{}").unwrap();
    let mut next = Leg::new(Suite::Aes128Gcm, 0).begin(&mut recorder, 2, Mode::Strict);
    up(&mut recorder, &mut next, b"x").unwrap();
    assert_eq!((recorded(&quiet), recorded(&next)), (Ok(()), Ok(())));
    assert_eq!(std::fs::metadata(bench.directory().segment(1, "seg")).unwrap().len(), length);
    assert_eq!(bench.directory().segments().unwrap(), [1, 2]);
    bench.settle();
    assert_eq!(bench.archive.counters.damaged.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn while_the_disk_stalls_no_call_waits_for_it_and_nothing_that_was_appended_counts_as_recorded() {
    let bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 9, Mode::Strict);
    down(&mut recorder, &mut tape, &leg.seal(b"quick, ")).unwrap();
    assert!(is_recorded(&tape), "the worker itself has written it");
    let path = bench.directory().segment(1, "seg");
    let length = || std::fs::metadata(&path).unwrap().len();
    let before = length();
    // What a write takes before it writes: whoever wants to write waits.
    let open = bench.archive.open.lock()[0].clone();
    let stalled = open.lock();
    bench.archive.slowness.begin(Duration::from_millis(20));
    up(&mut recorder, &mut tape, b"GET / ").unwrap();
    down(&mut recorder, &mut tape, &leg.seal(b"slow, ")).unwrap();
    let update = leg.key_update();
    down(&mut recorder, &mut tape, &update).unwrap();
    recorder.rekey(&mut tape, Plane::Down).unwrap();
    let mut other = Leg::new(Suite::Aes128Gcm, 0).begin(&mut recorder, 10, Mode::Strict);
    recorder.fact(&mut other, b"{}").unwrap();
    recorder.tick();
    assert!(!is_recorded(&tape) && !is_recorded(&other));
    assert_eq!(length(), before);
    drop(stalled);
    assert_eq!((recorded(&tape), recorded(&other)), (Ok(()), Ok(())));
    assert!(length() > before);
    // What is under way is not overtaken once the disk is quick again.
    let stalled = open.lock();
    down(&mut recorder, &mut tape, &leg.seal(b"the last of it, ")).unwrap();
    bench.archive.slowness.until.store(0, std::sync::atomic::Ordering::Relaxed);
    down(&mut recorder, &mut tape, &leg.seal(b"behind it, ")).unwrap();
    assert!(!is_recorded(&tape));
    drop(stalled);
    recorded(&tape).unwrap();
    while !recorder.thread.as_ref().unwrap().is_idle() {
        std::thread::yield_now();
    }
    down(&mut recorder, &mut tape, &leg.seal(b"quick")).unwrap();
    assert!(is_recorded(&tape), "the worker writes again");
    recorder.end(tape).unwrap();
    recorder.end(other).unwrap();
    let all = b"quick, slow, the last of it, behind it, quick";
    assert_eq!(text(&bench.directory(), 9, Plane::Down, &bench.auditor), all);
    assert_eq!(text(&bench.directory(), 9, Plane::Up, &bench.auditor), b"GET / ");
    let (sessions, faults) = list(&bench.directory(), None, &mut ()).unwrap();
    assert_eq!((sessions.len(), faults), (2, vec![]));
}

#[test]
fn a_session_whose_last_words_wait_when_the_worker_ends_is_recorded_whole() {
    let bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    bench.archive.slowness.begin(Duration::from_millis(20));
    let mut tape = leg.begin(&mut recorder, 9, Mode::Strict);
    down(&mut recorder, &mut tape, &leg.seal(b"hello")).unwrap();
    recorder.end(tape).unwrap();
    drop(recorder);
    assert_eq!(text(&bench.directory(), 9, Plane::Down, &bench.auditor), b"hello");
    let (sessions, _) = list(&bench.directory(), None, &mut ()).unwrap();
    assert!(sessions[0].totals.is_some(), "it has its end");
}

#[test]
fn a_fault_of_the_thread_ends_the_sessions_that_it_concerns_and_no_other() {
    let mut bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 1, Mode::Strict);
    down(&mut recorder, &mut tape, &leg.seal(b"one")).unwrap();
    bench.archive.slowness.begin(Duration::from_millis(20));
    let mut other = recorder.begin(SessionId(2), 0, Mode::Strict).unwrap();
    bench.archive.open.lock()[0].lock().damaged = true;
    down(&mut recorder, &mut tape, &leg.seal(b"two")).unwrap();
    assert_eq!(recorded(&tape), Err(RecordingFault::Damaged));
    recorder.fact(&mut other, b"{}").unwrap();
    assert_eq!(recorded(&other), Ok(()));
    assert_eq!(down(&mut recorder, &mut tape, &leg.seal(b"three")), Err(RecordingFault::Damaged));
    // Without space in reserve nobody is admitted, who would only be cut.
    bench.archive.is_full.store(true, std::sync::atomic::Ordering::Relaxed);
    bench.archive.without_spare.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(recorder.begin(SessionId(3), 0, Mode::Strict), Err(RecordingFault::NoSpace)));
    drop(recorder);
    bench.settle();
    assert_eq!(text(&bench.directory(), 1, Plane::Down, &bench.auditor), b"one");
}

#[test]
fn what_does_not_fit_the_queue_becomes_a_gap_and_never_silence() {
    let bench = Bench::new(|settings| {
        settings.queue = 5_000;
        settings.segment_size = 4 << 20;
    });
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 1, Mode::Async);
    recorder.fact(&mut tape, b"{}").unwrap();
    // Larger than the queue in any case.
    let lost = [leg.seal(&[1; 4_000]), leg.seal(&[1; 4_000])].concat();
    down(&mut recorder, &mut tape, &lost).unwrap();
    down(&mut recorder, &mut tape, &leg.seal(b"behind the gap")).unwrap();
    recorder.end(tape).unwrap();
    drop(recorder);
    let directory = bench.directory();
    let mut events = Vec::new();
    let faults = play(&directory, SessionId(1), Some(&bench.auditor), |_, event| events.push(event));
    assert_eq!(faults.unwrap(), []);
    let gap = Gap { plane: Plane::Down, bytes: lost.len() as u64, records: 2 };
    assert_eq!(
        events[..3],
        [
            Event::Fact(b"{}".to_vec()),
            Event::Gap(gap),
            Event::Data(Plane::Down, Some(b"behind the gap".to_vec())),
        ]
    );
    let Some(Event::End(totals)) = events.last() else { panic!("{events:?}") };
    assert_eq!((totals.lost_bytes, totals.lost_records), (lost.len() as u64, 2));
    assert_eq!(
        bench.archive.counters.lost_bytes.load(std::sync::atomic::Ordering::Relaxed),
        lost.len() as u64
    );
}

#[test]
fn audit_lines_that_do_not_fit_the_queue_are_counted_where_they_are_missing() {
    let bench = Bench::new(|settings| settings.queue = 2_000);
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut tape = Leg::new(Suite::Aes128Gcm, 0).begin(&mut recorder, 1, Mode::Async);
    for line in [&b"{}"[..], &[b' '; 3_000], &[b' '; 3_000], b"[]"] {
        recorder.fact(&mut tape, line).unwrap();
    }
    recorder.sealed_fact(&mut tape, &[b' '; 3_000]).unwrap();
    recorder.end(tape).unwrap();
    drop(recorder);
    let mut facts = Vec::new();
    let faults = play(&bench.directory(), SessionId(1), Some(&bench.auditor), |_, event| match event {
        Event::Fact(line) => facts.push(String::from_utf8(line).unwrap()),
        Event::End(totals) => assert_eq!(totals.facts, 4),
        other => panic!("{other:?}"),
    });
    assert_eq!(faults.unwrap(), []);
    let lost = |n| format!("{{\"event\":\"facts lost\",\"session\":\"{}\",\"facts\":{n}}}", SessionId(1));
    assert_eq!(facts, ["{}".to_owned(), lost(2), "[]".to_owned(), lost(1)]);
    let counted = bench.archive.counters.lost_bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(counted, 9_000);
}

#[test]
fn classes_have_segments_of_their_own() {
    let bench = Bench::new(|settings| {
        settings.classes.push(RetentionClass { name: "short".into(), age: None, size: None });
    });
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    for class in [0, 1] {
        let mut tape = recorder.begin(SessionId(class), class as usize, Mode::Strict).unwrap();
        recorder.fact(&mut tape, b"{}").unwrap();
    }
    let classes: Vec<u32> = [1, 2]
        .map(|number| SegmentFile::open(&bench.directory().segment(number, "seg")).unwrap().head.class)
        .to_vec();
    let settings = bench.archive.settings();
    assert_eq!(classes, [settings.classes[0].code(), settings.classes[1].code()]);
    assert!(recorder.begin(SessionId(3), 2, Mode::Strict).is_err());
}

fn modes(folder: &Path, found: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        found.push((path.display().to_string(), mode));
        if path.is_dir() {
            modes(&path, found);
        }
    }
}

#[test]
fn nobody_else_reads_or_changes_the_directory_and_a_second_gateway_is_refused() {
    let bench = Bench::new(|_| {});
    let root = bench.archive.settings.directory.clone();
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let _tape = recorder.begin(SessionId(1), 0, Mode::Strict).unwrap();
    let mut found = Vec::new();
    modes(bench.folder.path(), &mut found);
    assert!(found.len() > 8 && found.iter().all(|(_, mode)| mode & 0o077 == 0), "{found:?}");
    assert!(matches!(Directory::open(&root), Err(DirectoryFault::InUse(path)) if path == root));
    drop(recorder);
    let (folder, _) = bench.stop();
    assert!(Directory::open(&root).is_ok());
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o770)).unwrap();
    let refused = Directory::open(&root).unwrap_err().to_string();
    assert!(refused.contains("mode 770") && refused.contains("chmod 700"), "{refused}");
    drop(folder);
}
