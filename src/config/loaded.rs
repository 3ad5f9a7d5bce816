//! A configuration that was read and checked whole.

use super::fault::Faults;
use super::summary::Summary;
use crate::acme::Plan;
use crate::admin;
use crate::audit::{Format, Room};
use crate::gateway::Gateway;
use crate::recording::settings::Settings;
use crate::recording::timestamp::client::TimestampSettings;
use crate::recording::witness::client::AskedWitness;
use crate::recording::witness::memory::ServedWitness;
use crate::sandbox::Plan as SandboxPlan;
use crate::worker::Layout;
use crate::worker::memory::MemoryLimit;
use std::net::SocketAddr;

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
    /// The authority that time-stamps the log of recordings.
    pub timestamp: Option<TimestampSettings>,
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
    /// Who may come, and how.
    pub settings: admin::Settings,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How it is written.
    pub format: Format,
    /// Which diagnostics.
    pub filter: String,
    /// How much may wait to be written, and what happens beyond.
    pub room: Room,
}
