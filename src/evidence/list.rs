//! `staunch sessions list`: sessions with filters.

use super::arguments::{Place, tell};
use super::progress::Progress;
use super::table::{self, Output, Row};
use super::transcript::{Item, Limits, TranscriptBuilder};
use super::when::When;
use super::{EvidenceFault, identities};
use crate::names::SessionId;
use crate::recording::directory::Directory;
use crate::recording::format::envelope::Identities;
use crate::recording::reader::log_view::LogView;
use crate::recording::reader::{
    Observer, ReadFault, SessionSummary, list_segments, play_segments, segments_since,
};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// `staunch sessions list`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// How: table, json (an object a line), csv.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// Sessions of this subject.
    #[arg(long, value_name = "SUBJECT")]
    pub user: Option<String>,
    /// Sessions of members of this group.
    #[arg(long)]
    pub group: Option<String>,
    /// Sessions over this route.
    #[arg(long)]
    pub route: Option<String>,
    /// Sessions that were still open at this time, or began later: 2026-11-27, 2026-11-27T10:30:00Z, 2h (ago).
    #[arg(long, value_name = "TIME")]
    pub from: Option<When>,
    /// Sessions that began before this time.
    #[arg(long, value_name = "TIME")]
    pub to: Option<When>,
    /// Sessions with a request whose path is this, or matches it: `*` stands for anything.
    #[arg(long)]
    pub path: Option<Pattern>,
    /// Sessions with a request of this status: 404, 4xx. With --path and --user: the same request.
    #[arg(long)]
    pub status: Option<Status>,
    /// Sessions with a leg of this TLS version: 1.2, 1.3.
    #[arg(long, value_name = "VERSION")]
    pub tls: Option<TlsVersion>,
    /// Sessions with a leg of this key exchange, for example X25519MLKEM768.
    #[arg(long, value_name = "GROUP")]
    pub key_exchange: Option<String>,
    /// Sessions with this text in a statement or command, in any case. Needs an identity.
    #[arg(long, requires = "identity")]
    pub text: Option<String>,
    /// An auditor's identity file, as age's; for --text.
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Sessions with a fact that has this value: database=shop, reason=truncated. Several: all of them.
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    pub filters: Vec<Filter>,
}

/// A field of an audit line and its value.
#[derive(Clone, Debug)]
pub struct Filter(String, String);

impl FromStr for Filter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (field, value) = text.split_once('=').ok_or("write FIELD=VALUE, for example route=openai")?;
        Ok(Filter(field.to_owned(), value.to_owned()))
    }
}

/// A text in which `*` stands for anything.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<String>);

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Pattern(text.split('*').map(str::to_owned).collect()))
    }
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &self.0[..] else {
            return self.0.first().is_some_and(|only| only == text);
        };
        let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        middle.iter().all(|part| match rest.find(part.as_str()) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// A version of TLS that the gateway speaks, as audit lines have it.
#[derive(Clone, Debug)]
pub struct TlsVersion(&'static str);

impl FromStr for TlsVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_start_matches(['T', 'L', 'S', 't', 'l', 's', 'v', ' ']) {
            "1.2" => Ok(TlsVersion("TLSv1.2")),
            "1.3" => Ok(TlsVersion("TLSv1.3")),
            _ => Err("write 1.2 or 1.3".into()),
        }
    }
}

/// A status or a class of them.
#[derive(Clone, Debug)]
pub struct Status(String);

impl FromStr for Status {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let has_class = text.len() == 3 && matches!(text.as_bytes()[0], b'1'..=b'5');
        let is_class = has_class && text.ends_with("xx");
        let is_status = has_class && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_class || is_status).then_some(Status(text)).ok_or_else(|| "write 404 or 4xx".into())
    }
}

impl Status {
    fn matches(&self, status: &str) -> bool {
        match self.0.strip_suffix("xx") {
            Some(class) => status.len() == 3 && status.starts_with(class),
            None => status == self.0,
        }
    }
}

