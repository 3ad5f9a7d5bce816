//! What is compared: each row's work, and the peers that can do it.

use crate::account;
use crate::options::{Peer, Pq, Protocol, Shape, Way};

/// A row of the comparison.
pub(super) struct Work {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) peers: &'static [Peer],
    pub(super) pq: Pq,
    pub(super) resume: bool,
    pub(super) measure: Measure,
    pub(super) shape: fn(u32) -> Shape,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Processor time for each unit.
    Cost,
    /// Memory of each connection.
    Memory,
    /// The 99th percentile once all streams have begun, as the difference to a run without any peer. Cores are kept from
    /// halting, which has its own price: a core that is never idle slows the one beside it.
    Latency,
}

/// Peers that carry any bytes.
const STREAMS: &[Peer] =
    &[Peer::Staunch, Peer::Tls, Peer::Plain, Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::Stunnel];
/// Peers that carry any bytes, with TLS on both legs, and hold thousands of connections: stunnel's threads end at 5,000.
const HOLDERS: &[Peer] = &[Peer::Staunch, Peer::Tls, Peer::Nginx, Peer::Haproxy, Peer::Envoy];
/// Peers that read requests and check tokens.
const TOKENS: &[Peer] = &[Peer::Staunch, Peer::EnvoyJwt, Peer::HaproxyJwt];
const TOKENS_AND_STREAMS: &[Peer] =
    &[Peer::Staunch, Peer::Tls, Peer::EnvoyJwt, Peer::HaproxyJwt, Peer::Nginx, Peer::Envoy];
/// Peers that carry any bytes, with TLS on both legs, and one that checks the token in each connection's request. That one
/// shares connections to the upstream among clients: it makes half as many handshakes.
const STREAM_PROXIES: &[Peer] =
    &[Peer::Staunch, Peer::Tls, Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::EnvoyJwt, Peer::Stunnel];
const QUANTUM: &[Peer] = &[Peer::Staunch, Peer::Tls, Peer::Envoy, Peer::EnvoyJwt];

/// With every session recorded, and with none, in turn.
const RECORDED: &[Peer] = &[Peer::Staunch, Peer::StaunchRecording];

impl Work {
    /// Whether it is done although it is not named: what recording costs is asked for on its own.
    pub(super) fn is_usual(&self) -> bool {
        !self.peers.contains(&Peer::StaunchRecording)
    }
}

/// `quick` divides the work by this.
pub(crate) const QUICK_DIVISOR: u32 = 10;

fn requests(protocol: Protocol, divide: u32) -> Shape {
    let seconds = (5 / divide).max(1);
    Shape::Requests { connections: 16, in_flight: 4, identities: 16, answer: 256, seconds, protocol }
}

fn streams(protocol: Protocol, size: u32, divide: u32) -> Shape {
    let seconds = (8 / divide).max(1);
    Shape::Stream { streams: 400, per_connection: 10, rate: 25, size, seconds, protocol, storm: 0 }
}

/// The same for longer: what is rare needs many to be seen, and the first second is none of them.
fn latencies(protocol: Protocol, size: u32, divide: u32) -> Shape {
    let mut shape = streams(protocol, size, divide);
    if let Shape::Stream { seconds, .. } = &mut shape {
        *seconds = (12 / divide).max(3);
    }
    shape
}

fn stormy(divide: u32) -> Shape {
    let (seconds, protocol) = ((12 / divide).max(3), Protocol::Http1);
    Shape::Stream { streams: 100, per_connection: 10, rate: 25, size: 0, seconds, protocol, storm: 100 }
}

/// The same without a storm: where nothing stands between, the load itself would have to answer it.
pub(super) fn calm(mut shape: Shape) -> Shape {
    if let Shape::Stream { storm, .. } = &mut shape {
        *storm = 0;
    }
    shape
}

pub(crate) fn bulk(protocol: Protocol, divide: u32) -> Shape {
    let records = 32_768 / divide;
    Shape::Bulk { connections: 4, record: 16_384, records, way: Way::Down, protocol, verify: false }
}

