//! Configurations that are read again, on a thread that nobody waits for: a file system that hangs holds up the reload, and not
//! signals, the operator's listener and the service manager.

use crate::config::{self, Admin, Faults, Loaded, Log};
use crate::sandbox::Confinement;
use crate::worker::Layout;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot::{self, Receiver};
use tokio::time::{Instant, sleep_until};

/// How long reading takes at most where nothing hangs.
const SLOW: Duration = Duration::from_secs(10);

/// What stays as it was at the start, whatever a reload brings.
pub(super) struct AtStart {
    admin: SocketAddr,
    has_admin_tls: bool,
    log: Log,
    layout: Layout,
}

impl AtStart {
    pub(super) fn new(admin: &Admin, log: &Log, layout: Layout) -> Self {
        AtStart {
            admin: admin.address,
            has_admin_tls: admin.settings.tls.is_some(),
            log: log.clone(),
            layout,
        }
    }

    /// True where the operator would have to be listened for elsewhere, or otherwise.
    pub(super) fn is_other_listener(&self, admin: &Admin) -> bool {
        admin.address != self.admin || admin.settings.tls.is_some() != self.has_admin_tls
    }

    /// The sections of the file that say something else than those in force, and can wait for a restart.
    pub(super) fn changed(&self, loaded: &Loaded) -> impl Iterator<Item = &'static str> {
        let log = (loaded.log != self.log).then_some("[log]");
        log.into_iter().chain((loaded.workers != self.layout).then_some("[workers]"))
    }
}

/// A configuration that was read.
pub(super) type Read = Result<Loaded, NotRead>;

/// Why the old configuration stays.
pub(super) enum NotRead {
    /// It has faults.
    Faults(Faults),
    /// The sandbox, in force until a restart, does not let this process do what it needs.
    Blocked(String),
    /// A fault of the gateway's own.
    Panicked,
}

/// Reads the configuration again whenever that is asked for, one at a time.
pub(super) struct Reader {
    path: PathBuf,
    confinement: Confinement,
    reading: Option<Reading>,
    /// Asked for again while it was being read: what changed meanwhile may not be in it.
    is_asked_again: bool,
}

struct Reading {
    done: Receiver<Box<Read>>,
    /// When it is said that something hangs; `None`: it was.
    slow_at: Option<Instant>,
}

impl Reader {
    pub(super) fn new(path: PathBuf, confinement: Confinement) -> Self {
        Reader { path, confinement, reading: None, is_asked_again: false }
    }

    /// Asks for the configuration to be read. One that hangs is given up: its thread stays with whatever it waits for.
    pub(super) fn ask(&mut self) {
        match &self.reading {
            Some(Reading { slow_at: Some(_), .. }) => self.is_asked_again = true,
            Some(Reading { slow_at: None, .. }) | None => self.start(),
        }
    }

    fn start(&mut self) {
        let (path, confinement) = (self.path.clone(), self.confinement.clone());
        let (send, done) = oneshot::channel();
        self.is_asked_again = false;
        self.reading = Some(Reading { done, slow_at: Some(Instant::now() + SLOW) });
        tokio::task::spawn_blocking(move || {
            // Nobody wants what took too long.
            let _ = send.send(Box::new(read(&path, &confinement)));
        });
    }

    /// Waits for the configuration that is being read; for ever where none is. May be dropped and called again.
    pub(super) async fn read(&mut self) -> Box<Read> {
        loop {
            let Some(Reading { done, slow_at }) = &mut self.reading else {
                return std::future::pending().await;
            };
            let slow = async {
                match *slow_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = done => {
                    self.reading = None;
                    if std::mem::take(&mut self.is_asked_again) {
                        self.start();
                    }
                    return read.unwrap_or_else(|_| Box::new(Err(NotRead::Panicked)));
                }
                () = slow => {
                    tracing::warn!(path = %self.path.display(), "the configuration, or a file that it names, cannot be read for {} s", SLOW.as_secs());
                    *slow_at = None;
                    if std::mem::take(&mut self.is_asked_again) {
                        self.start();
                    }
                }
            }
        }
    }
}

fn read(path: &std::path::Path, confinement: &Confinement) -> Read {
    // Before it is read: what the kernel keeps from this process would look like a fault of the file's owner or mode.
    let why = match config::sandbox_plan(path) {
        None if confinement.is_blocked(path) => Some(format!("this process may not read {}", path.display())),
        None => None,
        Some(plan) => confinement.restart_needed_for(&plan),
    };
    match why {
        Some(why) => Err(NotRead::Blocked(why)),
        None => config::load(path).map_err(NotRead::Faults),
    }
}
