//! What routes mask: sets of rules, compiled for each route and direction.

use super::context::{Context, choice, duration};
use crate::config::fault::FaultCollector;
use crate::config::model::{self, Text};
use crate::config::summary::MaskSummary;
use crate::credential::HeaderInjection;
use crate::gateway::{Database, RouteMask, RouteMasks, RouteProtocol};
use crate::mask::{Detector, HoldAction, HoldLimit, MIN_CREDENTIAL, Mode, Pattern, Rule, Rules};
use crate::metrics::MaskCounters;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// Events for which something is held: a value of 64 characters, one in each.
const HOLD_EVENTS: u32 = 64;
/// Time for which something is held: a model that pauses in the middle of a number pauses for less.
const HOLD_TIME: Duration = Duration::from_secs(5);
/// The longest: what is held is memory, and a client that waits.
const MAX_HOLD_TIME: Duration = Duration::from_secs(60);
/// Bytes of an anchor: one alone stands in any text.
const MIN_ANCHOR: usize = 2;
const MAX_ANCHOR: usize = 32;

/// Notes what about the sets of rules could not work, used or not.
pub(super) fn check_sets(sets: &[Spanned<model::MaskRules>], notes: &mut FaultCollector<'_>) {
    let mut names = BTreeSet::new();
    for set in sets {
        let (span, set) = (set.span(), set.get_ref());
        let name = set.name.get_ref();
        if notes.is_told(&set.name.span()) {
            continue;
        }
        if name.is_empty() || !names.insert(name) {
            notes.fault(set.name.span(), format!("{name:?} is no name of its own for a set of mask rules"));
        }
        notes.list(&set.detect, "detect");
        notes.list(&set.members, "members");
        notes.list(&set.columns, "columns");
        if set.detect.is_none()
            && set.members.is_none()
            && set.columns.is_none()
            && set.pattern.is_empty()
            && !notes.lost
        {
            notes
                .fault(span, format!("mask `{name}` has no rule; write detect, members, columns or pattern"));
        }
        rules_of(set, Some(notes));
    }
}

/// The rules of one set. Faults are noted where that is asked for.
fn rules_of(set: &model::MaskRules, mut notes: Option<&mut FaultCollector<'_>>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut fault = |span, text: String| {
        if let Some(notes) = &mut notes {
            notes.fault(span, text);
        }
    };
    for word in set.detect.iter().flat_map(Spanned::get_ref) {
        match Detector::named(word.get_ref()) {
            Some(detectors) => rules.extend(detectors.into_iter().map(Rule::Known)),
            None => {
                let known = Detector::words().join(", ");
                fault(word.span(), format!("{:?} is none of {known}", word.get_ref()));
            }
        }
    }
    for written in set.pattern.iter().map(Spanned::get_ref) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = written.name.get_ref();
        if name.is_empty() || !name.chars().all(plain) || Detector::named(name).is_some() {
            let advice = "use letters, digits, `.`, `_`, `-`, and none of the known kinds";
            fault(written.name.span(), format!("{name:?} is no name for a pattern; {advice}"));
        }
        let anchor = written.anchor.get_ref();
        if !(MIN_ANCHOR..=MAX_ANCHOR).contains(&anchor.len()) {
            let rule = format!("an anchor has {MIN_ANCHOR} to {MAX_ANCHOR} bytes");
            let advice = "nothing can be held before a value is known to begin; write what stands before it";
            fault(written.anchor.span(), format!("{rule}: {advice}"));
        }
        match Pattern::new(written.follows.get_ref()) {
            Ok(pattern) => rules.push(Rule::Own {
                name: name.as_str().into(),
                anchor: anchor.as_bytes().into(),
                pattern: Box::new(pattern),
            }),
            Err(why) => fault(written.follows.span(), format!("{:?} {why}", written.follows.get_ref())),
        }
    }
    if let Some(members) = &set.members {
        let members = members.get_ref().iter().map(|name| name.get_ref().as_str().into()).collect();
        rules.push(Rule::Members { name: format!("members-{}", set.name.get_ref()).into(), members });
    }
    if let Some(columns) = &set.columns {
        let columns = columns.get_ref().iter().map(|name| name.get_ref().as_str().into()).collect();
        rules.push(Rule::Columns { name: format!("columns-{}", set.name.get_ref()).into(), columns });
    }
    rules
}

