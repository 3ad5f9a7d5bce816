//! A directory over its life: recovery, holds, erasure, retention.

use super::super::format::envelope::Identities;
use super::super::format::frame::Plane;
use super::super::log::verify::verify as verify_log;
use super::super::reader::verify::{Area, Report, verify};
use super::super::reader::{Event, list, play};
use super::super::settings::RetentionClass;
use super::super::writer::tests::{Bench, Leg, NOW, down, text, up};
use super::super::writer::{Mode, Recorder};
use super::requests::{Action, Request, perform};
use super::*;
use crate::names::SessionId;
use crate::tls::record::Suite;

/// Records `sessions` whole sessions and ends the recorder: their segments are closed.
fn record(bench: &mut Bench, sessions: std::ops::Range<u64>) {
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    for session in sessions {
        let mut leg = Leg::new(Suite::Aes128Gcm, 0);
        let mut tape = leg.begin(&mut recorder, session, Mode::Strict);
        recorder
            .fact(&mut tape, format!("{{\"event\":\"session_open\",\"session\":{session}}}").as_bytes())
            .unwrap();
        up(&mut recorder, &mut tape, format!("ask {session}").as_bytes()).unwrap();
        down(&mut recorder, &mut tape, &leg.seal(format!("answer {session}").as_bytes())).unwrap();
        recorder.end(tape).unwrap();
    }
    drop(recorder);
    bench.settle();
}

fn report(bench: &Bench) -> Report {
    verify(&bench.directory(), Some(&bench.auditor), Some(bench.directory().gateway()), &mut ()).unwrap()
}

fn request(action: Action, session: u64) -> Request {
    Request { action, session: SessionId(session), reason: "a case".into() }
}

fn entries(directory: &Directory) -> Vec<String> {
    let mut lines = Vec::new();
    verify_log(directory, |_, line| lines.push(line.to_owned()));
    lines
}

#[test]
fn one_session_of_a_hundred_is_erased_and_ninety_nine_open() {
    let mut bench = Bench::new(|_| {});
    record(&mut bench, 1..101);
    let directory = bench.directory();
    let mut ask = |action, session| {
        let directory = Directory::read(directory.root()).unwrap();
        perform(&directory, bench.signer.log(), &request(action, session))
    };
    ask(Action::Hold, 42).unwrap();
    let refused = ask(Action::Erase, 42).unwrap_err();
    assert!(refused.contains("is held"), "{refused}");
    assert!(ask(Action::Hold, 42).is_err() && ask(Action::Release, 41).is_err());
    assert!(ask(Action::Erase, 7_777).unwrap_err().contains("no segment"));
    ask(Action::Release, 42).unwrap();
    let done = ask(Action::Erase, 42).unwrap();
    bench.signer.turn();
    let report = report(&bench);
    assert_eq!(report.faults().collect::<Vec<_>>(), Vec::<&super::super::reader::verify::Finding>::new());
    let entry: u64 = done.strip_prefix("entry ").unwrap().parse().unwrap();
    assert_eq!(report.erased.into_iter().collect::<Vec<_>>(), [(42, entry)]);
    assert_eq!((report.sessions, report.opened), (100, 198));
    for session in (1..101).filter(|session| *session != 42) {
        assert_eq!(
            text(&directory, session, Plane::Down, &bench.auditor),
            format!("answer {session}").as_bytes()
        );
    }
    // Forged: a secret that is overwritten while no entry says so.
    let keys = directory.segment(1, "keys");
    let mut bytes = std::fs::read(&keys).unwrap();
    bytes[..88].fill(0);
    std::fs::write(&keys, bytes).unwrap();
    let report = super::tests::report(&bench);
    assert!(
        !report.is_good(Area::Erasure)
            && report.is_good(Area::Integrity)
            && report.is_good(Area::Completeness)
    );
    let fault = report.faults().next().unwrap();
    assert_eq!((&fault.place.file, fault.place.offset), (&keys, 0));
    assert!(fault.place.reason.contains("no entry of the log"), "{fault:?}");
}

#[test]
fn a_session_that_is_still_recorded_is_not_erased() {
    let mut bench = Bench::new(|_| {});
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut tape = Leg::new(Suite::Aes128Gcm, 0).begin(&mut recorder, 1, Mode::Strict);
    up(&mut recorder, &mut tape, b"x").unwrap();
    let directory = bench.directory();
    let refused = perform(&directory, bench.signer.log(), &request(Action::Erase, 1)).unwrap_err();
    assert!(refused.contains("segment 1 is not complete yet"), "{refused}");
}

