//! Values in binary format that have others in them.

use super::*;

/// Its length is a digit, which stands right before it.
const LONG: &[u8] = b"4111111111111111 jane@example.com....................";
const HIDDEN: &[u8] = b"4111110000001111 jane@xxxxxxx.xxx....................";
const HIDDEN_TEXT: &[u8] = b"411111******1111 jane************....................";

fn sized(value: &[u8]) -> Vec<u8> {
    [&(value.len() as u32).to_be_bytes()[..], value].concat()
}

fn composite(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut value = (fields.len() as u32).to_be_bytes().to_vec();
    for (kind, field) in fields {
        value.extend(kind.to_be_bytes());
        value.extend(sized(field));
    }
    value
}

fn assert_values(columns: &[&str], table: &[(&str, u32, Vec<u8>, Vec<u8>)]) {
    for (name, kind, sent, masked) in table {
        let head = description(&[(name, *kind, 1), ("other", 25, 0)]);
        let down = [&head[..], &row(&[Some(sent), Some(b"Jane")])].concat();
        let expected = [&head[..], &row(&[Some(masked), Some(b"Jane")])].concat();
        assert_down(columns, QUERY, &down, &expected);
    }
}

/// A type that somebody made.
const MADE: u32 = 16_500;

#[test]
fn parts_of_a_value_are_texts_of_their_own() {
    let null =
        [&2u32.to_be_bytes()[..], &23u32.to_be_bytes(), &[0xff; 4], &25u32.to_be_bytes(), &sized(LONG)];
    let hidden = [null[0], null[1], null[2], null[3], &sized(HIDDEN_TEXT)];
    let fields = |words: &[u8], inner: &[u8]| {
        let inner = composite(&[(25, inner), (20, &[0, 0, 0, 0, 0, 0x34, 0x31, 0x31])]);
        composite(&[(25, words), (23, &[0, 0, 0, 0x34]), (MADE, &inner), (1009, &array(25, &[words, b""]))])
    };
    let range = |low: &[u8], high: &[u8]| [&[6][..], &sized(low), &sized(high)].concat();
    let ranges = |range: Vec<u8>| [&1u32.to_be_bytes()[..], &sized(&range)].concat();
    let pairs = |value: &[u8]| {
        let first = [sized(b"name"), sized(value), sized(b"a long name of a pair"), vec![0xff; 4]];
        [&2u32.to_be_bytes()[..], &first.concat()].concat()
    };
    let lexemes = |card: &[u8], host: &[u8]| {
        [b"\0\0\0\x02", card, b"\0\0\x02\0\x34\x40\x35", b"jane@", host, b"\0\0\0"].concat()
    };
    assert_values(
        &[],
        &[
            ("a", MADE, fields(LONG, LONG), fields(HIDDEN_TEXT, HIDDEN_TEXT)),
            ("a", 2249, null.concat(), hidden.concat()),
            ("a", MADE, array(MADE, &[LONG, b"x"]), array(MADE, &[HIDDEN, b"x"])),
            ("a", MADE, range(LONG, b"z"), range(HIDDEN, b"z")),
            ("a", MADE, ranges(range(LONG, b"z")), ranges(range(HIDDEN, b"z"))),
            ("a", MADE, pairs(LONG), pairs(HIDDEN)),
            (
                "a",
                3614,
                lexemes(b"4111111111111111", b"example.com"),
                lexemes(b"4111110000001111", b"xxxxxxx.xxx"),
            ),
            ("a", MADE, LONG.to_vec(), HIDDEN.to_vec()),
            ("a", 1790, LONG.to_vec(), HIDDEN_TEXT.to_vec()),
        ],
    );
}

#[test]
fn what_a_named_column_holds_is_overwritten_and_what_holds_it_stays() {
    let integers = |a: u32, b: u32| [&[2][..], &sized(&a.to_be_bytes()), &sized(&b.to_be_bytes())].concat();
    let person = |name: &[u8], number: u32| composite(&[(25, name), (23, &number.to_be_bytes())]);
    let points = |x: f64| [&2u32.to_be_bytes()[..], &x.to_be_bytes().repeat(4)].concat();
    assert_values(
        &["salary"],
        &[
            ("salary", MADE, person(b"Jane", 4711), person(b"****", 0)),
            ("salary", 3904, integers(4711, 4712), integers(0, 0)),
            ("salary", MADE, array(MADE, &[b"Jane", b"J. D. Doe."]), array(MADE, &[b"xxxx", b"x. x. xxx."])),
            ("salary", 1562, b"\0\0\0\x05\xa8".to_vec(), b"\0\0\0\x05\0".to_vec()),
            ("salary", 604, points(4711.5), points(0.0)),
            ("salary", 4072, b"\x01$.\"Jane\"".to_vec(), b"\x01$.\"xxxx\"".to_vec()),
            (
                "salary",
                3614,
                b"\0\0\0\x01Jane\0\0\x01\x30\x31".to_vec(),
                b"\0\0\0\x01xxxx\0\0\x01\x30\x31".to_vec(),
            ),
        ],
    );
}

