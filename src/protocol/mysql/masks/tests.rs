//! Wire transcripts under masks, cut at every offset.

use super::*;
use crate::mask::{Detector, HoldAction, HoldLimit, Mode, Rule};
use crate::names::Direction;
use crate::protocol::masked::Masked;
use crate::protocol::mysql::{Commands, Replies};
use proptest::prelude::*;
use std::time::Duration;

const HOLD: HoldLimit = HoldLimit { events: 64, time: Duration::from_secs(5), action: HoldAction::Mask };

fn rules(mode: Mode) -> Arc<Rules> {
    let mut rules: Vec<Rule> = Detector::all().map(Rule::Known).collect();
    rules.push(Rule::Columns { name: "columns".into(), columns: vec!["salary".into()] });
    Arc::new(Rules::new(rules, mode, HOLD).unwrap())
}

fn masks(mode: Mode) -> Masks {
    let rules = rules(mode);
    Masks::new(Masking { up: Some(rules.clone()), down: Some(rules), keep_spans: false })
}

fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

fn counted(texts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    texts.iter().for_each(|text| super::super::write_counted(&mut out, text));
    out
}

fn column(name: &str, itself: &str, kind: u8) -> Vec<u8> {
    let mut payload = counted(&[b"def", b"db", b"t", b"t", name.as_bytes(), itself.as_bytes()]);
    payload.extend([0x0c, 45, 0, 0, 1, 0, 0, kind, 0, 0, 0, 0, 0]);
    payload
}

const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

/// The answer with these columns and rows, with EOF packets.
fn answer(columns: &[Vec<u8>], rows: &[Vec<u8>]) -> Vec<u8> {
    let mut packets = vec![vec![columns.len() as u8]];
    packets.extend_from_slice(columns);
    packets.push(EOF.to_vec());
    packets.extend_from_slice(rows);
    packets.push(EOF.to_vec());
    packets.iter().enumerate().flat_map(|(at, payload)| packet(at as u8 + 1, payload)).collect()
}

fn run(
    masks: &mut Masks,
    command: &[u8],
    down: &[u8],
    cuts: &[usize],
) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let (mut commands, mut replies) = (Commands::default(), Replies::new(0));
    let (mut data, mut up) = (command.to_vec(), Vec::new());
    let mut edit = Edit::new(&mut data, &mut up);
    while !edit.is_done() {
        let is_command = commands.is_at_command(&replies);
        let n = commands.step(edit.rest(), &mut replies).unwrap();
        masks.pass_up(&mut edit, n, is_command, None)?;
    }
    let diverged = edit.diverged();
    let up = if diverged { up } else { data };
    let (mut passed, mut from) = (Vec::new(), 0);
    for to in cuts.iter().copied().chain([down.len()]) {
        let (mut data, mut out) = (down[from..to].to_vec(), Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        while !edit.is_done() {
            let role = replies.role();
            let n = replies.step(edit.rest()).unwrap();
            masks.pass_down(&mut edit, n, role)?;
        }
        let diverged = edit.diverged();
        passed.extend_from_slice(if diverged { &out } else { &data });
        from = to;
    }
    Ok((up, passed))
}

fn assert_down(command: &[u8], down: &[u8], expected: &[u8]) {
    for cut in 0..=down.len() {
        let mut masks = Masks::new(Masking { down: Some(rules(Mode::Mask)), ..Masking::default() });
        let (_, passed) = run(&mut masks, command, down, &[cut]).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(passed == expected, "cut at {cut}: {:?}\n{:?}", text(&passed), text(expected));
        assert!(!masks.is_holding(Direction::Down));
    }
}

mod parameters;

const QUERY: &[u8] = b"\x09\0\0\0\x03select 1";
const EXECUTE: &[u8] = b"\x0a\0\0\0\x17\x01\0\0\0\0\x01\0\0\0";

#[test]
fn text_rows_are_masked_and_stay_of_their_type() {
    let columns = [
        column("a", "a", 253),
        column("b", "b", kind::LONGLONG),
        column("pay", "salary", kind::NEWDECIMAL),
        column("salary", "", kind::DATE),
        column("e", "e", kind::DATETIME),
        column("f", "f", 253),
    ];
    let mut sent = counted(&[b"4111 1111 1111 1111", b"4111111111111111", b"4711.20", b"1985-03-12"]);
    let mut masked = counted(&[b"4111 11** **** 1111", b"4111110000001111", b"1000.00", b"1111-11-11"]);
    for row in [&mut sent, &mut masked] {
        row.extend(counted(&[b"2026-11-28 03:27:23"]));
        row.push(0xfb);
    }
    // NULL, and what is empty, at the front; and a value with a length of three bytes.
    let nulls = [&[0xfb; 5][..], &counted(&[&[b'x'; 300]])].concat();
    let empty = [&[0][..], &[0xfb; 4], &[0]].concat();
    let rows = |row: &Vec<u8>| answer(&columns, &[row.clone(), nulls.clone(), empty.clone()]);
    assert_down(QUERY, &rows(&sent), &rows(&masked));
    let long = |card: &str| {
        let text = format!("{} {card}", "x".repeat(300));
        answer(&columns[..1], &[counted(&[text.as_bytes()])])
    };
    assert_down(QUERY, &long("4111111111111111"), &long("411111******1111"));
}

