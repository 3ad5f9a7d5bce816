//! A session's recording: begins with the permit, holds what the client was sent and what it said, and ends with the closing
//! line.
//!
//! ```text
//!   client leg ◀── ciphertext ── outbox ── DownTap ─┐
//!   client ── plaintext ──▶ start, relay ── UpTap ──┴─▶ Recording ──▶ the worker's Recorder
//! ```
//! The down plane is the client leg's own ciphertext, or with TLS 1.2 what stands within it, sealed anew. The up plane is the
//! client's view: what [`crate::protocol::Edit::view`] says of it. What is said before the permit is held here, at most
//! [`MAX_HELD`] bytes: who is never permitted leaves facts in a recording, and no bytes.
//!
//! With `record = "strict"` nothing is sent or forwarded that was not recorded: a fault refuses the session at its permit, and
//! ends it later.

use crate::names::{SessionId, Side};
use crate::recording::archive::{Archive, RecordingFault};
use crate::recording::format::frame::Plane;
use crate::recording::format::traffic::TrafficSecret;
use crate::recording::hex;
use crate::recording::settings::RouteRecording;
use crate::recording::writer::{Recorder, Tape};
use crate::relay::ClientTap;
use crate::tls::leg::{Leg, Tap, TapFault};
use crate::tls::peer_certificate::PeerCertificate;
use crate::tls::record::Suite;
use serde_json::json;
use std::cell::RefCell;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Bytes held of a session before its permit, both planes and facts together. An honest client is sent some refusals and the
/// settings of HTTP/2. Beyond it bytes are let go, since who is not permitted leaves none: its session goes on to be refused,
/// and can be permitted no more. Of facts as many are kept again, and the rest is counted.
const MAX_HELD: usize = 64 * 1024;

/// Bytes held of all sessions of the process before their permits. Beyond it, [`MAX_HELD`] of a session is [`MIN_HELD`]: who
/// opens many connections to be refused on takes no memory, and none of the room of those that say what an honest client says.
const MAX_HELD_IN_ALL: usize = 256 << 20;
/// An honest client's request and a few refusals fit.
const MIN_HELD: usize = 8 * 1024;

/// Between two looks whether a segment is old enough to be closed.
const SEGMENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Recordings of a worker's sessions.
#[derive(Clone)]
pub struct WorkerRecordings {
    archive: Arc<Archive>,
    recorder: Rc<RefCell<Recorder>>,
}

impl WorkerRecordings {
    /// Recordings of worker number `worker`.
    pub fn new(archive: Arc<Archive>, worker: usize) -> Self {
        // More workers than segments can name have none of their own: no machine has as many cores.
        let number = u16::try_from(worker).unwrap_or(u16::MAX >> 1);
        WorkerRecordings { recorder: Rc::new(RefCell::new(Recorder::new(archive.clone(), number))), archive }
    }

    /// Closes old segments, for as long as the worker lives.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(SEGMENT_CHECK_INTERVAL);
        loop {
            tick.tick().await;
            self.recorder.borrow_mut().tick();
        }
    }

    /// Counts a session that is not recorded.
    pub(super) fn count_unrecorded(&self) {
        self.archive.count_unrecorded();
    }
}

/// One session's recording; shared by its taps.
#[derive(Clone)]
pub(super) struct Recording(Rc<RefCell<State>>);

struct State {
    recorder: Rc<RefCell<Recorder>>,
    session: SessionId,
    route: RouteRecording,
    /// What the client was shown.
    own_certificate: Option<Arc<PeerCertificate>>,
    phase: Phase,
}

enum Phase {
    /// Before the permit.
    Held(Box<Held>),
    Taping(Tape),
    /// Nothing more of it can be recorded. The tape, where there was one, may still take the end.
    Broken(Option<Tape>, RecordingFault),
    Over,
}

/// What was said before the permit.
struct Held {
    suite: Suite,
    /// Secret and number of the first record; `None` where the plane holds data.
    down_secret: Option<(TrafficSecret, u64)>,
    /// What went down, by key.
    down: Vec<Vec<u8>>,
    up: Vec<u8>,
    facts: Vec<String>,
    /// Facts beyond the limit.
    lost_facts: u64,
    /// Bytes were dropped.
    is_incomplete: bool,
    share: HeldShare,
}

