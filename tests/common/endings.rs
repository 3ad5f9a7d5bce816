//! The matrix of endings: every traffic × every way in which a session ends × before, within and after an answer, against
//! peers that end in every way that TCP and TLS know. Each case ends in bounded time, with a reason that can be true, and
//! its session is not polled more often than things happened to it.
//!
//! A traffic is a [`Talk`]; a test is one call of [`run`], for one traffic and one [`Event`]. To add a traffic, implement
//! `Talk` beside its other tests and name it in [`matrix!`].

use super::{Http, Wish};
use staunch::close::Close;
use staunch::names::Side;
use staunch::policy::OnExpiry;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{client, server};

pub type Client = client::TlsStream<TcpStream>;
pub type Upstream = server::TlsStream<TcpStream>;

/// A protocol, as far as the matrix needs it.
pub trait Talk: Copy + Send + Sync + 'static {
    /// A gateway for it.
    fn start(self, wish: Wish) -> impl Future<Output = Http> + Send;
    /// A session in which something was asked that the upstream has received and not answered. The permit is good for
    /// `lifetime` seconds.
    fn ask(self, http: &Http, lifetime: u64) -> impl Future<Output = (Client, Upstream)> + Send;
    /// The whole answer, cut in two where something is missing in the first half. `endless`: one whose end is far away.
    fn answer(self, endless: bool) -> (Vec<u8>, Vec<u8>);
    /// What more of an endless answer looks like.
    fn more(self) -> Vec<u8> {
        vec![b'x'; 65_536]
    }
    /// How the session ends by the peer's act alone; `None`: it goes on.
    fn ends_by(self, side: Side, act: Act, moment: Moment) -> Option<Expected>;
    /// How a session that went on ends by the event; `usual` is what most traffics do.
    fn ends_at(self, _: Case, usual: Expected) -> Expected {
        usual
    }
}

/// A close reason and its culprit, as the metrics name them.
pub type Expected = (&'static str, &'static str);

pub const DONE: Expected = ("done", "nobody");
pub const IDLE_OUT: Expected = ("idle", "gateway");

/// A direction that ends without close_notify, or a session that is cut by its peer's end.
pub fn truncated(side: Side) -> Expected {
    ("truncated", name(side))
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Upstream => "upstream",
    }
}

/// What every protocol makes of a reset.
pub fn reset(side: Side) -> Expected {
    ("reset", name(side))
}

/// How opaque bytes end by a peer's act.
pub fn opaque_ends_by(side: Side, act: Act) -> Option<Expected> {
    match act {
        Act::Nothing | Act::CloseNotify => None,
        Act::Fin => Some(truncated(side)),
        Act::Reset => Some(reset(side)),
    }
}

/// How opaque bytes that went on end by an event.
pub fn opaque_ends_at(case: Case, usual: Expected) -> Expected {
    match (case.event, case.side) {
        // Opaque bytes cannot be told to finish.
        (Event::Drain, _) => ("drained", "gateway"),
        // An upstream that said its last sends nothing that the client could fail to read.
        (Event::Stall, Side::Upstream) => IDLE_OUT,
        _ => usual,
    }
}

fn usual(event: Event) -> Expected {
    match event {
        Event::Close | Event::Drain => DONE,
        Event::Cut | Event::Grace => ("expired", "client"),
        Event::Idle => IDLE_OUT,
        Event::Stop => ("drained", "gateway"),
        Event::Stall => ("stalled", "client"),
    }
}

/// A test for each event, in a module for each traffic.
#[macro_export]
macro_rules! matrix {
    ($($module:ident $talk:ident),*) => {$(
        mod $module {
            use super::common::endings::{Event, run};
            $crate::matrix!(@events super::$talk;
                close Close, drain Drain, cut Cut, grace Grace, idle Idle, stop Stop, stall Stall);
        }
    )*};
    (@events $talk:expr; $($name:ident $event:ident),*) => {$(
        #[tokio::test]
        async fn $name() {
            run($talk, Event::$event).await;
        }
    )*};
}

/// How a peer ends its direction, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Goes on being there and says nothing.
    Nothing,
    /// close_notify; TCP stays open.
    CloseNotify,
    /// A FIN and no close_notify; reads on.
    Fin,
    /// A reset.
    Reset,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other peer sends what is left of its answer, and closes as it should.
    Close,
    /// The worker drains.
    Drain,
    /// The permit ends.
    Cut,
    /// The permit ended, and some time later that is over, too.
    Grace,
    /// Nothing more, for as long as the route allows.
    Idle,
    /// All sessions are told to end now.
    Stop,
    /// The upstream answers without end, and the client does not read.
    Stall,
}

/// Where in an answer something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    Within,
    After,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub side: Side,
    pub act: Act,
    pub moment: Moment,
    pub event: Event,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub reason: String,
    pub culprit: String,
    pub polls: u64,
    pub records: u64,
    pub took: Duration,
}

