//! Times that are far from what anybody means.

use crate::config::fault::FaultCollector;
use crate::config::model::{self, Config, Text};
use crate::config::units;
use std::time::Duration;
use toml::Spanned;

/// What waits for people or for another machine takes longer.
const SHORT: Duration = Duration::from_secs(1);
/// A log-in by hand in a browser takes less.
const LONG_PERMIT_DEADLINE: Duration = Duration::from_secs(120);
/// Clients give up before.
const LONG_CONNECT: Duration = Duration::from_secs(60);
/// Service managers kill before.
const LONG_DRAIN: Duration = Duration::from_secs(3600);
/// Longer than a token lives: expiry then ends nothing.
const LONG_GRACE: Duration = Duration::from_secs(3600);

pub(super) fn warn(config: &Config, notes: &mut FaultCollector<'_>) {
    let limits = &config.limits;
    let text = "whoever connects may keep a place for so long without saying who they are; seconds are meant, such as \"10s\"";
    if_longer(&limits.permit_deadline, LONG_PERMIT_DEADLINE, text, notes);
    if_shorter(
        &limits.permit_deadline,
        "nobody shakes hands and says who they are in so short a time",
        notes,
    );
    let text = "an end that is asked for waits for so long, and service managers kill before; write seconds or minutes, such as \"30s\"";
    if_longer(&limits.drain, LONG_DRAIN, text, notes);
    config.route.iter().for_each(|route| of_route(route.get_ref(), notes));
}

fn of_route(route: &model::Route, notes: &mut FaultCollector<'_>) {
    let timeouts = &route.timeouts;
    let text = "a client waits for so long to hear that the upstream is away; write seconds, such as \"5s\"";
    if_longer(&timeouts.connect, LONG_CONNECT, text, notes);
    for (written, effect) in [
        (&timeouts.connect, "an upstream elsewhere hardly shakes hands in so short a time"),
        (&timeouts.between_requests, "no client's next request comes in so short a time"),
        (&timeouts.response, "an upstream hardly answers in so short a time"),
        (&timeouts.idle, "whoever thinks for a moment is cut off"),
        (&timeouts.stall, "whoever does not read for a moment is cut off"),
    ] {
        if_shorter(written, effect, notes);
    }
    let Some(text) = &route.on_expiry else { return };
    let grace = text.get_ref().strip_prefix("grace").map(str::trim).map(units::duration);
    if grace.is_some_and(|time| time.is_ok_and(|time| time > LONG_GRACE)) {
        let text = "for so long somebody works on whose token has expired, also once the issuer has shut them out; write minutes, \
                    such as \"grace 5m\"";
        notes.warn(route.on_expiry.as_ref().map_or(0..0, Spanned::span), text);
    }
}

fn if_longer(written: &Option<Text>, limit: Duration, warning: &str, notes: &mut FaultCollector<'_>) {
    if let Some(text) =
        written.as_ref().filter(|text| units::duration(text.get_ref()).is_ok_and(|time| time > limit))
    {
        notes.warn(text.span(), warning);
    }
}

fn if_shorter(written: &Option<Text>, effect: &str, notes: &mut FaultCollector<'_>) {
    let is_short = |time: Duration| !time.is_zero() && time < SHORT;
    if let Some(text) = written.as_ref().filter(|text| units::duration(text.get_ref()).is_ok_and(is_short)) {
        notes.warn(text.span(), format!("{effect}; seconds are meant, such as \"10s\""));
    }
}
