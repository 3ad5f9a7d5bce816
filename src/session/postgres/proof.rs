//! SCRAM proofs on blocking threads, since one takes milliseconds.

use crate::protocol::postgres::{Challenge, LoginFault, Proof};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Computes the proof for a challenge, when the route's `turns` have one left.
pub(super) async fn prove(challenge: Challenge, turns: &Arc<Semaphore>) -> Result<Proof, LoginFault> {
    let turn = turns.clone().acquire_owned().await;
    let made = tokio::task::spawn_blocking(move || {
        // Held until the work is done: whoever gives up the login does not stop it.
        let _turn = turn;
        challenge.answer()
    });
    made.await.unwrap_or(Err(LoginFault::Protocol("a SCRAM challenge that could not be answered")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::{Allowed, Login, Progress};
    use crate::protocol::require_auth::RequireAuth;
    use crate::secret::Secret;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::time::timeout;

    fn message(body: &[u8]) -> Vec<u8> {
        [&b"R"[..], &((body.len() + 4) as u32).to_be_bytes(), body].concat()
    }

    /// A challenge as a server's login brings it.
    fn challenge() -> Challenge {
        let allowed = Allowed { require_auth: RequireAuth::default(), encrypted: true };
        let mut login =
            Login::new("svc", Some(Arc::new(Secret::new(b"stored".to_vec()))), allowed, [0; 4].into());
        let mut reply = Vec::new();
        login.feed(&mut message(b"\0\0\0\x0aSCRAM-SHA-256\0\0"), &mut reply).unwrap();
        let nonce = String::from_utf8_lossy(&reply[reply.len() - 24..]).into_owned();
        let said = format!("\0\0\0\x0br={nonce}x,s=QSXCR+Q6sek8bf92,i=4096");
        match login.feed(&mut message(said.as_bytes()), &mut reply) {
            Ok(Progress::Prove(challenge)) => challenge,
            other => panic!("{other:?}"),
        }
    }

    /// The upstream took too long, or left: its login is over, and what it asked for is still being computed.
    #[test]
    fn a_proof_whose_login_was_given_up_keeps_its_turn_until_it_is_done() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            // The one thread is busy, so the proof waits for it, with its turn.
            let (release, busy) = mpsc::channel::<()>();
            let other = tokio::task::spawn_blocking(move || busy.recv());
            let turns = Arc::new(Semaphore::new(1));
            let login = prove(challenge(), &turns);
            assert!(timeout(Duration::from_millis(20), login).await.is_err(), "the login is given up");
            assert_eq!(turns.available_permits(), 0, "its work is still to be done");
            release.send(()).unwrap();
            other.await.unwrap().unwrap();
            // Another login's proof has its turn behind it.
            assert!(prove(challenge(), &turns).await.is_ok());
            assert_eq!(turns.available_permits(), 1);
        });
    }

    #[test]
    fn a_login_that_is_given_up_while_it_waits_for_a_turn_computes_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let turns = Arc::new(Semaphore::new(1));
            let taken = turns.clone().acquire_owned().await.unwrap();
            assert!(timeout(Duration::from_millis(20), prove(challenge(), &turns)).await.is_err());
            drop(taken);
            assert_eq!(turns.available_permits(), 1);
        });
    }
}
