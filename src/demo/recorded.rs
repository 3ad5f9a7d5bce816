//! The last step: the chat as its auditors find it, and a byte of it that somebody changed.

use super::screen::Screen;
use super::setup::Setup;
use crate::names::SessionId;
use crate::recording::directory::Directory;
use crate::recording::format::frame::{HEAD, Kind, Plane};
use crate::recording::reader::verify::{Report, verify};
use crate::recording::reader::{Event, SegmentFile, list, play};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Shows the recording of the session of this line of the log, and checks it.
pub(super) fn show(
    setup: &Setup,
    screen: &mut Screen<'_>,
    line: &Value,
    token: &str,
) -> io::Result<Result<(), String>> {
    let checked = match Recorded::find(setup, line).and_then(|found| found.check(setup, token)) {
        Ok(checked) => checked,
        Err(fault) => return Ok(Err(fault)),
    };
    screen.fact("recorded", &checked.recorded)?;
    screen.fact("verified", &checked.verified)?;
    screen.fact("one byte flipped", &checked.flipped)?;
    screen.done("recorded, verified, one byte flipped: found")?;
    Ok(Ok(()))
}

/// What was found, in words.
struct Checked {
    recorded: String,
    verified: String,
    flipped: String,
}

/// The session of the chat in a copy of the recordings, taken when it was over.
struct Recorded {
    session: SessionId,
    copy: PathBuf,
}

/// For a session to end, and for the log to be signed, which it is once a second.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Recorded {
    fn find(setup: &Setup, line: &Value) -> Result<Self, String> {
        let session = line["session"].as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
        let session = SessionId(session.ok_or("the log's line names no session")?);
        let end = Instant::now() + TIMEOUT;
        let is_over = || -> Option<bool> {
            let (sessions, _) = list(&Directory::read(&setup.recordings).ok()?, None, &mut ()).ok()?;
            Some(sessions.iter().any(|found| found.session == session && found.totals.is_some()))
        };
        while is_over() != Some(true) {
            if Instant::now() > end {
                return Err("the session of the chat is not recorded".into());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let copy = setup.folder.path().join("copy");
        // The gateway goes on writing: a copy that was taken between two files does not verify.
        loop {
            let _ = fs::remove_dir_all(&copy);
            copy_folder(&setup.recordings, &copy)
                .map_err(|error| format!("a copy of the recordings: {error}"))?;
            let recorded = Recorded { session, copy: copy.clone() };
            match recorded.verify(setup) {
                Ok(report) if report.faults().next().is_none() => return Ok(recorded),
                Ok(_) | Err(_) if Instant::now() < end => std::thread::sleep(POLL_INTERVAL),
                Ok(report) => return Err(format!("the recordings do not verify: {}", first(&report))),
                Err(why) => return Err(why),
            }
        }
    }

    fn verify(&self, setup: &Setup) -> Result<Report, String> {
        let directory = Directory::read(&self.copy).map_err(|fault| fault.to_string())?;
        verify(&directory, Some(&setup.auditors[0]), None, &mut ()).map_err(|fault| fault.to_string())
    }

    fn check(&self, setup: &Setup, token: &str) -> Result<Checked, String> {
        let directory = Directory::read(&self.copy).map_err(|fault| fault.to_string())?;
        let mut planes = [Vec::new(), Vec::new()];
        let faults = play(&directory, self.session, Some(&setup.auditors[0]), |_, event| {
            if let Event::Data(plane, Some(data)) = event {
                planes[plane.index()].extend(data);
            }
        });
        let faults = faults.map_err(|fault| fault.to_string())?;
        if let Some(fault) = faults.first() {
            return Err(format!("the recording cannot be read: {fault}"));
        }
        let holds = |plane: Plane, text: &str| {
            memchr::memmem::find(&planes[plane.index()], text.as_bytes()).is_some()
        };
        if !holds(Plane::Up, "Is it tight?") || !holds(Plane::Down, "[DONE]") {
            return Err("the recording does not hold what was said".into());
        }
        let signature = token.rsplit('.').next().unwrap_or(token);
        if [signature, &setup.stored_key].into_iter().any(|secret| holds(Plane::Up, secret)) {
            return Err("the token or the stored key stands in the recording".into());
        }
        let [up, down] = [Plane::Up, Plane::Down].map(|plane| planes[plane.index()].len());
        let report = self.verify(setup)?;
        let verified = format!("{} entries of the log, {} records opened", report.entries, report.opened);
        let (segment, offset) = self.flip()?;
        let report = self.verify(setup)?;
        let fault = report.faults().next().ok_or("a byte was flipped and nobody found it")?;
        let place = &fault.place;
        if place.file.file_name() != segment.file_name() {
            return Err(format!(
                "a byte of {} was flipped, and found was {}",
                segment.display(),
                first(&report)
            ));
        }
        let name = segment.file_name().unwrap_or_default().display();
        Ok(Checked {
            recorded: format!("{up} bytes up without the token, {down} down; two auditors' keys open it"),
            verified,
            flipped: format!("{name}, byte {offset}: {}", place.reason),
        })
    }

    /// Turns over a bit in the middle of an answer.
    fn flip(&self) -> Result<(PathBuf, u64), String> {
        let directory = Directory::read(&self.copy).map_err(|fault| fault.to_string())?;
        for number in directory.segments().map_err(|fault| fault.to_string())? {
            let path = directory.segment(number, "seg");
            let mut file = SegmentFile::open(&path).map_err(|fault| fault.to_string())?;
            while let Ok(Some(frame)) = file.next_without_records() {
                if frame.head.session != self.session || frame.head.kind != Kind::Down {
                    continue;
                }
                let offset = frame.offset + HEAD as u64 + u64::from(frame.head.length) / 2;
                let flipped = fs::read(&path).and_then(|mut bytes| {
                    if let Some(byte) = usize::try_from(offset).ok().and_then(|at| bytes.get_mut(at)) {
                        *byte ^= 1;
                    }
                    fs::write(&path, bytes)
                });
                return flipped.map(|()| (path, offset)).map_err(|error| format!("the copy: {error}"));
            }
        }
        Err("the recording holds no answer".into())
    }
}

fn first(report: &Report) -> String {
    report.faults().next().map(|fault| fault.place.to_string()).unwrap_or_default()
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &to)?,
            // One that was replaced meanwhile: if it is missed, the copy does not verify.
            false => drop(fs::copy(entry.path(), to)),
        }
    }
    Ok(())
}
