//! A configuration that was read and checked whole.

use super::fault::Faults;
use super::summary::Summary;
use crate::acme::Plan;
use crate::audit::{Format, Room};
use crate::gateway::Gateway;
use crate::identify::oidc::LoginSettings;
use crate::policy::Policy;
use crate::recording::settings::Settings;
use crate::recording::witness::client::AskedWitness;
use crate::recording::witness::memory::ServedWitness;
use crate::sandbox::Plan as SandboxPlan;
use crate::secret::Secret;
use crate::worker::Layout;
use crate::worker::memory::MemoryLimit;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A configuration without faults.
pub struct Loaded {
    /// What sessions need to know.
    pub gateway: Gateway,
    /// Threads.
    pub workers: Layout,
    /// The operator's HTTP.
    pub admin: Admin,
    /// The log.
    pub log: Log,
    /// The memory that the process may use, where that is limited.
    pub memory: Option<MemoryLimit>,
    /// Certificates that are ordered; `None`: none is.
    pub acme: Option<Plan>,
    /// Recordings; `None` where nothing is recorded.
    pub recording: Option<Settings>,
    /// What the running gateway needs of the system.
    pub sandbox: SandboxPlan,
    /// Witnesses that are asked to cosign the log of recordings.
    pub witnesses: Vec<AskedWitness>,
    /// This gateway as a witness of others.
    pub witness: Option<ServedWitness>,
    /// What `check` prints.
    pub summary: Summary,
    /// What works and is not right.
    pub warnings: Faults,
}

/// The operator's HTTP.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// Lets in whoever has it; without, whoever is at loopback.
    pub key: Option<Arc<Secret>>,
    /// Names besides `localhost` and addresses under which the page is reached.
    pub hosts: Vec<String>,
    /// Where revocations are kept over a restart.
    pub revocations: Option<PathBuf>,
    /// TLS, where it has any.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whose tokens let them give orders.
    pub operate: Policy,
    /// Whose tokens let them look.
    pub view: Policy,
    /// Strangers from elsewhere than loopback get the metrics.
    pub is_public: bool,
    /// Every user of this machine may give orders from loopback, where nothing asks who comes.
    pub is_shared_loopback: bool,
    /// Where operators log in by their browser.
    pub login: Option<LoginSettings>,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// How it is written.
    pub format: Format,
    /// Which diagnostics.
    pub filter: String,
    /// How much may wait to be written, and what happens beyond.
    pub room: Room,
}
