//! `staunch demo`: the gateway at work on one machine, with nothing else installed and nothing sent elsewhere.
//!
//! A certificate authority, an OIDC issuer and a model service are made for this run; the gateway itself is the one
//! that `serve` runs, started by the caller on a configuration file like any other. [`run`] then walks through what
//! the gateway promises and checks each step: what is printed as done was done.
//!
//! Everything listens on loopback; every file stands in one folder that only its owner may read and that is removed
//! at the end.

pub mod beside;
pub mod ca;
mod client;
pub mod issuer;
mod recorded;
mod screen;
mod server;
mod setup;
mod text;
mod tour;
pub mod upstream;

pub use server::Encryption;

use screen::Screen;
use setup::Setup;
use std::io::{self, Write};
use std::path::Path;

/// What the demo is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// End after the tour.
    pub once: bool,
    /// The gateway's port; `None`: 8443 if it is free, any other if not.
    pub port: Option<u16>,
    /// Print in colour.
    pub colour: bool,
}

/// Where the gateway finds its configuration and leaves its log.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The configuration, as for `serve --config`.
    pub config: &'a Path,
    /// To be made by the gateway: its log, in JSON, with diagnostics at `info`.
    pub log: &'a Path,
}

/// A gateway that was started; dropping it stops it.
pub trait Running {
    /// Waits until the gateway was told to stop (TERM, INT) and has; its exit code.
    fn wait(&mut self) -> i32;
    /// Whether it was.
    fn told(&self) -> bool;
    /// Whether there is nothing to wait for: it was told to stop, or has ended by itself.
    fn ended(&mut self) -> bool;
}

/// The exit code of a demo that was told to end while it toured.
const INTERRUPTED: i32 = 130;

/// Runs the demo and prints to `out`. Returns the exit code: 0 if every step passed its check, and with `once` unset,
/// what the gateway ended with; 130 if it was told to stop before.
///
/// `start` starts a gateway with the given files. It may return before the gateway listens: the tour waits for it.
pub fn run<R: Running>(
    options: &Options,
    out: &mut dyn Write,
    start: impl FnOnce(&Files<'_>) -> Result<R, String>,
) -> i32 {
    let mut screen = Screen::new(out, options.colour);
    match all(options, &mut screen, start) {
        Ok(code) => code,
        // Nobody reads on: there is no one to tell.
        Err(Stop::Output) => 1,
        Err(Stop::Setup(why)) => {
            let _ = screen.failed(&format!("the demo cannot begin: {why}"));
            1
        }
    }
}

/// Why the demo ends before its tour did.
enum Stop {
    Output,
    Setup(String),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Output
    }
}

fn all<R: Running>(
    options: &Options,
    screen: &mut Screen<'_>,
    start: impl FnOnce(&Files<'_>) -> Result<R, String>,
) -> Result<i32, Stop> {
    let mut setup = Setup::new(options.port).map_err(Stop::Setup)?;
    screen.line("Staunch demo: everything runs on this machine, nothing leaves it.")?;
    screen.line("")?;
    screen.fact("issuer", &format!("{}  (OpenID Connect)", setup.issuer.url()))?;
    screen.fact(
        "upstream",
        &format!("https://{}  (OpenAI API; knows only the stored key)", setup.upstream.address()),
    )?;
    screen.fact("gateway", &format!("https://{}:{}", setup::NAME, setup.gateway.port()))?;
    screen.fact("live page", &format!("http://{}/", setup.admin))?;
    screen.fact("files", &setup.folder.path().display().to_string())?;
    let mut gateway = start(&Files { config: &setup.config, log: &setup.log }).map_err(Stop::Setup)?;

    let faults = tour::walk(&setup, screen, &mut gateway)?;
    screen.line("")?;
    // Then a fault is no broken promise.
    if gateway.told() && !faults.is_empty() {
        screen.line("ended before the tour was over")?;
        return Ok(INTERRUPTED);
    }
    for (step, fault) in &faults {
        screen.failed(&format!("step {step} failed: {fault}"))?;
    }
    if faults.is_empty() {
        screen.done("every step passed its check")?;
    }
    if options.once || !faults.is_empty() {
        return Ok(i32::from(!faults.is_empty()));
    }
    screen.line("\nTry it; the token is good for an hour. Ctrl-C ends the demo.\n")?;
    screen.line(&setup.curl())?;
    tour::hold_stream_open(&mut setup);
    screen.line(&format!(
        "\nSee a live stream with the encryption of both legs, and end it: http://{}/",
        setup.admin
    ))?;
    screen.line(&format!("\nRead what was recorded:\n\n{}", setup.read_recordings()))?;
    Ok(gateway.wait())
}

#[cfg(test)]
mod tests;
