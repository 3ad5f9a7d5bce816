//! What the parts of a file share while they are resolved, and the reading of single values.

use crate::acme::{Authority, Certificate, ChallengeKind};
use crate::config::advice;
use crate::config::certificates;
use crate::config::fault::FaultCollector;
use crate::config::model;
use crate::config::units;
use crate::names::{IssuerName, RouteName};
use crate::secret::Secret;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use toml::Spanned;

/// What routes share while they are resolved.
pub(super) struct Context<'a> {
    pub(super) base: &'a Path,
    pub(super) now: SystemTime,
    pub(super) secrets: &'a BTreeMap<&'a str, Option<Secret>>,
    pub(super) issuers: Vec<IssuerName>,
    /// What tokens of each issuer may be for.
    pub(super) audiences: BTreeMap<String, Vec<String>>,
    /// True when the name of an issuer, or of a secret, could not be read: it may be any.
    pub(super) unread_issuers: bool,
    pub(super) unread_secrets: bool,
    pub(super) used_secrets: BTreeSet<&'a str>,
    pub(super) used_issuers: BTreeSet<String>,
    /// Sets of mask rules, and those that routes use.
    pub(super) masks: &'a [Spanned<model::MaskRules>],
    pub(super) used_masks: BTreeSet<String>,
    /// Route names that were seen.
    pub(super) names: BTreeMap<String, ()>,
    /// SNI names that were seen, and whose they are.
    pub(super) sni: BTreeMap<String, Vec<String>>,
    /// The routes that each listener serves; `None`: all.
    pub(super) served: Vec<Option<Vec<String>>>,
    /// True when a listener has a tunnel, or may have one that could not be read.
    pub(super) has_tunnel: bool,
    /// Certificates that are ordered.
    pub(super) acme: AcmeContext,
    /// The system's authorities, once a route wanted them: reading them takes milliseconds.
    pub(super) system_roots: Option<RootCertStore>,
}

/// Authorities, challenge and profile of a certificate: what routes with the same names must agree on.
pub(super) type OrderedBy = (Vec<String>, ChallengeKind, Option<String>);

/// What certificates that are ordered share.
#[derive(Default)]
pub(super) struct AcmeContext {
    pub(super) state: PathBuf,
    pub(super) http: Option<SocketAddr>,
    pub(super) has_http: bool,
    pub(super) dns_hook: Vec<String>,
    pub(super) contact: Vec<String>,
    /// By name; `None`: it could not be read, and using it is no second fault.
    pub(super) authorities: BTreeMap<String, Option<Arc<Authority>>>,
    pub(super) used: BTreeSet<String>,
    /// By key: routes with the same names share one.
    pub(super) certificates: BTreeMap<String, (Arc<Certificate>, OrderedBy)>,
    /// Whose they are.
    pub(super) shown: Vec<(RouteName, Arc<Certificate>)>,
}

impl Context<'_> {
    /// True when the listener at this place serves the route.
    pub(super) fn serves(&self, listener: usize, route: &str) -> bool {
        let routes = self.served.get(listener).and_then(Option::as_ref);
        routes.is_none_or(|routes| routes.iter().any(|name| name == route))
    }

    /// True when some listener serves both.
    pub(super) fn meet(&self, one: &str, other: &str) -> bool {
        (0..self.served.len()).any(|listener| self.serves(listener, one) && self.serves(listener, other))
    }
}

/// Picks the value of a word, or notes which words there are.
pub(super) fn choice<T: Copy>(
    written: &Option<&model::Text>,
    default: T,
    words: &[(&str, T)],
    notes: &mut FaultCollector<'_>,
) -> Option<T> {
    let Some(text) = written else { return Some(default) };
    let found = words.iter().find(|(word, _)| word == text.get_ref()).map(|(_, value)| *value);
    if found.is_none() {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let meant =
            advice::word(text.get_ref(), &all).map(|word| format!("; write {word:?}")).unwrap_or_default();
        let all: Vec<String> = all.iter().map(|word| format!("{word:?}")).collect();
        notes.fault(text.span(), format!("{:?} is none of {}{meant}", text.get_ref(), all.join(", ")));
    }
    found
}

pub(super) fn duration(
    written: &Option<model::Text>,
    default: Duration,
    notes: &mut FaultCollector<'_>,
) -> Option<Duration> {
    let Some(text) = written else { return Some(default) };
    let read = notes.take(text.span(), units::duration(text.get_ref()))?;
    if read.is_zero() {
        notes.fault(text.span(), "a duration of nothing ends everything at once; write for example \"30s\"");
        return None;
    }
    Some(read)
}

/// Since 1970.
/// Reads the authorities that are to verify servers.
pub(super) fn server_authorities(
    ca: &model::Text,
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Option<Vec<CertificateDer<'static>>> {
    let read = notes.take(ca.span(), certificates::authorities(ca.get_ref(), base))?;
    let name = base.join(ca.get_ref()).display().to_string();
    if let Some(doubt) = certificates::doubts_about_authority(&read, &name) {
        notes.warn(ca.span(), doubt);
    }
    Some(read)
}

pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
