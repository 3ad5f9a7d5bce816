//! Warnings about log filters that are probably mistakes.

use super::SetupError;
use super::pipeline::targets;
use tracing_subscriber::filter::LevelFilter;

/// A doubt about a filter that can be read: a level that is none is taken for the name of a module, and a module that is none is
/// never spoken of.
pub fn filter_warning(filter: &str) -> Result<Option<String>, SetupError> {
    targets(filter)?;
    Ok(filter.split(',').map(str::trim).filter(|part| !part.is_empty()).find_map(|part| {
        let (target, level) = match part.split_once('=') {
            Some((target, _)) => (target.trim(), true),
            None => (part, false),
        };
        if !level && target.parse::<LevelFilter>().is_ok() || is_module(target) {
            return None;
        }
        let advice = match level {
            false => "is no level and no module of the gateway; write \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            true => "is no module of the gateway, so this changes nothing; write such as \"warn,staunch::dial=debug\"",
        };
        Some(format!("{target:?} {advice}"))
    }))
}

/// True for the gateway as a whole and for what stands in its rooms.
fn is_module(target: &str) -> bool {
    let mut path = target.split("::");
    path.next() == Some("staunch") && path.next().is_none_or(|module| MODULES.contains(&module))
}

/// The gateway's top-level modules.
const MODULES: [&str; 32] = [
    "acme",
    "admin",
    "audit",
    "client",
    "close",
    "config",
    "credential",
    "demo",
    "dial",
    "evidence",
    "files",
    "gateway",
    "identify",
    "init",
    "mask",
    "mask_try",
    "metrics",
    "names",
    "net",
    "policy",
    "protocol",
    "recording",
    "reference",
    "relay",
    "sandbox",
    "secret",
    "serve",
    "session",
    "system",
    "telemetry",
    "tls",
    "worker",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rooms_are_those_of_the_gateway() {
        let written = include_str!("../lib.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        assert_eq!(written.collect::<Vec<_>>(), MODULES);
    }

    #[test]
    fn a_slip_in_a_filter_is_doubted() {
        let doubt = |filter| filter_warning(filter).unwrap();
        for meant in [
            "info",
            "WARN",
            "off",
            "3",
            "warn,staunch::dial=debug",
            "staunch=trace",
            "staunch::acme",
            " info , staunch::tls=off",
            "",
        ] {
            assert_eq!(doubt(meant), None, "{meant:?}");
        }
        for (slip, part) in [
            ("inof", "\"inof\" is no level"),
            ("warning", "\"warning\" is no level"),
            ("warn,stuanch::dial=debug", "\"stuanch::dial\" is no module"),
            ("warn,staunch::dail=debug", "\"staunch::dail\" is no module"),
            ("dial=debug", "\"dial\" is no module"),
            ("info,debgu", "\"debgu\" is no level"),
        ] {
            assert!(doubt(slip).is_some_and(|text| text.starts_with(part)), "{slip:?}");
        }
        assert!(filter_warning("staunch=loud").is_err());
    }
}
