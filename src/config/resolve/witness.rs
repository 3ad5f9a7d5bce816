//! Those outside who vouch for the log: witnesses and a time-stamping authority; and this gateway as a witness.

use super::context::{Context, duration};
use super::recording::check_directory;
use crate::config::fault::FaultCollector;
use crate::config::model;
use crate::net::https::{HttpsClient, HttpsUrl, pem_authorities};
use crate::recording::log::note::{Purpose, Verifier, is_key_name};
use crate::recording::timestamp::client::{self, TimestampSettings};
use crate::recording::witness::client::{AskedWitness, LIMITS};
use crate::recording::witness::memory::ServedWitness;
use crate::secret::shown_url;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// A minute of the log can be lost to a rollback at most where it is busy; ten seconds are no burden for a witness.
const INTERVAL: Duration = Duration::from_secs(10);
/// The log is signed once a second.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Resolves the witnesses that are asked.
pub(super) fn asked(
    section: Option<&Spanned<model::Recording>>,
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Vec<AskedWitness> {
    let mut found: Vec<AskedWitness> = Vec::new();
    for written in section.map_or(&[][..], |section| &section.get_ref().witness) {
        let witness = written.get_ref();
        let key = notes.take(witness.key.span(), key(witness.key.get_ref(), Purpose::Cosignatures));
        let prefix = witness.url.get_ref().trim_end_matches('/');
        let url = format!("{prefix}/add-checkpoint").parse::<HttpsUrl>();
        let advice = || {
            format!(
                "{} is no https URL; write for example \"https://witness.example.com:9443\"",
                shown_url(prefix)
            )
        };
        let url = notes.take(witness.url.span(), url.map_err(|()| advice()));
        let client = match &witness.ca {
            None => Some(HttpsClient::with_system_authorities(LIMITS)),
            Some(ca) => {
                let roots = pem_authorities(&base.join(ca.get_ref()));
                notes.take(ca.span(), roots.and_then(|roots| HttpsClient::with_authorities(roots, LIMITS)))
            }
        };
        let interval = duration(&witness.interval, INTERVAL, notes);
        if let Some(text) =
            witness.interval.as_ref().filter(|_| interval.is_some_and(|time| time < MIN_INTERVAL))
        {
            notes.fault(text.span(), "interval must be 1s at least: the log is signed once a second");
        }
        let (Some(key), Some(url), Some(client), Some(interval)) = (key, url, client, interval) else {
            continue;
        };
        if found.iter().any(|other| other.key == key) {
            notes.fault(witness.key.span(), format!("witness `{}` is named twice; remove one", key.name()));
        }
        found.push(AskedWitness { key, url, client, interval });
    }
    found
}

/// An hour of the log can be dated back at most; public authorities ask for no more requests than they need.
const TIMESTAMP_INTERVAL: Duration = Duration::from_secs(3600);

/// Resolves the time-stamping authority.
pub(super) fn timestamp(
    section: Option<&Spanned<model::Recording>>,
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Option<TimestampSettings> {
    let written = section?.get_ref().timestamp.as_ref()?.get_ref();
    let url = HttpsUrl::parse_with_http(written.url.get_ref()).ok_or_else(|| {
        let url = shown_url(written.url.get_ref());
        format!("{url} is no URL of an authority; write for example \"http://timestamp.example.com\"")
    });
    let url = notes.take(written.url.span(), url);
    let authorities = pem_authorities(&base.join(written.authority.get_ref()));
    let authorities = notes.take(written.authority.span(), authorities).map(|roots| roots.roots);
    let client = match &written.ca {
        None => Some(HttpsClient::with_system_authorities(client::LIMITS)),
        Some(ca) => {
            let roots = pem_authorities(&base.join(ca.get_ref()));
            let client = roots.and_then(|roots| HttpsClient::with_authorities(roots, client::LIMITS));
            notes.take(ca.span(), client)
        }
    };
    let interval = duration(&written.interval, TIMESTAMP_INTERVAL, notes);
    if let Some(text) = written.interval.as_ref().filter(|_| interval.is_some_and(|time| time < MIN_INTERVAL))
    {
        notes.fault(text.span(), "interval must be 1s at least: the log is signed once a second");
    }
    Some(TimestampSettings { url: url?, client: client?, authorities: authorities?, interval: interval? })
}

impl Context<'_> {
    /// This gateway as a witness.
    pub(super) fn witness(
        &mut self,
        written: Option<&Spanned<model::Witness>>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<ServedWitness> {
        let witness = written?.get_ref();
        let address = witness.address.get_ref().parse::<SocketAddr>();
        let advice =
            || format!("{:?} is no address; write for example \"0.0.0.0:9443\"", witness.address.get_ref());
        let address = notes.take(witness.address.span(), address.map_err(|_| advice()));
        let tls = witness.certificate.as_ref().map(|pair| self.http_tls(pair, notes));
        if tls.is_none() && address.is_some_and(|address| !address.ip().is_loopback()) {
            notes.fault(
                witness.address.span(),
                "only loopback is served in clear; write certificate = { chain = \"…\", key = \"…\" }",
            );
        }
        let directory = self.base.join(witness.directory.get_ref());
        if let Err(why) = check_directory(&directory) {
            notes.fault(witness.directory.span(), why);
        }
        let name = witness.name.get_ref();
        if !is_key_name(name) {
            let what =
                "the name of a key has neither blanks nor `+`; write for example \"gw.example.com/witness\"";
            notes.fault(witness.name.span(), what);
        }
        let mut logs: Vec<Verifier> = Vec::new();
        for text in &witness.logs {
            let Some(key) = notes.take(text.span(), key(text.get_ref(), Purpose::Notes)) else { continue };
            if logs.iter().any(|other| other.name() == key.name()) {
                notes.fault(text.span(), format!("log `{}` is named twice; remove one", key.name()));
            }
            logs.push(key);
        }
        let tls = match tls {
            None => None,
            Some(tls) => Some(tls?),
        };
        Some(ServedWitness { address: address?, directory, name: name.clone(), tls, logs })
    }
}

/// Reads a public key, and says which it is where it is another one.
fn key(written: &str, purpose: Purpose) -> Result<Verifier, String> {
    let found = Verifier::parse(written);
    match (found, purpose) {
        (Some(key), _) if key.purpose() == purpose => Ok(key),
        (Some(_), Purpose::Cosignatures) => {
            Err("this is the key of a log; a gateway's key as a witness stands in its witness.pub".into())
        }
        (Some(_), Purpose::Notes) => {
            Err("this is the key of a witness; a log's stands in log/log.pub of its recordings".into())
        }
        (None, _) => Err(format!("{written:?} is no public key (name+id+key) with Ed25519")),
    }
}
