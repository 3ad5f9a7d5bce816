//! Holds, releases and erasures. They are entries of the log, so whoever writes the log does them: the gateway, for requests
//! that stand in the directory's `requests`; or the command itself while no gateway runs.
//!
//! ```text
//!   requests/<name>.ask      one line: hold|release|erase session=<16 hex digits> reason=<word>
//!                            or: report sha256=<64 hex digits>
//!                            or: rewrap segments=<number> recipients=<age1…>[,<age1…>]
//!   requests/<name>.answer   done … | refused …; of a report: its signature behind
//! ```

use super::super::directory::{Directory, DirectoryFault};
use super::super::files::{private_options, read_text, replace};
use super::super::format::envelope::Recipient;
use super::super::format::keys::ENTRY;
use super::super::log::entry::{Entry, word};
use super::super::log::store::{Log, read_entries};
use super::super::reader::{SegmentFile, key_places};
use crate::names::SessionId;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A request's verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Retention and erasure refuse the session.
    Hold,
    /// The hold is released.
    Release,
    /// Its secrets are overwritten: nobody can open it again.
    Erase,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Action::Hold => "hold",
            Action::Release => "release",
            Action::Erase => "erase",
        }
    }

    fn from_verb(verb: &str) -> Option<Self> {
        [Action::Hold, Action::Release, Action::Erase].into_iter().find(|action| action.verb() == verb)
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub action: Action,
    /// Of which session.
    pub session: SessionId,
    /// Why, in a person's words.
    pub reason: String,
}

impl Request {
    /// The line of a request's file.
    pub fn line(&self) -> String {
        format!("{} session={} reason={}", self.action.verb(), self.session, word(&self.reason))
    }

    fn parse(line: &str) -> Option<Self> {
        let entry = Entry::parse(line.trim())?;
        let action = Action::from_verb(entry.verb)?;
        Some(Request { action, session: entry.session()?, reason: entry.get("reason")?.to_owned() })
    }
}

/// Sessions that are held, from the log's entries.
pub fn held<'e>(entries: impl Iterator<Item = &'e str>) -> HashSet<SessionId> {
    let mut held = HashSet::new();
    for entry in entries.filter_map(Entry::parse) {
        match (entry.verb, entry.session()) {
            ("hold", Some(session)) => {
                held.insert(session);
            }
            ("release", Some(session)) => {
                held.remove(&session);
            }
            _ => {}
        }
    }
    held
}

/// Sessions that are held now.
pub(super) fn read_held(directory: &Directory, log: &mut Log) -> Result<HashSet<SessionId>, DirectoryFault> {
    if log.has_grown() {
        log.checkpoint()?;
    }
    let mut lines = Vec::new();
    read_entries(&directory.log(), log.size(), |_, line| {
        if line.starts_with("hold ") || line.starts_with("release ") {
            lines.push(line);
        }
    })?;
    Ok(held(lines.iter().map(String::as_str)))
}

/// Requests whose entries the log has and could not sign yet, by file: they are answered once it could.
#[derive(Default)]
pub(super) struct Requests {
    unsigned: HashMap<PathBuf, u64>,
}

/// Why a request is not done.
#[derive(Debug)]
enum RequestFault {
    /// Permanently refused.
    Refused(String),
    /// Its entry is in the log, and cannot be signed now.
    Unsigned(DirectoryFault),
}

impl RequestFault {
    fn refused(fault: DirectoryFault) -> Self {
        RequestFault::Refused(fault.to_string())
    }

    /// What it is where nobody tries again: an entry that is not signed is lost with the process.
    fn text(self) -> String {
        match self {
            RequestFault::Refused(why) => why,
            RequestFault::Unsigned(fault) => fault.to_string(),
        }
    }
}

impl Requests {
    /// Answers the requests that wait. What is in the log and not signed is neither done nor refused: it goes on waiting.
    pub(super) fn serve(&mut self, directory: &Directory, log: &mut Log) -> Result<(), DirectoryFault> {
        let folder = directory.requests();
        for file in std::fs::read_dir(&folder).map_err(DirectoryFault::io(&folder))? {
            let path = file.map_err(DirectoryFault::io(&folder))?.path();
            if path.extension().is_none_or(|extension| extension != "ask") {
                continue;
            }
            // What cannot be read is nobody's request, and keeps nobody else's from being answered.
            let Ok(text) = read_text(&path) else { continue };
            let mut entered = self.unsigned.get(&path).copied();
            let done = serve_one(directory, log, &text, &mut entered);
            let answer = match done {
                Ok(done) => format!("done {done}"),
                Err(RequestFault::Refused(why)) => format!("refused {why}"),
                Err(RequestFault::Unsigned(fault)) => {
                    self.unsigned.extend(entered.map(|entered| (path, entered)));
                    return Err(fault);
                }
            };
            replace(&path.with_extension("answer"), format!("{answer}\n").as_bytes())?;
            self.unsigned.remove(&path);
            std::fs::remove_file(&path).map_err(DirectoryFault::io(&path))?;
        }
        Ok(())
    }
}

