//! Where spans of traces go, and how many.

use crate::config::fault::FaultCollector;
use crate::config::{model, secrets};
use crate::net::https::{HttpsClient, HttpsUrl, pem_authorities};
use crate::secret::shown_url;
use crate::telemetry::{Destination, LIMITS, Tracer};
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;

pub(super) fn tracer(
    written: Option<&Spanned<model::Traces>>,
    base: &Path,
    notes: &mut FaultCollector<'_>,
) -> Option<Arc<Tracer>> {
    let written = written?.get_ref();
    let advice = || {
        let text = shown_url(written.url.get_ref());
        format!("{text} is no https URL; write for example \"https://collector.example.com:4318/v1/traces\"")
    };
    let url =
        notes.take(written.url.span(), written.url.get_ref().parse::<HttpsUrl>().map_err(|()| advice()));
    let client = match &written.ca {
        None => Some(HttpsClient::with_system_authorities(LIMITS)),
        Some(ca) => {
            let roots = pem_authorities(&base.join(ca.get_ref()));
            notes.take(ca.span(), roots.and_then(|roots| HttpsClient::with_authorities(roots, LIMITS)))
        }
    };
    let key = match &written.key {
        None => None,
        Some(text) => Some(Arc::new(notes.take(text.span(), secrets::read(text.get_ref(), base))?)),
    };
    let share = written.share.as_ref().map_or(1.0, |share| *share.get_ref());
    if let Some(text) = written.share.as_ref().filter(|_| !(0.0..=1.0).contains(&share)) {
        notes.fault(text.span(), format!("{share} is no share; write a number from 0 to 1"));
    }
    Some(Arc::new(Tracer::new(Destination { url: url?, client: client?, key }, share)))
}