#[test]
fn requests_of_others_are_answered_by_the_gateway() {
    let mut bench = Bench::new(|_| {});
    record(&mut bench, 1..3);
    let requests = bench.directory().requests();
    std::fs::write(requests.join("a.ask"), request(Action::Hold, 1).line()).unwrap();
    std::fs::write(requests.join("b.ask"), "drop session=1").unwrap();
    bench.signer.turn();
    let answer = |name: &str| std::fs::read_to_string(requests.join(name)).unwrap();
    assert!(answer("a.answer").starts_with("done entry"), "{}", answer("a.answer"));
    assert!(answer("b.answer").starts_with("refused"));
    assert!(!requests.join("a.ask").exists());
    assert!(entries(&bench.directory()).iter().any(|line| line.starts_with("hold session=0000000000000001")));
}

#[test]
fn what_a_killed_process_left_is_entered_as_recovered() {
    let mut bench = Bench::new(|_| {});
    record(&mut bench, 1..4);
    let mut recorder = Recorder::new(bench.archive.clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 9, Mode::Strict);
    down(&mut recorder, &mut tape, &leg.seal(b"seen by the client")).unwrap();
    bench.signer.turn();
    down(&mut recorder, &mut tape, &leg.seal(b" and this too")).unwrap();
    let directory = bench.directory();
    let torn = directory.segment(2, "seg");
    let whole = std::fs::read(&torn).unwrap();
    // Killed: nothing is closed, and the last frame is half written.
    std::mem::forget((recorder, tape));
    let Bench { folder, auditor, archive, signer } = bench;
    drop(signer);
    std::fs::write(&torn, [&whole[..], &whole[whole.len() - 60..whole.len() - 10]].concat()).unwrap();
    // The lock went with the process.
    std::fs::remove_file(archive.directory.root().join("lock")).unwrap();
    let mut bench = Bench::at(folder, auditor, |_| {});
    bench.settle();
    let entries = entries(&bench.directory());
    let line = entries.iter().find(|line| line.starts_with("recovered")).unwrap();
    assert!(line.contains(&format!("number=2 size={} valid={} ", whole.len() + 50, whole.len())), "{line}");
    assert_eq!(text_of(&bench, 9), b"seen by the client and this too");
    let found = report(&bench);
    assert_eq!(found.faults().collect::<Vec<_>>(), Vec::<&super::super::reader::verify::Finding>::new());
    let torn = found.findings.iter().find(|finding| finding.place.offset == whole.len() as u64).unwrap();
    assert!(torn.place.reason.contains("when the gateway stopped"), "{torn:?}");
    // And the next segment has the next number and later times.
    record(&mut bench, 20..21);
    assert_eq!(bench.directory().segments().unwrap(), [1, 2, 3]);
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
    let mode = std::fs::metadata(from).unwrap().permissions();
    std::fs::set_permissions(to, mode).unwrap();
}

/// What the readers say of a segment whose last frame begins at `start` and is cut at `cut`, before and after the gateway
/// starts again.
fn torn_at(killed: &std::path::Path, auditor: &Arc<Identities>, (start, cut): (u64, u64), restarts: bool) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    copy_folder(killed, &root);
    let directory = Directory::read(&root).unwrap();
    let torn = directory.segment(2, "seg");
    std::fs::OpenOptions::new().write(true).open(&torn).unwrap().set_len(cut).unwrap();
    let names = |file: &std::path::Path, offset: u64| file == torn && offset == start;
    let is_torn = cut > start;
    let (sessions, faults) = list(&directory, None, &mut ()).unwrap();
    let mut listed: Vec<u64> = sessions.iter().map(|session| session.session.0).collect();
    listed.sort_unstable();
    assert_eq!(listed, [1, 2, 9], "{cut}");
    assert_eq!(faults.len(), usize::from(is_torn), "{cut}: {faults:?}");
    assert!(faults.iter().all(|fault| names(&fault.file, fault.offset) && fault.reason.contains("cut")));
    let mut said = Vec::new();
    let take = |_, event| {
        if let Event::Data(Plane::Down, Some(data)) = event {
            said.extend(data);
        }
    };
    let faults = play(&directory, SessionId(9), Some(auditor), take).unwrap();
    assert!(said == b"before" && faults.len() == usize::from(is_torn), "{cut}: {said:?} {faults:?}");
    let found = verify(&directory, Some(auditor), Some(directory.gateway()), &mut ()).unwrap();
    // The gateway may still be writing it: named, and no fault.
    assert_eq!(found.faults().count(), 0, "{cut}: {:?}", found.findings);
    let named = found.findings.iter().any(|finding| names(&finding.place.file, finding.place.offset));
    assert_eq!(named, is_torn, "{cut}: {:?}", found.findings);
    if restarts {
        let mut bench = Bench::at(folder, auditor.clone(), |_| {});
        bench.settle();
        let entered = entries(&bench.directory());
        let recovered = format!("recovered number=2 size={cut} valid={start} ");
        assert!(entered.iter().any(|line| line.starts_with(&recovered)), "{cut}: {entered:?}");
        assert_eq!(text_of(&bench, 9), b"before");
        let found = report(&bench);
        assert_eq!(found.faults().collect::<Vec<_>>(), Vec::<&super::super::reader::verify::Finding>::new());
    }
}