/// Lists; what could not be read goes to `told`.
pub fn run(arguments: &Arguments, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    let identities = arguments.identity.as_deref().map(identities).transpose()?;
    let directory = Directory::read(&arguments.place.directory)?;
    let progress = Progress::new("reading segment");
    let mut facts = Facts { arguments, progress, sessions: HashMap::new() };
    let segments = match arguments.from {
        Some(from) => segments_since(&directory, from.0)?,
        None => directory.segments()?,
    };
    let (sessions, mut faults) = list_segments(&directory, &segments, identities.as_ref(), &mut facts);
    let Facts { sessions: mut found, progress, .. } = facts;
    drop(progress);
    let search = Progress::new("searching session");
    let count = sessions.len();
    let log = LogView::read(&directory).unwrap_or_else(|fault| {
        faults.push(ReadFault { file: directory.log(), offset: 0, reason: fault.to_string() });
        Default::default()
    });
    let mut rows = Vec::new();
    for (place, summary) in sessions.into_iter().enumerate() {
        let Found { fields, matches } = found.remove(&summary.session).unwrap_or_default();
        let mut is_wanted = is_in_time(arguments, &summary)
            && (arguments.path.is_none() && arguments.status.is_none() || matches.has_request)
            && matches.filters.iter().all(|found| *found)
            && matches.filters.len() >= arguments.filters.len();
        if let (true, Some(text), false) = (is_wanted, &arguments.text, matches.text) {
            search.update(place, count);
            is_wanted = contains_text(&directory, &summary, identities.as_ref(), text);
        }
        if is_wanted && matches.has_identity(arguments) && has_encryption(arguments, &fields) {
            let (is_held, erased) = (
                log.held.contains(&summary.session),
                log.erased.get(&summary.session).map(|(entry, _)| *entry),
            );
            rows.push(Row { summary, fields, is_held, erased });
        }
    }
    drop(search);
    table::print(out, &rows, arguments.output)?;
    tell(told, &faults)
}

/// What is known of a session.
#[derive(Default)]
struct Found {
    /// The last value of each field of its audit lines.
    fields: Map<String, Value>,
    matches: Matches,
}

#[derive(Default)]
struct Matches {
    /// A request with the path and status that are asked for.
    has_request: bool,
    /// The text.
    text: bool,
    /// Subject, group and route that are asked for, in any line: a connection can carry requests of several people.
    identity: [bool; 3],
    /// One for each filter.
    filters: Vec<bool>,
}

impl Matches {
    fn has_identity(&self, arguments: &Arguments) -> bool {
        let asked = [&arguments.user, &arguments.group, &arguments.route];
        asked.iter().zip(self.identity).all(|(asked, found)| asked.is_none() || found)
    }
}

struct Facts<'a> {
    arguments: &'a Arguments,
    progress: Progress,
    sessions: HashMap<SessionId, Found>,
}

/// Fields that a table shows, or that are looked at in the end: of a million sessions all would take gigabytes.
const SHOWN: [&str; 6] =
    ["route", "subject", "client_version", "client_group", "upstream_version", "upstream_group"];

impl Observer for Facts<'_> {
    fn segment(&mut self, place: usize, count: usize) {
        self.progress.update(place, count);
    }

    fn offset(&mut self, offset: u64, length: u64) {
        self.progress.advance(offset, length);
    }

    fn fact(&mut self, session: SessionId, _: u64, line: &[u8]) {
        let Ok(Value::Object(line)) = serde_json::from_slice::<Value>(line) else { return };
        let arguments = self.arguments;
        let found = self.sessions.entry(session).or_default();
        let matches = &mut found.matches;
        matches.filters.resize(arguments.filters.len(), false);
        for (filter, matched) in arguments.filters.iter().zip(&mut matches.filters) {
            *matched |= line.get(&filter.0).is_some_and(|value| table::text(value) == filter.1);
        }
        let text = |name: &str| line.get(name).map(table::text).unwrap_or_default();
        let is = |name: &str, wanted: &Option<String>| {
            wanted.as_ref().is_some_and(|wanted| line.contains_key(name) && text(name) == *wanted)
        };
        let groups = line.get("groups").and_then(Value::as_array).into_iter().flatten();
        let is_group = |group: &Value| group.as_str() == arguments.group.as_deref();
        let is_of_user = is("subject", &arguments.user);
        let identity = [
            is_of_user,
            arguments.group.is_some() && groups.clone().any(is_group),
            is("route", &arguments.route),
        ];
        matches.identity.iter_mut().zip(identity).for_each(|(found, is_here)| *found |= is_here);
        if arguments.path.is_some() || arguments.status.is_some() {
            let has_path = arguments.path.as_ref().is_none_or(|path| path.matches(&text("path")));
            let has_status = arguments.status.as_ref().is_none_or(|status| status.matches(&text("status")));
            let is_request = text("event") == "request";
            // Of a request that says whose it is, it must be this user's.
            let has_user = arguments.user.is_none() || is_of_user || !line.contains_key("subject");
            matches.has_request |= is_request && has_path && has_status && has_user;
        }
        if let Some(wanted) = &arguments.text {
            matches.text |= text("text").to_lowercase().contains(&wanted.to_lowercase());
        }
        let event = text("event");
        let is_shown = |name: &str| arguments.output == Output::Json || SHOWN.contains(&name);
        let shown = line.into_iter().filter(|(name, _)| is_shown(name)).collect();
        table::keep_fields(&mut found.fields, &event, shown);
    }
}

