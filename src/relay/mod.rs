//! Moves records between two legs, in place, both ways, in one task.
//!
//! A relay promises: bytes in order, nothing sealed twice, no more than [`MAX_HELD`] kept for a peer that does not
//! read, nothing that waits for more to come, and an end that looks on one leg as it looked on the other. It does not
//! know protocols: what may pass and what is changed on the way is said by a [`Traffic`].
//!
//! An upstream leg without TLS is a source and a sink like any other: what is read from it is taken in pieces that a
//! record can carry, sealed for the client as soon as it is read; what goes up is written as it was opened.
//!
//! ```text
//!   client.rx ──open──▶ traffic.up ──seal──▶ upstream.tx        pump(Up)
//!   client.tx ◀──seal── traffic.down ◀──open── upstream.rx      pump(Down)
//! ```

mod alarm;
mod buffer;
mod pump;
mod watch;

use crate::close::Close;
use crate::names::{Direction, Side};
use crate::protocol::Edit;
use crate::tls::leg::{Leg, LegFault, Tap, TapFault, USER_TIMEOUT};
use alarm::Alarm;
use pump::Half;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;
use watch::Watch;

/// Bytes read from one leg at a time: three full records. Every stalled peer may hold as much.
pub const BATCH: usize = 48 * 1024;
/// Bytes read at a time from a source that fills its batches into a sink that takes them whole: bulk, where a system
/// call less for each record is worth a few parts in a hundred.
pub const LARGE_BATCH: usize = 256 * 1024;
/// Connections of a worker that may hold more than [`MAX_HELD`] because their peer stalled in the middle of bulk. While
/// there are as many, nobody reads large batches. Together they hold 1 MiB for each worker, whatever the load.
const MAX_LARGE: usize = 4;
/// Bytes kept per connection, both ways together, for peers that do not read. One more record may be on its way.
pub const MAX_HELD: usize = 64 * 1024;
/// The longest time between two looks at the clock, and at windows: below [`USER_TIMEOUT`], so that none is closed for that
/// long without being seen.
const CHECK: Duration = Duration::from_secs(20);

/// A protocol's view of a session: what passes, what is changed on the way, and when it must end. One per session.
///
/// A relay has two halves, up and down. A half is *live* until its source's end has been passed on; a half that is not
/// live takes nothing any more, and its sink can be told nothing.
///
/// **The order of calls.** Each half offers plaintext in the order in which it came, and offers again what was not taken
/// ([`Traffic::up`] only) before anything newer. [`Traffic::ended`] comes once for a half, after all of its plaintext was
/// taken; nothing is offered to that half afterwards. [`Traffic::drain`] comes at most once, at any time, also after both
/// calls of `ended`. Nothing is called after an `Err`, or once the session is over.
///
/// **What must hold after each call:**
/// - After `up` or `down`, `wants` of that direction is false, unless there is something left that the next call says.
///   A traffic that wants to speak and then says nothing is not asked again before something else has happened.
/// - `wants` is acted upon for a live half whose sink has taken everything. A traffic whose last words need a half that is
///   over does not get to say them; it must not wait for that.
/// - After `expire(now)`, `expires` is later than `now`, or `None`; otherwise the session ends as expired.
/// - A session is over when both halves are, or when `is_over` and both sinks have taken everything. A traffic that waits
///   for a peer before it is over says in `expires` how long.
///
/// **Who wakes whom.** The relay polls the traffic when a socket is ready, an order was given or a deadline has come.
/// Only `up` may wait for something else: it returns `Pending` and wakes the waker of its `cx`, or waits for plaintext in
/// the other direction, for which it needs to wake nobody. Any other method that changes what `wants`, `is_over` or
/// `expires` return is called by the relay itself, which looks at them afterwards.
pub trait Traffic {
    /// Takes plaintext from the client. `Pending`: what is left of the edit is offered again, when the waker of `cx` was
    /// woken or something came down.
    fn up(&mut self, cx: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>>;
    /// Takes plaintext from the upstream, all of it.
    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close>;
    /// True when there is something to send in that direction without input: the next call, with an empty edit, says it.
    fn wants(&self, direction: Direction) -> bool;
    /// The source of that direction has ended, and all before it was taken: what was kept back may be said now, before
    /// [`Traffic::ended`]. May come more than once.
    fn ending(&mut self, _: Direction) {}
    /// The source of that direction sent close_notify, and all before it was taken. `Err`: it may not end here.
    fn ended(&mut self, direction: Direction) -> Result<(), Close>;
    /// True while something that came from the source of that direction waits for a word of the sink's. The source's end, of
    /// whatever kind, counts once it does not any more, and what is for an upstream that is gone is dropped until then.
    fn holds_back(&self, _: Direction) -> bool {
        false
    }
    /// True when the source of that direction may go away without close_notify just now; otherwise that is a truncation.
    fn tolerates_eof(&self, direction: Direction) -> bool;
    /// True while what is under way is for a client that still reads: there is no use in it once that is gone.
    fn awaits_response(&self) -> bool;
    /// True when the session is to end as soon as everything is written.
    fn is_over(&self) -> bool;
    /// How long nothing may move just now; `None`: without limit.
    fn idle_limit(&self) -> Option<Duration>;
    /// When something that was admitted must end.
    fn expires(&self) -> Option<Instant>;
    /// Ends what had to end by `now`. `Err` ends the session.
    fn expire(&mut self, now: Instant) -> Result<(), Close>;
    /// Takes no new work from now on: the gateway is going away.
    fn drain(&mut self);
    /// Asks the configuration that is in force now whether what was permitted still is, and ends as at expiry what is not.
    /// May come at any time, more than once. `Err` ends the session. Nothing to do where each request asks by itself.
    fn authorise_again(&mut self) -> Result<(), Close> {
        Ok(())
    }
    /// How many requests came, and how many are under way; zero where the protocol has none that are followed.
    fn requests(&self) -> (u64, u32) {
        (0, 0)
    }
}

/// Takes what a recorded client says, as its recording is to hold it, before any of it goes up.
pub trait ClientTap {
    /// Takes plaintext behind all that was taken before. After an `Err` nothing goes up any more.
    fn take(&mut self, plaintext: &[u8]) -> Result<(), TapFault>;
}

/// Pending orders of a live session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrdersFor {
    /// Finish what is under way.
    pub drain: bool,
    /// The configuration has changed.
    pub authorise_again: bool,
    /// End now, for this reason.
    pub end: Option<Close>,
}

