//! Ctrl-C while something is written that must not stay half.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Keeps Ctrl-C and TERM from ending the process, from its beginning to the end of the process.
pub(super) struct Uninterrupted {
    runtime: Runtime,
    signals: [Signal; 2],
}

impl Uninterrupted {
    /// Begins.
    pub(super) fn begin() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let signals = {
            let _context = runtime.enter();
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]
        };
        Ok(Uninterrupted { runtime, signals })
    }

    /// True when one of the signals came since the last call.
    pub(super) fn is_interrupted(&mut self) -> bool {
        let Uninterrupted { runtime, signals } = self;
        runtime.block_on(async {
            // Has the runtime look for signals.
            tokio::task::yield_now().await;
            poll_fn(|context| {
                let came = signals.iter_mut().map(|signal| signal.poll_recv(context).is_ready());
                Poll::Ready(came.fold(false, |any, came| any | came))
            })
            .await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    #[test]
    fn a_signal_ends_nothing_and_is_told_once() {
        let mut guard = Uninterrupted::begin().unwrap();
        assert!(!guard.is_interrupted());
        for signal in [Signal::INT, Signal::TERM] {
            kill_process(getpid(), signal).unwrap();
            let told = (0..1000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                guard.is_interrupted()
            });
            assert!(told && !guard.is_interrupted(), "{signal:?}");
        }
    }
}
