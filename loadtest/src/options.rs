//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use staunch::tls::PostQuantum;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Both ends of the work, and what the proxy between them costs per unit of it.
///
/// Exit codes: 0 the run is clean, 1 something failed or was not as asked, 2 wrong usage, 130 interrupted (what was
/// measured until then is printed).
#[derive(Parser)]
#[command(name = "staunch-load", version, verbatim_doc_comment)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every run.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// What stands between the two ends
    #[arg(long, global = true, value_enum, default_value = "staunch")]
    pub(crate) peer: Peer,
    /// Somebody's running gateway (host:port) instead of a peer of this run: nothing is started, and processor time
    /// and memory are not measured
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) target: Option<String>,
    /// The name to ask the target for and to verify. Default: the target's host
    #[arg(long, global = true)]
    pub(crate) sni: Option<String>,
    /// The authority of the target's certificate, PEM. Default: the system's
    #[arg(long, global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// A file with the token for the target
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,
    /// What to ask the target for, where it is not in front of `staunch-load upstream`
    #[arg(long, global = true)]
    pub(crate) path: Option<String>,
    #[command(flatten)]
    pub(crate) secure: Secure,
    /// Cores of the load, as numbers with commas
    #[arg(long, global = true, value_delimiter = ',', default_value = "0")]
    pub(crate) load_cores: Vec<usize>,
    /// Cores of the peer; Staunch has a worker for each
    #[arg(long, global = true, value_delimiter = ',', default_value = "1")]
    pub(crate) peer_cores: Vec<usize>,
    /// Keep all these cores from halting, with threads that run when nothing else does: the host of a virtual machine
    /// gives a core back late, which is then in the latencies
    #[arg(long, global = true)]
    pub(crate) awake: bool,
    /// How long Staunch's workers stay awake without work (`busy_poll`), such as `1ms`; HAProxy polls without end
    #[arg(long, global = true, value_name = "DURATION")]
    pub(crate) busy_poll: Option<String>,
    /// The Staunch to run. Default: the one beside this program
    #[arg(long, global = true)]
    pub(crate) staunch: Option<PathBuf>,
    /// Keep the result: JSON
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Draw the result: SVG files in this folder
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) plots: Option<PathBuf>,
}

/// How TLS is spoken.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Secure {
    /// Post-quantum key exchange on both legs
    #[arg(long, global = true, value_enum, default_value = "off")]
    pub(crate) pq: Pq,
    /// The key of the servers' certificates
    #[arg(long, global = true, value_enum, default_value = "ecdsa")]
    pub(crate) certificate: Certificate,
    /// Clients resume their TLS sessions
    #[arg(long, global = true)]
    pub(crate) resume: bool,
}

/// Post-quantum key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pq {
    Off,
    Prefer,
    Require,
}

impl From<Pq> for PostQuantum {
    fn from(pq: Pq) -> Self {
        match pq {
            Pq::Off => PostQuantum::Off,
            Pq::Prefer => PostQuantum::Prefer,
            Pq::Require => PostQuantum::Require,
        }
    }
}

/// Keys of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Certificate {
    Ecdsa,
    Rsa,
}

/// What may stand between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// Nothing
    Direct,
    /// A bare TCP copy, built in
    Plain,
    /// tokio-rustls and tokio's bidirectional copy with 64 KiB buffers, built in
    Tls,
    /// Staunch: identity checked, credential injected, audit lines written
    Staunch,
    /// nginx, stream module
    Nginx,
    /// HAProxy, mode tcp
    Haproxy,
    /// HAProxy, mode http with jwt_verify
    HaproxyJwt,
    /// Envoy, tcp_proxy
    Envoy,
    /// Envoy, HTTP connection manager with jwt_authn
    EnvoyJwt,
    /// stunnel, a server and a client service in turn
    Stunnel,
}

impl Peer {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }
}

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

