//! Shapes of work.

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

/// What the bytes of a run are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// Bytes; Staunch knows the client by its certificate
    Raw,
    /// HTTP/1.1; streams are server-sent events
    Http1,
    /// HTTP/2
    Http2,
    /// HTTP/2 with gRPC's framing and trailers
    Grpc,
}

/// Which way bulk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    Down,
    Up,
    /// Half of the connections each way
    Both,
}

/// A shape of work.
#[derive(Subcommand, Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// As many bytes as go: processor time per GiB
    Bulk {
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        connections: u32,
        /// Bytes per record
        #[arg(long, default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=16384))]
        record: u32,
        /// Records per connection
        #[arg(long, default_value_t = 32768, value_parser = clap::value_parser!(u32).range(1..))]
        records: u32,
        #[arg(long, value_enum, default_value = "down")]
        way: Way,
        #[arg(long, value_enum, default_value = "raw")]
        protocol: Protocol,
        /// Compare the SHA-256 of what arrives
        #[arg(long)]
        verify: bool,
    },
    /// Paced events, open loop: latency from the intended moment, and processor time per event
    Stream {
        #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        streams: u32,
        /// HTTP/2: streams on one connection
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
        per_connection: u32,
        /// Events per second on each stream
        #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: u32,
        /// Bytes per event; 0: a distribution like a language model's tokens
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16384))]
        size: u32,
        #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
        #[arg(long, value_enum, default_value = "http1")]
        protocol: Protocol,
        /// Clients that come at once five times a second meanwhile, and ask for a handshake
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4000))]
        storm: u32,
    },
    /// Small requests on connections that stay: processor time per request
    Requests {
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        connections: u32,
        /// HTTP/2: requests under way on each connection
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
        in_flight: u32,
        /// People whose tokens are used in turn
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        identities: u32,
        /// Bytes of each answer
        #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
        answer: u32,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
        #[arg(long, value_enum, default_value = "http1")]
        protocol: Protocol,
    },
    /// New connections, one after the other, each proved by an answer: processor time per connection
    Connect {
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        #[arg(long, value_enum, default_value = "http1")]
        protocol: Protocol,
    },
    /// Connections that stand and say nothing: memory per connection
    Idle {
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        connections: u32,
        #[arg(long, value_enum, default_value = "raw")]
        protocol: Protocol,
    },
    /// A mix that comes and goes, with slow readers and clients that vanish: memory and descriptors over time
    Soak {
        /// Clients at a time
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..=100_000))]
        clients: u32,
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(4..))]
        seconds: u32,
    },
}

impl Shape {
    /// The most connections that are open at a time.
    pub(crate) fn connections(&self) -> u32 {
        match self {
            Shape::Bulk { connections, .. }
            | Shape::Requests { connections, .. }
            | Shape::Idle { connections, .. } => *connections,
            Shape::Stream { streams, storm, .. } => streams.div_ceil(self.streams_on_each()) + storm,
            Shape::Connect { .. } => 1,
            Shape::Soak { clients, .. } => *clients,
        }
    }

    /// Streams that share a connection.
    pub(crate) fn streams_on_each(&self) -> u32 {
        match self {
            Shape::Stream { protocol: Protocol::Http2 | Protocol::Grpc, per_connection, .. } => {
                *per_connection
            }
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_share_connections_where_their_protocol_can() {
        let connections = |protocol, streams, storm| {
            Shape::Stream { streams, per_connection: 10, rate: 1, size: 0, seconds: 1, protocol, storm }
                .connections()
        };
        assert_eq!(connections(Protocol::Raw, 11, 0), 11);
        assert_eq!(connections(Protocol::Http1, 11, 100), 111);
        assert_eq!(connections(Protocol::Http2, 11, 0), 2);
        assert_eq!(connections(Protocol::Grpc, 10, 0), 1);
    }
}
