//! Orders reach whom they are meant for, snapshots see what was published.

use super::*;
use crate::names::IssuerName;
use crate::policy::Proof;
use crate::policy::revocation::{MAX_REVOCATIONS, Target};
use crate::relay::Transferred;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::Wake;
use std::time::Duration;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn register(shard: &Arc<Shard>, id: u64) -> (Registration, Arc<Count>) {
    let address = SocketAddr::from(([127, 0, 0, 1], 443));
    let registration = shard.register(SessionId(id), Instant::now(), address, Remote(address));
    let count = Arc::new(Count::default());
    (&registration).wake_on_change(&Waker::from(count.clone()));
    (registration, count)
}

#[test]
fn an_order_reaches_its_session_and_no_other() {
    let registry = Registry::new(2);
    let (ann, ann_woken) = register(registry.shard(0).unwrap(), 1);
    let (bob, bob_woken) = register(registry.shard(1).unwrap(), 2);
    let seen = (&bob).generation();
    assert!(registry.order(SessionId(2), Order::End(Close::Idle)));
    assert!(!registry.order(SessionId(3), Order::Drain));
    assert_ne!((&bob).generation(), seen, "its relay looks");
    assert_eq!((&bob).take().end, Some(Close::Idle));
    assert_eq!((&ann).take(), OrdersFor::default());
    assert_eq!((ann_woken.0.load(Ordering::Relaxed), bob_woken.0.load(Ordering::Relaxed)), (0, 1));
    registry.order(SessionId(2), Order::End(Close::Drained));
    assert_eq!((&bob).take().end, Some(Close::Idle), "the first reason counts");
    drop((ann, bob));
    assert!(!registry.order(SessionId(1), Order::Drain), "who is gone is not told");
}

fn identified(registration: &Registration, subject: &str, expires: u64) {
    let identity = Identity {
        issuer: IssuerName("corp".into()),
        subject: subject.into(),
        groups: Vec::new(),
        claims: [].into_iter().collect(),
        proof: Proof::Token,
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(expires),
    };
    registration.entry().facts.lock().set_identity(&Arc::new(identity));
}

fn revocation_of(subject: &str, until: u64) -> Revocation {
    let at = SystemTime::UNIX_EPOCH;
    let target = Target { subject: Some(subject.into()), ..Target::default() };
    Revocation { target, at, until: at + Duration::from_secs(until) }
}