/// What sessions may be silent for, where a case waits for that.
const IDLE: Duration = Duration::from_millis(400);
/// A session that was told to end, or whose time is over, is gone by then: a second for the last words to each leg, one for
/// the answer that stands before them, and the machine's own slowness.
const BOUND: Duration = Duration::from_secs(8);
/// Polls of a session in any case, besides one for each record. One that spins comes to thousands in a second.
const MAX_POLLS: u64 = 60;
/// Bytes that an upstream answers without end: more than all kernels' buffers hold.
const MAX_FLOOD: usize = 64 << 20;
/// Cases under way at once.
const AT_ONCE: usize = 12;

/// Runs all cases of one event.
pub async fn run<T: Talk>(talk: T, event: Event) {
    let acts = [
        (Side::Client, Act::Nothing),
        (Side::Client, Act::CloseNotify),
        (Side::Client, Act::Fin),
        (Side::Client, Act::Reset),
        (Side::Upstream, Act::CloseNotify),
        (Side::Upstream, Act::Fin),
        (Side::Upstream, Act::Reset),
    ];
    let (mut running, mut faults) = (JoinSet::new(), Vec::new());
    for moment in [Moment::Before, Moment::Within, Moment::After] {
        for (side, act) in acts {
            let case = Case { side, act, moment, event };
            if running.len() == AT_ONCE {
                faults.extend(running.join_next().await.unwrap().unwrap());
            }
            running.spawn(async move { one(talk, case).await.err() });
        }
    }
    while let Some(ended) = running.join_next().await {
        faults.extend(ended.unwrap());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn one<T: Talk>(talk: T, case: Case) -> Result<(), String> {
    let Case { side, act, moment, event } = case;
    let on_expiry = match event {
        Event::Grace => OnExpiry::Grace(Duration::from_millis(300)),
        _ => OnExpiry::Cut,
    };
    // A connection may outlive what ended on it, and then is idle.
    let idle = if event == Event::Idle { IDLE } else { 10 * IDLE };
    let stall = if event == Event::Stall { IDLE } else { Duration::from_secs(120) };
    let quick = Wish { connect: Duration::from_secs(1), ..Wish::default() };
    let http = talk.start(Wish { on_expiry, idle, stall, between_requests: idle, ..quick }).await;
    let expires = matches!(event, Event::Cut | Event::Grace);
    if expires {
        // Tokens end with a whole second of the wall clock.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        sleep(Duration::from_nanos(1_000_000_000 - u64::from(now.subsec_nanos()))).await;
    }
    let (mut client, mut upstream) = talk.ask(&http, if expires { 2 } else { 600 }).await;
    // Small writes must not wait for acknowledgements.
    upstream.tcp().set_nodelay(true).unwrap();
    client.tcp().set_nodelay(true).unwrap();
    let (first, second) = talk.answer(event == Event::Stall && moment != Moment::After);
    if moment != Moment::Before {
        said(&mut upstream, &first).await;
    }
    if moment == Moment::After {
        said(&mut upstream, &second).await;
    }
    if moment != Moment::Before {
        read_until_quiet(&mut client).await;
    }
    match side {
        Side::Client => ended(&mut client, act).await,
        Side::Upstream => ended(&mut upstream, act).await,
    }
    // The gateway has seen that before anything else happens.
    sleep(Duration::from_millis(30)).await;
    let began = Instant::now();
    let mut peers = JoinSet::new();
    match event {
        Event::Close => {
            let rest = match moment {
                Moment::Before => [first, second].concat(),
                Moment::Within => second,
                Moment::After => Vec::new(),
            };
            peers.spawn(async move {
                if side == Side::Upstream {
                    _ = client.shutdown().await;
                }
                _ = upstream.write_all(&rest).await;
                _ = upstream.shutdown().await;
                let client_reads = async {
                    drain_all(&mut client).await;
                    _ = client.shutdown().await;
                };
                tokio::join!(client_reads, drain_all(&mut upstream));
                sleep(BOUND).await;
            });
        }
        Event::Stall => {
            let more = talk.more();
            peers.spawn(async move {
                if moment == Moment::Before {
                    _ = upstream.write_all(&first).await;
                }
                let mut left = MAX_FLOOD / more.len();
                while left > 0 && upstream.write_all(&more).await.is_ok() {
                    left -= 1;
                }
                sleep(BOUND).await;
                drop(client);
            });
        }
        _ => {
            match event {
                Event::Drain => http.rig.workers.drain(),
                Event::Stop => http.rig.workers.stop(Close::Drained),
                _ => {}
            }
            if event == Event::Drain {
                // What was under way is finished; nobody closes of itself.
                let rest = match moment {
                    Moment::Before => [first, second].concat(),
                    Moment::Within => second,
                    Moment::After => Vec::new(),
                };
                sleep(Duration::from_millis(50)).await;
                said(&mut upstream, &rest).await;
                // Opaque bytes cannot be told to finish: they have until the drain deadline.
                sleep(Duration::from_millis(300)).await;
                http.rig.workers.stop(Close::Drained);
            }
            // Neither reads nor closes.
            peers.spawn(async move {
                sleep(2 * BOUND).await;
                drop((client, upstream));
            });
        }
    }
    let gone = async {
        while http.rig.workers.sessions() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let said_so = |what: &str| format!("{case:?}: {what}");
    timeout(BOUND, gone).await.map_err(|_| said_so("the session never ends"))?;
    let took = began.elapsed();
    peers.abort_all();
    let text = staunch::metrics::render(&http.rig.workers.metrics, &Default::default());
    let value = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let sum = |name: &str| text.lines().filter(|line| line.starts_with(name)).map(value).sum::<u64>();
    let (polls, records) = (sum("staunch_relay_polls_total"), sum("staunch_records_total"));
    let closed = text
        .lines()
        .filter(|line| line.starts_with("staunch_sessions_closed_total{") && value(line) > 0)
        .map(|line| (label(line, "reason"), label(line, "culprit")))
        .next_back();
    let (reason, culprit) = closed.ok_or_else(|| said_so("no session was counted"))?;
    let outcome = Outcome { reason, culprit, polls, records, took };
    if polls > MAX_POLLS + records {
        return Err(format!("{case:?}: spins: {outcome:?}"));
    }
    let expected = talk.ends_by(side, act, moment).unwrap_or_else(|| talk.ends_at(case, usual(event)));
    match (outcome.reason.as_str(), outcome.culprit.as_str()) == expected {
        true => Ok(()),
        false => Err(format!("{case:?}: {expected:?} was expected: {outcome:?}")),
    }
}

fn label(line: &str, name: &str) -> String {
    let from = line.split(&format!("{name}=\"")).nth(1).unwrap_or_default();
    from.split('"').next().unwrap_or_default().into()
}

async fn said(to: &mut Upstream, bytes: &[u8]) {
    // Whoever is gone by now is no longer told.
    if to.write_all(bytes).await.is_ok() {
        _ = to.flush().await;
    }
}

async fn read_until_quiet(client: &mut Client) {
    let mut buffer = [0; 4096];
    let mut wait = Duration::from_secs(5);
    while let Ok(Ok(1..)) = timeout(wait, client.read(&mut buffer)).await {
        wait = Duration::from_millis(60);
    }
}

async fn drain_all(from: &mut (impl AsyncReadExt + Unpin)) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = from.read(&mut buffer).await {}
}

/// A client that has sent an HTTP/1.1 request, and the upstream that has read its head.
pub async fn asked_http1(http: &Http, request: &str) -> (Client, Upstream) {
    let client = async {
        let mut client = http.connect("http/1.1").await;
        client.write_all(request.as_bytes()).await.unwrap();
        client
    };
    // Past the connection on which the gateway only asks for the protocol.
    let upstream = async {
        loop {
            let mut upstream = http.rig.accept().await;
            if head(&mut upstream).await.is_some() {
                return upstream;
            }
        }
    };
    tokio::join!(client, upstream)
}

/// An answer of HTTP/1.1 in two halves.
pub fn http1_answer(endless: bool) -> (Vec<u8>, Vec<u8>) {
    let length = if endless { 1_u64 << 50 } else { 10 };
    (format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n01234").into(), b"56789".into())
}

/// Bytes of a head that is read to its end.
pub async fn head(from: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match from.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    String::from_utf8(head).ok()
}

/// What a peer's end is made of.
pub trait Peer: AsyncWriteExt + Unpin {
    fn tcp(&mut self) -> &mut TcpStream;
    fn queue_close_notify(&mut self);
}

impl Peer for Client {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
    fn queue_close_notify(&mut self) {
        self.get_mut().1.send_close_notify();
    }
}

impl Peer for Upstream {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
    fn queue_close_notify(&mut self) {
        self.get_mut().1.send_close_notify();
    }
}

async fn ended(peer: &mut impl Peer, act: Act) {
    match act {
        Act::Nothing => {}
        Act::CloseNotify => {
            peer.queue_close_notify();
            _ = peer.flush().await;
        }
        Act::Fin => _ = peer.tcp().shutdown().await,
        Act::Reset => {
            // Closing a duplicate would not close the connection: shutting it down with no time to linger resets it.
            let tcp = peer.tcp();
            let gone = socket2::SockRef::from(&*tcp);
            _ = gone.set_linger(Some(Duration::ZERO));
            disconnect(tcp);
        }
    }
}

/// Resets a connection whose socket somebody else owns: connect(2) to AF_UNSPEC.
fn disconnect(tcp: &TcpStream) {
    _ = rustix::net::connect_unspec(tcp);
}
