//! What a run came to: as JSON, as text, as plots.

use crate::meter::Quantiles;
use crate::options::{Peer, Secure, Shape};
use serde::Serialize;
use std::fmt::Write;

/// The result of one run. Units are named by `unit`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) peer: Peer,
    pub(crate) peer_version: String,
    pub(crate) target: Option<String>,
    pub(crate) shape: Shape,
    pub(crate) secure: Secure,
    pub(crate) unit: &'static str,
    pub(crate) units: f64,
    pub(crate) seconds: f64,
    /// Seconds of processor time of the peer, user and system together.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) memory: Option<Memory>,
    /// Of a soak, in which neither memory nor descriptors may grow without end.
    pub(crate) growth: Option<Growth>,
    /// From the intended moment for events, from asking for requests and connections.
    pub(crate) latency_us: Option<Quantiles>,
    /// The same in calm stretches alone: all streams had begun, and the host took nothing.
    pub(crate) calm_us: Option<Quantiles>,
    /// From asking to the first event.
    pub(crate) first_us: Option<Quantiles>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) interrupted: bool,
}

/// Resident memory of the peer.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) before_kib: u64,
    pub(crate) most_kib: u64,
    /// What it grew by for each stream or idle connection. Not for other work, where the buffers of the few that are
    /// busy would be divided by an arbitrary number.
    pub(crate) kib_per_connection: Option<f64>,
}

/// How memory and descriptors of the peer grow, by least squares over the second half of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Growth {
    pub(crate) kib_per_hour: f64,
    pub(crate) descriptors_per_hour: f64,
}

impl Growth {
    /// `None`: too few samples for a slope.
    pub(crate) fn of(samples: &[Sample]) -> Option<Growth> {
        let half = &samples[samples.len() / 2..];
        let slope =
            |value: fn(&Sample) -> f64| slope(half.iter().map(move |s| (s.second / 3600.0, value(s))));
        Some(Growth {
            kib_per_hour: slope(|s| s.rss_kib as f64)?,
            descriptors_per_hour: slope(|s| s.descriptors as f64)?,
        })
    }
}

/// The slope of the line through these points that is nearest to them by least squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let n = points.clone().count() as f64;
    let mean = |value: fn((f64, f64)) -> f64| points.clone().map(value).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.clone().map(|p| (p.0 - x).powi(2)).sum();
    (n >= 3.0 && spread > 0.0).then(|| points.map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread)
}

/// A look at a running run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) second: f64,
    pub(crate) units: f64,
    /// Of the peer, since the beginning.
    pub(crate) cpu_seconds: f64,
    /// The part of it that threads had which give way to whoever else has work.
    pub(crate) yielding_seconds: f64,
    pub(crate) rss_kib: u64,
    pub(crate) descriptors: u64,
    /// By the host, from the cores of load and peer together, since the beginning.
    pub(crate) stolen_ms: u64,
    /// Of the latencies since the sample before.
    pub(crate) p99_us: Option<f64>,
}

impl Report {
    /// Microseconds of processor time per unit, or seconds per GiB.
    pub(crate) fn cost(&self) -> Option<f64> {
        (self.units > 0.0).then(|| self.cpu_seconds.map(|cpu| cpu * self.scale() / self.units)).flatten()
    }

    /// The part of it that threads had which give way to whoever else has work. `None`: there were none.
    pub(crate) fn yielding_cost(&self) -> Option<f64> {
        let spent = self.samples.last()?.yielding_seconds;
        (self.units > 0.0 && spent > 0.0).then(|| spent * self.scale() / self.units)
    }

    /// The same for the second half of the run alone, when all that was to begin has begun.
    pub(crate) fn steady_cost(&self) -> Option<f64> {
        let (half, last) = (self.samples.get(self.samples.len() / 2)?, self.samples.last()?);
        let units = last.units - half.units;
        (units > 0.0).then(|| (last.cpu_seconds - half.cpu_seconds) * self.scale() / units)
    }

    /// By the host, of the cores of load and peer.
    pub(crate) fn stolen_ms(&self) -> Option<u64> {
        self.samples.last().map(|last| last.stolen_ms)
    }

    fn scale(&self) -> f64 {
        if self.unit == "GiB" { 1.0 } else { 1e6 }
    }

    pub(crate) fn cost_unit(&self) -> String {
        format!("{}/{}", if self.unit == "GiB" { "s" } else { "µs" }, self.unit)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<22} {value}");
        };
        let what =
            self.target.clone().unwrap_or_else(|| format!("{} ({})", self.peer.name(), self.peer_version));
        line("through", what);
        line("done", format!("{:.3} {} in {:.2} s", self.units, self.unit, self.seconds));
        line("per second", format!("{:.1} {}", self.units / self.seconds, self.unit));
        if let Some(cost) = self.cost() {
            let part =
                self.yielding_cost().map(|part| format!(", of it {part:.3} when nobody else had work"));
            line("processor time", format!("{cost:.3} {}{}", self.cost_unit(), part.unwrap_or_default()));
        }
        if let Some(memory) = &self.memory {
            let each = memory.kib_per_connection.map(|kib| format!(", {kib:.1} KiB for each"));
            let text = format!("{} KiB at first, {} KiB at most", memory.before_kib, memory.most_kib);
            line("memory", text + each.as_deref().unwrap_or_default());
        }
        if let Some(growth) = &self.growth {
            let Growth { kib_per_hour, descriptors_per_hour } = growth;
            line(
                "growth, second half",
                format!("{kib_per_hour:+.0} KiB/h, {descriptors_per_hour:+.1} descriptors/h"),
            );
        }
        if let Some(stolen) = self.stolen_ms().filter(|ms| *ms > 0) {
            line("stolen by the host", format!("{stolen} ms"));
        }
        // All of a run without an opening, on a host that took nothing, is calm: the same once more.
        let calm = self
            .calm_us
            .as_ref()
            .filter(|calm| self.latency_us.as_ref().is_none_or(|all| all.count != calm.count));
        let latencies = [
            ("latency, µs", self.latency_us.as_ref()),
            ("… calm seconds", calm),
            ("first event, µs", self.first_us.as_ref()),
        ];
        for (name, quantiles) in latencies {
            if let Some(q) = quantiles {
                let text = format!(
                    "p50 {:.0}   p90 {:.0}   p99 {:.0}   p99.9 {:.0}   max {:.0}",
                    q.p50, q.p90, q.p99, q.p999, q.max
                );
                line(name, text);
            }
        }
        if self.errors > 0 {
            line(
                "errors",
                format!("{} (the first: {})", self.errors, self.first_error.as_deref().unwrap_or("-")),
            );
        }
        if self.interrupted {
            line("interrupted", "these are the figures until then".into());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_second_half() {
        let sample = |n: u32| Sample {
            second: f64::from(n),
            // The beginning fills caches; then 2 KiB come with each second, and a descriptor with every tenth.
            rss_kib: if n < 50 { u64::from(n) * 1000 } else { 100_000 + u64::from(n) * 2 },
            descriptors: 20 + u64::from(n) / 10,
            ..Sample::default()
        };
        let samples: Vec<_> = (0..100).map(sample).collect();
        let growth = Growth::of(&samples).unwrap();
        assert!((growth.kib_per_hour - 7200.0).abs() < 1e-6, "{growth:?}");
        // Descriptors come in steps, so that a line through fifty samples lies a few per cent off.
        assert!((growth.descriptors_per_hour - 360.0).abs() < 36.0, "{growth:?}");
        assert_eq!(Growth::of(&samples[..3]), None);
        assert_eq!(Growth::of(&[]), None);
    }
}
