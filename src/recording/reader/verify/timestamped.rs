//! The log held against its time-stamps (RFC 3161): each is for a checkpoint that the log continues, and was given when the
//! log's entries say.

use super::super::super::directory::{Directory, DirectoryFault};
use super::super::super::files::read_small;
use super::super::super::log::entry::Entry;
use super::super::super::log::keys::{origin, read_public};
use super::super::super::log::note::{SignedCheckpoint, Verifier};
use super::super::super::log::store::read_entries;
use super::super::super::log::tree::{Edge, Hash, leaf};
use super::super::super::log::verify::checkpoint_size;
use super::super::super::timestamp::client::MAX_SKEW;
use super::super::super::timestamp::query::{Query, sha256};
use super::super::super::timestamp::stored;
use super::super::super::timestamp::token::verify;
use super::super::segment::ReadFault;
use super::report::{Area, Report, of_log};
use rustls::pki_types::TrustAnchor;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Whose time-stamps count.
pub struct Stamped {
    /// What the tokens' certificates must lead to.
    pub authorities: Vec<TrustAnchor<'static>>,
    /// How much later than the newest token the log may have entries.
    pub within: Duration,
}

/// A time-stamp that was read.
struct Good {
    time: u64,
    authority: String,
}

/// Holds the log against its time-stamps. Without `wanted`, whose they are is not looked at, and there may be none.
pub fn hold_against_timestamps(directory: &Directory, wanted: Option<&Stamped>, report: &mut Report) {
    let log = directory.log();
    let there = match stored::list(&log) {
        Ok(there) => there,
        Err(why) => return report.add(Area::Integrity, true, of_log(&why)),
    };
    let sizes: BTreeSet<u64> = there.iter().chain(report.timestamps.keys()).copied().collect();
    let place = |reason: String| ReadFault { file: log.join("timestamps"), offset: 0, reason };
    if sizes.is_empty() {
        if wanted.is_some() {
            report.add(Area::Completeness, true, place("the log has no time-stamp".into()));
        }
        return;
    }
    let (key, states) = match read_public(&log).and_then(|key| Ok((key, states(directory, &sizes)?))) {
        Ok(found) => found,
        Err(why) => return report.add(Area::Integrity, true, of_log(&why)),
    };
    let mut newest = None;
    for size in sizes {
        let told = report.timestamps.get(&size).copied();
        if told.is_some() && !stored::path(&log, size, "tsr").exists() {
            let why = format!("the log tells of a time-stamp of its first {size} entries; it is missing");
            report.add(Area::Completeness, true, place(why));
            continue;
        }
        let stamp = Timestamp { directory, size, key: &key, told, state: states.get(&size) };
        match stamp.check(wanted) {
            Ok(good) => newest = Some((size, good)),
            Err(fault) => report.add(Area::Integrity, true, fault),
        }
    }
    let Some((size, good)) = newest else {
        if wanted.is_some() {
            report.add(Area::Completeness, true, place("the log has no time-stamp that counts".into()));
        }
        return;
    };
    let behind = Duration::from_nanos(report.last_entry.saturating_sub(good.time));
    let path = |kind| stored::path(&log, size, kind).display().to_string();
    let command = format!(
        "openssl ts -verify -queryfile {} -in {} -CAfile AUTHORITY.pem; openssl ts -verify -data {} -in {} -CAfile \
         AUTHORITY.pem",
        path("tsq"),
        path("tsr"),
        path("note"),
        path("tsr"),
    );
    let at = humantime(good.time);
    let whose = if wanted.is_some() { "" } else { " (whose certificate was not checked)" };
    let why = format!("{}{whose} saw {size} entries at {at}; the same: {command}", good.authority);
    report.add(Area::Completeness, false, ReadFault { reason: why, ..place(String::new()) });
    if let Some(Stamped { within, .. }) = wanted.filter(|wanted| behind > wanted.within) {
        let why = format!(
            "the log went on for {} s after its newest time-stamp, more than {} s",
            behind.as_secs(),
            within.as_secs()
        );
        report.add(Area::Completeness, true, place(why));
    }
}