/// Progress counters of a session, as observers read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What went through.
    pub moved: Transferred,
    /// Requests that came; 0 where the protocol has none.
    pub requests: u64,
    /// Requests, transactions or commands that are under way.
    pub under_way: u32,
}

/// A relay's channel for orders and progress.
///
/// The relay compares `generation` at each poll, and calls `take` and `publish` when it has changed; `publish` also when it
/// looks at its clock. Before its first look it calls `wake_on_change`, and again whenever another task polls it: an order
/// that is given after that wakes it.
pub trait Orders {
    /// Another number whenever there may be orders, or when the progress is wanted. Costs one load.
    fn generation(&self) -> u64;
    /// The orders in force; returns `authorise_again` once per order.
    fn take(&self) -> OrdersFor;
    /// Publishes the session's progress.
    fn publish(&self, progress: Progress);
    /// Registers the waker that an order wakes; replaces the one before.
    fn wake_on_change(&self, waker: &Waker);
}

/// Two legs and the traffic between them.
pub struct Relay<T, O> {
    /// The client leg.
    pub client: Leg,
    /// The upstream leg.
    pub upstream: Leg,
    /// What passes between them.
    pub traffic: T,
    orders: O,
    /// The waker that orders wake.
    heard: Option<Waker>,
    up: Half,
    down: Half,
    watch: Watch,
    /// The last generation of orders that was applied; `None`: none yet.
    obeyed: Option<u64>,
    drained: bool,
    stall: Duration,
    moved: Instant,
    alarm: Alarm,
    polls: u64,
    /// `moved` when windows were looked at last.
    checked: Instant,
    /// Bytes were in flight to a peer then.
    under_way: bool,
}

/// What went through, for the closing line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Application bytes from the client, as it sent them.
    pub up: u64,
    /// Application bytes from the upstream, as it sent them.
    pub down: u64,
    /// Records from the client.
    pub records_up: u64,
    /// Records from the upstream; none where that leg has no TLS.
    pub records_down: u64,
    /// How often the session was polled: a session that spins shows here.
    pub polls: u64,
}

