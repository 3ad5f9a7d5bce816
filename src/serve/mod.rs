//! The life of a gateway: start, reload, drain, stop.
//!
//! The first thread keeps a runtime of its own for everything that is not the data path: issuers' keys, the admin
//! listener, signals. Workers never wait for it.

mod crl;
mod log_watch;
mod memory_watch;
mod order_entry;
mod reload;
mod service_manager;
mod sockets;

pub use sockets::Sockets;
mod witness;

use crate::acme::{Certificate, Manager, Plan};
use crate::admin::{self, AdminState, process};
use crate::audit::{self, Format, OrderLine, Sink};
use crate::close::Close;
use crate::config::{Faults, Loaded};
use crate::gateway::Gateway;
use crate::metrics::{
    AcmeFacts, LogFacts, ProcessFacts, RecordingFacts, TimestampFacts, WorkerMetrics, render,
};
use crate::recording::archive::{Archive, Counters};
use crate::recording::directory::DirectoryFault;
use crate::recording::keeper::{Origin, Recordings};
use crate::recording::settings::Settings;
use crate::recording::timestamp::client::{TimestampSettings, TimestampStatus, Timestamps};
use crate::recording::witness::client::{AskedWitness, Witnesses};
use crate::sandbox::Confinement;
use crate::session::registry::Registry;
use crate::worker::Workers;
use crate::worker::memory::{MemoryLimit, Shortage};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use reload::{NotRead, Read, Reader};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
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

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The directory of recordings cannot be used.
    #[error("recordings: {0}")]
    Recordings(#[from] DirectoryFault),
    /// The directory of a witness cannot be used.
    #[error("witness: {0}")]
    Witness(#[source] DirectoryFault),
    /// A system resource (port, signal handler, thread) is not available.
    #[error("{what}: {error}")]
    System {
        /// The resource.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// The kernel does not confine the gateway as it is to.
    #[error("{0}")]
    Sandbox(String),
    /// Certificates cannot be ordered.
    #[error("certificates cannot be ordered: {0}")]
    Acme(String),
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartFault {
    move |error| StartFault::System { what, error }
}

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

    /// Takes a configuration that was read again, with its certificates, into force. The old ones stay when the new ones are bad.
    fn reload(&self, read: Read) {
        let good = self.take(read);
        *self.state.reload.lock() = Some((good, SystemTime::now()));
        // Also with the old configuration: the service manager waits for this word.
        service_manager::ready();
    }

    fn take(&self, read: Read) -> bool {
        match read {
            Err(NotRead::Faults(faults)) => {
                tracing::error!(%faults, "reload refused, the old configuration stays");
                false
            }
            Err(NotRead::Blocked(why)) => {
                tracing::error!("reload refused: {why}, which needs a restart (see [system] sandbox)");
                false
            }
            Err(NotRead::Panicked) => {
                tracing::error!("reload refused: reading it ended in a fault of the gateway itself");
                false
            }
            Ok(loaded) if loaded.gateway.listeners != self.gateway.load().listeners => {
                tracing::error!("reload refused: listeners changed, which needs a restart");
                false
            }
            Ok(loaded) if !self.has_recording(loaded.recording.as_ref()) => {
                tracing::error!("reload refused: [recording] changed, which needs a restart");
                false
            }
            Ok(loaded) if self.at_start.is_other_listener(&loaded.admin) => {
                tracing::error!(
                    "reload refused: address of [admin], or whether it has a certificate, changed, which needs a restart"
                );
                false
            }
            Ok(mut loaded) => {
                let adopted = self.adopt_witness(&loaded).and_then(|()| self.adopt_acme(&mut loaded));
                if let Err(why) = adopted {
                    tracing::error!("reload refused: {why}");
                    return false;
                }
                let witnesses = std::mem::take(&mut loaded.witnesses);
                // The old tasks end first: two that ask one witness would take each other's answers for a conflict.
                *self.state.witnesses.lock() = Witnesses::default();
                *self.state.witnesses.lock() = ask_witnesses(self.state.archive.as_deref(), witnesses);
                *self.state.timestamps.lock() =
                    ask_timestamps(self.state.archive.as_ref(), loaded.timestamp.take());
                log_warnings(&loaded.warnings);
                for section in self.at_start.changed(&loaded) {
                    tracing::warn!("{section} changed, which needs a restart; all else is in force");
                }
                self.state.admin.store(Arc::new(loaded.admin.settings.clone()));
                let old = self.gateway.load_full();
                loaded.gateway.issuers.adopt(&old.issuers);
                loaded.gateway.issuers.start(&tokio::runtime::Handle::current());
                continue_traces(&mut loaded.gateway, &old);
                *self.state.certificates.lock() = loaded.summary.certificates();
                *self.state.revocations.lock() = loaded.summary.revocations();
                self.gateway.store(Arc::new(loaded.gateway));
                let listed = crl::RevokedSerials::of(&loaded.summary, &self.gateway.load());
                let before = std::mem::replace(&mut *self.state.crl.lock(), listed.clone());
                // First: authorised again, they would end as those whose permit has expired.
                listed.end_sessions(&before, &self.workers.registry, |order| {
                    audit::order(order);
                    self.state.enter_order(order);
                });
                self.workers.registry.authorise_again();
                tracing::info!("configuration reloaded");
                true
            }
        }
    }

    /// Witnesses the logs that are configured now.
    fn adopt_witness(&self, loaded: &Loaded) -> Result<(), String> {
        match (&self.witness, &loaded.witness) {
            (None, None) => Ok(()),
            (Some(serving), Some(settings)) => serving.adopt(settings),
            _ => Err("[witness] came or went, which needs a restart".into()),
        }
    }

    /// Goes on with the certificates that are ordered; begins with that where a reload brings the first.
    fn adopt_acme(&self, loaded: &mut Loaded) -> Result<(), String> {
        let mut manager = self.acme.lock();
        let Some(plan) = &loaded.acme else {
            *manager = None;
            return Ok(());
        };
        if let Some(what) = manager.as_ref().and_then(|manager| manager.restart_needed_for(plan)) {
            return Err(format!("{what}, which needs a restart"));
        }
        if manager.is_none() {
            *manager = Some(start_acme(plan)?);
        }
        let Some(manager) = &*manager else { return Ok(()) };
        loaded.gateway.acme.challenges = Some(manager.challenges());
        manager.adopt(plan, &tokio::runtime::Handle::current());
        Ok(())
    }

    /// True where recordings are made as these settings have it.
    fn has_recording(&self, settings: Option<&Settings>) -> bool {
        self.recordings.as_ref().map(|recordings| recordings.archive().settings()) == settings
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

/// Goes on exporting traces as the new configuration has it.
fn continue_traces(new: &mut Gateway, old: &Gateway) {
    let Some(tracer) = new.tracer.take().and_then(Arc::into_inner) else { return };
    let tracer = match &old.tracer {
        Some(before) => tracer.in_place_of(before),
        None => tracer,
    };
    match tracer.start() {
        Ok(()) => new.tracer = Some(Arc::new(tracer)),
        Err(error) => tracing::error!(%error, "traces are not exported"),
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

/// The counters of recordings.
fn recording_facts(archive: &Archive, witnesses: &Witnesses, timestamps: &Timestamps) -> RecordingFacts {
    let Counters { recorded, unrecorded, no_space, damaged, lost_bytes, written, closed, .. } =
        &archive.counters;
    RecordingFacts {
        recorded: recorded.load(Relaxed),
        unrecorded: unrecorded.load(Relaxed),
        no_space: no_space.load(Relaxed),
        damaged: damaged.load(Relaxed),
        lost_bytes: lost_bytes.load(Relaxed),
        written_bytes: written.load(Relaxed),
        segments: closed.load(Relaxed),
        has_space: archive.has_space(),
        has_log: archive.has_log(),
        witnesses: witnesses.statuses().into_iter().map(witness::facts).collect(),
        timestamps: timestamps.status().map(|TimestampStatus { size, time, requests }| TimestampFacts {
            size,
            time,
            requests,
        }),
    }
}

/// What the operator may ask about.
struct State {
    gateway: Arc<ArcSwap<Gateway>>,
    registry: Arc<Registry>,
    metrics: Vec<Arc<WorkerMetrics>>,
    started: SystemTime,
    reload: Mutex<Option<(bool, SystemTime)>>,
    /// Who may look and give orders.
    admin: ArcSwap<admin::Settings>,
    certificates: Mutex<Vec<(crate::names::RouteName, SystemTime)>>,
    /// Until when lists of revoked client certificates count.
    revocations: Mutex<Vec<(crate::names::RouteName, SystemTime)>>,
    /// What lists of revoked client certificates hold.
    crl: Mutex<crl::RevokedSerials>,
    draining: AtomicBool,
    sink: Option<Sink>,
    memory: Option<MemoryLimit>,
    archive: Option<Arc<Archive>>,
    /// Those that are asked to cosign the log of recordings.
    witnesses: Mutex<Witnesses>,
    /// Asks for time-stamps of the log of recordings.
    timestamps: Mutex<Timestamps>,
}

fn acme_facts((route, certificate): &(crate::names::RouteName, Arc<Certificate>)) -> AcmeFacts {
    let status = certificate.status();
    AcmeFacts {
        route: route.clone(),
        is_there: certificate.is_there(),
        failures: status.failures,
        next_attempt: status.next_attempt.map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at)),
    }
}

impl AdminState for State {
    fn ready(&self) -> Result<(), String> {
        if self.draining.load(Relaxed) {
            return Err("draining".into());
        }
        if self.sink.as_ref().is_some_and(Sink::failing) {
            return Err("the log cannot be written".into());
        }
        if !self.sink.as_ref().is_none_or(Sink::takes_new_work) {
            return Err("the log is too slow: new work is refused".into());
        }
        if self.memory.as_ref().is_some_and(|limit| limit.shortage() != Shortage::None) {
            return Err("memory is short: no room for new connections".into());
        }
        if !self.gateway.load().issuers.ready(SystemTime::now()) {
            return Err("an issuer's keys have not been fetched".into());
        }
        if self.archive.as_ref().is_some_and(|archive| !archive.has_space()) {
            return Err("no space is left for recordings: new recorded sessions are refused".into());
        }
        if self.archive.as_ref().is_some_and(|archive| !archive.has_log()) {
            return Err("the log of recordings cannot be written".into());
        }
        let now = SystemTime::now();
        if let Some((route, why)) = self.gateway.load().acme.problem(now) {
            return Err(format!("route {route}: {why}"));
        }
        if let Some((route, _)) = self.revocations.lock().iter().find(|(_, end)| *end < now) {
            return Err(format!("the list of revoked client certificates of route {route} has expired"));
        }
        Ok(())
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn gateway(&self) -> Arc<Gateway> {
        self.gateway.load_full()
    }

    fn workers(&self) -> &[Arc<WorkerMetrics>] {
        &self.metrics
    }

    fn settings(&self) -> Arc<admin::Settings> {
        self.admin.load_full()
    }

    fn signals(&self) -> Vec<Arc<crate::identify::signals::SignalSource>> {
        self.gateway.load().signals.clone()
    }

    fn enter_order(&self, order: &OrderLine<'_>) {
        if let Some(archive) = &self.archive {
            archive.enter_order(order_entry::line(order));
        }
    }

    fn recordings(&self) -> Option<PathBuf> {
        Some(self.archive.as_deref()?.root().to_owned())
    }

    fn certificates(&self) -> Vec<(crate::names::RouteName, SystemTime)> {
        let gateway = self.gateway.load();
        let mut certificates = self.certificates.lock().clone();
        let ends = |(route, one): &(crate::names::RouteName, Arc<Certificate>)| {
            Some((route.clone(), one.not_after()?))
        };
        certificates.extend(gateway.acme.certificates.iter().filter_map(ends));
        certificates
    }

    fn metrics(&self) -> String {
        // By the next time, live sessions that move bytes have published what they moved.
        self.registry().ask_for_counts();
        let gateway = self.gateway.load();
        let certificates = self.certificates();
        let facts = ProcessFacts {
            version: env!("CARGO_PKG_VERSION"),
            started: Some(self.started),
            reload: *self.reload.lock(),
            routes: gateway.routes.iter().map(|route| route.name.clone()).collect(),
            certificates,
            acme: gateway.acme.certificates.iter().map(acme_facts).collect(),
            signals: gateway.signals.iter().map(|source| source.issuer.clone()).collect(),
            traces: gateway.tracer.is_some(),
            key_ages: gateway.issuers.key_ages(),
            open_descriptors: process::open_descriptors(),
            max_descriptors: process::max_descriptors(),
            resident_bytes: process::resident_bytes(),
            memory: self.memory.as_ref().map(|limit| (limit.bytes, limit.used().unwrap_or(0))),
            log: self.sink.as_ref().map_or_else(LogFacts::default, Sink::facts),
            recordings: self
                .archive
                .as_deref()
                .map(|archive| recording_facts(archive, &self.witnesses.lock(), &self.timestamps.lock())),
            draining: self.draining.load(Relaxed),
        };
        render(&self.metrics, &facts)
    }
}
