//! What the operator may ask about the process: readiness, metrics, certificates.

use super::{crl, order_entry, witness};
use crate::acme::Certificate;
use crate::admin::{self, AdminState, process};
use crate::audit::{OrderLine, Sink};
use crate::gateway::Gateway;
use crate::metrics::{
    AcmeFacts, LogFacts, ProcessFacts, RecordingFacts, TimestampFacts, WorkerMetrics, render,
};
use crate::names::RouteName;
use crate::recording::archive::{Archive, Counters};
use crate::recording::timestamp::client::{TimestampStatus, Timestamps};
use crate::recording::witness::client::Witnesses;
use crate::session::registry::Registry;
use crate::worker::memory::{MemoryLimit, Shortage};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// What the operator may ask about.
pub(super) struct State {
    pub(super) gateway: Arc<ArcSwap<Gateway>>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Vec<Arc<WorkerMetrics>>,
    pub(super) started: SystemTime,
    pub(super) reload: Mutex<Option<(bool, SystemTime)>>,
    /// Who may look and give orders.
    pub(super) admin: ArcSwap<admin::Settings>,
    pub(super) certificates: Mutex<Vec<(RouteName, SystemTime)>>,
    /// Until when lists of revoked client certificates count.
    pub(super) revocations: Mutex<Vec<(RouteName, SystemTime)>>,
    /// What lists of revoked client certificates hold.
    pub(super) crl: Mutex<crl::RevokedSerials>,
    pub(super) draining: AtomicBool,
    pub(super) sink: Option<Sink>,
    pub(super) memory: Option<MemoryLimit>,
    pub(super) archive: Option<Arc<Archive>>,
    /// Those that are asked to cosign the log of recordings.
    pub(super) witnesses: Mutex<Witnesses>,
    /// Asks for time-stamps of the log of recordings.
    pub(super) timestamps: Mutex<Timestamps>,
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

    fn certificates(&self) -> Vec<(RouteName, SystemTime)> {
        let gateway = self.gateway.load();
        let mut certificates = self.certificates.lock().clone();
        let ends = |(route, one): &(RouteName, Arc<Certificate>)| Some((route.clone(), one.not_after()?));
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
        disk_stalls: archive.disk_stalls(),
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

fn acme_facts((route, certificate): &(RouteName, Arc<Certificate>)) -> AcmeFacts {
    let status = certificate.status();
    AcmeFacts {
        route: route.clone(),
        is_there: certificate.is_there(),
        failures: status.failures,
        next_attempt: status.next_attempt.map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at)),
    }
}
