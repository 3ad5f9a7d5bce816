//! Wire transcripts under masks, cut at every offset.

mod nested;

use super::*;
use crate::mask::{Detector, HoldAction, HoldLimit, Rule};
use crate::names::Direction;
use crate::protocol::masked::Masked;
use proptest::prelude::*;
use std::time::Duration;

const HOLD: HoldLimit = HoldLimit { events: 64, time: Duration::from_secs(5), action: HoldAction::Mask };

fn rules(columns: &[&str], mode: Mode) -> Arc<Rules> {
    let mut rules: Vec<Rule> = Detector::all().map(Rule::Known).collect();
    rules.push(Rule::Members { name: "members".into(), members: vec!["pin".into()] });
    if !columns.is_empty() {
        let columns = columns.iter().map(|name| (*name).into()).collect();
        rules.push(Rule::Columns { name: "columns".into(), columns });
    }
    Arc::new(Rules::new(rules, mode, HOLD).unwrap())
}

fn masks(columns: &[&str]) -> Masks {
    let rules = rules(columns, Mode::Mask);
    Masks::new(Masking { up: Some(rules.clone()), down: Some(rules), keep_spans: false })
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A description of columns: name, type, format.
fn description(columns: &[(&str, u32, u16)]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for (name, kind, format) in columns {
        body.extend_from_slice(name.as_bytes());
        body.extend([0; 7]);
        body.extend(kind.to_be_bytes());
        body.extend([0; 6]);
        body.extend(format.to_be_bytes());
    }
    message(b'T', &body)
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend((value.map_or(-1, |value| value.len() as i32)).to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default());
    }
    message(b'D', &body)
}

fn array(kind: u32, elements: &[&[u8]]) -> Vec<u8> {
    let mut value = [&1u32.to_be_bytes()[..], &[0; 4], &kind.to_be_bytes()].concat();
    value.extend((elements.len() as u32).to_be_bytes());
    value.extend(1u32.to_be_bytes());
    for element in elements {
        value.extend((element.len() as u32).to_be_bytes());
        value.extend_from_slice(element);
    }
    value
}

/// What passes of one direction in these pieces.
fn pass(
    masks: &mut Masks,
    direction: Direction,
    wire: &[u8],
    cuts: &[usize],
) -> Result<Vec<u8>, &'static str> {
    let (mut passed, mut from) = (Vec::new(), 0);
    for to in cuts.iter().copied().chain([wire.len()]) {
        let (mut data, mut out) = (wire[from..to].to_vec(), Vec::new());
        let n = data.len();
        let mut edit = Edit::new(&mut data, &mut out);
        match direction {
            Direction::Up => masks.pass_up(&mut edit, n, None)?,
            Direction::Down => masks.pass_down(&mut edit, n)?,
        }
        let (diverged, at) = (edit.diverged(), edit.position());
        assert_eq!(at, n);
        passed.extend_from_slice(if diverged { &out } else { &data });
        from = to;
    }
    Ok(passed)
}

/// Asserts that whatever the cut, `down` passes as `expected` behind what went up.
fn assert_down(columns: &[&str], up: &[u8], down: &[u8], expected: &[u8]) {
    for cut in 0..=down.len() {
        let mut masks = masks(columns);
        pass(&mut masks, Direction::Up, up, &[]).unwrap();
        let passed = pass(&mut masks, Direction::Down, down, &[cut]).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(passed == expected, "cut at {cut}: {:?}\n{:?}", text(&passed), text(expected));
        assert!(!masks.is_holding(Direction::Down));
    }
}

const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";

