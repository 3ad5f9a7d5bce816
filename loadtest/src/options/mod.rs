//! The command line.

mod postgres;
mod shape;

pub(crate) use postgres::{Mode, Postgres, Script};
pub(crate) use shape::{Protocol, Shape, Way};

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

/// What stands in bodies that are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MaskedText {
    /// Prose, with a value in 4 KiB
    Sparse,
    /// A value in each line
    Dense,
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
    /// Staunch's http route masks personal data and keys in what comes down, which is such a text. Held against the same run
    /// without it, this is what masks cost
    #[arg(long, global = true, value_enum)]
    pub(crate) mask: Option<MaskedText>,
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
    /// The same, with every session recorded, strictly
    StaunchRecording,
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
    /// Whether it is a gateway of this repository.
    pub(crate) fn is_staunch(self) -> bool {
        matches!(self, Peer::Staunch | Peer::StaunchRecording)
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }
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
    /// Faults one after the other, at Staunch and where it can be done at HAProxy and Envoy: what was expected, what was seen.
    /// Exit code 1 where Staunch does not do as expected
    Faults {
        /// Sizes: 1 is that of the documentation, 0.02 that of the tests
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// Only faults with one of these words in their name
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Only these peers
        #[arg(long, value_enum, value_delimiter = ',')]
        peers: Vec<Peer>,
    },
    /// PostgreSQL: pgbench through the gateway and direct, and bulk COPY held against a raw route
    Postgres(Postgres),
    /// What masks add to the latency of events without a value: streams of chat completions through Staunch, without rules and
    /// with all of them in turn
    Masks {
        /// Rounds, each with a run without and one with rules
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
        rounds: u32,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        streams: u32,
        /// Events per second on each stream
        #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: u32,
        /// Bytes per event
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(128..=16384))]
        size: u32,
        /// Seconds of each run
        #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
        #[arg(long, value_enum, default_value = "http1")]
        protocol: Protocol,
    },
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
        #[arg(long, default_value = "loadtest/README.md")]
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
const REACHED: [&str; 11] =
    ["peer", "target", "sni", "ca", "token", "path", "pq", "certificate", "resume", "busy_poll", "mask"];
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
            Command::Faults { .. } => but(&MEASURED[..4]),
            Command::Masks { .. } => but(&[
                "pq",
                "certificate",
                "resume",
                "busy_poll",
                "load_cores",
                "peer_cores",
                "staunch",
                "awake",
            ]),
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
