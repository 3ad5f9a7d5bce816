//! Recordings: refuses what could not hold what it promises.

use super::context::duration;
use crate::config::fault::FaultCollector;
use crate::config::model::{self, Record};
use crate::config::units;
use crate::names::RouteName;
use crate::recording::directory::check_private;
use crate::recording::format::envelope::Recipient;
use crate::recording::settings::{Durability, RetentionClass, RouteRecording, Settings};
use crate::recording::writer::Mode;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use toml::Spanned;

const SEGMENT_SIZES: std::ops::RangeInclusive<u64> = (4 << 20)..=(4 << 30);
/// A queue that holds less than a batch of the relay would lose everything.
const MIN_QUEUE: usize = 1 << 20;

/// Resolves the section.
pub(super) fn settings(
    written: &Spanned<model::Recording>,
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Option<Settings> {
    let section = written.get_ref();
    let path = base.join(section.directory.get_ref());
    if let Err(why) = check_directory(&path) {
        notes.fault(section.directory.span(), why);
    }
    let auditors = recipients(section.auditors.get_ref(), notes);
    let indexers = recipients(&section.indexers, notes);
    match section.auditors.get_ref().len() {
        0 => notes.fault(
            section.auditors.span(),
            "there is no auditor, so nobody could read what is recorded; `staunch audit keygen` makes one",
        ),
        1 if !section.unsafe_single_auditor => notes.fault(
            section.auditors.span(),
            "a single auditor's lost key loses every recording; name another, or set unsafe_single_auditor = true",
        ),
        _ => {}
    }
    let durability = match section.durability.as_ref().map(|text| (text.get_ref().as_str(), text.span())) {
        None | Some(("process", _)) => Durability::Process,
        Some(("1s", _)) => Durability::EverySecond,
        Some(("commit", _)) => Durability::Commit,
        Some((other, span)) => {
            notes.fault(span, format!("{other:?} is no durability; write process, 1s or commit"));
            Durability::Process
        }
    };
    let segment_size = size(&section.segment_size, Settings::SEGMENT_SIZE, notes)?;
    if let Some(text) = section.segment_size.as_ref().filter(|_| !SEGMENT_SIZES.contains(&segment_size)) {
        notes.fault(text.span(), "segment_size must lie between 4MiB and 4GiB");
    }
    let queue = size(&section.queue, Settings::QUEUE as u64, notes)? as usize;
    if let Some(text) = section.queue.as_ref().filter(|_| queue < MIN_QUEUE) {
        notes.fault(text.span(), "queue must be 1MiB at least");
    }
    let segment_age = duration(&section.segment_age, Settings::SEGMENT_AGE, notes)?;
    let mut settings = Settings::new(path, auditors);
    if !section.retention.is_empty() {
        settings.classes = classes(&section.retention, notes);
    }
    Some(Settings { indexers, durability, segment_size, segment_age, queue, ..settings })
}

/// Resolves what each route says, by the route's name.
pub(super) fn routes(
    config: &model::Config,
    settings: Option<&Settings>,
    notes: &mut FaultCollector<'_>,
) -> BTreeMap<RouteName, RouteRecording> {
    let section = config.recording.as_ref().map(Spanned::get_ref);
    let default = match section {
        None => None,
        Some(section) => match &section.record {
            None => Some(Mode::Strict),
            Some(record) => mode(record, notes),
        },
    };
    let mut resolved = BTreeMap::new();
    for route in &config.route {
        let route = route.get_ref();
        let wanted = match &route.record {
            None => default,
            Some(record) => mode(record, notes),
        };
        let redact: Vec<String> = notes
            .list(&route.redact, "redact")
            .iter()
            .filter_map(|text| notes.take(text.span(), hidden_name(text.get_ref())))
            .collect();
        if let Some(written) = route.redact.as_ref().filter(|_| !redact.is_empty()) {
            let protocol = route.protocol.get_ref().as_str();
            if matches!(protocol, "raw" | "postgres" | "mysql" | "redis") {
                let what = format!(
                    "redact hides headers and parameters of HTTP requests, and a {protocol} route has none; remove it"
                );
                notes.fault(written.span(), what);
            }
        }
        let extra = route.redact.as_ref().map(Spanned::span).or(route.retention.as_ref().map(Spanned::span));
        let Some(mode) = wanted else {
            // What cannot be read may be what has it recorded.
            if let (Some(span), true) = (extra, notes.faults.is_empty()) {
                notes.fault(
                    span,
                    "the route is not recorded, so this has no effect; set record, or remove it",
                );
            }
            continue;
        };
        let Some(section) = section else {
            if let Some(record) = &route.record {
                let what = "there is no [recording] section; write one with directory and auditors";
                notes.fault(record.span(), what);
            }
            continue;
        };
        let classes = &section.retention;
        let told = classes.iter().any(|class| notes.is_told(&class.get_ref().name.span()));
        let is_unread = told || classes.is_empty() && !notes.faults.is_empty();
        let class = match &route.retention {
            None => 0,
            // Another class may be what cannot be read.
            Some(_) if is_unread => 0,
            Some(name) => {
                let place =
                    section.retention.iter().position(|c| c.get_ref().name.get_ref() == name.get_ref());
                let missing = || format!("there is no [[recording.retention]] `{}`", name.get_ref());
                notes.take(name.span(), place.ok_or_else(missing)).unwrap_or(0)
            }
        };
        if let Some(pq) = route.pq.as_ref().filter(|pq| pq.get_ref() == "require") {
            let what = "recordings of this route are sealed with X25519 alone: who keeps them can open them once there \
                        are quantum computers";
            notes.warn(pq.span(), what);
        }
        if settings.is_some() {
            let name = RouteName(route.name.get_ref().as_str().into());
            resolved.insert(name, RouteRecording { mode, redact, class });
        }
    }
    resolved
}

/// What `check` says of a route's recording.
pub(super) fn shown(route: &RouteRecording) -> String {
    let mode = match route.mode {
        Mode::Strict => "strict: nothing goes on that is not recorded",
        Mode::Async => "async: what does not fit is lost and counted",
    };
    match route.redact.is_empty() {
        true => mode.to_owned(),
        false => format!("{mode}; hides {}", route.redact.join(", ")),
    }
}

fn mode(record: &Spanned<Record>, notes: &mut FaultCollector<'_>) -> Option<Mode> {
    match record.get_ref() {
        Record::Off(false) => None,
        Record::Mode(text) if text == "strict" => Some(Mode::Strict),
        Record::Mode(text) if text == "async" => Some(Mode::Async),
        _ => {
            notes.fault(record.span(), "record is \"strict\", \"async\" or false");
            None
        }
    }
}

/// The name of a header in small letters, or `?` and the name of a query's parameter.
fn hidden_name(text: &str) -> Result<String, String> {
    if let Some(parameter) = text.strip_prefix('?') {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"&;=#?%".contains(&byte);
        return match !parameter.is_empty() && parameter.bytes().all(plain) {
            true => Ok(text.to_ascii_lowercase()),
            false => Err(format!("{text:?} is no parameter of a query; write for example \"?token\"")),
        };
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(token) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "{text:?} is no name of a header; write for example \"cookie\", or \"?token\" for a query's parameter"
        )),
    }
}

