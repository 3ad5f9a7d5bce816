//! One ordered stream of lines, written by one thread.
//!
//! Lines are never dropped. When the destination is slower than the load, or fails, whoever logs waits until there
//! is room: a gateway that cannot leave evidence does not serve. Both are counted, and [`Sink::failing`] is there
//! for `/readyz`. Lines reach the destination within [`FLUSH`]: a writer that is woken for each costs a
//! new connection a twentieth of all that it costs.

use parking_lot::{Condvar, Mutex};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// The writing thread waits here for lines.
    filled: Condvar,
    /// Those who log wait here for room, and those who flush for emptiness.
    emptied: Condvar,
    capacity: usize,
    lines: AtomicU64,
    stalls: AtomicU64,
    errors: AtomicU64,
    failing: AtomicBool,
}

struct Queue {
    /// Whole lines that nobody writes yet.
    lines: Vec<u8>,
    /// The thread is writing what it took from `lines`.
    writing: bool,
    /// Somebody wants them written now.
    urgent: bool,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Open,
    /// The guard was dropped: write what is there and end.
    Closing,
    /// The thread has ended: later lines are written to nobody.
    Closed,
}

impl Sink {
    /// Starts the thread that writes to `destination`; it ends when the guard is dropped.
    pub fn start(destination: impl Write + Send + 'static) -> io::Result<(Sink, Guard)> {
        Self::with_capacity(destination, CAPACITY)
    }

    fn with_capacity(destination: impl Write + Send + 'static, capacity: usize) -> io::Result<(Sink, Guard)> {
        let queue = Queue { lines: Vec::new(), writing: false, urgent: false, stage: Stage::Open };
        let sink = Sink(Arc::new(Shared {
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            capacity,
            lines: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        }));
        let shared = sink.0.clone();
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || shared.run(destination))?;
        Ok((sink.clone(), Guard { sink, thread: Some(thread) }))
    }

    /// Adds one line, its end included. Waits while there is no room.
    pub(super) fn line(&self, line: &[u8], urgent: bool) {
        let shared = &*self.0;
        shared.lines.fetch_add(1, Relaxed);
        let mut queue = shared.queue.lock();
        if queue.lines.len() >= shared.capacity && queue.stage == Stage::Open {
            shared.stalls.fetch_add(1, Relaxed);
            while queue.lines.len() >= shared.capacity && queue.stage == Stage::Open {
                shared.filled.notify_one();
                shared.emptied.wait(&mut queue);
            }
        }
        if queue.stage == Stage::Closed {
            return;
        }
        let first = queue.lines.is_empty();
        queue.lines.extend_from_slice(line);
        let urgent = (urgent || queue.lines.len() >= BATCH) && !queue.urgent;
        queue.urgent |= urgent;
        drop(queue);
        if first || urgent {
            shared.filled.notify_one();
        }
    }

    /// Waits until everything said so far is written, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let deadline = std::time::Instant::now() + patience;
        let mut queue = self.0.queue.lock();
        while queue.stage != Stage::Closed && (queue.writing || !queue.lines.is_empty()) {
            queue.urgent = true;
            self.0.filled.notify_one();
            if self.0.emptied.wait_until(&mut queue, deadline).timed_out() {
                return;
            }
        }
    }

    /// How many lines were said.
    pub fn lines(&self) -> u64 {
        self.0.lines.load(Relaxed)
    }

    /// How often somebody had to wait for room.
    pub fn stalls(&self) -> u64 {
        self.0.stalls.load(Relaxed)
    }

    /// How often writing failed.
    pub fn errors(&self) -> u64 {
        self.0.errors.load(Relaxed)
    }

    /// True while the destination takes nothing.
    pub fn failing(&self) -> bool {
        self.0.failing.load(Relaxed)
    }
}

impl Shared {
    fn run(&self, mut destination: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut queue = self.queue.lock();
            queue.writing = false;
            if queue.lines.is_empty() {
                // Nothing is left of what was said before: those who flush may go.
                queue.urgent = false;
                self.emptied.notify_all();
            }
            while queue.lines.is_empty() && queue.stage == Stage::Open {
                self.filled.wait(&mut queue);
            }
            self.filled.wait_while_for(&mut queue, |q| !q.urgent && q.stage == Stage::Open, FLUSH);
            queue.urgent = false;
            if queue.lines.is_empty() && queue.stage != Stage::Open {
                queue.stage = Stage::Closed;
                self.emptied.notify_all();
                return;
            }
            std::mem::swap(&mut batch, &mut queue.lines);
            queue.writing = true;
            drop(queue);
            self.emptied.notify_all();
            self.write(&mut destination, &batch);
            batch.clear();
            // After a burst, do not hold its memory for ever.
            batch.shrink_to(4 * BATCH);
        }
    }

    /// Writes all of `batch`, trying again for as long as the gateway lives.
    fn write(&self, destination: &mut impl Write, mut batch: &[u8]) {
        let mut last_tries = LAST_TRIES;
        loop {
            let result = match batch {
                [] => destination.flush(),
                batch_left => match destination.write(batch_left) {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        batch = &batch[n..];
                        continue;
                    }
                    Err(e) => Err(e),
                },
            };
            match result {
                Ok(()) => {
                    if self.failing.swap(false, Relaxed) {
                        eprintln!("staunch: the log can be written again");
                    }
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.errors.fetch_add(1, Relaxed);
                    if !self.failing.swap(true, Relaxed) {
                        eprintln!("staunch: the log cannot be written, sessions wait for it: {e}");
                    }
                    if self.queue.lock().stage == Stage::Closing {
                        last_tries -= 1;
                        if last_tries == 0 {
                            eprintln!("staunch: {} bytes of the log are lost", batch.len());
                            return;
                        }
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }
}

/// Keeps the log open; writes what is left when dropped, for a few seconds at most.
pub struct Guard {
    sink: Sink,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Guard {
    /// The sink, for its counters.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let shared = &*self.sink.0;
        let mut queue = shared.queue.lock();
        queue.stage = Stage::Closing;
        shared.filled.notify_all();
        shared.emptied.notify_all();
        let late = shared.emptied.wait_while_for(&mut queue, |q| q.stage != Stage::Closed, LAST_WAIT);
        // A reader that neither reads nor closes its pipe must not keep the program from ending.
        if late.timed_out() {
            eprintln!("staunch: nobody reads the log: what is left of it is lost");
        } else if let Some(thread) = self.thread.take() {
            drop(queue);
            let _ = thread.join();
        }
    }
}

/// Bytes that may wait to be written: 8 MiB are some 20,000 requests, a fifth of a second of full load.
const CAPACITY: usize = 8 << 20;

/// Bytes at which the thread is woken before its time: large writes, and few of them.
const BATCH: usize = 128 << 10;

/// How long a line may wait for others.
const FLUSH: Duration = Duration::from_millis(50);

/// How long to wait before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// How often a failing write is tried again when the program wants to end.
const LAST_TRIES: u32 = 10;

/// How long the program waits for its last lines to be written.
const LAST_WAIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