/// What the log was when it had as many entries: its root, and its last entry's time.
type State = (Hash, u64);

/// The log's states at these sizes, in one pass; none for those that it does not have.
fn states(directory: &Directory, sizes: &BTreeSet<u64>) -> Result<BTreeMap<u64, State>, DirectoryFault> {
    let (mut edge, mut found) = (Edge::default(), BTreeMap::new());
    read_entries(&directory.log(), checkpoint_size(directory)?, |_, line| {
        edge.push(leaf(line.as_bytes()));
        if sizes.contains(&edge.size()) {
            let time = Entry::parse(&line).and_then(|entry| entry.number("time")).unwrap_or(0);
            found.insert(edge.size(), (edge.root(), time));
        }
    })?;
    Ok(found)
}

struct Timestamp<'a> {
    directory: &'a Directory,
    size: u64,
    key: &'a Verifier,
    /// SHA-256 of the answer, as an entry of the log has it.
    told: Option<[u8; 32]>,
    state: Option<&'a State>,
}

impl Timestamp<'_> {
    fn path(&self, kind: &str) -> PathBuf {
        stored::path(&self.directory.log(), self.size, kind)
    }

    fn fault(&self, kind: &str, reason: impl Into<String>) -> ReadFault {
        ReadFault { file: self.path(kind), offset: 0, reason: reason.into() }
    }

    fn read(&self, kind: &str) -> Result<Vec<u8>, ReadFault> {
        read_small(&self.path(kind)).map_err(|error| self.fault(kind, error.to_string()))
    }

    fn check(&self, wanted: Option<&Stamped>) -> Result<Good, ReadFault> {
        let (text, query, answer) = (self.read("note")?, self.read("tsq")?, self.read("tsr")?);
        let note = std::str::from_utf8(&text).ok().and_then(SignedCheckpoint::parse);
        let note = note.filter(|note| {
            note.checkpoint.origin == origin(self.directory.gateway())
                && note.checkpoint.size == self.size
                && note.is_signed_by(self.key)
        });
        let note = note.ok_or_else(|| self.fault("note", "not a checkpoint of this log of that size"))?;
        let Some((root, time)) = self.state else {
            return Err(self.fault("note", "the log has fewer entries than it had when this was stamped"));
        };
        if *root != note.checkpoint.root {
            let why = format!("the log's first {} entries are not those that were stamped", self.size);
            return Err(self.fault("note", why));
        }
        let query = Query::parse(&query).ok_or_else(|| self.fault("tsq", "not a query of Staunch's"))?;
        if query.imprint != sha256(&text) {
            return Err(self.fault("tsq", "it asks for other bytes than the checkpoint beside it"));
        }
        if self.told.is_some_and(|told| told != sha256(&answer)) {
            return Err(self.fault("tsr", "not the answer that the log tells of"));
        }
        let authorities = wanted.map(|wanted| &wanted.authorities[..]);
        let stamp = verify(&answer, &query, authorities);
        let stamp = stamp.map_err(|fault| self.fault("tsr", fault.to_string()))?;
        let skew = Duration::from_nanos(stamp.time.abs_diff(*time));
        if skew > MAX_SKEW {
            let (seen, own) = (humantime(stamp.time), humantime(*time));
            let why = format!("the newest entry that it covers says {own}, the authority saw it at {seen}");
            return Err(self.fault("tsr", why));
        }
        Ok(Good { time: stamp.time, authority: stamp.authority })
    }
}

/// RFC 3339, in seconds.
fn humantime(ns: u64) -> String {
    let time = x509_parser::time::ASN1Time::from_timestamp((ns / 1_000_000_000) as i64);
    time.map_or_else(|_| ns.to_string(), |time| time.to_string())
}