impl Held {
    fn new(suite: Suite, down_secret: Option<(TrafficSecret, u64)>, in_all: Arc<AtomicUsize>) -> Self {
        Held {
            suite,
            down_secret,
            down: vec![Vec::new()],
            up: Vec::new(),
            facts: Vec::new(),
            lost_facts: 0,
            is_incomplete: false,
            share: HeldShare { in_all, own: 0 },
        }
    }

    fn bytes(&self) -> usize {
        self.down.iter().map(Vec::len).sum::<usize>() + self.up.len()
    }

    /// Drops the held bytes beyond the limit.
    fn limit(&mut self) {
        let bytes = self.bytes();
        let limit = if self.share.set(bytes) > MAX_HELD_IN_ALL { MIN_HELD } else { MAX_HELD };
        self.is_incomplete |= bytes > limit;
        if self.is_incomplete {
            (self.down, self.up) = (Vec::new(), Vec::new());
            self.share.set(0);
        }
    }

    fn hold_up(&mut self, plaintext: &[u8]) {
        self.up.extend_from_slice(plaintext);
        self.limit();
    }

    fn hold_fact(&mut self, line: String) {
        match self.facts.iter().map(String::len).sum::<usize>() + line.len() > MAX_HELD {
            true => self.lost_facts += 1,
            false => self.facts.push(line),
        }
    }
}

/// A session's part of what is held in all.
struct HeldShare {
    in_all: Arc<AtomicUsize>,
    own: usize,
}

impl HeldShare {
    /// Counts `bytes` as this session's; gives what is held in all.
    fn set(&mut self, bytes: usize) -> usize {
        let before = std::mem::replace(&mut self.own, bytes);
        match bytes >= before {
            true => self.in_all.fetch_add(bytes - before, Relaxed) + (bytes - before),
            false => self.in_all.fetch_sub(before - bytes, Relaxed) - (before - bytes),
        }
    }
}

impl Drop for HeldShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Recording {
    /// Holds what `leg` sends from now on, until the permit. Without the worker's recordings nobody is permitted.
    pub(super) fn start(
        worker: &WorkerRecordings,
        session: SessionId,
        route: &RouteRecording,
        own_certificate: Option<Arc<PeerCertificate>>,
        leg: &mut Leg,
    ) -> Self {
        let phase = match leg.sending() {
            Some(sending) => {
                let secret = sending.secret.and_then(|secret| TrafficSecret::new(sending.suite, secret));
                let secret = secret.map(|secret| (secret, sending.number));
                Phase::Held(Box::new(Held::new(sending.suite, secret, worker.archive.held.clone())))
            }
            // A client leg has TLS.
            None => Phase::Broken(None, RecordingFault::NotRecords),
        };
        let recorder = worker.recorder.clone();
        let state = State { recorder, session, route: route.clone(), own_certificate, phase };
        let recording = Recording(Rc::new(RefCell::new(state)));
        leg.set_tap(Box::new(DownTap(recording.clone())));
        recording
    }

    /// The session is permitted: records what was held, with `opened` as its first line. Once it has begun, nothing.
    pub(super) fn begin(&self, opened: impl FnOnce() -> String) -> Result<(), RecordingFault> {
        let mut state = self.0.borrow_mut();
        match &state.phase {
            // It stays unrecorded and unpermitted; its lines are recorded at its end.
            Phase::Held(held) if held.is_incomplete => Err(RecordingFault::TooLong),
            Phase::Held(_) => state.begin(&opened(), true),
            Phase::Taping(_) => Ok(()),
            Phase::Broken(_, fault) => Err(*fault),
            Phase::Over => Err(RecordingFault::NotRecords),
        }
    }

    /// Takes a line of the log.
    pub(super) fn fact(&self, line: impl FnOnce() -> String) {
        let mut state = self.0.borrow_mut();
        // What is not taken breaks the recording, which ends the session with its next byte.
        let _ = match &mut state.phase {
            Phase::Held(held) => {
                held.hold_fact(line());
                Ok(())
            }
            Phase::Taping(_) => state.tape(|recorder, tape| recorder.fact(tape, line().as_bytes())),
            Phase::Broken(..) | Phase::Over => Ok(()),
        };
    }

