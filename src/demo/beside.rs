//! The demo's gateway: this very program, as `serve` runs it. What ends the demo ends the gateway, and the demo goes on
//! to put its files away.

use super::{Files, Running};
use rustix::process::{Pid, PidfdFlags, Signal as Number, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks the demo to end: a terminal's Ctrl-C or its closing, or whoever stops processes.
const ENDS: [fn() -> SignalKind; 3] = [SignalKind::interrupt, SignalKind::terminate, SignalKind::hangup];

/// INT, TERM and HUP, caught: from now on they end nothing by themselves.
pub struct Signals {
    runtime: Runtime,
    caught: Vec<Signal>,
}

impl Signals {
    /// Catches them. Do this before there is anything to put away.
    pub fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let context = runtime.enter();
        let caught = ENDS.iter().map(|kind| signal(kind())).collect::<io::Result<_>>()?;
        drop(context);
        Ok(Signals { runtime, caught })
    }

    /// Starts the gateway, which is told to stop by the first of them.
    pub fn start(self, files: &Files<'_>) -> Result<GatewayProcess, String> {
        let log = File::create(files.log).map_err(|error| format!("{}: {error}", files.log.display()))?;
        let this =
            std::env::current_exe().map_err(|error| format!("this program cannot find itself: {error}"))?;
        let start = || {
            // A terminal's Ctrl-C reaches a whole group: in its own, the gateway hears of it from here alone.
            let child = Command::new(this)
                .args(["serve", "--log-format", "json", "--config"])
                .arg(files.config)
                .stdin(Stdio::null())
                .stdout(log)
                .process_group(0)
                .spawn()?;
            let beside = GatewayProcess { child, told: Arc::default() };
            let gateway = pidfd_open(Pid::from_child(&beside.child), PidfdFlags::empty())?;
            let told = Arc::clone(&beside.told);
            std::thread::Builder::new()
                .name("signals".into())
                .spawn(move || self.pass_on(&gateway, &told))?;
            Ok(beside)
        };
        start().map_err(|error: io::Error| format!("the gateway does not start: {error}"))
    }

    fn pass_on(mut self, gateway: &OwnedFd, told: &AtomicBool) {
        let any = std::future::poll_fn(|cx| {
            match self.caught.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        self.runtime.block_on(any);
        told.store(true, Ordering::Release);
        // It stops now, without a drain; one that has ended by itself needs no telling.
        let _ = pidfd_send_signal(gateway, Number::INT);
    }
}

/// The gateway's process. Dropping it stops it.
pub struct GatewayProcess {
    child: Child,
    /// That it was told to stop, which is then no failure.
    told: Arc<AtomicBool>,
}

impl Running for GatewayProcess {
    fn wait(&mut self) -> i32 {
        let status = self.child.wait();
        match self.told() {
            true => 0,
            false => status.ok().and_then(|status| status.code()).unwrap_or(1),
        }
    }

    fn told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    fn ended(&mut self) -> bool {
        self.told() || !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