/// What to do.
#[derive(Subcommand, Clone)]
pub(crate) enum Command {
    #[command(flatten)]
    Run(Shape),
    /// All peers that are installed, in turn, on the same work: medians and ratios
    Compare {
        /// Rounds, each with every peer; memory is measured once
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=50))]
        rounds: u32,
        /// Only these
        #[arg(long, value_enum, value_delimiter = ',')]
        peers: Vec<Peer>,
        /// Only these kinds of work; see `loadtest/README.md` for their names
        #[arg(long, value_delimiter = ',')]
        work: Vec<String>,
        /// A tenth of the work: to see that everything starts
        #[arg(long)]
        quick: bool,
    },
    /// PostgreSQL: pgbench through the gateway and direct, and bulk COPY held against a raw route
    Postgres(Postgres),
    /// How Staunch's cost grows: streams, record sizes, workers
    Scale {
        /// A tenth of the work
        #[arg(long)]
        quick: bool,
    },
    /// Write the table of a comparison between the markers of a Markdown file
    Table {
        /// A file that `compare --out` wrote
        results: PathBuf,
        /// The file with `<!-- figures -->` and `<!-- end of figures -->`
        #[arg(long, default_value = "README.md")]
        into: PathBuf,
    },
    /// The far end alone, for a gateway that runs elsewhere
    Upstream {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:9443")]
        listen: SocketAddr,
        /// Certificate chain, PEM
        #[arg(long)]
        chain: PathBuf,
        /// Its key, PEM
        #[arg(long)]
        key: PathBuf,
    },
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        upstream: SocketAddr,
        /// The folder with certificates; none: bare TCP
        #[arg(long)]
        folder: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "off")]
        relay_pq: Pq,
    },
}

/// Options that say what is measured, and how it is reached.
const REACHED: [&str; 10] =
    ["peer", "target", "sni", "ca", "token", "path", "pq", "certificate", "resume", "busy_poll"];
/// Options of whatever measures.
const MEASURED: [&str; 6] = ["load_cores", "peer_cores", "staunch", "out", "plots", "awake"];

impl Command {
    /// Options of every run that mean nothing to this command.
    pub(crate) fn unheeded(&self) -> Vec<&'static str> {
        let but = |heeded: &[&str]| {
            let all = REACHED.iter().chain(&MEASURED).copied();
            all.filter(|option| !heeded.contains(option)).collect()
        };
        match self {
            Command::Run(_) => Vec::new(),
            Command::Compare { .. } => but(&[&["certificate"], &MEASURED[..]].concat()),
            Command::Scale { .. } => but(&[&["pq", "certificate", "resume"], &MEASURED[..]].concat()),
            Command::Postgres(_) => {
                let reached = ["target", "sni", "ca", "token", "pq", "certificate", "resume"];
                but(&[&reached, &MEASURED[..4]].concat())
            }
            Command::Upstream { .. } => but(&["load_cores"]),
            Command::Table { .. } | Command::Relay { .. } => but(&[]),
        }
    }
}

/// What is done with PostgreSQL.
#[derive(Args, Clone, Debug)]
pub(crate) struct Postgres {
    /// Rounds, each with every mode and every way in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) rounds: u32,
    /// Seconds of each pgbench run; 0 leaves pgbench out
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub(crate) seconds: u32,
    /// Connections of pgbench
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub(crate) clients: u32,
    /// How pgbench asks
    #[arg(long, value_enum, value_delimiter = ',', default_value = "simple,extended,prepared")]
    pub(crate) modes: Vec<Mode>,
    /// What pgbench does
    #[arg(long, value_enum, default_value = "select")]
    pub(crate) script: Script,
    /// MiB of each COPY; 0 leaves COPY out
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) mib: u32,
    /// Bytes of each row that is copied
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) row: u32,
    /// Do all of it on a route that logs statements as well
    #[arg(long)]
    pub(crate) statements: bool,
    /// The database; with --target, pgbench's tables must be there
    #[arg(long, default_value = "postgres")]
    pub(crate) database: String,
    /// With --target: how libpq reaches the same database without the gateway (`host=… user=… sslmode=…`)
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) direct: Option<String>,
}

/// pgbench's protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Simple,
    Extended,
    Prepared,
}

/// pgbench's built-in scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Script {
    /// One SELECT by key: the gateway's part is the largest
    Select,
    /// Seven statements, of which four write
    Tpcb,
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