    /// Takes a line that auditors and indexers alone may read.
    pub(super) fn sealed_fact(&self, line: impl FnOnce() -> String) {
        let mut state = self.0.borrow_mut();
        if let Phase::Taping(_) = state.phase {
            // As above.
            let _ = state.tape(|recorder, tape| recorder.sealed_fact(tape, line().as_bytes()));
        }
    }

    /// Takes what the client said, as its recording is to hold it, before any of it goes on.
    pub(super) fn client_said(&self, plaintext: &[u8]) -> Result<(), TapFault> {
        let mut state = self.0.borrow_mut();
        match &mut state.phase {
            Phase::Held(held) => {
                held.hold_up(plaintext);
                Ok(())
            }
            _ => state.tape(|recorder, tape| {
                recorder.append_plaintext(tape, Plane::Up, &[IoSlice::new(plaintext)])
            }),
        }
    }

    /// A tap for what the client says in the relay.
    pub(super) fn client_tap(&self) -> Box<dyn ClientTap> {
        Box::new(UpTap(self.clone()))
    }

    /// What the upstream leg asks before it writes.
    pub(super) fn upstream_gate(&self) -> Box<dyn Tap> {
        Box::new(UpstreamGate(self.clone()))
    }

    /// Ready once all that was taken is recorded, for what goes to `side`.
    fn poll_recorded(&self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), TapFault>> {
        let mut state = self.0.borrow_mut();
        let recorded = match &state.phase {
            Phase::Taping(tape) => ready!(tape.poll_recorded(side, cx)),
            // What is held goes on: see the limits of who is not permitted.
            Phase::Held(_) => return Poll::Ready(Ok(())),
            Phase::Broken(..) | Phase::Over => return Poll::Ready(Err(TapFault)),
        };
        Poll::Ready(recorded.or_else(|fault| state.tape(|_, _| Err(fault))))
    }

    /// Names of headers whose values are left out.
    pub(super) fn redacts(&self, name: &[u8]) -> bool {
        self.0.borrow().route.redact.iter().any(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes()))
    }

    /// Why nothing more can be recorded.
    pub(super) fn fault(&self) -> Option<RecordingFault> {
        match &self.0.borrow().phase {
            Phase::Broken(_, fault) => Some(*fault),
            Phase::Held(_) | Phase::Taping(_) | Phase::Over => None,
        }
    }

    /// The session is over: records the certificates of its legs, its closing line and its totals. Of one that was never
    /// permitted it records the lines alone; false where that was not possible. `peers`: client's and upstream's certificate.
    pub(super) fn end(
        &self,
        opened: impl FnOnce() -> String,
        peers: [Option<&PeerCertificate>; 2],
        closed: &str,
    ) -> bool {
        let mut state = self.0.borrow_mut();
        if let Phase::Held(_) = state.phase
            && state.begin(&opened(), false).is_err()
        {
            return false;
        }
        let (Phase::Taping(mut tape) | Phase::Broken(Some(mut tape), _)) =
            std::mem::replace(&mut state.phase, Phase::Over)
        else {
            return false;
        };
        let mut recorder = state.recorder.borrow_mut();
        let shown = certificates(state.session, state.own_certificate.as_deref(), peers);
        let mut facts = shown.as_deref().into_iter().chain([closed]);
        // What cannot take its end is shown as unfinished.
        match facts.try_for_each(|line| recorder.fact(&mut tape, line.as_bytes())) {
            Ok(()) => drop(recorder.end(tape)),
            Err(_) => recorder.forget(tape),
        }
        true
    }
}

