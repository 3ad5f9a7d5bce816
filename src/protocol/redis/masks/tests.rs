//! Replies under masks, cut at every offset.

use super::*;
use crate::mask::{Detector, HoldAction, HoldLimit, Mode, Rule, Rules};
use crate::protocol::redis::{Replies, Work};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const HOLD: HoldLimit = HoldLimit { events: 64, time: Duration::from_secs(5), action: HoldAction::Mask };

fn masks() -> Masks {
    let mut rules: Vec<Rule> = Detector::all().map(Rule::Known).collect();
    rules.push(Rule::Members { name: "members".into(), members: vec!["pin".into()] });
    let rules = Arc::new(Rules::new(rules, Mode::Mask, HOLD).unwrap());
    Masks::new(Masking { up: None, down: Some(rules), keep_spans: false })
}

fn passed(wire: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (mut masks, mut replies, mut work) = (masks(), Replies::new("AB"), Work::default());
    let (mut passed, mut from) = (Vec::new(), 0);
    for to in cuts.iter().copied().chain([wire.len()]) {
        let (mut data, mut out) = (wire[from..to].to_vec(), Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        while !replies.pass(&mut edit, &mut work, &mut masks).unwrap() {}
        let diverged = edit.diverged();
        passed.extend_from_slice(if diverged { &out } else { &data });
        from = to;
    }
    assert!(!masks.is_holding(Direction::Down));
    passed
}

#[test]
fn strings_errors_and_numbers_are_masked_wherever_they_are_cut() {
    let table: [(&[u8], &[u8]); 9] = [
        (b"$19\r\n4111 1111 1111 1111\r\n", b"$19\r\n4111 11** **** 1111\r\n"),
        (b"+jane@example.com\r\n", b"+jane************\r\n"),
        (b"-ERR no such jane@example.com\r\n", b"-ERR no such jane************\r\n"),
        (b":4111111111111111\r\n", b":4111110000001111\r\n"),
        (
            b"*3\r\n$-1\r\n$0\r\n\r\n$16\r\njane@example.com\r\n",
            b"*3\r\n$-1\r\n$0\r\n\r\n$16\r\njane************\r\n",
        ),
        (b"$20\r\n{\"pin\":1234,\"a\":\"b\"}\r\n", b"$20\r\n{\"pin\":1000,\"a\":\"b\"}\r\n"),
        (b"%1\r\n+a\r\n=20\r\ntxt:jane@example.com\r\n", b"%1\r\n+a\r\n=20\r\ntxt:jane************\r\n"),
        (
            b">3\r\n+message\r\n+c\r\n$16\r\njane@example.com\r\n",
            b">3\r\n+message\r\n+c\r\n$16\r\njane************\r\n",
        ),
        (b"_\r\n#t\r\n,1.5\r\n(17\r\n*-1\r\n*0\r\n", b"_\r\n#t\r\n,1.5\r\n(17\r\n*-1\r\n*0\r\n"),
    ];
    for (sent, masked) in table {
        let (sent, masked) = ([sent, b"+OK\r\n"].concat(), [masked, b"+OK\r\n"].concat());
        for cut in 0..=sent.len() {
            let passed = passed(&sent, &[cut]);
            assert_eq!(String::from_utf8_lossy(&passed), String::from_utf8_lossy(&masked), "cut at {cut}");
        }
    }
}

#[test]
fn nothing_passes_once_what_comes_down_are_no_replies() {
    let mut masks = masks();
    masks.stop();
    let mut data = *b"+OK\r\n";
    masks.keep(&mut Edit::new(&mut data, &mut Vec::new()), 5).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn every_split_comes_to_what_the_whole_comes_to(
        values in prop::collection::vec("[a-z@. 0-9-]{0,24}|4111 1111 1111 1111|jane@example\\.com", 1..6),
        cuts in prop::collection::vec(0.0f64..1.0, 0..12),
    ) {
        let mut down = format!("*{}\r\n", values.len());
        values.iter().for_each(|value| down += &format!("${}\r\n{value}\r\n", value.len()));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * down.len() as f64) as usize).collect();
        cuts.sort_unstable();
        let whole = passed(down.as_bytes(), &[]);
        prop_assert_eq!(whole.len(), down.len());
        prop_assert_eq!(passed(down.as_bytes(), &cuts), whole);
    }
}
