//! Clients that connect take turns, so that a storm of them does not hold up the streams that flow.
//!
//! The answer to a ClientHello (a key exchange, a signature) takes as long as some hundred records. Tasks that are ready
//! run in the order in which they became so; without turns a record that comes while 400 clients connect waits for 400
//! answers. Here at most [`ANSWERS`] are made until the worker has looked at its sockets again, and those that have
//! waited longest are first. What follows on an answer, the upstream's handshake too, waits for no turn: whoever was let
//! in is through soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Answers between two looks at the sockets: about half a millisecond.
const ANSWERS: usize = 4;

/// What a worker's new connections share.
struct Turns {
    left: Semaphore,
    taken: AtomicUsize,
    /// How often the worker had slept when it was last asked.
    sleeps: AtomicU64,
}

thread_local! {
    static TURNS: Arc<Turns> = Arc::new(Turns {
        left: Semaphore::new(ANSWERS),
        taken: AtomicUsize::new(0),
        sleeps: AtomicU64::new(0),
    });
}

/// Waits until this worker may answer a client.
pub(super) async fn turn() {
    let turns = TURNS.with(Arc::clone);
    // Who slept has looked at its sockets: without a storm nothing but this is ever done.
    let sleeps = Handle::current().metrics().worker_park_count(0);
    if turns.sleeps.swap(sleeps, Relaxed) != sleeps {
        turns.give_back();
    }
    // It is never closed.
    let Ok(taken) = turns.left.acquire().await else { return };
    taken.forget();
    if turns.taken.fetch_add(1, Relaxed) + 1 == ANSWERS {
        let back = Back(turns.clone());
        tokio::spawn(async move {
            // Comes back when the sockets have been looked at.
            yield_now().await;
            drop(back);
        });
    }
}

impl Turns {
    fn give_back(&self) {
        self.left.add_permits(self.taken.swap(0, Relaxed));
    }
}

/// Gives the turns back, also when the runtime ends first.
struct Back(Arc<Turns>);

impl Drop for Back {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::task::JoinSet;

    const STORM: usize = 100;

    /// Tasks that each take one turn and count it.
    fn storm(made: &Arc<AtomicUsize>) -> JoinSet<()> {
        let one = || {
            let made = made.clone();
            async move {
                turn().await;
                made.fetch_add(1, Relaxed);
            }
        };
        (0..STORM).map(|_| one()).collect()
    }

    #[tokio::test]
    async fn what_a_socket_has_does_not_wait_for_a_storm_of_handshakes() {
        let made = Arc::new(AtomicUsize::new(0));
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let count = made.clone();
        let stream = tokio::spawn(async move {
            far.read_u8().await.unwrap();
            count.load(Relaxed)
        });
        yield_now().await;
        near.write_u8(1).await.unwrap();
        let storm = storm(&made);
        let made_before = stream.await.unwrap();
        assert!(made_before <= 2 * ANSWERS, "{made_before} turns came first");
        storm.join_all().await;
        assert_eq!(made.load(Relaxed), STORM);
    }

    #[tokio::test]
    async fn turns_of_those_that_gave_up_are_not_lost() {
        for _ in 0..3 {
            let made = Arc::new(AtomicUsize::new(0));
            let mut given_up = storm(&made);
            yield_now().await;
            given_up.abort_all();
            while given_up.join_next().await.is_some() {}
            assert!(made.load(Relaxed) <= 2 * ANSWERS, "nobody waited");
        }
        storm(&Arc::default()).join_all().await;
    }
}