fn serve_one(
    directory: &Directory,
    log: &mut Log,
    text: &str,
    entered: &mut Option<u64>,
) -> Result<String, RequestFault> {
    let entry = Entry::parse(text.trim());
    match (entry.as_ref().map(|entry| (entry.verb, entry)), Request::parse(text)) {
        (Some(("report", report)), _) => enter_report(log, report.get("sha256").unwrap_or_default(), entered),
        (Some(("rewrap", rewrap)), _) => enter_rewrap(log, rewrap, entered),
        (_, None) => Err(RequestFault::Refused("not a request".to_owned())),
        (_, Some(request)) => try_perform(directory, log, &request, entered),
    }
}

/// Has a line in the log, signed; gives its number. `entered`: where it stands since an earlier try.
fn enter(log: &mut Log, line: &str, entered: &mut Option<u64>) -> Result<u64, RequestFault> {
    let number = match *entered {
        Some(number) => number,
        None => {
            log.append(line).map_err(RequestFault::refused)?;
            log.size() - 1
        }
    };
    *entered = Some(number);
    log.checkpoint().map_err(RequestFault::Unsigned)?;
    Ok(number)
}

/// Enters the SHA-256 of a report into the log, and signs it: as a line of `sha256sum`.
fn enter_report(log: &mut Log, sha256: &str, entered: &mut Option<u64>) -> Result<String, RequestFault> {
    if super::super::unhex(sha256).is_none_or(|bytes| bytes.len() != 32) {
        return Err(RequestFault::Refused("a report has a SHA-256 of 64 hex digits".into()));
    }
    let number = enter(log, &format!("report sha256={sha256}"), entered)?;
    Ok(format!("entry {number}\n{}", log.sign_report(format!("{sha256}  report.json\n").as_bytes())))
}

/// Enters that somebody who can open segments seals their keys to others.
fn enter_rewrap(
    log: &mut Log,
    rewrap: &Entry<'_>,
    entered: &mut Option<u64>,
) -> Result<String, RequestFault> {
    let recipients = rewrap.get("recipients").unwrap_or_default();
    let read = recipients.split(',').try_for_each(|text| text.parse::<Recipient>().map(drop));
    read.map_err(RequestFault::Refused)?;
    let segments = rewrap.number("segments");
    let segments = segments
        .ok_or_else(|| RequestFault::Refused("how many segments are sealed again is missing".into()))?;
    let number = enter(log, &format!("rewrap segments={segments} recipients={recipients}"), entered)?;
    Ok(format!("entry {number}"))
}

/// Has it entered into the log that the keys of segments are sealed to others, by the gateway or here. The inner error is a
/// refusal.
pub fn note_rewrap(
    root: &Path,
    segments: usize,
    recipients: &[Recipient],
) -> Result<Result<String, String>, DirectoryFault> {
    let texts: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    let line = format!("rewrap segments={segments} recipients={}", texts.join(","));
    match Directory::open(root) {
        Ok(directory) => {
            let mut log = Log::open(&directory, super::super::clock::system)?;
            let entry = Entry::parse(&line);
            let entry = entry.ok_or_else(|| "not an entry".to_owned());
            Ok(entry.and_then(|entry| enter_rewrap(&mut log, &entry, &mut None).map_err(RequestFault::text)))
        }
        Err(DirectoryFault::InUse(_)) => ask_gateway(&Directory::read(root)?, &line),
        Err(fault) => Err(fault),
    }
}

/// Has a report entered into the log and signed, by the gateway or here. Gives the signature; the inner error is a refusal.
pub fn sign_report(root: &Path, sha256: &str) -> Result<Result<String, String>, DirectoryFault> {
    let directory = Directory::read(root)?;
    let done = match Directory::open(root) {
        Ok(directory) => {
            let mut log = Log::open(&directory, super::super::clock::system)?;
            enter_report(&mut log, sha256, &mut None).map_err(RequestFault::text)
        }
        Err(DirectoryFault::InUse(_)) => ask_gateway(&directory, &format!("report sha256={sha256}"))?,
        Err(fault) => return Err(fault),
    };
    Ok(done.map(|done| match done.split_once('\n') {
        Some((_, signature)) => format!("{}\n", signature.trim_end()),
        None => done,
    }))
}

