//! Settings of recordings.

use super::format::envelope::Recipient;
use std::path::PathBuf;
use std::time::Duration;

/// Recordings of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where segments, keys and log stand.
    pub directory: PathBuf,
    /// Recipients who can open everything.
    pub auditors: Vec<Recipient>,
    /// Who can read facts, texts of statements among them, and no bytes of sessions.
    pub indexers: Vec<Recipient>,
    /// Durability required before a byte is forwarded.
    pub durability: Durability,
    /// Retention classes; a route names one. At least one.
    pub classes: Vec<RetentionClass>,
    /// Bytes at which a segment is closed. The disk holds two of them in reserve for each worker and class in use.
    pub segment_size: u64,
    /// Age at which a segment is closed.
    pub segment_age: Duration,
    /// Bytes of `record = "async"` sessions that may wait to be written, for each worker; what does not fit is lost, and
    /// counted.
    pub queue: usize,
}

/// Durability of recorded bytes before they are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The kernel has them: they outlive the process, not a power loss.
    #[default]
    Process,
    /// As `Process`; besides, all is on the disk once a second.
    EverySecond,
    /// They are on the disk.
    Commit,
}

/// How long recordings of some routes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionClass {
    /// Its name in routes.
    pub name: String,
    /// Age at which a segment is deleted; never if `None`.
    pub age: Option<Duration>,
    /// Bytes above which the oldest segments are deleted; no limit if `None`.
    pub size: Option<u64>,
}

/// Whether a session waits for its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing is forwarded before it is recorded.
    Strict,
    /// Recording never holds the session up; what does not fit is lost, counted and noted.
    Async,
}

/// How a route is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRecording {
    /// Whether sessions wait for it.
    pub mode: Mode,
    /// Names of headers, in small letters, whose values are left out.
    pub redact: Vec<String>,
    /// Its class, an index into the settings' list.
    pub class: usize,
}

impl RetentionClass {
    /// How segments name the class, whatever its place in the configuration: CRC-32C of its name.
    pub fn code(&self) -> u32 {
        crc32c::crc32c(self.name.as_bytes())
    }
}

impl Settings {
    /// Default of `segment_size`.
    pub const SEGMENT_SIZE: u64 = 256 << 20;
    /// Default of `segment_age`.
    pub const SEGMENT_AGE: Duration = Duration::from_secs(600);
    /// Default of `queue`.
    pub const QUEUE: usize = 64 << 20;

    /// Defaults for everything but who reads and where it stands.
    pub fn new(directory: PathBuf, auditors: Vec<Recipient>) -> Self {
        Settings {
            directory,
            auditors,
            indexers: Vec::new(),
            durability: Durability::default(),
            classes: vec![RetentionClass { name: "default".into(), age: None, size: None }],
            segment_size: Self::SEGMENT_SIZE,
            segment_age: Self::SEGMENT_AGE,
            queue: Self::QUEUE,
        }
    }
}