#[test]
fn rows_are_masked_by_what_stands_in_them_and_stay_of_their_type() {
    let columns = [("a", 25, 0), ("b", 20, 0), ("c", 114, 0), ("d", 1114, 0), ("e", 17, 0), ("f", 869, 0)];
    let values: [(&[u8], &[u8]); 6] = [
        (b"4111 1111 1111 1111", b"4111 11** **** 1111"),
        (b"4111111111111111", b"4111110000001111"),
        (br#"{"pin":12,"m":"jane\u0040example.com"}"#, br#"{"pin":10,"m":"jane*****************"}"#),
        (b"2026-11-28 03:27:23.411111", b"2026-11-28 03:27:23.411111"),
        (b"\\x34313131", b"\\x34313131"),
        (b"192.168.23.42", b"192.168.11.11"),
    ];
    let sent = values.map(|(sent, _)| Some(sent));
    let masked = values.map(|(_, masked)| Some(masked));
    let end = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    let head = description(&columns);
    let down = [&head[..], &row(&sent), &row(&[None; 6]), &end].concat();
    let expected = [&head[..], &row(&masked), &row(&[None; 6]), &end].concat();
    assert_down(&[], QUERY, &down, &expected);
}

#[test]
fn named_columns_are_overwritten_whole_in_text_and_in_binary() {
    let table: [(u32, u16, &[u8], &[u8]); 12] = [
        (25, 0, b"Jane", b"****"),
        (23, 0, b"-4711", b"-1000"),
        (1082, 0, b"1985-03-12", b"1111-11-11"),
        (16, 0, b"t", b"f"),
        (2950, 0, b"a0ee-bc99", b"1111-1111"),
        (3802, 0, br#"{"a":["x",17]}"#, br#"{"a":["*",10]}"#),
        (1009, 0, b"{Jane,\"J D\"}", b"{xxxx,\"x x\"}"),
        (25, 1, b"Jane", b"****"),
        (20, 1, b"\0\0\0\0\0\0\x12\x67", b"\0\0\0\0\0\0\0\0"),
        (1700, 1, b"\0\x01\0\0\0\0\0\0\x12\x34", b"\0\x01\0\0\0\0\0\0\0\0"),
        (3802, 1, b"\x01{\"a\":\"x\"}", b"\x01{\"a\":\"*\"}"),
        (600, 1, b"12345678", b"\0\0\0\0\0\0\0\0"),
    ];
    for (kind, format, sent, masked) in table {
        let head = description(&[("Salary", kind, format), ("other", 25, 0)]);
        let down = [&head[..], &row(&[Some(sent), Some(b"Jane")])].concat();
        let expected = [&head[..], &row(&[Some(masked), Some(b"Jane")])].concat();
        assert_down(&["salary"], QUERY, &down, &expected);
    }
    let of = |elements: &[&[u8]]| [description(&[("salary", 1009, 1)]), row(&[Some(&array(25, elements))])];
    assert_down(&["salary"], QUERY, &of(&[b"Jane", b"", b"X"]).concat(), &of(&[b"****", b"", b"*"]).concat());
}

#[test]
fn elements_of_a_binary_array_are_texts_of_their_own() {
    let of =
        |elements: &[&[u8]]| [description(&[("a", 1009, 1)]), row(&[Some(&array(25, elements))])].concat();
    // The first is 52 bytes long, which reads as the digit 4 before it.
    let key = b"ghp_0123456789abcdefghijABCDEFGHIJ012345 is a secret";
    let masked = b"ghp_************************************ is a secret";
    assert_eq!(key.len(), 52);
    assert_down(&[], QUERY, &of(&[&key[..], b"4111111111111111"]), &of(&[&masked[..], b"411111******1111"]));
}

#[test]
fn a_statement_that_was_described_once_has_its_columns_whenever_it_is_executed() {
    let parse = message(b'P', b"s\0select salary\0\0\0");
    let describe = message(b'D', b"Ss\0");
    // No formats, no parameters, all of the result in binary.
    let bind = message(b'B', b"\0s\0\0\0\0\0\0\x01\0\x01");
    let execute = message(b'E', b"\0\0\0\0\0");
    let sync = message(b'S', b"");
    let first = [&parse[..], &describe, &sync, &bind, &execute, &sync, &bind, &execute, &sync].concat();
    let ready = message(b'Z', b"I");
    let done = message(b'C', b"SELECT 1\0");
    let down = |value: &[u8]| {
        let row = [&message(b'2', b"")[..], &row(&[Some(value)]), &done, &ready].concat();
        let described =
            [message(b'1', b""), message(b't', b"\0\0"), description(&[("salary", 23, 0)]), ready.clone()];
        [&described.concat()[..], &row, &row].concat()
    };
    assert_down(&["salary"], &first, &down(b"\0\0\x12\x67"), &down(b"\0\0\0\0"));
}

#[test]
fn rows_whose_columns_nobody_described_do_not_pass_where_names_count() {
    let parse = message(b'P', b"s\0select salary\0\0\0");
    let bind = message(b'B', b"\0s\0\0\0\0\0\0\0");
    let up = [&parse[..], &bind, &message(b'E', b"\0\0\0\0\0"), &message(b'S', b"")].concat();
    let down = [&message(b'1', b"")[..], &message(b'2', b""), &row(&[Some(b"4711 SECRET")])].concat();
    let mut by_name = masks(&["salary"]);
    pass(&mut by_name, Direction::Up, &up, &[]).unwrap();
    let (mut data, mut out) = (down.clone(), Vec::new());
    let mut edit = Edit::new(&mut data, &mut out);
    by_name.pass_down(&mut edit, down.len()).unwrap_err();
    let at = edit.position();
    assert!(!down[..at].windows(6).any(|part| part == b"SECRET"));
    by_name.pass_down(&mut Edit::new(&mut down.clone(), &mut Vec::new()), down.len()).unwrap_err();
    // Elsewhere each value is a text.
    assert_down(&[], &up, &down, &down);
    let mut observed =
        Masks::new(Masking { up: None, down: Some(rules(&["salary"], Mode::Observe)), keep_spans: false });
    pass(&mut observed, Direction::Up, &up, &[]).unwrap();
    assert_eq!(pass(&mut observed, Direction::Down, &down, &[]).unwrap(), down);
}

#[test]
fn an_error_between_statements_does_not_shift_the_columns_of_later_ones() {
    let part = |name: &str| {
        let parse = message(b'P', format!("{name}\0select\0\0\0").as_bytes());
        let describe = message(b'D', format!("S{name}\0").as_bytes());
        let bind = message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
        [&parse[..], &describe, &bind, &message(b'E', b"\0\0\0\0\0")].concat()
    };
    let sync = message(b'S', b"");
    let up = [&part("a")[..], &part("b"), &sync, &part("c"), &sync].concat();
    let down = |value: &[u8]| {
        let failed = [&message(b'E', b"SERROR\0C42601\0Mfor jane\0\0")[..], &message(b'Z', b"I")].concat();
        let described =
            [message(b'1', b""), message(b't', b"\0\0"), description(&[("salary", 25, 0)])].concat();
        [&failed[..], &described, &message(b'2', b""), &row(&[Some(value)]), &message(b'Z', b"I")].concat()
    };
    assert_down(&["salary"], &up, &down(b"4711"), &down(b"****"));
}

#[test]
fn copies_errors_and_notifications_are_texts() {
    let of = |card: &str, mail: &str| {
        let copy = format!("1\t{card}\t{mail}\n");
        let error = format!("SERROR\0C22P02\0Minvalid input: \"{card}\"\0D{mail}\0\0");
        let notification = format!("\0\0\0\x07cards\0{card}\0");
        [
            message(b'H', b"\0\0\0"),
            message(b'd', copy.as_bytes()),
            message(b'c', b""),
            message(b'E', error.as_bytes()),
            message(b'A', notification.as_bytes()),
        ]
    };
    let mut expected = of("411111******1111", "jane************");
    expected[1] = message(b'd', b"1\t4111110000001111\tjane@xxxxxxx.xxx\n");
    assert_down(&[], QUERY, &of("4111111111111111", "jane@example.com").concat(), &expected.concat());
}

#[test]
fn what_cannot_be_masked_is_cut_before_it_passes() {
    let binary = message(b'H', b"\x01\0\0");
    for (columns, down) in [
        (&[][..], binary),
        (&["salary"][..], message(b'H', b"\0\0\0")),
        (&[][..], message(b'W', b"\0\0\0")),
        (&[][..], message(b'G', b"\x01\0\0")),
        (&[][..], message(b'D', b"\0\x01\0\0\0\x20short")),
    ] {
        let mut masks = masks(columns);
        pass(&mut masks, Direction::Up, QUERY, &[]).unwrap();
        assert!(pass(&mut masks, Direction::Down, &down, &[]).is_err(), "{down:?}");
        assert!(pass(&mut masks, Direction::Down, b"Z\0\0\0\x05I", &[]).is_err());
        assert!(masks.is_holding(Direction::Down), "no message of our own may stand there");
    }
}

#[test]
fn statements_parameters_and_copied_data_are_masked_on_their_way_up_and_stay_sql() {
    let of = |card: &str, mail: &str| {
        let query = format!("insert into t values ('{card}', 17, {card}) -- {mail}\0");
        let parse = format!("s\0select * from t where mail = '{mail}' and a = $1\0\0\0");
        let mut bind = b"\0s\0\0\x02\0\0\0\x01\0\x03".to_vec();
        // Two parameters in text and binary; then one of eight bytes, which is a number.
        bind.truncate(3);
        bind.extend(b"\0\x03\0\0\0\x01\0\x01\0\x03");
        for value in [card.as_bytes(), mail.as_bytes(), b"1.2.3.45"] {
            bind.extend((value.len() as u32).to_be_bytes());
            bind.extend_from_slice(value);
        }
        bind.extend(b"\0\0");
        let (front, back) = card.split_at(9);
        [
            message(b'Q', query.as_bytes()),
            message(b'P', parse.as_bytes()),
            message(b'B', &bind),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
            message(b'd', format!("1\t{front}").as_bytes()),
            message(b'd', format!("{back}\t2\n").as_bytes()),
            message(b'c', b""),
        ]
        .concat()
    };
    let up = of("4111111111111111", "jane@example.com");
    let expected = of("4111110000001111", "jane@xxxxxxx.xxx");
    for cut in 0..=up.len() {
        let mut masks = masks(&[]);
        let passed = pass(&mut masks, Direction::Up, &up, &[cut]).unwrap();
        assert_eq!(String::from_utf8_lossy(&passed), String::from_utf8_lossy(&expected), "cut at {cut}");
    }
}

#[test]
fn what_watchers_are_shown_is_what_went_up() {
    let mut masks = masks(&[]);
    let wire = message(b'Q', b"select 'jane@example.com'\0");
    let mut copy = Vec::new();
    for byte in wire {
        masks.pass_up(&mut Edit::new(&mut [byte], &mut Vec::new()), 1, Some(&mut copy)).unwrap();
    }
    assert_eq!(copy, message(b'Q', b"select 'jane@xxxxxxx.xxx'\0"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn every_split_comes_to_what_the_whole_comes_to(
        values in prop::collection::vec("[a-z@. 0-9-]{0,24}|4111 1111 1111 1111|\\{\"pin\":\"[a-z]{0,9}\"\\}|jane@example\\.com", 1..6),
        kind in prop::sample::select(vec![25u32, 20, 114, 1009, 869, 3802]),
        cuts in prop::collection::vec(0.0f64..1.0, 0..12),
    ) {
        let columns: Vec<(&str, u32, u16)> = values.iter().enumerate()
            .map(|(at, _)| (if at == 1 { "salary" } else { "x" }, kind, 0)).collect();
        let row = row(&values.iter().map(|value| Some(value.as_bytes())).collect::<Vec<_>>());
        let down = [&description(&columns)[..], &row, &row, &message(b'C', b"SELECT 2\0")].concat();
        let run = |cuts: &[usize]| {
            let mut masks = masks(&["salary"]);
            pass(&mut masks, Direction::Up, QUERY, &[]).unwrap();
            pass(&mut masks, Direction::Down, &down, cuts).unwrap()
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * down.len() as f64) as usize).collect();
        cuts.sort_unstable();
        let whole = run(&[]);
        prop_assert_eq!(whole.len(), down.len());
        prop_assert_eq!(run(&cuts), whole);
    }
}
