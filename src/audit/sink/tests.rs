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

#[test]
fn nothing_is_lost_when_four_threads_outrun_a_slow_destination() {
    let memory = Memory::default();
    memory.hold.store(true, Relaxed);
    let (sink, guard) = Sink::with_capacity(memory.clone(), 4_096).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sink = sink.clone();
            scope.spawn(move || {
                for n in 0..5_000 {
                    sink.line(format!("{thread} {n}\n").as_bytes(), n % 7 == 0);
                }
            });
        }
        // Nothing is taken until everybody had to wait.
        let begin = Instant::now();
        while sink.stalls() < 4 && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        memory.hold.store(false, Relaxed);
    });
    assert_eq!(sink.lines(), 20_000);
    assert!(sink.stalls() >= 4, "{}", sink.stalls());
    drop(guard);
    let text = String::from_utf8(memory.bytes.lock().clone()).unwrap();
    for thread in 0..4 {
        let start = format!("{thread} ");
        let numbers: Vec<u32> = text.lines().filter_map(|l| l.strip_prefix(&start)?.parse().ok()).collect();
        let strange = numbers.iter().copied().zip(0..5_000).find(|(is, should)| is != should);
        assert_eq!(
            (numbers.len(), strange),
            (5_000, None),
            "lines of thread {thread} stay whole and in order"
        );
    }
}

#[test]
fn a_failed_write_is_tried_again_and_counted() {
    let memory = Memory::default();
    memory.refuse.store(2, Relaxed);
    let (sink, guard) = Sink::start(memory.clone()).unwrap();
    sink.line(b"evidence\n", true);
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
    sink.line(b"alone\n", false);
    while memory.bytes.lock().is_empty() && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(memory.bytes.lock().as_slice(), b"alone\n");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_dropped_guard_wakes_those_who_wait_for_a_destination_that_never_recovers() {
    let memory = Memory::default();
    memory.refuse.store(u64::MAX, Relaxed);
    let (sink, guard) = Sink::with_capacity(memory, 1).unwrap();
    let logger = std::thread::spawn(move || (0..10).for_each(|_| sink.line(b"x\n", true)));
    std::thread::sleep(Duration::from_millis(50));
    drop(guard);
    logger.join().unwrap();
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
    sink.line(b"x\n", true);
    let begin = Instant::now();
    drop(guard);
    assert!((LAST_WAIT..LAST_WAIT * 3).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    drop(release);
}
