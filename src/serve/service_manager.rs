//! Service manager protocols: systemd's sd_notify(3) and sd_listen_fds(3).
//!
//! Where there is no service manager, everything here does nothing.

use crate::metrics::WorkerMetrics;
use crate::worker::Inherited;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The listening sockets that the service manager opened (`Sockets=` of its unit).
pub(super) fn inherited() -> io::Result<Inherited> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::with_capacity(passed.len());
    for number in 0..passed.len() {
        let listener = passed.take_tcp_listener(number).map_err(|error| {
            let text = format!("socket {number} of the service manager is no listening TCP socket: {error}");
            io::Error::new(error.kind(), text)
        })?;
        listeners.extend(listener);
    }
    Inherited::new(listeners)
}

/// Says that clients are served, by a configuration that is in force.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the configuration is read again; [`ready`] ends it.
pub(super) fn reloading() {
    // Without a clock there is no such word, and the manager takes the reload for done.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Says that the gateway drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often the service manager wants to hear of the gateway; `None` when it does not.
///
/// As sd_watchdog_enabled(3) reads it: without `WATCHDOG_PID`, every process is meant.
pub(super) fn watchdog_interval() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let limit = number("WATCHDOG_USEC").filter(|limit| *limit > 0)?;
    let is_meant = std::env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(std::process::id().into());
    // Twice within the limit, as the page advises.
    is_meant.then(|| Duration::from_micros(limit) / 2)
}

/// Tells the service manager that all workers work, as long as they do: it ends a gateway whose worker hangs.
pub(super) async fn keep_alive(every: Duration, workers: Vec<Arc<WorkerMetrics>>) {
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        if !workers.iter().any(|worker| worker.is_stalled()) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
