//! `staunch sessions replay`: a session on the terminal, in the pace in which it was.

use super::arguments::{OpenedSession, tell};
use super::progress::Progress;
use super::transcript::{Item, Limits, TranscriptBuilder, render};
use super::{EvidenceFault, identities};
use crate::audit::printable;
use crate::recording::directory::Directory;
use crate::recording::format::frame::Plane;
use crate::recording::reader::{Event, play_observed};
use std::io::Write;
use std::time::Duration;

/// `staunch sessions replay`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which session, and with whose key.
    #[command(flatten)]
    pub opened: OpenedSession,
    /// How many times faster; 0: at once.
    #[arg(long, default_value = "1")]
    pub speed: Speed,
    /// Seconds between two events at most, after the speed.
    #[arg(long, value_name = "SECONDS")]
    pub max_wait: Option<f64>,
    /// Play bytes as they came: a streamed answer appears word by word. Default: requests, responses and statements as
    /// they were complete.
    #[arg(long)]
    pub bytes: bool,
}

/// How many times faster than it was.
#[derive(Clone, Copy, Debug)]
pub struct Speed(f64);

impl std::str::FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let speed = text.trim_end_matches(['x', '×']).parse::<f64>().ok();
        speed
            .filter(|speed| speed.is_finite() && *speed >= 0.0)
            .map(Speed)
            .ok_or_else(|| "write 2 or 0.5".into())
    }
}

/// How long to wait before an event that came `gap` ns after the one before.
fn wait(gap: u64, speed: Speed, max_wait: Option<f64>) -> Duration {
    if speed.0 == 0.0 {
        return Duration::ZERO;
    }
    let seconds = gap as f64 / 1e9 / speed.0;
    let seconds = max_wait.map_or(seconds, |most| seconds.min(most.max(0.0)));
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

/// Plays a session; what could not be read goes to `told`.
pub fn run(arguments: &Arguments, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    run_with(arguments, out, told, std::thread::sleep)
}

pub(super) fn run_with(
    arguments: &Arguments,
    out: &mut impl Write,
    told: &mut impl Write,
    mut sleep: impl FnMut(Duration),
) -> Result<u8, EvidenceFault> {
    let identities = identities(&arguments.opened.identity)?;
    let directory = Directory::read(&arguments.opened.place.directory)?;
    let mut transcript = TranscriptBuilder::new(arguments.opened.protocol, Limits::default());
    let (mut written, mut last, mut items) = (Ok(()), None::<u64>, Vec::new());
    let progress = Progress::new("playing segment");
    let (mut reading, session) = (&progress, arguments.opened.session.0);
    let faults = play_observed(&directory, session, Some(&identities), &mut reading, |time, event| {
        if written.is_err() {
            return;
        }
        progress.give_way();
        let gap = time.saturating_sub(last.unwrap_or(time));
        let pause = wait(gap, arguments.speed, arguments.max_wait);
        if !pause.is_zero() {
            sleep(pause);
        }
        last = Some(time);
        written = match arguments.bytes {
            true => write_bytes(out, &event),
            false => {
                transcript.take(time, &event, &mut items);
                write_items(out, &mut items)
            }
        };
        written = std::mem::replace(&mut written, Ok(())).and_then(|()| out.flush());
    })?;
    drop(progress);
    written?;
    if !arguments.bytes {
        transcript.finish(&mut items);
        write_items(out, &mut items)?;
    }
    if last.is_none() && faults.is_empty() {
        return Err(EvidenceFault::Refused(format!(
            "no segment holds session {}",
            arguments.opened.session.0
        )));
    }
    tell(told, &faults)
}

fn write_items(out: &mut impl Write, items: &mut Vec<Item>) -> std::io::Result<()> {
    items.drain(..).try_for_each(|item| render(out, &item))
}

/// Text as it came; control characters but line ends are shown, not sent to the terminal.
fn write_bytes(out: &mut impl Write, event: &Event) -> std::io::Result<()> {
    match event {
        Event::Data(plane, Some(bytes)) => {
            let text = String::from_utf8_lossy(bytes);
            let lines: Vec<String> =
                text.split('\n').map(|line| printable(line.trim_end_matches('\r'))).collect();
            match plane {
                Plane::Up => writeln!(out, "\n→ {}", lines.join("\n→ ").trim_end_matches("\n→ ")),
                Plane::Down => write!(out, "{}", lines.join("\n")),
            }
        }
        Event::Data(plane, None) => writeln!(out, "\n({plane}: no identity opens it, or it is erased)"),
        Event::Gap(gap) => writeln!(out, "\n({} bytes {} were not recorded)", gap.bytes, gap.plane),
        Event::Damaged(fault) => writeln!(out, "\n({})", printable(&fault.to_string())),
        Event::End(_) => writeln!(out),
        Event::Fact(_) | Event::SealedFact(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_divided_by_the_speed_and_has_an_end() {
        let speed = |text: &str| text.parse::<Speed>().unwrap();
        let cases = [
            (2_000_000_000, "1", None, 2000),
            (2_000_000_000, "4x", None, 500),
            (2_000_000_000, "0.5", None, 4000),
            (2_000_000_000, "0", None, 0),
            (3_600_000_000_000, "1", Some(1.5), 1500),
            (10_000_000, "1", Some(1.5), 10),
            (10_000_000, "1", Some(-1.0), 0),
        ];
        for (gap, text, most, milliseconds) in cases {
            assert_eq!(wait(gap, speed(text), most).as_millis(), milliseconds, "{gap} {text}");
        }
        assert!(
            "-1".parse::<Speed>().is_err()
                && "NaN".parse::<Speed>().is_err()
                && "inf".parse::<Speed>().is_err()
        );
    }
}