#[test]
fn a_last_frame_that_is_torn_at_any_byte_is_named_and_hides_nothing_before_it() {
    type Last = fn(&mut Recorder, &mut super::super::writer::Tape, &mut Leg);
    let kinds: [Last; 4] = [
        |recorder, tape, leg| down(recorder, tape, &leg.seal(b"after")).unwrap(),
        |recorder, tape, _| up(recorder, tape, b"asked").unwrap(),
        |recorder, tape, _| recorder.fact(tape, br#"{"event":"late"}"#).unwrap(),
        |recorder, tape, _| recorder.sealed_fact(tape, br#"{"event":"sealed"}"#).unwrap(),
    ];
    for (kind, write_last) in kinds.into_iter().enumerate() {
        let mut bench = Bench::new(|_| {});
        record(&mut bench, 1..3);
        let mut recorder = Recorder::new(bench.archive.clone(), 0);
        let mut leg = Leg::new(Suite::Aes128Gcm, 0);
        let mut tape = leg.begin(&mut recorder, 9, Mode::Strict);
        up(&mut recorder, &mut tape, b"ask").unwrap();
        down(&mut recorder, &mut tape, &leg.seal(b"before")).unwrap();
        bench.signer.turn();
        let directory = bench.directory();
        let length = || std::fs::metadata(directory.segment(2, "seg")).unwrap().len();
        let start = length();
        write_last(&mut recorder, &mut tape, &mut leg);
        let end = length();
        std::mem::forget((recorder, tape));
        let Bench { folder, auditor, archive, signer } = bench;
        drop(signer);
        std::fs::remove_file(archive.directory.root().join("lock")).unwrap();
        for cut in start..end {
            let is_edge = cut < start + 2 || cut + 1 == end || cut == start + 32;
            torn_at(&folder.path().join("r"), &auditor, (start, cut), is_edge || cut % 16 == kind as u64);
        }
        assert!(end > start + 32, "{start} {end}");
    }
}

fn text_of(bench: &Bench, session: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let faults = super::super::reader::play(
        &bench.directory(),
        SessionId(session),
        Some(&bench.auditor),
        |_, event| {
            if let super::super::reader::Event::Data(Plane::Down, Some(data)) = event {
                out.extend(data);
            }
        },
    );
    // The torn tail is no fault of the reader's: the log says where it begins.
    assert_eq!(faults.unwrap(), []);
    out
}

#[test]
fn retention_deletes_what_is_old_and_keeps_what_is_held() {
    let mut bench = Bench::new(|settings| {
        settings.classes =
            vec![RetentionClass { name: "day".into(), age: Some(Duration::from_secs(86_400)), size: None }];
    });
    record(&mut bench, 1..3);
    record(&mut bench, 3..5);
    let directory = bench.directory();
    perform(&directory, bench.signer.log(), &request(Action::Hold, 3)).unwrap();
    let mut retention = super::retention::Retention::default();
    retention.turn(&bench.archive, bench.signer.log()).unwrap();
    assert_eq!(directory.segments().unwrap(), [1, 2]);
    NOW.set(NOW.get() + 2 * 86_400_000_000_000);
    retention.turn(&bench.archive, bench.signer.log()).unwrap();
    assert_eq!(directory.segments().unwrap(), [2]);
    assert!(entries(&directory).iter().any(|line| line.starts_with("retire segment=1 sessions=2 ")));
    assert_eq!(std::fs::read_dir(directory.root().join("segments")).unwrap().count(), 4);
    let found = report(&bench);
    assert_eq!(found.faults().collect::<Vec<_>>(), Vec::<&super::super::reader::verify::Finding>::new());
}

#[test]
fn what_a_log_without_space_did_not_take_is_entered_and_published_later() {
    let mut bench = Bench::new(|_| {});
    bench.signer.turn();
    let directory = bench.directory();
    let reserve = directory.log().join("reserve");
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 1 << 20);
    let blocked = directory.log().join("checkpoint.new");
    std::fs::create_dir(&blocked).unwrap();
    record(&mut bench, 1..3);
    record(&mut bench, 3..4);
    assert!(!bench.archive.has_log() && !reserve.exists());
    assert!(!directory.segment(1, "sum").exists());
    std::fs::remove_dir(&blocked).unwrap();
    bench.signer.turn();
    assert!(bench.archive.has_log() && reserve.exists());
    assert!(directory.segment(1, "sum").exists() && directory.segment(2, "sum.sig").exists());
    let found = report(&bench);
    assert_eq!(found.faults().collect::<Vec<_>>(), Vec::<&super::super::reader::verify::Finding>::new());
    let lines = entries(&directory);
    assert_eq!(lines.iter().filter(|line| line.starts_with("segment number=1 ")).count(), 1, "{lines:?}");
}

#[test]
fn a_class_that_is_too_large_loses_its_oldest() {
    let mut bench = Bench::new(|settings| {
        settings.classes = vec![RetentionClass { name: "small".into(), age: None, size: Some(2_500) }];
    });
    for n in 0..4 {
        record(&mut bench, n..n + 1);
    }
    super::retention::Retention::default().turn(&bench.archive, bench.signer.log()).unwrap();
    let left = bench.directory().segments().unwrap();
    assert!(!left.is_empty() && left.len() < 4 && left.last() == Some(&4), "{left:?}");
}

#[test]
fn the_threads_sign_hash_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let auditor = super::super::format::envelope::Identities::generate();
    let mut settings = Settings::new(folder.path().join("r"), auditor.recipients());
    settings.segment_size = 64 * 1024;
    settings.durability = super::super::settings::Durability::EverySecond;
    let root = settings.directory.clone();
    let recordings = Recordings::open(settings, &Origin::default()).unwrap();
    let mut recorder = Recorder::new(recordings.archive().clone(), 0);
    let mut leg = Leg::new(Suite::Aes128Gcm, 0);
    let mut tape = leg.begin(&mut recorder, 1, Mode::Strict);
    for _ in 0..40 {
        down(&mut recorder, &mut tape, &leg.seal(&[7; 4_000])).unwrap();
    }
    std::thread::sleep(Duration::from_millis(1_500));
    recorder.end(tape).unwrap();
    drop(recorder);
    drop(recordings);
    let directory = Directory::read(&root).unwrap();
    let found = verify(&directory, Some(&auditor), None, &mut ()).unwrap();
    assert_eq!(found.faults().collect::<Vec<_>>(), Vec::<&super::super::reader::verify::Finding>::new());
    assert!(directory.segments().unwrap().iter().all(|number| directory.segment(*number, "sum").exists()));
    assert!(entries(&directory).last().unwrap().starts_with("stop "));
    assert!(Directory::open(&root).is_ok(), "the lock is released");
}

