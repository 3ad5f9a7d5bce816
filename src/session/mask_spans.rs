//! Where masks overwrote values, in the recording of a session.

use super::state::Session;
use crate::audit::rfc3339;
use crate::mask::{Mode, Rule, Rules, Span};
use crate::names::Direction;
use serde_json::{Value, json};
use std::time::SystemTime;

/// Records where values were overwritten, or in `observe` mode would have been: rules and places, no values. `request`: in
/// whose body; a database has none.
pub(super) fn record_spans(
    session: &Session,
    request: Option<u32>,
    direction: Direction,
    rules: &Rules,
    spans: &[Span],
) {
    let Some(recording) = session.recording() else { return };
    // Where secrets stand is for auditors, as what stands around them is.
    recording.sealed_fact(|| {
        let rule = |span: &Span| rules.rules().get(span.rule).map_or("", Rule::name);
        let spans: Vec<Value> =
            spans.iter().map(|span| json!([rule(span), span.offset, span.length])).collect();
        let mut line = json!({
            "time": rfc3339(SystemTime::now()),
            "event": "masked",
            "session": session.id.to_string(),
            "direction": if direction == Direction::Up { "up" } else { "down" },
            "mode": if rules.mode == Mode::Observe { "observe" } else { "mask" },
            "spans": spans,
        });
        if let Some(request) = request {
            line["request"] = request.into();
        }
        line.to_string()
    });
}