#[test]
fn a_revocation_ends_whom_it_covers_once_and_knows_the_last_proof() {
    let (registry, now) = (Registry::new(2), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    let (ann, ann_woken) = register(registry.shard(0).unwrap(), 1);
    let (too, _) = register(registry.shard(1).unwrap(), 2);
    let (bob, bob_woken) = register(registry.shard(1).unwrap(), 3);
    identified(&ann, "ann", 900);
    identified(&ann, "carl", 2_000);
    identified(&too, "ann", 700);
    identified(&bob, "bob", 5_000);
    let (ended, longest) = registry.shut_out(&revocation_of("ann", 100), now).unwrap();
    assert_eq!((ended, longest), (2, SystemTime::UNIX_EPOCH + Duration::from_secs(900) + CLOCK_SKEW));
    assert_eq!(
        [&ann, &too, &bob].map(|one| Orders::take(&one).end),
        [Some(Close::Revoked), Some(Close::Revoked), None]
    );
    assert_eq!((ann_woken.0.load(Ordering::Relaxed), bob_woken.0.load(Ordering::Relaxed)), (1, 0));
    assert_eq!(registry.shut_out(&revocation_of("ann", 100), now).unwrap().0, 0, "they end already");
}

#[test]
fn whoever_moves_bytes_is_silent_before_the_others_were_looked_at() {
    let registry = Registry::new(1);
    let (ann, _) = register(registry.shard(0).unwrap(), 1);
    let (bob, _) = register(registry.shard(0).unwrap(), 2);
    identified(&ann, "ann", u64::from(u32::MAX));
    identified(&bob, "bob", u64::from(u32::MAX));
    registry.put_in_force(&revocation_of("ann", u64::from(u32::MAX)), SystemTime::now()).unwrap();
    assert_eq!(((&ann).take().end, (&bob).take().end), (Some(Close::Revoked), None));
}

#[test]
fn who_was_refused_for_an_earlier_revocation_does_not_end_the_session_at_the_next() {
    let (registry, until) = (Registry::new(1), u64::from(u32::MAX));
    registry.shut_out(&revocation_of("ann", until), SystemTime::now()).unwrap();
    let (bob, _) = register(registry.shard(0).unwrap(), 1);
    identified(&bob, "bob", until);
    // Refused, and noted as somebody who came.
    identified(&bob, "ann", until);
    registry.put_in_force(&revocation_of("carl", until), SystemTime::now()).unwrap();
    assert_eq!((&bob).take().end, None);
    assert_eq!(registry.shut_out(&revocation_of("bob", until), SystemTime::now()).unwrap().0, 1);
}

#[test]
fn a_revocation_for_which_there_is_no_room_ends_nobody() {
    let (registry, until) = (Registry::new(1), u64::from(u32::MAX));
    let (bob, _) = register(registry.shard(0).unwrap(), 1);
    identified(&bob, "bob", until);
    for n in 0..MAX_REVOCATIONS {
        let stranger = revocation_of(&format!("stranger {n}"), until);
        // One that is old makes room.
        let one = Revocation { at: SystemTime::now(), ..stranger };
        registry.revocations().add(one, SystemTime::now()).unwrap();
    }
    assert!(registry.shut_out(&revocation_of("bob", until), SystemTime::now()).is_err());
    assert_eq!((&bob).take().end, None);
}

#[test]
fn a_worker_wakes_its_sessions_by_itself_a_few_at_a_time() {
    let registry = Registry::new(1);
    let shard = registry.shard(0).unwrap();
    let all: Vec<_> = (0..WAKES_PER_TURN as u64 + 1).map(|id| register(shard, id)).collect();
    let (worker, mut waking) = (Arc::new(Count::default()), Box::pin(shard.clone().wake_sessions()));
    let waker = Waker::from(worker.clone());
    let mut cx = std::task::Context::from_waker(&waker);
    let woken = || all.iter().map(|(_, count)| count.0.load(Ordering::Relaxed)).sum::<usize>();
    assert!(waking.as_mut().poll(&mut cx).is_pending());
    registry.stop(Close::Drained);
    assert_eq!((woken(), worker.0.load(Ordering::Relaxed)), (0, 1), "one wake reaches the worker");
    assert!(all.iter().all(|(one, _)| one.take().end == Some(Close::Drained)), "the orders stand already");
    assert!(waking.as_mut().poll(&mut cx).is_pending());
    assert_eq!(
        (woken(), worker.0.load(Ordering::Relaxed)),
        (WAKES_PER_TURN, 2),
        "it comes back for the last"
    );
    assert!(waking.as_mut().poll(&mut cx).is_pending());
    assert_eq!((woken(), worker.0.load(Ordering::Relaxed)), (all.len(), 2));
}

#[test]
fn authorise_again_is_told_once_and_what_stands_is_told_to_those_that_come() {
    let registry = Registry::new(1);
    let shard = registry.shard(0).unwrap();
    let (ann, woken) = register(shard, 1);
    registry.authorise_again();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!((&ann).take().authorise_again);
    assert!(!(&ann).take().authorise_again);
    shard.drain();
    shard.stop(Close::Drained);
    let (bob, _) = register(shard, 2);
    let told = (&bob).take();
    assert_eq!((told.drain, told.end), (true, Some(Close::Drained)));
    shard.resume();
    let (carl, _) = register(shard, 3);
    let told = (&carl).take();
    assert_eq!((told.drain, told.end, shard.len()), (true, None, 3));
}

#[test]
fn a_snapshot_shows_what_was_published_and_asks_for_more() {
    let registry = Registry::new(1);
    let (ann, woken) = register(registry.shard(0).unwrap(), 1);
    ann.entry().facts.lock().stage = Stage::Relay;
    let moved = Transferred { up: 7, down: 9, ..Transferred::default() };
    (&ann).publish(Progress { moved, requests: 3, under_way: 1 });
    let before = (&ann).generation();
    let seen = registry.snapshot();
    assert_eq!(seen.len(), 1);
    let Snapshot { id, up, down, requests, under_way, .. } = seen[0];
    assert_eq!((id, up, down, requests, under_way), (SessionId(1), 7, 9, 3, 1));
    assert_eq!(seen[0].facts.stage, Stage::Relay);
    assert_ne!((&ann).generation(), before);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0, "whoever is quiet stays asleep");
}

#[test]
fn snapshots_go_on_while_sessions_come_and_go() {
    let registry = Registry::new(1);
    let (shard, over) = (registry.shard(0).unwrap().clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                let seen = registry.snapshot();
                assert!(seen.iter().all(|one| one.facts.remote.0.port() == 443));
                most = most.max(seen.len());
            }
            most
        });
        for round in 0..2_000 {
            let sessions: Vec<_> = (0..8).map(|n| register(&shard, round * 8 + n)).collect();
            sessions.iter().for_each(|(one, _)| one.entry().facts.lock().stage = Stage::Relay);
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() <= 8);
    });
    assert!(shard.is_empty());
}

/// An idle session may cost 6 KiB in all; most of it are the two legs.
#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry>() <= 512, "{}", size_of::<Entry>());
}