impl Context<'_> {
    /// What a route masks. `None` inside: nothing.
    pub(super) fn masks(
        &mut self,
        route: &model::Route,
        protocol: Option<RouteProtocol>,
        inject: &[HeaderInjection],
        database: Option<&Database>,
        notes: &mut FaultCollector<'_>,
    ) -> Option<Option<RouteMasks>> {
        let Some(written) = &route.mask else { return Some(None) };
        let (span, written) = (written.span(), written.get_ref());
        match (protocol, &written.up) {
            (Some(RouteProtocol::Raw), _) => {
                let advice = "what a raw route carries has no values that could be told apart; remove it";
                notes
                    .fault(span.clone(), format!("mask is for routes of other protocols than raw: {advice}"));
            }
            (Some(RouteProtocol::Redis), Some(up)) => {
                let advice = "keys could not be told from values, and two masked keys may be the same";
                notes.fault(up.span(), format!("a redis route masks replies only: {advice}; write down"));
            }
            _ => {}
        }
        if written.down.is_none() && written.up.is_none() && !notes.lost {
            notes.fault(span, "mask names no rules; write down = [\"NAME\"] or up = [\"NAME\"]");
        }
        let mode = choice(
            &written.mode.as_ref(),
            Mode::Mask,
            &[("mask", Mode::Mask), ("observe", Mode::Observe)],
            notes,
        );
        let actions = [("mask", HoldAction::Mask), ("pass", HoldAction::Pass), ("cut", HoldAction::Cut)];
        let action = choice(&written.on_hold_limit.as_ref(), HoldAction::Mask, &actions, notes);
        if let (Some(HoldAction::Pass), Some(text)) = (action, &written.on_hold_limit) {
            let effect = "whoever can make the sender pause has values pass";
            notes.warn(text.span(), format!("on_hold_limit = \"pass\" is unsafe: {effect}"));
        }
        let time = duration(&written.hold_time, HOLD_TIME, notes);
        if let (Some(time), Some(text)) = (time, &written.hold_time)
            && time > MAX_HOLD_TIME
        {
            notes.fault(text.span(), "hold_time is at most 60s");
        }
        let events = written.hold_events.as_ref().map_or(HOLD_EVENTS, |events| *events.get_ref());
        let up = self.mask_rules(&written.up, "up", notes);
        let mut down = self.mask_rules(&written.down, "down", notes);
        let credentials = inject.iter().filter_map(|header| {
            // `Bearer X`: the secret is X.
            let secret = header.value.expose().split(|byte| *byte == b' ').next_back()?;
            (secret.len() >= MIN_CREDENTIAL).then(|| Rule::Credential(secret.into()))
        });
        let passwords = database.iter().flat_map(|database| &database.accounts).filter_map(|account| {
            let secret = account.password.as_ref()?.expose();
            (secret.len() >= MIN_CREDENTIAL).then(|| Rule::Credential(secret.into()))
        });
        // Accounts may have one password, which is looked for once.
        let mut known = BTreeSet::new();
        for rule in credentials.chain(passwords) {
            if let Rule::Credential(secret) = &rule
                && known.insert(secret.clone())
            {
                down.push(rule);
            }
        }
        let hold = HoldLimit { events, time: time?, action: action? };
        let name = route.name.get_ref();
        let mut compile = |rules: Vec<Rule>, direction| {
            if rules.is_empty() {
                return Some(None);
            }
            let rules = notes.take(span_of(&route.mask), Rules::new(rules, mode?, hold))?;
            let counters = MaskCounters::new(name, direction, rules.rules().iter().map(Rule::name));
            Some(Some(RouteMask { rules: Arc::new(rules), counters }))
        };
        let (up, down) = (compile(up, "up"), compile(down, "down"));
        Some(Some(RouteMasks { up: up?, down: down? }))
    }

    fn mask_rules(
        &mut self,
        names: &Option<Spanned<Vec<Text>>>,
        key: &str,
        notes: &mut FaultCollector<'_>,
    ) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        for name in notes.list(names, key) {
            let Some(set) = self.masks.iter().find(|set| set.get_ref().name.get_ref() == name.get_ref())
            else {
                if self.masks.iter().any(|set| notes.is_told(&set.get_ref().name.span())) {
                    // It may be the one whose name could not be read.
                    continue;
                }
                notes.fault(name.span(), format!("there is no [[mask]] called {:?}", name.get_ref()));
                continue;
            };
            self.used_masks.insert(name.get_ref().clone());
            for rule in rules_of(set.get_ref(), None) {
                // A kind that two sets have is looked for once.
                if !rules.iter().any(|known| known.name() == rule.name()) {
                    rules.push(rule);
                }
            }
        }
        rules
    }
}

fn span_of(mask: &Option<Spanned<model::RouteMask>>) -> std::ops::Range<usize> {
    mask.as_ref().map_or(0..0, Spanned::span)
}

/// What `check` shows of a route's masks.
pub(super) fn summary(masks: &Option<RouteMasks>) -> Vec<MaskSummary> {
    let Some(masks) = masks else { return Vec::new() };
    let directions = [("up", &masks.up), ("down", &masks.down)];
    let of = |(direction, mask): (&'static str, &Option<RouteMask>)| {
        let rules = &mask.as_ref()?.rules;
        Some(MaskSummary {
            direction,
            mode: if rules.mode == Mode::Mask { "mask" } else { "observe" },
            hold: format!("{} events, {:?}", rules.hold.events, rules.hold.time),
            at_limit: match rules.hold.action {
                HoldAction::Mask => "mask",
                HoldAction::Pass => "pass",
                HoldAction::Cut => "cut",
            },
            rules: rules
                .rules()
                .iter()
                .map(|rule| (rule.name().to_owned(), rule.passes(), rule.misses()))
                .collect(),
        })
    };
    directions.into_iter().filter_map(of).collect()
}