#[test]
fn binary_rows_are_masked_value_by_value() {
    let columns = [
        column("salary", "salary", kind::LONG),
        column("b", "b", 253),
        column("c", "c", kind::DATETIME),
        column("salary", "salary", kind::DATE),
        column("e", "e", kind::TINY),
        column("f", "f", 253),
    ];
    let row = |salary: &[u8; 4], card: &[u8], date: &[u8; 4]| {
        // The last is NULL.
        let mut row = vec![0, 0b1000_0000];
        row.extend_from_slice(salary);
        row.extend(counted(&[card, &[0xea, 7, 11, 28]]));
        row.push(4);
        row.extend_from_slice(date);
        row.push(b'7');
        row
    };
    let sent = row(b"4711", b"4111 1111 1111 1111", &[0xc1, 7, 3, 12]);
    let masked = row(&[0; 4], b"4111 11** **** 1111", &[0; 4]);
    assert_down(
        EXECUTE,
        &answer(&columns, &[sent.clone(), sent]),
        &answer(&columns, &[masked.clone(), masked]),
    );
}

#[test]
fn numbers_in_binary_rows_are_read_in_decimal() {
    let columns =
        [column("a", "a", kind::LONGLONG), column("b", "b", kind::DOUBLE), column("c", "c", kind::LONG)];
    let row = |integer: u64, double: f64| {
        [&[0, 0][..], &integer.to_le_bytes(), &double.to_le_bytes(), &4711u32.to_le_bytes()].concat()
    };
    let card = 4_111_111_111_111_111_u64;
    let sent = [row(card, card as f64), row(card + 1, 4711.5), row(u64::MAX, f64::NAN)];
    let masked = [row(0, 0.0), sent[1].clone(), sent[2].clone()];
    assert_down(EXECUTE, &answer(&columns, &sent), &answer(&columns, &masked));
}

#[test]
fn rows_in_a_character_set_in_which_ascii_is_not_ascii_do_not_pass() {
    let rows = |set: u16| {
        let mut described = column("a", "a", 253);
        let at = described.len() - 12;
        described[at..at + 2].copy_from_slice(&set.to_le_bytes());
        answer(&[described], &[counted(&[b"4111111111111111"])])
    };
    // utf16, utf16le, ucs2, utf32, their binary and their unpadded ones, and those of MariaDB's latest collations.
    for set in [54, 55, 56, 62, 35, 90, 60, 61, 101, 183, 1024 + 54, 1024 + 90, 2570, 2820, 3075] {
        let passed = run(&mut masks(Mode::Mask), QUERY, &rows(set), &[]);
        assert!(passed.is_err_and(|fault| fault.contains("character set")), "{set}");
    }
    // latin1, utf8, utf8mb4, gbk, none, and of MariaDB's latest.
    for set in [8, 33, 45, 255, 28, 63, 1024 + 45, 2304] {
        assert!(run(&mut masks(Mode::Mask), QUERY, &rows(set), &[]).is_ok(), "{set}");
    }
}

#[test]
fn errors_are_texts_and_statements_stay_sql() {
    let error =
        |mail: &str| packet(1, format!("\u{1}#42000near {mail}").replacen('\u{1}', "\u{1}", 1).as_bytes());
    let with_code = |mail: &str| {
        let mut packet = error(mail);
        packet.splice(4..5, [0xff, 0x28, 0x04]);
        packet[0] += 2;
        packet
    };
    assert_down(QUERY, &with_code("'jane@example.com'"), &with_code("'jane************'"));
    let query = |card: &str| packet(0, format!("\u{3}insert into t values ('{card}', {card})").as_bytes());
    let ok = packet(1, &[0, 1, 0, 2, 0, 0, 0]);
    let (up, _) = run(&mut masks(Mode::Mask), &query("4111111111111111"), &ok, &[]).unwrap();
    assert_eq!(String::from_utf8_lossy(&up), String::from_utf8_lossy(&query("4111110000001111")));
}

#[test]
fn what_cannot_be_masked_does_not_pass() {
    let fetch = b"\x09\0\0\0\x1c\x01\0\0\0\x01\0\0\0";
    let row = packet(1, b"\0\0\x04jane");
    run(&mut masks(Mode::Mask), fetch, &row, &[]).unwrap_err();
    assert_eq!(run(&mut masks(Mode::Observe), fetch, &row, &[]).unwrap().1, row);
    // A value that is longer than its row.
    let lies = answer(&[column("a", "a", 253)], &[b"\x20short".to_vec()]);
    run(&mut masks(Mode::Mask), QUERY, &lies, &[]).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn every_split_comes_to_what_the_whole_comes_to(
        values in prop::collection::vec("[a-z@. 0-9-]{0,24}|4111 1111 1111 1111|jane@example\\.com", 1..6),
        cuts in prop::collection::vec(0.0f64..1.0, 0..12),
    ) {
        let columns: Vec<_> = values.iter().map(|_| column("a", "a", 253)).collect();
        let row = counted(&values.iter().map(String::as_bytes).collect::<Vec<_>>());
        let down = answer(&columns, &[row.clone(), row]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * down.len() as f64) as usize).collect();
        cuts.sort_unstable();
        let whole = run(&mut masks(Mode::Mask), QUERY, &down, &[]).unwrap().1;
        prop_assert_eq!(whole.len(), down.len());
        prop_assert_eq!(run(&mut masks(Mode::Mask), QUERY, &down, &cuts).unwrap().1, whole);
    }
}
