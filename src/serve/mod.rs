//! The life of a gateway: start, reload, drain, stop.
//!
//! The first thread keeps a runtime of its own for everything that is not the data path: issuers' keys, the admin
//! listener, signals. Workers never wait for it.

mod adopt;
mod crl;
mod log_watch;
mod memory_watch;
mod order_entry;
mod process_state;
mod reload;
mod service_manager;
mod sockets;
mod start_fault;
mod witness;

pub use sockets::Sockets;
pub use start_fault::StartFault;

use crate::acme::{Manager, Plan};
use crate::admin;
use crate::audit::{Format, Sink};
use crate::close::Close;
use crate::config::{Faults, Loaded};
use crate::gateway::Gateway;
use crate::recording::archive::Archive;
use crate::recording::keeper::{Origin, Recordings};
use crate::recording::settings::Settings;
use crate::recording::timestamp::client::{TimestampSettings, Timestamps};
use crate::recording::witness::client::{AskedWitness, Witnesses};
use crate::sandbox::Confinement;
use crate::worker::Workers;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use process_state::State;
use reload::Reader;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use start_fault::system;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval, sleep_until};

/// How often a drain looks whether the last session is gone.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long the end of the process waits for the collector of traces.
const TRACES_FLUSH: Duration = Duration::from_secs(2);

/// Command-line overrides of the file's settings.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Worker threads.
    pub workers: Option<usize>,
    /// How the log is written.
    pub log_format: Option<Format>,
    /// Which diagnostics are logged.
    pub log: Option<String>,
}

/// A gateway that listens.
pub struct Running {
    path: PathBuf,
    confinement: Confinement,
    gateway: Arc<ArcSwap<Gateway>>,
    workers: Workers,
    /// Dropped after the workers: completes the log.
    recordings: Option<Recordings>,
    /// Others' logs that are witnessed here.
    witness: Option<witness::Serving>,
    state: Arc<State>,
    acme: Mutex<Option<Manager>>,
    at_start: reload::AtStart,
    /// Listening addresses for clients, with the bound ports.
    pub addresses: Vec<SocketAddr>,
    /// Listening address of the admin listener.
    pub admin: Option<SocketAddr>,
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All sessions finished.
    Drained,
    /// Sessions were cut, by the deadline or a second signal.
    Cut,
}

/// Keeps secrets out of core dumps and other users' debuggers, and makes room for descriptors.
pub fn harden() {
    without_core_dumps();
    let descriptors = getrlimit(Resource::Nofile);
    if descriptors.current != descriptors.maximum {
        let all = Rlimit { current: descriptors.maximum, maximum: descriptors.maximum };
        // With the soft limit the gateway works as well, for fewer connections; the limits follow it.
        let _ = setrlimit(Resource::Nofile, all);
    }
}

/// Keeps secrets out of core dumps and other users' debuggers.
pub fn without_core_dumps() {
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, nothing).is_err()
        || set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
    {
        tracing::warn!("core dumps cannot be switched off");
    }
}

fn start_acme(plan: &Plan) -> Result<Manager, String> {
    let manager = Manager::start(plan, &tokio::runtime::Handle::current())?;
    if let Some(address) = manager.http_address {
        tracing::info!(%address, "listening for HTTP-01 challenges");
    }
    Ok(manager)
}

/// Logs what a configuration warns of.
fn log_warnings(warnings: &Faults) {
    for warning in &warnings.list {
        tracing::warn!(line = warning.line, text = warning.text, "configuration");
    }
}

/// Logs the sandbox that is in force.
fn log_confinement(confinement: &Confinement) {
    let (files, calls) = confinement.words();
    if confinement.is_lacking() {
        tracing::warn!(files, system_calls = calls, "sandbox");
    } else {
        tracing::info!(files, system_calls = calls, "sandbox");
    }
}