/// A line with the certificates that were shown: the gateway's own on the client leg, the client's, the upstream's.
fn certificates(
    session: SessionId,
    own: Option<&PeerCertificate>,
    [client, upstream]: [Option<&PeerCertificate>; 2],
) -> Option<String> {
    let shown = [("gateway", own), ("client", client), ("upstream", upstream)];
    let shown: Vec<_> = shown.into_iter().filter_map(|(by, shown)| Some((by, shown?))).collect();
    let described = shown.iter().map(|(by, certificate)| {
        let details = certificate.details();
        let (not_before, not_after) = details.validity.unzip();
        json!({
            "by": by, "sha256": hex(&certificate.sha256), "subject": details.subject, "issuer": details.issuer,
            "serial": details.serial, "key": details.key, "not_before": not_before, "not_after": not_after,
            "names": details.names,
        })
    });
    let described: Vec<_> = described.collect();
    let line =
        || json!({ "event": "certificates", "session": session.to_string(), "certificates": described });
    (!described.is_empty()).then(|| line().to_string())
}

impl State {
    /// Begins the tape; `with_bytes`: with what was held, else with the lines alone. Refused for want of space, it can be
    /// begun later.
    fn begin(&mut self, opened: &str, with_bytes: bool) -> Result<(), RecordingFault> {
        let RouteRecording { class, mode, .. } = &self.route;
        let mut tape = self.recorder.borrow_mut().begin(self.session, *class, *mode)?;
        let Phase::Held(held) = std::mem::replace(&mut self.phase, Phase::Over) else { return Ok(()) };
        let recorded = self.record_held(*held, &mut tape, opened, with_bytes);
        self.phase = match recorded {
            Ok(()) => Phase::Taping(tape),
            Err(fault) => Phase::Broken(Some(tape), fault),
        };
        recorded
    }

    fn record_held(
        &self,
        held: Held,
        tape: &mut Tape,
        opened: &str,
        with_bytes: bool,
    ) -> Result<(), RecordingFault> {
        let mut recorder = self.recorder.borrow_mut();
        recorder.fact(tape, opened.as_bytes())?;
        held.facts.iter().try_for_each(|line| recorder.fact(tape, line.as_bytes()))?;
        if held.lost_facts > 0 {
            let (session, lost) = (self.session, held.lost_facts);
            let line = format!("{{\"event\":\"facts lost\",\"session\":\"{session}\",\"facts\":{lost}}}");
            recorder.fact(tape, line.as_bytes())?;
        }
        if !with_bytes {
            return Ok(());
        }
        recorder.seal(tape, Plane::Up, held.suite)?;
        let carries = held.down_secret.is_some();
        match held.down_secret {
            Some((secret, number)) => recorder.carry(tape, Plane::Down, secret, number)?,
            None => recorder.seal(tape, Plane::Down, held.suite)?,
        }
        // What the client said first, so that answers stand behind what they answer.
        if !held.up.is_empty() {
            recorder.append_plaintext(tape, Plane::Up, &[IoSlice::new(&held.up)])?;
        }
        for (generation, down) in held.down.iter().enumerate() {
            if generation > 0 {
                recorder.rekey(tape, Plane::Down)?;
            }
            match (down.is_empty(), carries) {
                (true, _) => {}
                (false, true) => recorder.append(tape, Plane::Down, &[IoSlice::new(down)])?,
                (false, false) => recorder.append_plaintext(tape, Plane::Down, &[IoSlice::new(down)])?,
            }
        }
        Ok(())
    }

    /// Records something of a session that is permitted.
    fn tape(
        &mut self,
        record: impl FnOnce(&mut Recorder, &mut Tape) -> Result<(), RecordingFault>,
    ) -> Result<(), TapFault> {
        let Phase::Taping(tape) = &mut self.phase else { return Err(TapFault) };
        let recorded = record(&mut self.recorder.borrow_mut(), tape);
        let Err(fault) = recorded else { return Ok(()) };
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Taping(tape) => self.fail(Some(tape), fault),
            _ => Err(TapFault),
        }
    }

    fn fail(&mut self, tape: Option<Tape>, fault: RecordingFault) -> Result<(), TapFault> {
        tracing::error!(session = %self.session, %fault, "a session cannot be recorded any further, and ends");
        self.phase = Phase::Broken(tape, fault);
        Err(TapFault)
    }
}