impl<T: Traffic, O: Orders> Relay<T, O> {
    /// Joins two legs. `waiting` and `early` are plaintext that was opened before, from the client and from the
    /// upstream, and that `traffic` has not seen.
    pub fn new(
        client: Leg,
        upstream: Leg,
        traffic: T,
        orders: O,
        stall: Duration,
        waiting: Vec<u8>,
        early: Vec<u8>,
    ) -> Self {
        let up = Half::new(waiting);
        let down = Half::new(early);
        let moved = Instant::now();
        // Set to the first moment at which something can be due: an earlier one wakes the session for nothing, and a
        // timer before all others costs a wake-up of the reactor, too.
        let first =
            traffic.idle_limit().map_or(CHECK, |limit| limit.min(CHECK)).min(stall).max(TIMER_RESOLUTION);
        let (alarm, watch, heard) = (Alarm::at(moved + first), Watch::default(), None);
        let (drained, polls, under_way) = (false, 0, true);
        Relay {
            client,
            upstream,
            traffic,
            orders,
            heard,
            obeyed: None,
            up,
            down,
            watch,
            drained,
            stall,
            moved,
            alarm,
            polls,
            checked: moved,
            under_way,
        }
    }

    /// Counts what the client said and what was queued for the upstream before the relay was there.
    pub fn count_first(&mut self, bytes: u64) {
        self.up.bytes += bytes;
    }

    /// Shows to `tap` what the client says from now on. Without a tap none of this costs anything.
    /// `gate` says when what the tap has taken may go up.
    pub fn set_client_tap(&mut self, tap: Box<dyn ClientTap>, gate: Box<dyn Tap>) {
        self.up.tap = Some(tap);
        self.upstream.set_write_gate(gate);
    }

    /// Runs until the session ends and says why.
    pub async fn run(&mut self) -> (Close, Option<String>) {
        let ended = std::future::poll_fn(|cx| self.poll(cx)).await;
        if ended.close == Close::Reset(Side::Upstream) {
            self.read_upstream_to_end().await;
        }
        (ended.close, ended.detail)
    }

    /// An upstream that takes nothing more may have said why before it left: a 413, and the connection closed. On a Unix
    /// socket the first write tells that it is gone, before what it said was read.
    async fn read_upstream_to_end(&mut self) {
        // Nobody has heard of what came meanwhile before the runtime has looked at its sockets.
        tokio::task::yield_now().await;
        // The kernel tells of a reset once; to whoever reads on, it looks like an end.
        self.down.cut = true;
        std::future::poll_fn(|cx| {
            // The session ends for the first reason, whatever comes of this.
            let _ = self.pump(Direction::Down, cx);
            Poll::Ready(())
        })
        .await;
    }