impl Running {
    /// Starts workers, and what the current runtime keeps for the gateway.
    pub fn start(
        path: &Path,
        loaded: Loaded,
        sockets: Sockets,
        confinement: Confinement,
        sink: Option<Sink>,
    ) -> Result<Self, StartFault> {
        let Loaded {
            mut gateway,
            workers,
            admin,
            log,
            acme,
            summary,
            warnings,
            memory,
            recording,
            witnesses,
            timestamp,
            witness,
            ..
        } = loaded;
        log_warnings(&warnings);
        log_confinement(&confinement);
        let Sockets { layout, admin: admin_listener, bound } = sockets;
        let witness = witness.map(witness::Serving::start).transpose()?;
        let recordings = recording.map(|settings| open_recordings(path, settings)).transpose()?;
        let archive = recordings.as_ref().map(|recordings| recordings.archive().clone());
        let addresses = bound.addresses();
        let at_start = reload::AtStart::new(&admin, &log, workers);
        let settings = admin.settings;
        let admin = admin_listener.local_addr().ok();
        gateway.issuers.start(&tokio::runtime::Handle::current());
        if let Some(tracer) = &gateway.tracer {
            tracer.start().map_err(system("cannot start the exporter of traces"))?;
        }
        let manager = acme.as_ref().map(start_acme).transpose().map_err(StartFault::Acme)?;
        gateway.acme.challenges = manager.as_ref().map(Manager::challenges);
        let gateway = Arc::new(ArcSwap::from_pointee(gateway));
        let workers = Workers::start(bound, layout, gateway.clone(), archive.clone())
            .map_err(system("cannot start workers"))?;
        if let Some(path) = &settings.revocations {
            admin::revoked::read(path, workers.registry.revocations())
                .map_err(system("cannot read the file of revocations"))?;
        }
        let state = Arc::new(State {
            gateway: gateway.clone(),
            registry: workers.registry.clone(),
            metrics: workers.metrics.clone(),
            started: SystemTime::now(),
            reload: Mutex::new(None),
            admin: ArcSwap::from_pointee(settings.clone()),
            certificates: Mutex::new(summary.certificates()),
            revocations: Mutex::new(summary.revocations()),
            crl: Mutex::new(crl::RevokedSerials::of(&summary, &gateway.load())),
            draining: AtomicBool::new(false),
            sink,
            memory: memory.clone(),
            witnesses: Mutex::new(ask_witnesses(archive.as_deref(), witnesses)),
            timestamps: Mutex::new(ask_timestamps(archive.as_ref(), timestamp)),
            archive,
        });
        tokio::spawn(admin::serve(admin_listener, state.clone()));
        if let Some(sink) = state.sink.clone() {
            tokio::spawn(log_watch::run(sink, workers.control()));
        }
        if let Some(limit) = &memory {
            let connections = gateway.load().limits.connections;
            tracing::info!(bytes = limit.bytes, connections, "memory is limited by a control group");
            tokio::spawn(memory_watch::run(limit.clone(), workers.admission()));
        }
        // Challenges come to listeners that are bound by now.
        if let (Some(manager), Some(plan)) = (&manager, &acme) {
            manager.adopt(plan, &tokio::runtime::Handle::current());
        }
        for address in &addresses {
            tracing::info!(%address, workers = workers.metrics.len(), "listening");
        }
        if let Some(interval) = service_manager::watchdog_interval() {
            tokio::spawn(service_manager::keep_alive(interval, workers.metrics.clone()));
        }
        service_manager::ready();
        let acme = Mutex::new(manager);
        Ok(Running {
            path: path.to_owned(),
            confinement,
            gateway,
            workers,
            recordings,
            witness,
            state,
            acme,
            at_start,
            addresses,
            admin,
        })
    }

    /// Runs until signals end it.
    pub async fn run(self) -> Result<End, StartFault> {
        let listen = |kind| signal(kind).map_err(system("cannot listen for signals"));
        let mut hangup = listen(SignalKind::hangup())?;
        let mut stop =
            Stop { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? };
        let mut reader = Reader::new(self.path.clone(), self.confinement.clone());
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    service_manager::reloading();
                    reader.ask();
                }
                read = reader.read() => self.reload(*read),
                how = stop.next_signal() => return Ok(match how {
                    StopKind::Drain => self.drain(stop).await,
                    StopKind::Now => self.stop(Close::Drained),
                }),
            }
        }
    }

    /// Lets sessions finish until the deadline, or until somebody asks again.
    async fn drain(self, mut stop: Stop) -> End {
        let limit = self.gateway.load().limits.drain;
        let deadline = Instant::now() + limit;
        tracing::info!(sessions = self.workers.sessions(), deadline = ?limit, "draining");
        service_manager::stopping();
        self.state.draining.store(true, Relaxed);
        self.workers.drain();
        let mut look = interval(DRAIN_POLL_INTERVAL);
        loop {
            tokio::select! {
                _ = look.tick() => if self.workers.sessions() == 0 {
                    tracing::info!("drained");
                    self.workers.join();
                    self.gateway.load().tracer.iter().for_each(|tracer| tracer.flush(TRACES_FLUSH));
                    return End::Drained;
                },
                _ = sleep_until(deadline) => {
                    tracing::warn!(sessions = self.workers.sessions(), "drain deadline");
                    return self.stop(Close::Drained);
                }
                _ = stop.next_signal() => return self.stop(Close::Drained),
            }
        }
    }

    /// Ends everything now.
    pub fn stop(self, close: Close) -> End {
        let cut = self.workers.sessions() > 0;
        self.workers.stop(close);
        self.workers.join();
        self.gateway.load().tracer.iter().for_each(|tracer| tracer.flush(TRACES_FLUSH));
        if cut { End::Cut } else { End::Drained }
    }
}

/// Begins to ask the witnesses of the log, where there is one.
fn ask_witnesses(archive: Option<&Archive>, witnesses: Vec<AskedWitness>) -> Witnesses {
    match archive {
        Some(archive) => {
            Witnesses::start(&archive.settings().directory, witnesses, &tokio::runtime::Handle::current())
        }
        None => Witnesses::default(),
    }
}

/// Begins to ask for time-stamps of the log, where there is one and somebody to ask.
fn ask_timestamps(archive: Option<&Arc<Archive>>, settings: Option<TimestampSettings>) -> Timestamps {
    match archive.zip(settings) {
        Some((archive, settings)) => {
            Timestamps::start(archive.clone(), settings, &tokio::runtime::Handle::current())
        }
        None => Timestamps::default(),
    }
}

/// Opens the directory of recordings; the log says by which configuration.
fn open_recordings(path: &Path, settings: Settings) -> Result<Recordings, StartFault> {
    let text = std::fs::read(path).map_err(system("cannot read the configuration again"))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    let configuration = digest.as_ref().try_into().unwrap_or_default();
    Ok(Recordings::open(settings, &Origin { configuration })?)
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

enum StopKind {
    Drain,
    Now,
}

impl Stop {
    async fn next_signal(&mut self) -> StopKind {
        tokio::select! {
            _ = self.terminate.recv() => StopKind::Drain,
            _ = self.interrupt.recv() => StopKind::Now,
        }
    }
}