fn recipients(texts: &[model::Text], notes: &mut FaultCollector<'_>) -> Vec<Recipient> {
    let mut found: Vec<Recipient> = Vec::new();
    for text in texts {
        let Some(recipient) = notes.take(text.span(), text.get_ref().parse::<Recipient>()) else { continue };
        if found.contains(&recipient) {
            notes.fault(text.span(), format!("{recipient} is named twice; remove one"));
        }
        found.push(recipient);
    }
    found
}

fn classes(written: &[Spanned<model::Retention>], notes: &mut FaultCollector<'_>) -> Vec<RetentionClass> {
    let mut classes: Vec<RetentionClass> = Vec::new();
    for one in written {
        let model::Retention { name, age, size: written_size } = one.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.get_ref().is_empty() || !name.get_ref().chars().all(plain) {
            notes.fault(name.span(), "a retention class is named with letters, digits, `-` and `_`");
        }
        if classes.iter().any(|class| class.name == *name.get_ref()) {
            notes.fault(
                name.span(),
                format!("retention class `{}` stands here twice; remove one", name.get_ref()),
            );
        }
        let age = age.as_ref().and_then(|_| duration(age, Settings::SEGMENT_AGE, notes));
        let size = written_size.as_ref().and_then(|_| size(written_size, 0, notes));
        classes.push(RetentionClass { name: name.get_ref().clone(), age, size });
    }
    classes
}