    /// What went through so far.
    pub fn moved(&self) -> Transferred {
        let records = |leg: &Leg, half: &Half| if leg.is_tls() { half.records } else { 0 };
        Transferred {
            up: self.up.bytes,
            down: self.down.bytes,
            records_up: records(&self.client, &self.up),
            records_down: records(&self.upstream, &self.down),
            polls: self.polls,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.polls += 1;
        match self.step(cx) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ended::new(Close::Done)),
            Err(ended) => Poll::Ready(ended),
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Ended> {
        if !self.heard.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.orders.wake_on_change(cx.waker());
            self.heard = Some(cx.waker().clone());
            self.alarm.disarm();
        }
        let generation = self.orders.generation();
        if self.obeyed != Some(generation) {
            self.obeyed = Some(generation);
            self.apply_orders()?;
        }
        let before = (self.up.bytes, self.down.bytes);
        (self.up.mute, self.down.mute) = (false, false);
        for turn in 1.. {
            self.pump(Direction::Up, cx)?;
            let down = self.down.bytes;
            self.pump(Direction::Down, cx)?;
            // What came down may be what the upward direction waits for (the answer to an Upgrade, a free slot);
            // what came down or went up may have left something to say on the other leg (a refusal, a credit).
            let answered = down != self.down.bytes && self.up.asked;
            let up =
                self.up.may_write_own() && self.traffic.wants(Direction::Up) && self.upstream.unsent() == 0;
            if !answered && !up {
                break;
            }
            if turn == TURNS_PER_POLL {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.watch_client(cx)?;
        // Answers to key updates stand on the leg that asked, which is the other pump's sink.
        for leg in [&mut self.client, &mut self.upstream] {
            if leg.unsent() > 0 && leg.poll_flush(cx).is_ready() {
                buffer::with(|scratch| scratch.take_back(leg.unsent_buffer()));
            }
        }
        let mut now = None;
        if before != (self.up.bytes, self.down.bytes) {
            self.moved = Instant::now();
            now = Some(self.moved);
        }
        let idle = self.client.unsent() == 0 && self.upstream.unsent() == 0;
        if (self.up.finished && self.down.finished) || (self.traffic.is_over() && idle) {
            return Ok(Poll::Ready(()));
        }
        self.check_deadlines(cx, now)?;
        Ok(Poll::Pending)
    }

    fn apply_orders(&mut self) -> Result<(), Close> {
        self.publish();
        let OrdersFor { drain, authorise_again, end } = self.orders.take();
        if let Some(close) = end {
            return Err(close);
        }
        if authorise_again {
            self.traffic.authorise_again()?;
        }
        if drain && !self.drained {
            self.drained = true;
            self.traffic.drain();
        }
        Ok(())
    }

    fn publish(&self) {
        let (requests, under_way) = self.traffic.requests();
        self.orders.publish(Progress { moved: self.moved(), requests, under_way });
    }

    /// Tells peers that pause from peers that are gone. The session's own limit for a stalled peer ends it first.
    fn check_windows(&mut self) {
        if self.moved != self.checked || self.under_way {
            self.checked = self.moved;
            let pause = self.stall + USER_TIMEOUT;
            let client = self.client.allow_closed_window(pause);
            self.under_way = self.upstream.allow_closed_window(pause) || client;
        }
    }

    /// Deadlines are looked up when the alarm rings, so that moving bytes never touches a timer. `now` is known when bytes
    /// moved.
    fn check_deadlines(&mut self, cx: &mut Context<'_>, now: Option<Instant>) -> Result<(), Ended> {
        if let Some(at) = self.traffic.expires() {
            self.alarm.set_earlier(at);
        }
        if let Some(look) = self.watch.look {
            self.alarm.set_earlier(Instant::now() + look);
        }
        while self.alarm.has_fired(cx, now) {
            self.publish();
            let now = Instant::now();
            let mut next = now + CHECK;
            self.check_windows();
            if let Some(at) = self.traffic.expires() {
                if at <= now {
                    self.traffic.expire(now)?;
                    if self.traffic.expires().is_some_and(|at| at <= now) {
                        return Err(Ended::new(Close::Expired));
                    }
                    cx.waker().wake_by_ref();
                } else {
                    next = next.min(at);
                }
            }
            // A peer that pauses while there is something for it is not idle: how long it may, `stall` says.
            let is_stalled = self.up.stalled_since().or(self.down.stalled_since()).is_some();
            if let Some(limit) = self.traffic.idle_limit().filter(|_| !is_stalled) {
                if self.moved + limit <= now {
                    return Err(Ended::new(Close::Idle));
                }
                next = next.min(self.moved + limit);
            }
            let halves =
                [(&self.up, &self.upstream, Side::Upstream), (&self.down, &self.client, Side::Client)];
            for (half, sink, side) in halves {
                if let Some(since) = half.stalled_since() {
                    if since + self.stall <= now {
                        let close = match sink.awaits_recording() {
                            true => Close::Recording,
                            false => Close::Stalled(side),
                        };
                        return Err(Ended::new(close));
                    }
                    next = next.min(since + self.stall);
                }
            }
            if let Some(look) = self.watch.look {
                next = next.min(now + look);
            }
            self.alarm.set(next.min(now + self.stall).max(now + TIMER_RESOLUTION));
        }
        Ok(())
    }
}

/// Turns of both halves in one poll, before other sessions of the worker get theirs.
const TURNS_PER_POLL: usize = 8;
/// The timer's resolution; deadlines closer together are met together.
const TIMER_RESOLUTION: Duration = Duration::from_millis(5);

/// The end of a session, with what the reason's name does not tell.
#[derive(Debug)]
struct Ended {
    close: Close,
    detail: Option<String>,
}

impl Ended {
    fn new(close: Close) -> Self {
        Ended { close, detail: None }
    }

    /// A leg broke: says so with the leg's peer as culprit.
    fn leg(side: Side, fault: LegFault) -> Self {
        let close = close_of(side, &fault);
        Ended { close, detail: Some(fault.to_string()) }
    }
}

impl From<Close> for Ended {
    fn from(close: Close) -> Self {
        Ended::new(close)
    }
}

/// The close reason for a fault of one leg.
pub fn close_of(side: Side, fault: &LegFault) -> Close {
    match fault {
        LegFault::Record(_) | LegFault::Message(_) | LegFault::Malformed(_) | LegFault::Illegal(_) => {
            Close::Record(side)
        }
        LegFault::Alert(_) => Close::Alert(side),
        LegFault::Truncated => Close::Truncated(side),
        LegFault::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<TapFault>()) => {
            Close::Recording
        }
        LegFault::Io(_) => Close::Reset(side),
        LegFault::KeyLimit => Close::KeyLimit,
    }
}
