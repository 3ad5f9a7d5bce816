use super::*;
use std::pin::pin;
use std::task::{Context, Waker};

const BOUNDS: Bounds = Bounds { connections: 4, per_address: 3, half_open: 0, half_open_per_address: 0 };
const NONE: Bounds = Bounds { connections: 0, per_address: 0, half_open: 0, half_open_per_address: 0 };
const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn is_evicted(admitted: &Admitted) -> bool {
    pin!(admitted.wait_evicted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn age(admission: &Admission) {
    for of in admission.counts.lock().half_open_of.values_mut() {
        for place in &mut of.places {
            let since = place.since.checked_sub(MIN_AGE).unwrap();
            let (number, state) = (place.number, AtomicU8::new(place.state.load(Acquire)));
            *place = Arc::new(Place { number, since, state, changed: Notify::new() });
        }
    }
}

#[test]
fn each_limit_of_connections_keeps_out_and_says_which() {
    let admission = Arc::new(Admission::default());
    let of_ann: Vec<_> = (0..3).map(|_| admission.admit(ANN, BOUNDS).unwrap()).collect();
    assert_eq!(admission.admit(ANN, BOUNDS).err(), Some(Full::Address));
    let _fourth = admission.admit(BOB, BOUNDS).unwrap();
    assert_eq!(admission.admit(BOB, BOUNDS).err(), Some(Full::Connections));
    drop(of_ann);
    assert!(admission.admit(BOB, BOUNDS).is_ok());
}

#[test]
fn the_last_tenth_of_a_limit_is_for_those_who_hear_that_there_is_no_room() {
    let admission = Arc::new(Admission::default());
    let bounds = Bounds { connections: 20, per_address: 10, ..NONE };
    let let_in = |address| admission.admit(address, bounds).map(|a| (a.limit_reached(), a));
    let of_ann: Vec<_> = (0..10).map(|_| let_in(ANN).unwrap()).collect();
    let limit_reached: Vec<_> = of_ann.iter().filter_map(|(limit_reached, _)| *limit_reached).collect();
    assert_eq!(limit_reached, [Full::Address]);
    assert_eq!(let_in(ANN).err(), Some(Full::Address));
    let of_bob: Vec<_> = (0..8).map(|_| let_in(BOB).unwrap()).collect();
    assert!(of_bob.iter().all(|(limit_reached, _)| limit_reached.is_none()));
    assert_eq!(let_in(BOB).unwrap().0, Some(Full::Connections));
    // A small limit has no tenth, and 0 is none.
    for connections in [0, 9] {
        let bounds = Bounds { connections, ..NONE };
        let admission = Arc::new(Admission::default());
        let all: Vec<_> = (0..9).map(|_| admission.admit(ANN, bounds).unwrap()).collect();
        assert!(all.iter().all(|admitted| admitted.limit_reached().is_none()), "{connections}");
    }
}

#[test]
fn nothing_is_left_behind_when_all_are_gone() {
    let admission = Arc::new(Admission::default());
    let bounds = Bounds { half_open: 3, half_open_per_address: 1, ..NONE };
    let all: Vec<_> = (0..5).filter_map(|_| admission.admit(ANN, bounds).ok()).collect();
    assert!(all[0].set_client(BOB, bounds).is_ok() && !all.is_empty());
    all[1].permitted();
    drop(all);
    let counts = admission.counts.lock();
    assert!(counts.connections_of.is_empty() && counts.half_open_of.is_empty());
    assert_eq!((counts.connections, counts.half_open), (0, 0));
}

#[tokio::test]
async fn a_crowd_behind_one_address_is_served_one_after_the_other_and_none_is_closed() {
    let admission = Arc::new(Admission::default());
    let bounds = Bounds { half_open_per_address: 256, ..NONE };
    let crowd: Vec<_> = (0..600).map(|_| admission.admit(ANN, bounds).unwrap()).collect();
    assert_eq!(crowd.iter().filter(|one| one.is_queued()).count(), 600 - 256);
    assert!(!admission.admit(BOB, bounds).unwrap().is_queued());
    for (n, one) in crowd.iter().enumerate() {
        tokio::time::timeout(Duration::from_secs(1), one.turn()).await.expect("its turn comes");
        one.permitted();
        let queued = crowd.iter().filter(|one| one.is_queued()).count();
        assert_eq!(queued, (600usize - 256).saturating_sub(n + 1));
    }
}

#[test]
fn a_queue_has_an_end_and_one_who_leaves_it_takes_no_turn() {
    let admission = Arc::new(Admission::default());
    let bounds = Bounds { half_open_per_address: 2, ..NONE };
    let mut all: Vec<_> = (0..10).map(|_| admission.admit(ANN, bounds).unwrap()).collect();
    assert_eq!(admission.admit(ANN, bounds).err(), Some(Full::HalfOpenOfAddress));
    drop(all.remove(2));
    assert!(all[2].is_queued());
    drop(all.remove(0));
    let queued: Vec<_> = all.iter().map(Admitted::is_queued).collect();
    assert_eq!(queued[..3], [false, false, true]);
}

#[test]
fn whoever_has_the_most_half_open_makes_room_oldest_first() {
    let admission = Arc::new(Admission::default());
    let bounds = Bounds { half_open: 40 * 64, half_open_per_address: 256, connections: 10_000, ..NONE };
    let flood: Vec<_> = (0..100u32 * 40)
        .map(|n| admission.admit(IpAddr::from([198, 51, 100, (n % 40) as u8]), bounds))
        .collect();
    // The flood is equal among itself and young: who is late stays out.
    assert!(flood[..2560].iter().all(Result::is_ok) && flood[2560..].iter().all(Result::is_err));
    for n in 0..1_000 {
        let good = admission.admit(ANN, bounds).expect("there is room for who has none yet");
        assert!(!good.is_queued());
        let wait_evicted = flood.iter().flatten().filter(|one| is_evicted(one)).count();
        // The first took a place that became free again with its permit.
        assert_eq!(wait_evicted, 1, "{n}");
        good.permitted();
    }
    assert!(is_evicted(flood[0].as_ref().unwrap()));
    assert_eq!(admission.counts.lock().half_open, bounds.half_open - 1);
}

#[test]
fn among_equals_the_oldest_makes_room_once_it_had_time_for_a_handshake() {
    let admission = Arc::new(Admission::default());
    let bounds = Bounds { half_open: 2, ..NONE };
    let _held = [ANN, BOB].map(|address| admission.admit(address, bounds).unwrap());
    let other = IpAddr::from([192, 0, 2, 3]);
    assert_eq!(admission.admit(other, bounds).err(), Some(Full::HalfOpen));
    age(&admission);
    let third = admission.admit(other, bounds).unwrap();
    let counts = admission.counts.lock();
    assert!(!counts.half_open_of.contains_key(&ANN) && counts.half_open_of.contains_key(&BOB));
    drop(counts);
    assert!(!is_evicted(&third));
}

#[test]
fn behind_a_balancer_the_clients_own_address_counts() {
    let admission = Arc::new(Admission::default());
    let bounds = Bounds { per_address: 3, half_open_per_address: 1, ..NONE };
    let balancer = IpAddr::from([10, 0, 0, 1]);
    let arrive = || admission.admit(balancer, bounds.of_balancer()).unwrap();
    let all: Vec<_> = (0..5).map(|_| arrive()).collect();
    assert!(all.iter().all(|one| !one.is_queued()));
    assert_eq!(all[0].set_client(ANN, bounds), Ok(()));
    assert_eq!(all[1].set_client(ANN, bounds), Ok(()));
    assert_eq!(all[2].set_client(ANN, bounds), Ok(()));
    assert_eq!((all[0].is_queued(), all[1].is_queued(), all[2].is_queued()), (false, true, true));
    assert_eq!(all[3].set_client(ANN, bounds), Err(Full::Address));
    assert_eq!(all[4].set_client(BOB, bounds), Ok(()));
    all[0].permitted();
    assert!(!all[1].is_queued() && all[2].is_queued());
}

#[test]
fn what_is_dialled_ahead_counts_and_leaves_the_last_tenth_to_clients() {
    let admission = Arc::new(Admission::default());
    let reserved: Vec<_> = (0..20).map_while(|_| admission.reserve(20)).collect();
    assert_eq!((reserved.len(), admission.count()), (18, 18));
    let bounds = Bounds { connections: 20, ..NONE };
    let _clients = [(); 2].map(|()| admission.admit(ANN, bounds).unwrap());
    assert_eq!(admission.admit(ANN, bounds).err(), Some(Full::Connections));
    drop(reserved);
    assert_eq!(admission.count(), 2);
    assert!(admission.reserve(0).is_some(), "no limit");
}

#[test]
fn a_network_of_ipv6_is_one_address() {
    let bounds = Bounds { per_address: 1, ..NONE };
    let admission = Arc::new(Admission::default());
    let at = |text: &str| admission.admit(text.parse().unwrap(), bounds);
    let _one = at("2001:db8::1").unwrap();
    assert_eq!(at("2001:db8:0:0:ffff::2").err(), Some(Full::Address));
    let _other = at("2001:db8:0:1::1").unwrap();
    // Clients of IPv4 on a dual-stack socket stay apart.
    let _mapped = at("::ffff:192.0.2.1").unwrap();
    assert!(at("::ffff:192.0.2.2").is_ok());
    assert_eq!(at("192.0.2.1").err(), Some(Full::Address));
}