/// Performs a request, or returns why not.
pub fn perform(directory: &Directory, log: &mut Log, request: &Request) -> Result<String, String> {
    try_perform(directory, log, request, &mut None).map_err(RequestFault::text)
}

fn try_perform(
    directory: &Directory,
    log: &mut Log,
    request: &Request,
    entered: &mut Option<u64>,
) -> Result<String, RequestFault> {
    let refuse = |why: String| Err(RequestFault::Refused(why));
    let session = request.session;
    let mut places = Vec::new();
    for number in directory.segments().map_err(RequestFault::refused)? {
        let path = directory.segment(number, "seg");
        // One that cannot be read hides no other.
        let found = SegmentFile::open(&path).map(|file| key_places(file, session)).unwrap_or_default();
        if found.is_present {
            places.push((number, found.places));
        }
    }
    if places.is_empty() {
        return refuse(format!("no segment holds session {session}"));
    }
    // Of what is entered already it was decided before.
    if entered.is_none() {
        let held = read_held(directory, log).map_err(RequestFault::refused)?;
        match (request.action, held.contains(&session)) {
            (Action::Erase, true) => return refuse(format!("session {session} is held; release it first")),
            (Action::Hold, true) => return refuse(format!("session {session} is held already")),
            (Action::Release, false) => return refuse(format!("session {session} is not held")),
            (Action::Erase, false) => {
                let open = places.iter().find(|(number, _)| !directory.segment(*number, "sum").exists());
                if let Some((number, _)) = open {
                    let why =
                        "is not complete yet; try again when it is, at the latest after the segment's age";
                    return refuse(format!("segment {number} {why}"));
                }
            }
            (Action::Hold, false) | (Action::Release, true) => {}
        }
    }
    let numbers: Vec<String> = places.iter().map(|(number, _)| number.to_string()).collect();
    let line = match request.action {
        Action::Erase => format!("{} segments={}", request.line(), numbers.join(",")),
        Action::Hold | Action::Release => request.line(),
    };
    let number = enter(log, &line, entered)?;
    // Only now: an entry without its erasure can be repeated, an erasure without its entry looks like a theft.
    if request.action == Action::Erase {
        for (segment, entries) in &places {
            let told =
                |fault| format!("entry {number} says that it is erased, and it is not: {fault}; ask again");
            erase(directory, *segment, entries).map_err(|fault| RequestFault::Refused(told(fault)))?;
        }
    }
    Ok(format!("entry {number}"))
}

fn erase(directory: &Directory, segment: u64, places: &[u32]) -> Result<(), DirectoryFault> {
    let path = directory.segment(segment, "keys");
    let overwrite = || {
        let file = private_options().open(&path)?;
        places
            .iter()
            .try_for_each(|place| file.write_all_at(&[0; ENTRY], u64::from(*place) * ENTRY as u64))?;
        file.sync_data()
    };
    overwrite().map_err(DirectoryFault::io(&path))
}

/// How long a command waits for the gateway's answer; it looks once a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

/// Asks for something in a directory: of the gateway that is using it, or done here when none is. The inner error is a
/// refusal.
pub fn ask(root: &Path, request: &Request) -> Result<Result<String, String>, DirectoryFault> {
    // A directory that is missing is not made.
    let directory = Directory::read(root)?;
    match Directory::open(root) {
        Ok(directory) => {
            let mut log = Log::open(&directory, super::super::clock::system)?;
            Ok(perform(&directory, &mut log, request))
        }
        Err(DirectoryFault::InUse(_)) => ask_gateway(&directory, &request.line()),
        Err(fault) => Err(fault),
    }
}

fn ask_gateway(directory: &Directory, line: &str) -> Result<Result<String, String>, DirectoryFault> {
    let name = super::super::hex(&super::super::random::<8>());
    let path = directory.requests().join(format!("{name}.ask"));
    replace(&path, line.as_bytes())?;
    let (answer, until) = (path.with_extension("answer"), Instant::now() + ANSWER_TIMEOUT);
    while Instant::now() < until {
        if let Ok(text) = std::fs::read_to_string(&answer) {
            let _ = std::fs::remove_file(&answer);
            let text = text.trim();
            return Ok(match text.strip_prefix("done ") {
                Some(done) => Ok(done.to_owned()),
                None => Err(text.strip_prefix("refused ").unwrap_or(text).to_owned()),
            });
        }
        std::thread::sleep(ANSWER_INTERVAL);
    }
    Ok(Err("the gateway did not answer; it will do it when it can".into()))
}
