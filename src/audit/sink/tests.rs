use super::*;
use std::time::Instant;

#[derive(Clone, Default)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    refuse: Arc<AtomicU64>,
    hold: Arc<AtomicBool>,
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.refuse.load(Relaxed) > 0 {
            self.refuse.fetch_sub(1, Relaxed);
            return Err(io::ErrorKind::StorageFull.into());
        }
        while self.hold.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Short writes: the position must be kept.
        let n = bytes.len().min(1_000);
        self.bytes.lock().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const MARKS: Room =
    Room { unpermitted: 100, full: 200, reserve: 300, last: 400, when_full: WhenFull::Refuse };

/// A line of ten bytes.
const LINE: &[u8] = b"123456789\n";

fn until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nothing_is_lost_and_all_is_in_order_when_four_threads_outrun_a_slow_destination() {
    let memory = Memory::default();
    memory.hold.store(true, Relaxed);
    let (sink, guard) = Sink::start(memory.clone()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sink = sink.clone();
            scope.spawn(move || {
                for n in 0..50_000 {
                    sink.line(format!("{thread} {n}\n").as_bytes(), Priority::Evidence, n % 7 == 0);
                }
            });
        }
    });
    // All of it was taken, while nothing could be written.
    assert_eq!((sink.lines(), sink.dropped()), (200_000, Dropped::default()));
    assert!(sink.waiting() > 4 * CHUNK);
    memory.hold.store(false, Relaxed);
    sink.flush(Duration::from_secs(10));
    assert_eq!(sink.waiting(), 0);
    drop(guard);
    let text = String::from_utf8(memory.bytes.lock().clone()).unwrap();
    for thread in 0..4 {
        let start = format!("{thread} ");
        let numbers: Vec<u32> = text.lines().filter_map(|l| l.strip_prefix(&start)?.parse().ok()).collect();
        let strange = numbers.iter().copied().zip(0..50_000).find(|(is, should)| is != should);
        assert_eq!(
            (numbers.len(), strange),
            (50_000, None),
            "lines of thread {thread} stay whole and in order"
        );
    }
}

#[test]
fn each_priority_has_room_up_to_its_mark_and_nobody_waits() {
    for (when_full, evidence) in [(WhenFull::Refuse, MARKS.last), (WhenFull::Drop, MARKS.reserve)] {
        let memory = Memory::default();
        memory.hold.store(true, Relaxed);
        let (sink, guard) = Sink::start_with(memory.clone(), Room { when_full, ..MARKS }).unwrap();
        for (priority, mark) in [
            (Priority::Unpermitted, MARKS.unpermitted),
            (Priority::Diagnostic, MARKS.full),
            (Priority::Evidence, evidence),
            (Priority::Closing, MARKS.last),
        ] {
            // More than there is room for, at once and without anybody to write them.
            (0..100).for_each(|_| sink.line(LINE, priority, true));
            assert_eq!(sink.waiting(), mark, "{priority:?} {when_full:?}");
            let refuse = when_full == WhenFull::Refuse;
            assert_eq!(sink.has_room(), mark < MARKS.unpermitted);
            assert_eq!(sink.takes_new_work(), !refuse || mark < MARKS.full);
            assert_eq!(sink.exhausted(), refuse && mark >= MARKS.reserve);
        }
        let lines = (MARKS.last / LINE.len()) as u64;
        let Dropped { unpermitted, diagnostics, evidence } = sink.dropped();
        assert_eq!((sink.lines(), unpermitted, diagnostics, evidence), (lines, 90, 90, 400 - 180 - lines));
        memory.hold.store(false, Relaxed);
        sink.flush(Duration::from_secs(5));
        assert!(sink.has_room() && sink.takes_new_work() && !sink.exhausted());
        drop(guard);
        assert_eq!(memory.bytes.lock().len(), MARKS.last, "what was taken is written");
    }
}

#[test]
fn a_destination_that_takes_nothing_for_seconds_is_a_failure_until_it_takes_something() {
    let memory = Memory::default();
    memory.hold.store(true, Relaxed);
    let (sink, _guard) = Sink::start(memory.clone()).unwrap();
    assert!(!sink.failing(), "nothing waits, so nothing is stuck");
    let begin = Instant::now();
    sink.line(LINE, Priority::Evidence, true);
    until(|| sink.failing());
    assert!(begin.elapsed() >= STALL_TIMEOUT);
    assert!(sink.failing());
    assert_eq!((sink.stalls(), sink.errors()), (1, 0), "a stall is counted once");
    memory.hold.store(false, Relaxed);
    until(|| !sink.failing() && sink.waiting() == 0);
}

#[test]
fn a_failed_write_is_tried_again_and_counted() {
    let memory = Memory::default();
    memory.refuse.store(2, Relaxed);
    let (sink, guard) = Sink::start(memory.clone()).unwrap();
    sink.line(b"evidence\n", Priority::Evidence, true);
    sink.flush(Duration::from_secs(5));
    assert_eq!(memory.bytes.lock().as_slice(), b"evidence\n");
    assert_eq!(sink.errors(), 2);
    assert!(!sink.failing());
    drop(guard);
}

#[test]
fn a_lonely_line_does_not_wait_for_others() {
    let memory = Memory::default();
    let (sink, _guard) = Sink::start(memory.clone()).unwrap();
    let begin = Instant::now();
    sink.line(b"alone\n", Priority::Evidence, false);
    while memory.bytes.lock().is_empty() && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(memory.bytes.lock().as_slice(), b"alone\n");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_destination_that_never_recovers_is_given_up_at_the_end() {
    let memory = Memory::default();
    memory.refuse.store(u64::MAX, Relaxed);
    let (sink, guard) = Sink::start(memory).unwrap();
    sink.line(LINE, Priority::Evidence, true);
    until(|| sink.failing() && sink.errors() > 2);
    let begin = Instant::now();
    drop(guard);
    assert!(begin.elapsed() < FLUSH_TIMEOUT, "{:?}", begin.elapsed());
    // Lines that come later are counted and harm nobody.
    sink.line(LINE, Priority::Evidence, true);
}

#[test]
fn a_reader_that_hangs_does_not_keep_the_program_from_ending() {
    struct Hangs(std::sync::mpsc::Receiver<()>);
    impl Write for Hangs {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (release, held) = std::sync::mpsc::channel();
    let (sink, guard) = Sink::start(Hangs(held)).unwrap();
    sink.line(b"x\n", Priority::Evidence, true);
    let begin = Instant::now();
    drop(guard);
    assert!((FLUSH_STALL_TIMEOUT..FLUSH_TIMEOUT).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    drop(release);
}