fn is_in_time(arguments: &Arguments, summary: &SessionSummary) -> bool {
    arguments.from.is_none_or(|from| summary.last >= from.0)
        && arguments.to.is_none_or(|to| summary.first < to.0)
}

fn has_encryption(arguments: &Arguments, fields: &Map<String, Value>) -> bool {
    let any = |name: &str, wanted: &dyn Fn(&str) -> bool| {
        let legs = [format!("client_{name}"), format!("upstream_{name}")];
        legs.iter().filter_map(|leg| fields.get(leg)?.as_str()).any(wanted)
    };
    let has_version =
        arguments.tls.as_ref().is_none_or(|wanted| any("version", &|version| version == wanted.0));
    let has_group = arguments.key_exchange.as_ref();
    has_version && has_group.is_none_or(|wanted| any("group", &|group| group.eq_ignore_ascii_case(wanted)))
}

/// True if a statement or command of the session holds the text.
fn contains_text(
    directory: &Directory,
    summary: &SessionSummary,
    identities: Option<&Identities>,
    text: &str,
) -> bool {
    let (mut transcript, mut items) = (TranscriptBuilder::new(None, Limits::default()), Vec::new());
    let wanted = text.to_lowercase();
    let holds = |value: &Value| table::text(value).to_lowercase().contains(&wanted);
    let mut is_found = false;
    let mut search = |items: &mut Vec<Item>| {
        for item in items.drain(..).filter(|item| matches!(item.kind, "statement" | "command")) {
            let shown = [item.fields.get("text"), item.fields.get("words")];
            is_found |= shown.into_iter().flatten().any(holds);
        }
    };
    play_segments(directory, &summary.segments, summary.session, identities, |time, event| {
        transcript.take(time, &event, &mut items);
        search(&mut items);
    });
    transcript.finish(&mut items);
    search(&mut items);
    is_found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_texts_and_stars_stand_for_anything() {
        let cases = [
            ("/v1/chat", "/v1/chat", true),
            ("/v1/chat", "/v1/chat/x", false),
            ("/v1/*", "/v1/chat", true),
            ("*chat", "/v1/chat", true),
            ("/v1/*/x", "/v1/x", false),
            ("*a*b*", "-a-b-", true),
            ("*b*a*", "-a-b-", false),
            ("a*a", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(text), expected, "{pattern} {text}");
        }
        assert!(
            "4xx".parse::<Status>().unwrap().matches("404")
                && "404".parse::<Status>().unwrap().matches("404")
        );
        assert!(!"4xx".parse::<Status>().unwrap().matches("500") && "44".parse::<Status>().is_err());
        for bad in ["999", "0xx", "xxx", "", "40", "ok"] {
            assert!(bad.parse::<Status>().is_err(), "{bad}");
        }
        assert!("1.2".parse::<TlsVersion>().is_ok() && "TLSv1.3".parse::<TlsVersion>().is_ok());
        assert!("1.1".parse::<TlsVersion>().is_err() && "".parse::<TlsVersion>().is_err());
    }
}
