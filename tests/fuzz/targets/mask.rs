//! Masks: however a body is cut, it comes to the bytes that the whole comes to, as many as there were, and JSON stays JSON.

use staunch::mask::{Detector, Format, HoldAction, HoldLimit, Kind, Mode, Pattern, Rule, Rules, Stream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let mut rules: Vec<Rule> = Detector::all().map(Rule::Known).collect();
    let pattern = Box::new(Pattern::new("[0-9]{4,6}(-[a-z]{1,3})?").unwrap());
    rules.push(Rule::Own { name: "ticket".into(), anchor: (*b"ACME-").into(), pattern });
    rules.push(Rule::Members { name: "members".into(), members: vec!["pin".into()] });
    rules.push(Rule::Credential((*b"upstream-credential").into()));
    // Bounds are of events and time: what they overwrite depends on how a body is cut.
    let hold = HoldLimit { events: u32::MAX, time: Duration::from_secs(5), action: HoldAction::Mask };
    Arc::new(Rules::new(rules, Mode::Mask, hold).unwrap())
});

/// One input: the format and how it is cut, then the body.
pub fn run(data: &[u8]) {
    let [format, step, body @ ..] = data else { return };
    let format =
        [Format::Text, Format::Json, Format::Events, Format::Form, Format::Frames][usize::from(*format) % 5];
    let whole = masked(format, body, body.len().max(1));
    let cut = masked(format, body, usize::from(*step).max(1));
    assert_eq!(whole.is_some(), cut.is_some());
    if let (Some(whole), Some(cut)) = (whole, cut) {
        assert_eq!(whole.len(), body.len());
        assert!(whole == cut, "{}", String::from_utf8_lossy(&whole));
        if format == Format::Json && is_json(body) {
            assert!(is_json(&whole), "{}", String::from_utf8_lossy(&whole));
        }
    }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok()
}

/// `None` where the body cannot be followed.
fn masked(format: Format, body: &[u8], step: usize) -> Option<Vec<u8>> {
    let (mut stream, mut all) = (Stream::new(RULES.clone(), format), Vec::new());
    for piece in body.chunks(step) {
        let mut piece = piece.to_vec();
        let passed = stream.take(&mut piece, Kind::Payload).ok()?;
        stream.release(passed.held, |bytes| all.extend_from_slice(bytes));
        all.extend_from_slice(&piece[..passed.at_hand]);
    }
    let held = stream.finish();
    stream.release(held, |bytes| all.extend_from_slice(bytes));
    assert!(!stream.is_holding());
    Some(all)
}
