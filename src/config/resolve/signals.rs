//! Issuers' security events: for whom they are, and where they are polled.

use crate::config::fault::FaultCollector;
use crate::config::{model, secrets};
use crate::identify::oidc::IssuerSettings;
use crate::identify::signals::{PollSource, SignalSource};
use crate::net::https::{self, HttpsClient, Limits};
use crate::secret::Secret;
use crate::secret::shown_url;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// Bounds of one poll: long enough for a transmitter that holds its answer back until there is an event.
const POLL_LIMITS: Limits = Limits { time: Duration::from_secs(60), body: 4 << 20 };

pub(super) fn signals(
    written: &[Spanned<model::Issuer>],
    settings: &[IssuerSettings],
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Vec<Arc<SignalSource>> {
    let both = written.iter().zip(settings);
    both.filter_map(|(issuer, settings)| {
        let one = source(issuer.get_ref().signals.as_ref()?, settings, base, notes)?;
        Some(Arc::new(one))
    })
    .collect()
}

fn source(
    written: &model::Signals,
    settings: &IssuerSettings,
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Option<SignalSource> {
    let audience: Vec<String> =
        written.audience.get_ref().iter().map(|text| text.get_ref().clone()).collect();
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        let advice = "write what the issuer puts into `aud` of this stream";
        notes
            .fault(written.audience.span(), format!("signals without audience could be anybody's; {advice}"));
    }
    let mut key = |written: &Option<model::Text>| -> Option<Arc<Secret>> {
        let text = written.as_ref()?;
        notes.take(text.span(), secrets::read(text.get_ref(), base)).map(Arc::new)
    };
    let (push_key, poll_key) = (key(&written.push_key), key(&written.poll_key));
    let poll = match &written.poll {
        None => {
            if let Some(text) = &written.poll_key {
                notes.fault(text.span(), "poll_key without poll is sent nowhere; write poll = \"https://…\"");
            }
            None
        }
        Some(text) => {
            let fault =
                || format!("{} is no https URL; write https://host[:port]/path", shown_url(text.get_ref()));
            let url = notes.take(text.span(), text.get_ref().parse().map_err(|()| fault()))?;
            let https = match settings.ca.as_deref() {
                Some(ca) => {
                    let roots = https::authorities(ca);
                    HttpsClient::with_authorities(notes.take(text.span(), roots)?, POLL_LIMITS)
                }
                None => Ok(HttpsClient::with_system_authorities(POLL_LIMITS)),
            };
            Some(PollSource { url, key: poll_key, https: notes.take(text.span(), https)? })
        }
    };
    Some(SignalSource { issuer: settings.name.clone(), url: settings.url.clone(), audience, push_key, poll })
}