fn size(written: &Option<model::Text>, default: u64, notes: &mut FaultCollector<'_>) -> Option<u64> {
    match written {
        None => Some(default),
        Some(text) => notes.take(text.span(), units::size(text.get_ref())).map(|size| size as u64),
    }
}

/// Refuses a directory that others can read or change; one that is missing needs a place where nobody else can make it.
pub(super) fn check_directory(path: &Path) -> Result<(), String> {
    if path.exists() {
        return check_private(path).map_err(|fault| fault.to_string());
    }
    let parent = match path.parent() {
        None => Path::new("/"),
        // Beside a configuration that is named without a folder.
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    let found = std::fs::metadata(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    match found.permissions().mode() & 0o022 {
        0 => Ok(()),
        _ => Err(format!(
            "{} does not exist, and others can write where it would be made; make it: mkdir -m 700",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::fault::FaultCollector;
    use crate::config::model::Config;
    use crate::recording::settings::Durability;
    use crate::recording::writer::Mode;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    const ONE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    const TWO: &str = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";

    struct Resolved {
        faults: Vec<String>,
        warnings: usize,
        settings: Option<super::Settings>,
        routes: Vec<(String, super::RouteRecording)>,
    }

    fn resolve(text: &str, base: &Path) -> Resolved {
        let mut notes = FaultCollector::new(text);
        let config: Config = crate::config::text::read(&mut notes).unwrap_or_default();
        let settings =
            config.recording.as_ref().and_then(|section| super::settings(section, base, &mut notes));
        let routes = super::routes(&config, settings.as_ref(), &mut notes);
        let routes = routes.into_iter().map(|(name, route)| (name.to_string(), route)).collect();
        let faults = notes.faults.iter().map(|fault| format!("{}: {}", fault.line, fault.text)).collect();
        Resolved { faults, warnings: notes.warnings.len(), settings, routes }
    }

    fn file(section: &str, route: &str) -> String {
        let protocol = if route.contains("protocol") { "" } else { "protocol = \"raw\"\n" };
        format!(
            "[recording]\n{section}\n[[route]]\nname = \"a\"\n{protocol}upstream = \"tls://a:1\"\nallow = []\n{route}\n"
        )
    }

    fn whole(more: &str) -> String {
        format!("directory = \"r\"\nauditors = [\"{ONE}\", \"{TWO}\"]\n{more}")
    }

    fn private() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    #[test]
    fn a_section_alone_records_every_route_strictly() {
        let folder = private();
        let got = resolve(&file(&whole(""), ""), folder.path());
        assert_eq!(got.faults, Vec::<String>::new());
        let settings = got.settings.unwrap();
        assert_eq!((settings.auditors.len(), settings.durability), (2, Durability::Process));
        assert_eq!((settings.segment_size, settings.segment_age), (256 << 20, Duration::from_secs(600)));
        assert_eq!(got.routes.len(), 1);
        assert_eq!((got.routes[0].1.mode, got.routes[0].1.class), (Mode::Strict, 0));
    }

    #[test]
    fn classes_modes_and_redaction_are_the_route_s() {
        let folder = private();
        let classes = "durability = \"1s\"\nrecord = false\n[[recording.retention]]\nname = \"short\"\nage = \"30d\"\n\
            [[recording.retention]]\nname = \"long\"\nsize = \"100GiB\"\n";
        let route = "protocol = \"http\"\nrecord = \"async\"\nredact = [\"Cookie\", \"?Token\"]\nretention = \"long\"\npq = \"require\"";
        let got = resolve(&file(&whole(classes), route), folder.path());
        assert_eq!(got.faults, Vec::<String>::new());
        let settings = got.settings.unwrap();
        assert_eq!(settings.durability, Durability::EverySecond);
        assert_eq!(settings.classes[0].age, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(settings.classes[1].size, Some(100 << 30));
        let route = &got.routes[0].1;
        assert_eq!(
            (route.mode, &route.redact[..], route.class),
            (Mode::Async, &["cookie".to_owned(), "?token".to_owned()][..], 1)
        );
        assert_eq!(got.warnings, 1);
        assert_eq!(resolve(&file(&whole("record = false"), ""), folder.path()).routes, []);
    }

    #[test]
    fn what_cannot_hold_is_refused_with_its_line() {
        let folder = private();
        let one = |auditors: &str| format!("directory = \"r\"\nauditors = [{auditors}]");
        let cases = [
            (file(&one(""), ""), "3: there is no auditor"),
            (file(&one(&format!("\"{ONE}\"")), ""), "3: a single auditor's lost key"),
            (file(&one(&format!("\"{ONE}\", \"{ONE}\"")), ""), "is named twice"),
            (file(&one("\"AGE-SECRET-KEY-1QQ\", \"age1x\""), ""), "3: this is an auditor's secret"),
            (file(&whole("durability = \"always\""), ""), "4: \"always\" is no durability"),
            (file(&whole("segment_size = \"1MiB\""), ""), "4: segment_size must lie"),
            (file(&whole("queue = \"1KiB\""), ""), "4: queue must be"),
            (file(&whole("record = true"), ""), "4: record is"),
            (file(&whole("record = \"sometimes\""), ""), "4: record is"),
            (file(&whole(""), "retention = \"long\""), "there is no [[recording.retention]] `long`"),
            (file(&whole(""), "redact = [\"a b\"]"), "is no name of a header"),
            (file(&whole("record = false"), "protocol = \"http\"\nredact = [\"cookie\"]"), "has no effect"),
            (file(&whole(""), "redact = [\"?key\"]"), "and a raw route has none"),
            (file(&whole(""), "record = false\nretention = \"x\""), "has no effect"),
            (file("directory = \"r\"", ""), "auditors"),
            ("[[route]]\nname = \"a\"\nprotocol = \"raw\"\nupstream = \"tls://a:1\"\nallow = []\nrecord = \"strict\"\n".into(), "6: there is no [recording] section"),
        ];
        for (text, expected) in cases {
            let got = resolve(&text, folder.path()).faults;
            assert!(got.iter().any(|fault| fault.contains(expected)), "{expected}: {got:?}");
            assert!(!got.iter().any(|fault| fault.contains("SECRET-KEY")), "{got:?}");
        }
        let single = format!("{}\nunsafe_single_auditor = true", one(&format!("\"{ONE}\"")));
        assert_eq!(resolve(&file(&single, ""), folder.path()).faults, Vec::<String>::new());
    }

    #[test]
    fn a_directory_beside_a_configuration_that_is_named_without_a_folder_is_made_there() {
        // Whether others may write here is the machine's.
        let checked = super::check_directory(Path::new("recordings-that-are-not-there"));
        assert!(checked.is_ok() || checked.is_err_and(|why| why.contains("mkdir -m 700")));
    }

    #[test]
    fn a_directory_that_others_can_reach_is_refused() {
        let folder = private();
        let place = folder.path().join("r");
        for (mode, is_refused) in [(0o700, false), (0o770, true), (0o705, true), (0o750, true)] {
            let _ = std::fs::create_dir(&place);
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
            let faults = resolve(&file(&whole(""), ""), folder.path()).faults;
            assert_eq!(faults.iter().any(|fault| fault.contains("open to others")), is_refused, "{mode:o}");
        }
        std::fs::remove_dir(&place).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let faults = resolve(&file(&whole(""), ""), folder.path()).faults;
        assert!(faults.iter().any(|fault| fault.contains("mkdir -m 700")), "{faults:?}");
    }
}