#[test]
fn what_only_looks_like_parts_is_one_text() {
    let numbers =
        |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    for front in [
        numbers(&[1, 0, 3]),
        numbers(&[1, 0, 25, 1, 1, 999]),
        numbers(&[2, 25, 999]),
        numbers(&[9, 3, 0]),
        numbers(&[0x0003_0000, 7, 7]),
        b"\x02\x41".to_vec(),
        b"\x02\0\0\0\xff".to_vec(),
    ] {
        let sent = [&front[..], b" 4111 1111 1111 1111 "].concat();
        let masked = [&front[..], b" 4111 1100 0000 1111 "].concat();
        assert_values(&[], &[("a", MADE, sent, masked)]);
    }
    let deep = |value: &[u8]| (0..40).fold(value.to_vec(), |value, _| array(2287, &[&value]));
    assert_values(&[], &[("a", 2287, deep(b" 4111 1111 1111 1111"), deep(b" 4111 1100 0000 1111"))]);
}

#[test]
fn parameters_in_binary_have_parts_too() {
    let up = |value: &[u8]| {
        let body = [b"\0\0\0\x01\0\x01\0\x01", &sized(value)[..], b"\0\0"].concat();
        message(b'B', &body)
    };
    let table = [
        (array(25, &[LONG]), array(25, &[HIDDEN_TEXT])),
        (array(MADE, &[LONG]), array(MADE, &[HIDDEN])),
        (composite(&[(25, LONG), (23, b"\0\0\0\x34")]), composite(&[(25, HIDDEN_TEXT), (23, b"\0\0\0\x34")])),
    ];
    for (sent, masked) in table {
        for cut in 0..up(&sent).len() {
            let passed = pass(&mut masks(&[]), Direction::Up, &up(&sent), &[cut]).unwrap();
            assert!(passed == up(&masked), "{}", String::from_utf8_lossy(&passed));
        }
    }
}

#[test]
fn settings_that_a_server_reports_are_texts_but_for_its_version() {
    let settings = |name: &str, version: &str| {
        let one = message(b'S', format!("application_name\0{name}\0").as_bytes());
        [one, message(b'S', format!("server_version\0{version}\0").as_bytes())].concat()
    };
    let sent = settings("jane@example.com", "14.11.12.13");
    assert_down(&[], QUERY, &sent, &settings("jane************", "14.11.12.13"));
}

#[test]
fn booleans_and_networks_stay_some() {
    let table: [(u32, &[u8], &[u8]); 6] = [
        (16, b"t", b"f"),
        (16, b"f", b"f"),
        (1000, b"{t,f,NULL}", b"{f,f,NULL}"),
        (650, b"10.20.30.0/24", b"11.11.11.0/24"),
        (650, b"2001:db8::/32", b"1111:111::/32"),
        (1041, b"{10.20.30.40,::5}", b"{11.11.11.11,::1}"),
    ];
    for (kind, sent, masked) in table {
        let head = description(&[("salary", kind, 0)]);
        let down = [&head[..], &row(&[Some(sent)])].concat();
        assert_down(&["salary"], QUERY, &down, &[&head[..], &row(&[Some(masked)])].concat());
    }
}

#[test]
fn numbers_in_binary_are_read_in_decimal() {
    let card = 4_111_111_111_111_111_i64;
    let numeric = |digits: &[u16], weight: u16| {
        let head = [digits.len() as u16, weight, 0, 2].map(u16::to_be_bytes).concat();
        [head, digits.iter().flat_map(|digit| digit.to_be_bytes()).collect()].concat()
    };
    let integer = |low: i64| [&[0x12][..], &sized(&low.to_be_bytes())].concat();
    let text = b"4111111111111111";
    assert_values(
        &[],
        &[
            ("a", 20, card.to_be_bytes().to_vec(), vec![0; 8]),
            ("a", 20, (-card).to_be_bytes().to_vec(), vec![0; 8]),
            ("a", 20, (card + 1).to_be_bytes().to_vec(), (card + 1).to_be_bytes().to_vec()),
            ("a", 20, text[..8].to_vec(), text[..8].to_vec()),
            ("a", 701, (card as f64).to_be_bytes().to_vec(), vec![0; 8]),
            ("a", 701, 4711.5f64.to_be_bytes().to_vec(), 4711.5f64.to_be_bytes().to_vec()),
            ("a", 1700, numeric(&[4111, 1111, 1111, 1111], 3), numeric(&[0, 0, 0, 0], 3)),
            (
                "a",
                1700,
                numeric(&[4111, 1111, 1111, 1111, 5000], 3),
                numeric(&[4111, 1111, 1111, 1111, 5000], 3),
            ),
            ("a", 1700, numeric(&[4711, 5000], 0), numeric(&[4711, 5000], 0)),
            ("a", 1700, numeric(&[], 0), numeric(&[], 0)),
            ("a", 3926, integer(card), integer(0)),
            ("a", 1016, array(20, &[&card.to_be_bytes(), &[0, 7]]), array(20, &[&[0; 8], &[0, 7]])),
        ],
    );
}
