//! Looks at a running run, a few times a second: what it has done so far, what it used, and whether it was disturbed.

use crate::account;
use crate::meter::Meter;
use crate::peers::Running;
use crate::report::{Memory, Sample};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From one look to the next.
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct Looks<'a> {
    running: Option<&'a Running>,
    meter: Arc<Meter>,
    /// Counts of the meter that make one unit.
    scale: f64,
    /// Of load and peer.
    cores: Vec<usize>,
    started: Instant,
    cpu_before: u64,
    yielding_before: u64,
    kib_before: u64,
    stolen_before: u64,
    all_open: bool,
    pub(crate) samples: Vec<Sample>,
}

impl<'a> Looks<'a> {
    /// The run begins now.
    pub(crate) fn begin(
        running: Option<&'a Running>,
        meter: Arc<Meter>,
        scale: f64,
        cores: Vec<usize>,
    ) -> io::Result<Self> {
        let (started, stolen_before) = (Instant::now(), account::stolen_ms(&cores)?);
        let mut looks = Looks {
            running,
            meter,
            scale,
            cores,
            started,
            cpu_before: 0,
            yielding_before: 0,
            kib_before: 0,
            stolen_before,
            all_open: false,
            samples: Vec::new(),
        };
        (looks.cpu_before, looks.kib_before) = (looks.cpu()?, looks.rss()?);
        looks.yielding_before = looks.yielding()?;
        Ok(looks)
    }

    /// A stretch between two looks is calm when all streams had begun before it and the host took no time in it.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let stolen_ms = account::stolen_ms(&self.cores)?.saturating_sub(self.stolen_before);
        let taken = stolen_ms != self.samples.last().map_or(0, |last| last.stolen_ms);
        let p99_us = self.meter.stretch(self.all_open && !taken);
        self.all_open = self.meter.all_open();
        self.samples.push(Sample {
            second: self.seconds(),
            units: self.meter.units() as f64 / self.scale,
            cpu_seconds: self.cpu_seconds()?,
            yielding_seconds: self.yielding()?.saturating_sub(self.yielding_before) as f64 / 1e9,
            rss_kib: self.rss()?,
            descriptors: self.running.map_or(Ok(0), |running| account::descriptors(running.pid()))?,
            stolen_ms,
            p99_us,
        });
        Ok(())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Processor time of the peer since the beginning.
    fn cpu_seconds(&self) -> io::Result<f64> {
        Ok(self.cpu()?.saturating_sub(self.cpu_before) as f64 / 1e9)
    }

    fn cpu(&self) -> io::Result<u64> {
        self.running.map_or(Ok(0), |running| account::cpu_ns(running.pid(), running.threads_end))
    }

    fn yielding(&self) -> io::Result<u64> {
        self.running.map_or(Ok(0), |running| account::yielding_ns(running.pid()))
    }

    fn rss(&self) -> io::Result<u64> {
        self.running.map_or(Ok(0), |running| account::rss_kib(running.pid()))
    }

    /// The peer's memory over the run, divided by `holders` where there are such.
    pub(crate) fn memory(&self, holders: Option<usize>) -> Option<Memory> {
        self.running?;
        let before_kib = self.kib_before;
        let most_kib = self.samples.iter().map(|sample| sample.rss_kib).max().unwrap_or(before_kib);
        let grown = most_kib.saturating_sub(before_kib) as f64;
        let kib_per_connection = holders.map(|holders| grown / holders as f64);
        Some(Memory { before_kib, most_kib, kib_per_connection })
    }
}
