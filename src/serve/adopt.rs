//! Takes a configuration that was read again into force, or says why the old one stays.

use super::reload::{NotRead, Read};
use super::{Running, ask_timestamps, ask_witnesses, crl, log_warnings, service_manager, start_acme};
use crate::admin::AdminState;
use crate::audit;
use crate::config::Loaded;
use crate::gateway::Gateway;
use crate::recording::settings::Settings;
use crate::recording::witness::client::Witnesses;
use std::sync::Arc;
use std::time::SystemTime;

impl Running {
    /// Takes a configuration that was read again, with its certificates, into force. The old ones stay when the new ones are bad.
    pub(super) fn reload(&self, read: Read) {
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
