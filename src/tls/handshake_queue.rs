//! Limits handshakes per reactor turn, so that a connection storm does not delay live streams.
//!
//! The answer to a ClientHello (a key exchange, a signature) takes as long as some hundred records, and to hear that a
//! client says something, or has left, still as long as a few. Tasks that are ready run in the order in which they became
//! so; without turns a record that comes while 400 clients connect waits for 400 answers. Here [`ANSWERS`] are made and
//! [`HELLOS_PER_TURN`] clients heard at most until the worker has looked at its sockets again, and those that have waited longest
//! are first. Nobody who is heard waits for answers to others, and what follows on the handshake, the upstream's too,
//! waits for no turn: whoever was answered is through soon.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Answers between two looks at the sockets: about half a millisecond.
const ANSWERS: u32 = 4;
/// Clients that are heard between two looks, beside those that are answered: less than that.
const HELLOS_PER_TURN: u32 = 16;

/// A per-worker budget: so many handshake steps until the reactor has polled its sockets.
struct TurnBudget {
    left: Semaphore,
    all: u32,
    taken: AtomicU32,
    /// How often the worker had slept when it was last asked.
    sleeps: AtomicU64,
}

thread_local! {
    static ANSWER_TURNS: Arc<TurnBudget> = TurnBudget::new(ANSWERS);
    static HELLO_TURNS: Arc<TurnBudget> = TurnBudget::new(HELLOS_PER_TURN);
}

/// Waits until this worker may answer a client.
pub(super) async fn wait_to_answer() {
    ANSWER_TURNS.with(Arc::clone).turn().await;
}

/// Waits until a client that is not through has said something, or left, and this worker may hear it.
pub(crate) async fn wait_to_hear(tcp: &TcpStream) -> io::Result<()> {
    tcp.readable().await?;
    HELLO_TURNS.with(Arc::clone).turn().await;
    Ok(())
}

impl TurnBudget {
    fn new(all: u32) -> Arc<Self> {
        let left = Semaphore::new(all as usize);
        Arc::new(TurnBudget { left, all, taken: AtomicU32::new(0), sleeps: AtomicU64::new(0) })
    }

    async fn turn(self: Arc<Self>) {
        // Who slept has looked at its sockets: without a storm nothing but this is ever done.
        let sleeps = Handle::current().metrics().worker_park_count(0);
        if self.sleeps.swap(sleeps, Relaxed) != sleeps {
            self.give_back();
        }
        // It is never closed.
        let Ok(taken) = self.left.acquire().await else { return };
        taken.forget();
        if self.taken.fetch_add(1, Relaxed) + 1 == self.all {
            let back = ReturnTurns(self);
            tokio::spawn(async move {
                // Comes back when the sockets have been looked at.
                yield_now().await;
                drop(back);
            });
        }
    }

    fn give_back(&self) {
        self.left.add_permits(self.taken.swap(0, Relaxed) as usize);
    }
}

/// Returns the turns when dropped, also when the runtime ends first.
struct ReturnTurns(Arc<TurnBudget>);

impl Drop for ReturnTurns {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixStream};
    use tokio::task::JoinSet;

    const STORM: usize = 100;

    /// Tasks that each do something and are counted then.
    fn storm<F>(made: &Arc<AtomicUsize>, mut one: impl FnMut() -> F) -> JoinSet<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut counted = || {
            let (made, one) = (made.clone(), one());
            async move {
                one.await;
                made.fetch_add(1, Relaxed);
            }
        };
        (0..STORM).map(|_| counted()).collect()
    }

    /// How many of a storm came before what stood in a socket when it began.
    async fn before_a_socket<F>(one: impl FnMut() -> F) -> usize
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let made = Arc::new(AtomicUsize::new(0));
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let count = made.clone();
        let stream = tokio::spawn(async move {
            far.read_u8().await.unwrap();
            count.load(Relaxed)
        });
        yield_now().await;
        near.write_u8(1).await.unwrap();
        let storm = storm(&made, one);
        let before = stream.await.unwrap();
        storm.join_all().await;
        assert_eq!(made.load(Relaxed), STORM);
        before
    }

    #[tokio::test]
    async fn what_a_socket_has_does_not_wait_for_a_storm_of_handshakes() {
        let before = before_a_socket(wait_to_answer).await;
        assert!(before <= 2 * ANSWERS as usize, "{before} answers came first");
    }

    #[tokio::test]
    async fn what_a_socket_has_does_not_wait_for_all_that_leave_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut accepted = Vec::new();
        for _ in 0..STORM {
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            accepted.push(listener.accept().await.unwrap().0);
            drop(client);
        }
        for tcp in &accepted {
            tcp.readable().await.unwrap();
        }
        let before = before_a_socket(|| {
            let tcp = accepted.pop().unwrap();
            async move { wait_to_hear(&tcp).await.unwrap() }
        });
        let before = before.await;
        assert!(before <= 2 * HELLOS_PER_TURN as usize, "{before} were heard first");
    }

    #[tokio::test]
    async fn turns_of_those_that_gave_up_are_not_lost() {
        for _ in 0..3 {
            let made = Arc::new(AtomicUsize::new(0));
            let mut given_up = storm(&made, wait_to_answer);
            yield_now().await;
            given_up.abort_all();
            while given_up.join_next().await.is_some() {}
            assert!(made.load(Relaxed) <= 2 * ANSWERS as usize, "nobody waited");
        }
        storm(&Arc::default(), wait_to_answer).join_all().await;
    }
}