impl Drop for State {
    /// An abandoned session has no closing frame; readers show it as unfinished.
    fn drop(&mut self) {
        if let Phase::Taping(tape) | Phase::Broken(Some(tape), _) =
            std::mem::replace(&mut self.phase, Phase::Over)
        {
            self.recorder.borrow_mut().forget(tape);
        }
    }
}

/// Takes what goes down.
struct DownTap(Recording);

impl Tap for DownTap {
    fn records(&mut self, records: &[u8]) -> Result<(), TapFault> {
        let mut state = self.0.0.borrow_mut();
        match &mut state.phase {
            Phase::Held(held) => {
                held.hold_down(records);
                Ok(())
            }
            _ => state.tape(|recorder, tape| recorder.append(tape, Plane::Down, &[IoSlice::new(records)])),
        }
    }

    fn plaintext(&mut self, data: &[u8]) -> Result<(), TapFault> {
        let mut state = self.0.0.borrow_mut();
        match &mut state.phase {
            Phase::Held(held) => {
                held.hold_down(data);
                Ok(())
            }
            _ => state
                .tape(|recorder, tape| recorder.append_plaintext(tape, Plane::Down, &[IoSlice::new(data)])),
        }
    }

    fn rekey(&mut self) -> Result<(), TapFault> {
        let mut state = self.0.0.borrow_mut();
        match &mut state.phase {
            Phase::Held(held) => {
                // A key can be renewed as often as the client likes.
                if !held.is_incomplete {
                    held.down.push(Vec::new());
                }
                Ok(())
            }
            _ => state.tape(|recorder, tape| recorder.rekey(tape, Plane::Down)),
        }
    }

    fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TapFault>> {
        self.0.poll_recorded(Side::Client, cx)
    }
}

/// Holds what goes up until what the client said is recorded. It is shown nothing.
struct UpstreamGate(Recording);

impl Tap for UpstreamGate {
    fn records(&mut self, _: &[u8]) -> Result<(), TapFault> {
        Ok(())
    }

    fn plaintext(&mut self, _: &[u8]) -> Result<(), TapFault> {
        Ok(())
    }

    fn rekey(&mut self) -> Result<(), TapFault> {
        Ok(())
    }

    fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TapFault>> {
        self.0.poll_recorded(Side::Upstream, cx)
    }
}

impl Held {
    fn hold_down(&mut self, bytes: &[u8]) {
        match self.down.last_mut() {
            Some(last) => last.extend_from_slice(bytes),
            None => self.down.push(bytes.to_vec()),
        }
        self.limit();
    }
}

/// Takes what goes up.
struct UpTap(Recording);

impl ClientTap for UpTap {
    fn take(&mut self, plaintext: &[u8]) -> Result<(), TapFault> {
        self.0.client_said(plaintext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(in_all: &Arc<AtomicUsize>) -> Held {
        Held::new(Suite::Aes128Gcm, None, in_all.clone())
    }

    #[test]
    fn a_session_holds_little_while_many_hold_much_and_gives_back_what_it_held() {
        let in_all = Arc::new(AtomicUsize::new(0));
        let (mut one, mut other) = (held(&in_all), held(&in_all));
        one.hold_up(&[0; MAX_HELD]);
        assert!(!one.is_incomplete && in_all.load(Relaxed) == MAX_HELD);
        one.hold_down(&[0]);
        assert!(one.is_incomplete && one.up.capacity() == 0 && in_all.load(Relaxed) == 0, "let go");
        // Others hold all that there is.
        in_all.store(MAX_HELD_IN_ALL, Relaxed);
        other.hold_down(&[0; MIN_HELD - 1]);
        other.hold_up(&[0]);
        assert!(!other.is_incomplete, "an honest client is not hurt");
        other.hold_up(&[0]);
        assert!(other.is_incomplete);
        assert_eq!(in_all.load(Relaxed), MAX_HELD_IN_ALL);
        let mut third = held(&in_all);
        third.hold_up(&[0; 100]);
        assert_eq!(in_all.load(Relaxed), MAX_HELD_IN_ALL + 100);
        drop(third);
        assert_eq!(in_all.load(Relaxed), MAX_HELD_IN_ALL, "permitted or ended, it holds nothing");
    }
}
