//! The program that is run with the places in its environment.

use crate::client::fault::Fault;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// How shells tell that a program was ended by a signal.
const SIGNALLED: i32 = 128;

/// Runs it to its end and returns its exit code. Signals are its own affair: TERM and HUP are passed on, and INT reaches it from
/// the terminal as it reaches us.
pub(super) async fn run(
    program: &str,
    arguments: &[String],
    environment: Vec<(String, String)>,
) -> Result<u8, Fault> {
    let fault = |error: std::io::Error| Fault::Machine(format!("{program}: {error}"));
    let hear = |kind| signal(kind).map_err(|error| Fault::Machine(format!("signals: {error}")));
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    let mut hangup = hear(SignalKind::hangup())?;
    let mut command = Command::new(program);
    let mut child = command.args(arguments).envs(environment).kill_on_drop(true).spawn().map_err(fault)?;
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let pass_on = |signal| {
        if let Some(id) = id {
            // It may have ended this very moment.
            let _ = kill_process(id, signal);
        }
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(fault)?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => pass_on(Signal::TERM),
            _ = hangup.recv() => pass_on(Signal::HUP),
        }
    };
    let code = status.code().unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(1))
}