fn upwards(divide: u32) -> Shape {
    let mut shape = bulk(Protocol::Raw, divide);
    if let Shape::Bulk { way, .. } = &mut shape {
        *way = Way::Up;
    }
    shape
}

/// Every row, in the order in which they are measured.
pub(super) const ALL: &[Work] = &[
    Work {
        name: "bulk",
        what: "bulk, 16 KiB records",
        peers: STREAMS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| bulk(Protocol::Raw, divide),
    },
    Work {
        name: "streams-raw",
        what: "400 streams × 25 events/s of 120 B, raw",
        peers: STREAMS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| streams(Protocol::Raw, 120, divide),
    },
    Work {
        name: "streams-sse",
        what: "400 server-sent event streams × 25/s, tokens",
        peers: TOKENS_AND_STREAMS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| streams(Protocol::Http1, 0, divide),
    },
    Work {
        name: "latency-raw",
        what: "latency added to the raw streams, 99th percentile",
        peers: HOLDERS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Latency,
        shape: |divide| latencies(Protocol::Raw, 120, divide),
    },
    Work {
        name: "latency-sse",
        what: "latency added to the event streams, 99th percentile",
        peers: TOKENS_AND_STREAMS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Latency,
        shape: |divide| latencies(Protocol::Http1, 0, divide),
    },
    Work {
        name: "latency-storm",
        what: "… to 100 such streams, while 100 clients at once ask for handshakes, 5 times a second",
        peers: TOKENS_AND_STREAMS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Latency,
        shape: stormy,
    },
    Work {
        name: "requests-h1",
        what: "requests on kept-alive HTTP/1.1, token checked",
        peers: TOKENS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| requests(Protocol::Http1, divide),
    },
    Work {
        name: "requests-h2",
        what: "requests on HTTP/2, token checked",
        peers: TOKENS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| requests(Protocol::Http2, divide),
    },
    Work {
        name: "connect",
        what: "new connection, full handshake",
        peers: STREAM_PROXIES,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| Shape::Connect { count: 1000 / divide, protocol: Protocol::Http1 },
    },
    Work {
        name: "connect-resumed",
        what: "new connection, resumed",
        peers: STREAM_PROXIES,
        pq: Pq::Off,
        resume: true,
        measure: Measure::Cost,
        shape: |divide| Shape::Connect { count: 1000 / divide, protocol: Protocol::Http1 },
    },
    Work {
        name: "connect-pq",
        what: "new connection, post-quantum",
        peers: QUANTUM,
        pq: Pq::Prefer,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| Shape::Connect { count: 1000 / divide, protocol: Protocol::Http1 },
    },
    Work {
        name: "idle",
        what: "memory of an idle connection",
        peers: HOLDERS,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Memory,
        shape: |divide| {
            let connections = (8000 / divide).min(account::most_connections());
            Shape::Idle { connections, protocol: Protocol::Raw }
        },
    },
    Work {
        name: "recording-bulk",
        what: "recorded or not: bulk, 16 KiB records",
        peers: RECORDED,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| bulk(Protocol::Raw, divide),
    },
    Work {
        name: "recording-upload",
        what: "recorded or not: bulk upwards, sealed for the recording besides",
        peers: RECORDED,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| upwards(divide),
    },
    Work {
        name: "recording-streams",
        what: "recorded or not: 400 streams × 25 events/s of 120 B, raw",
        peers: RECORDED,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| streams(Protocol::Raw, 120, divide),
    },
    Work {
        name: "recording-sse",
        what: "recorded or not: 400 server-sent event streams × 25/s, tokens",
        peers: RECORDED,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Cost,
        shape: |divide| streams(Protocol::Http1, 0, divide),
    },
    Work {
        name: "recording-latency",
        what: "recorded or not: latency added to the raw streams, 99th percentile",
        peers: RECORDED,
        pq: Pq::Off,
        resume: false,
        measure: Measure::Latency,
        shape: |divide| latencies(Protocol::Raw, 120, divide),
    },
];