#[test]
fn a_request_whose_entry_cannot_be_signed_yet_is_answered_when_it_is() {
    let mut bench = Bench::new(|_| {});
    record(&mut bench, 1..4);
    bench.signer.turn();
    let directory = bench.directory();
    let blocked = directory.log().join("checkpoint.new");
    let ask = |name: &str, line: &str| {
        let path = directory.requests().join(format!("{name}.ask"));
        std::fs::write(&path, line).unwrap();
        (path.clone(), path.with_extension("answer"))
    };
    for (name, verb) in [("a", "hold"), ("b", "release"), ("c", "erase")] {
        std::fs::create_dir(&blocked).unwrap();
        let (asked, answer) = ask(name, &format!("{verb} session=0000000000000002 reason=a_case"));
        for _ in 0..3 {
            bench.signer.turn();
            assert!(asked.exists() && !answer.exists(), "{verb}: neither done nor refused");
        }
        std::fs::remove_dir(&blocked).unwrap();
        bench.signer.turn();
        let text = std::fs::read_to_string(&answer).unwrap();
        assert!(!asked.exists() && text.starts_with("done entry "), "{verb}: {text}");
        let number: usize = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let lines = entries(&directory);
        assert!(lines[number].starts_with(&format!("{verb} session=0000000000000002 ")), "{}", lines[number]);
        assert_eq!(lines.iter().filter(|line| line.starts_with(verb)).count(), 1, "{verb} once");
    }
    // What was never entered is refused, and stays so.
    let (_, answer) = ask("d", "release session=0000000000000002 reason=a_case");
    bench.signer.turn();
    assert!(std::fs::read_to_string(&answer).unwrap().starts_with("refused "));
    let found = report(&bench);
    assert_eq!(found.faults().collect::<Vec<_>>(), Vec::<&super::super::reader::verify::Finding>::new());
    assert!(found.erased.contains_key(&2));
}
