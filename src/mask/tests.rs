//! Whole texts and every split of them.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const HOLD: HoldLimit = HoldLimit { events: u32::MAX, time: Duration::from_secs(5), passes: false };
const SECRET: &[u8] = b"upstream-credential-0123456789";

fn rules_with(hold: HoldLimit, mode: Mode) -> Arc<Rules> {
    let mut rules: Vec<Rule> = Detector::all().map(Rule::Known).collect();
    rules.push(Rule::Own {
        name: "ticket".into(),
        anchor: (*b"ACME-").into(),
        pattern: Box::new(Pattern::new("[0-9]{4,6}(-[a-z]{1,3})?").unwrap()),
    });
    rules.push(Rule::Members { name: "members".into(), members: vec!["pin".into(), "Secret".into()] });
    rules.push(Rule::Credential(SECRET.into()));
    Arc::new(Rules::new(rules, mode, hold).unwrap())
}

fn rules() -> Arc<Rules> {
    rules_with(HOLD, Mode::Mask)
}

/// What passes after each piece.
fn pieces(stream: &mut Stream, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for piece in pieces {
        let (mut piece, mut now) = (piece.to_vec(), Vec::new());
        let passed = stream.take(&mut piece, Kind::Payload).unwrap();
        stream.release(passed.held, |bytes| now.extend_from_slice(bytes));
        now.extend_from_slice(&piece[..passed.at_hand]);
        out.push(now);
    }
    let mut last = Vec::new();
    let held = stream.finish();
    stream.release(held, |bytes| last.extend_from_slice(bytes));
    assert!(!stream.is_holding());
    out.push(last);
    out
}

fn masked_in(format: Format, parts: &[&[u8]]) -> String {
    let out = pieces(&mut Stream::new(rules(), format), parts).concat();
    String::from_utf8(out).unwrap()
}

fn masked(text: &str) -> String {
    masked_in(Format::Text, &[text.as_bytes()])
}

const SAMPLES: [(&str, &str); 49] = [
    ("pay 4111 1111 1111 1111 now", "pay 4111 11** **** 1111 now"),
    ("pay 4111111111111111.", "pay 411111******1111."),
    ("5500-0000-0000-0004", "5500-00**-****-0004"),
    ("378282246310005", "378282*****0005"),
    ("4111 1111 1111 1112", "4111 1111 1111 1112"),
    ("1694268190 and 17", "1694268190 and 17"),
    ("a41111111111111111", "a41111111111111111"),
    ("iban DE89 3704 0044 0532 0130 00.", "iban DE89 **** **** **** **** **."),
    ("GB82WEST12345698765432", "GB82******************"),
    ("gb42nawi04454264788619", "gb42******************"),
    ("180016070420458", "180016*****0458"),
    ("call 03.93.92.16.85 or", "call 03.**.**.**.** or"),
    ("GB82WEST12345698765433", "GB82WEST12345698765433"),
    ("mail jane.doe@example.com, or", "mail jane.doe************, or"),
    ("a@b and c@d.e1", "a@b and c@d.e1"),
    ("ssn 536-90-4399 ok", "ssn 536-**-**** ok"),
    ("666-90-4399 000-12-3456 123-00-4567", "666-90-4399 000-12-3456 123-00-4567"),
    ("call +49 30 901820 today", "call +49 ** ****** today"),
    ("call (555) 123-4567 or", "call (555) ***-**** or"),
    ("call 555-123-4567x89 or", "call 555-***-******* or"),
    ("call 020 7946 0958", "call 020 **** ****"),
    ("on 01-02-2024 and 2024-01-02", "on 01-02-2024 and 2024-01-02"),
    ("host 192.168.10.250:80", "host 192.168.**.***:80"),
    ("version 1.2.3 and 1.2.3.4.5 and 999.1.1.1", "version 1.2.3 and 1.2.3.4.5 and 999.1.1.1"),
    ("at 2001:db8::8a2e:370:7334 now", "at 2001:db8::****:***:**** now"),
    ("at 10:30:45 std::vec", "at 10:30:45 std::vec"),
    ("AKIAIOSFODNN7EXAMPLE", "AKIA****************"),
    ("AKIAIOSFODNN7EXAMPLE1", "AKIAIOSFODNN7EXAMPLE1"),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "AIza***********************************"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789.", "ghp_************************************."),
    ("glpat-ABCDEFGHIJKLMNOPQRST", "glpat-********************"),
    ("xoxb-123456789012-abcdefghijk", "xoxb-************************"),
    ("sk_live_abcdefghijklmnop", "sk_live_****************"),
    ("key sk-proj-abcDEF0123456789abcDEF end", "key sk-*************************** end"),
    ("the sk-learn-is-a-library-for-all end", "the sk-learn-is-a-library-for-all end"),
    ("sk-ant-api03-abcdefghijklmnop", "sk-**************************"),
    ("hf_abcdefghijklmnopqrstuvwxyzABCD", "hf_******************************"),
    (
        "t eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl.",
        "t eyJ***********************************************",
    ),
    ("eyJhbGciOiJIUzI1NiJ9 alone", "eyJhbGciOiJIUzI1NiJ9 alone"),
    ("postgres://bob:s3cr3t@db/x", "postgres://bob:******@db/x"),
    ("http://localhost:8080/x and http://a@b", "http://localhost:8080/x and http://a@b"),
    ("password=hunter22;x", "password=********;x"),
    ("Authorization: Bearer abcdef0123456789xyz", "Authorization: Bearer *******************"),
    ("Basic telecommunications", "Basic telecommunications"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc=\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\n*******\n-----END RSA PRIVATE KEY-----",
    ),
    ("see ACME-12345-ab. ACME-12", "see ACME-********. ACME-12"),
    ("it is upstream-credential-0123456789 ok", "it is upst************************** ok"),
    ("upstream-credential-012345678", "upstream-credential-012345678"),
    ("4242424242424242 5555555555554444", "424242******4242 555555******4444"),
];

#[test]
fn values_are_overwritten_behind_their_hold_points_and_nothing_else_is() {
    for (text, expected) in SAMPLES {
        assert_eq!(masked(text), expected);
        assert_eq!(masked(expected), expected, "what is masked is no value any more");
    }
}

#[test]
fn every_detector_is_in_the_table() {
    assert_eq!(Detector::all().count(), 20);
    for detector in Detector::all() {
        assert_eq!(Detector::named(detector.name()), Some(vec![detector]));
    }
}

#[test]
fn every_split_in_two_and_in_single_bytes_comes_to_the_same() {
    for (text, expected) in SAMPLES {
        for at in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Text, &[a, b]), expected, "{text:?} cut at {at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(masked_in(Format::Text, &bytes), expected);
    }
}

fn json_of(value: &str) -> String {
    masked_in(Format::Json, &[value.as_bytes()])
}

#[test]
fn json_stays_valid_and_escapes_are_one_character() {
    assert_eq!(
        json_of(
            r#"{"a":"pay \u0034111 1111 1111 1111","n":4111111111111111,"x":[true,null,"b@example\u002ecom"]}"#
        ),
        r#"{"a":"pay \u0034111 11** **** 1111","n":4111110000001111,"x":[true,null,"b*****************"]}"#
    );
    assert_eq!(
        json_of(r#"{"pin":"12\"34","SECRET":{"deep":[-17,"é\ud83d\ude00",true]},"other":"1234"}"#),
        r#"{"pin":"******","SECRET":{"deep":[-10,"**************",true]},"other":"1234"}"#
    );
    assert_eq!(json_of(r#""postgres:\/\/bob:s3cr3t@db""#), r#""postgres:\/\/bob:******@db""#);
}

#[test]
fn a_number_never_begins_with_nought() {
    assert_eq!(json_of(r#"{"pin":1234,"Secret":[0.5,7]}"#), r#"{"pin":1000,"Secret":[1.0,1]}"#);
}

fn chat(index: u32, text: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-4111111\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":{text:?}}}}}]}}\n\n"
    )
}

/// The contents of the deltas of one choice.
fn contents(stream: &str, index: u64) -> String {
    let mut all = String::new();
    for line in
        stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| line.starts_with('{'))
    {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        for choice in event["choices"].as_array().unwrap().iter().filter(|choice| choice["index"] == index) {
            all += choice["delta"]["content"].as_str().unwrap();
        }
    }
    all
}

#[test]
fn a_card_over_eleven_tokens_of_two_choices_arrives_masked_and_other_events_are_not_held() {
    let tokens = ["Pay", " ", "411", "1", " ", "111", "1", " ", "111", "1", " ", "111", "1", " today", "."];
    let mut events: Vec<String> = Vec::new();
    for token in tokens {
        events.push(chat(0, token));
        events.push(chat(1, "other"));
    }
    events.push("data: [DONE]\n\n".into());
    let parts: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
    let out = pieces(&mut Stream::new(rules(), Format::Events), &parts);
    for passed in 0..8 {
        assert_eq!(out[passed], parts[passed], "passes at once");
    }
    let all = String::from_utf8(out.concat()).unwrap();
    assert_eq!(all.len(), parts.concat().len());
    assert_eq!(contents(&all, 0), "Pay 4111 11** **** 1111 today.");
    assert_eq!(contents(&all, 1), "other".repeat(tokens.len()));
    // A hold before the seventh digit would have been none: the sixth passes.
    let until: Vec<u8> = out[..12].concat();
    assert!(contents(String::from_utf8_lossy(&until).rsplit_once("\n\n").unwrap().0, 0).len() <= 11);
}

#[test]
fn line_ends_comments_and_several_data_lines_are_followed() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = [
            "data: 4111 11",
            "",
            ": ping",
            "",
            "event: x",
            "data:11 1111",
            "",
            "data:  1111",
            "data: bye",
            "",
            "",
        ]
        .join(end);
        let expected = stream.replace("data:11 1111", "data:** ****");
        for at in 0..stream.len() {
            let (a, b) = stream.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Events, &[a, b]), expected, "{end:?} cut at {at}");
        }
    }
}

#[test]
fn shapes_of_other_apis_are_joined() {
    let shapes: [(&str, &str); 6] = [
        (
            "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"",
            "\"}}\n\n",
        ),
        ("data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"", "\"}\r\n\r\n"),
        ("data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"", "\"}]}}]}\n\n"),
        ("{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"", "\"},\"done\":false}\n"),
        ("{\"response\":\"", "\",\"done\":false}\n"),
        (
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"",
            "\"}}]}}]}\n\n",
        ),
    ];
    for (before, after) in shapes {
        let format = if before.starts_with("data") { Format::Events } else { Format::Json };
        let events =
            ["GB82 WE", "ST 1234 56", "98 7654 3", "2", " ok"].map(|text| format!("{before}{text}{after}"));
        let expected =
            ["GB82 **", "** **** **", "** **** *", "*", " ok"].map(|text| format!("{before}{text}{after}"));
        let parts: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
        assert_eq!(masked_in(format, &parts), expected.concat());
        let whole = events.concat();
        let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        assert_eq!(masked_in(format, &bytes), expected.concat());
    }
}

#[test]
fn white_space_and_a_byte_order_mark_hide_no_event() {
    let events = ["\u{feff}data: 4111 11", "11 1111", "1111"].map(|text| text.to_owned());
    let stream =
        format!("{}\n\ndata: {}\n\ndata: {}\n\n", events[0], events[1], format_args!(" {}", events[2]));
    let expected = stream.replace("data: 11 1111", "data: ** ****");
    let chat = |text: &str| {
        format!("data: \t  {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n")
    };
    let tokens = [r#""\u0034111""#, r#"" 111""#, r#""1 11""#, r#""11 1111""#].map(chat).concat();
    let masked = [r#""\u0034111""#, r#"" 11*""#, r#""* **""#, r#""** 1111""#].map(chat).concat();
    for (stream, expected) in [(stream, expected), (tokens, masked)] {
        assert_eq!(masked_in(Format::Events, &[stream.as_bytes()]), expected);
        for at in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Events, &[a, b]), expected, "cut at {at}");
        }
    }
}

#[test]
fn a_message_that_begins_with_white_space_is_json_still() {
    let frame = |text: &str| [&[0x81, text.len() as u8][..], text.as_bytes()].concat();
    let wire =
        [r#" {"a":"\u0034111 1111 1111 1111"}"#, "  4111 1111", " ", "1111", " 1111"].map(frame).concat();
    let expected =
        [r#" {"a":"\u0034111 11** **** 1111"}"#, "  4111 11**", " ", "****", " 1111"].map(frame).concat();
    for at in 0..=wire.len() {
        let (a, b) = wire.split_at(at);
        let out = pieces(&mut Stream::new(rules(), Format::Frames), &[a, b]).concat();
        assert_eq!(out, expected, "cut at {at}");
    }
}

#[test]
fn a_message_within_another_does_not_pass() {
    let card = b"4111 1111 1111 1111 ";
    let frame = |head: u8, text: &[u8]| [&[head, text.len() as u8], text].concat();
    for (first, second) in
        [(0x01, 0x81), (0x01, 0x82), (0x02, 0x81), (0x81, 0x80), (0x01, 0x83), (0x01, 0x8b)]
    {
        let mut wire = [frame(first, card), frame(second, card)].concat();
        let mut stream = Stream::new(rules(), Format::Frames);
        assert!(stream.take(&mut wire, Kind::Payload).is_err(), "{first:x} {second:x}");
    }
    // Control frames may stand within a message.
    let wire = [frame(0x01, b"4111 1111 1111 "), frame(0x89, b""), frame(0x80, b"1111 ")].concat();
    let out = pieces(&mut Stream::new(rules(), Format::Frames), &[&wire]).concat();
    assert_eq!(out, [frame(0x01, b"4111 11** **** "), frame(0x89, b""), frame(0x80, b"1111 ")].concat());
}

#[test]
fn form_fields_are_read_as_they_are_meant() {
    for (form, expected) in [
        ("mail=jane%40example.com&x=1", "mail=jane**************&x=1"),
        ("card=4111+1111%201111+1111&n=%3", "card=4111+11**%20****+1111&n=%3"),
        ("password=hunt%65r22&a=%zz%4", "password=**********&a=%zz%4"),
        ("%34111111111111111", "%3411111******1111"),
    ] {
        for at in 0..=form.len() {
            let (a, b) = form.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Form, &[a, b]), expected, "cut at {at}");
        }
    }
}

#[test]
fn signed_thinking_passes_as_it_is() {
    let event =
        "data: {\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"4111111111111111 \"}}\n\n";
    assert_eq!(masked_in(Format::Events, &[event.as_bytes()]), event);
}

#[test]
fn what_is_held_for_too_many_events_is_overwritten_as_it_comes_until_the_verdict() {
    let hold = HoldLimit { events: 2, ..HOLD };
    let events: Vec<String> =
        ["4111 1111", " 1", "1", "1", "1", "x", " fine"].iter().map(|text| chat(0, text)).collect();
    let parts: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
    let mut stream = Stream::new(rules_with(hold, Mode::Mask), Format::Events);
    let out = String::from_utf8(pieces(&mut stream, &parts).concat()).unwrap();
    assert_eq!(contents(&out, 0), "4111 11*******x fine");
    assert!(stream.take_counts().1 > 0);
    let mut stream = Stream::new(rules_with(HoldLimit { passes: true, ..hold }, Mode::Mask), Format::Events);
    let out = String::from_utf8(pieces(&mut stream, &parts).concat()).unwrap();
    assert_eq!(contents(&out, 0), "4111 1111 1111x fine");
}

#[test]
fn a_value_that_is_recognised_after_its_hold_was_too_long_is_overwritten_to_its_end() {
    let hold = HoldLimit { events: 2, ..HOLD };
    let tokens = ["4111 1111", " 1", "1", "1", "1", " 1", "1", "1", "1", " fine"];
    let events: Vec<String> = tokens.iter().map(|text| chat(0, text)).collect();
    let parts: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
    let mut stream = Stream::new(rules_with(hold, Mode::Mask), Format::Events);
    let out = String::from_utf8(pieces(&mut stream, &parts).concat()).unwrap();
    let text = contents(&out, 0);
    assert!(text.starts_with("4111 11**") && text.ends_with(" fine") && !text[7..].contains('1'), "{text}");
}

#[test]
fn what_is_held_for_too_long_is_overwritten_by_the_clock() {
    let mut stream = Stream::new(rules(), Format::Text);
    let mut bytes = *b"4111 1111 11";
    assert_eq!(stream.take(&mut bytes, Kind::Payload), Ok(Passed { held: 0, at_hand: 7 }));
    assert!(stream.hold_changed() && !stream.hold_changed());
    assert_eq!(stream.due(1_000), Some(6_000));
    assert_eq!(stream.due(3_000), Some(6_000), "it began with the first look");
    assert_eq!(stream.expire(5_999), 0);
    let (held, mut out) = (stream.expire(6_000), Vec::new());
    stream.release(held, |bytes| out.extend_from_slice(bytes));
    assert_eq!(out, b"*****");
    assert!(stream.hold_changed());
    assert_eq!(stream.due(6_000), None);
}

#[test]
fn observe_counts_changes_nothing_and_holds_nothing() {
    let text = "4111 1111 1111 1111 and jane@example.com";
    let mut stream = Stream::new(rules_with(HOLD, Mode::Observe), Format::Text);
    let parts: Vec<&[u8]> = text.as_bytes().chunks(3).collect();
    let out = pieces(&mut stream, &parts);
    assert_eq!(out[..parts.len()], parts);
    let (counts, _) = stream.take_counts();
    assert_eq!((counts[0], counts[2]), (1, 1));
}

#[test]
fn framing_stays_in_its_place() {
    let mut stream = Stream::new(rules(), Format::Text);
    let mut out = Vec::new();
    let parts: [(&[u8], Kind); 5] = [
        (b"4111 1111 ", Kind::Payload),
        (b"\r\na\r\n", Kind::Framing),
        (b"1111 1111 ", Kind::Payload),
        (b"\r\n0\r\n\r\n", Kind::Framing),
        (b"", Kind::Payload),
    ];
    for (bytes, kind) in parts {
        let mut bytes = bytes.to_vec();
        let passed = stream.take(&mut bytes, kind).unwrap();
        stream.release(passed.held, |bytes| out.extend_from_slice(bytes));
        out.extend_from_slice(&bytes[..passed.at_hand]);
    }
    assert_eq!(out, b"4111 11** \r\na\r\n**** 1111 \r\n0\r\n\r\n");
}

/// A WebSocket frame; a client's has a key.
fn ws(kind: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mark = if key.is_some() { 0x80 } else { 0 };
    let mut frame = vec![kind];
    match payload.len() {
        short @ 0..126 => frame.push(mark | short as u8),
        long => {
            frame.push(mark | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(key.as_ref().map_or(&[][..], |key| &key[..]));
    let key = key.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]));
    frame
}

#[test]
fn websocket_messages_are_overwritten_in_their_frames_under_the_client_s_key_too() {
    let long = format!("{{\"pin\":\"{}\"}}", "7".repeat(130));
    let masked_long = format!("{{\"pin\":\"{}\"}}", "*".repeat(130));
    let frames: [(u8, &[u8], &[u8]); 9] = [
        (
            0x81,
            b"{\"type\":\"response.text.delta\",\"delta\":\"4111 1111\"}",
            b"{\"type\":\"response.text.delta\",\"delta\":\"4111 11**\"}",
        ),
        (0x89, b"4111111111111111", b"4111111111111111"),
        (
            0x81,
            b"{\"type\":\"response.audio.delta\",\"delta\":\"QUJD\"}",
            b"{\"type\":\"response.audio.delta\",\"delta\":\"QUJD\"}",
        ),
        (0x01, b"{\"type\":\"response.text.delta\",\"del", b"{\"type\":\"response.text.delta\",\"del"),
        (0x80, b"ta\":\" 1111 1111\"}", b"ta\":\" **** 1111\"}"),
        (0x82, b"4111111111111111", b"4111111111111111"),
        (0x81, b"plain 4111 1111 1111 1111 text", b"plain 4111 11** **** 1111 text"),
        (0x81, long.as_bytes(), masked_long.as_bytes()),
        (0x88, b"", b""),
    ];
    for key in [None, Some([0x11, 0xfe, 0, 0x80])] {
        let wire: Vec<u8> = frames.iter().flat_map(|(kind, from, _)| ws(*kind, from, key)).collect();
        let expected: Vec<u8> = frames.iter().flat_map(|(kind, _, to)| ws(*kind, to, key)).collect();
        for step in [1, 2, 3, 7, 50, wire.len()] {
            let parts: Vec<&[u8]> = wire.chunks(step).collect();
            assert_eq!(
                pieces(&mut Stream::new(rules(), Format::Frames), &parts).concat(),
                expected,
                "step {step}"
            );
        }
    }
    let mut stream = Stream::new(rules(), Format::Frames);
    assert!(stream.take(&mut ws(0xc1, b"deflated", None), Kind::Payload).is_err());
}

#[test]
fn own_rules_without_a_bound_are_refused() {
    for expression in ["a+", "(ab)*c", "", "x?", "^a", "[0-9]{1,600}"] {
        assert!(Pattern::new(expression).is_err(), "{expression}");
    }
}

/// Texts that are made of values, of parts of values and of what stands between them.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        (0..SAMPLES.len()).prop_map(|n| SAMPLES[n].0.to_owned()),
        (0..SAMPLES.len(), 0..48usize).prop_map(|(n, at)| {
            let text = SAMPLES[n].0;
            text.chars().take(at).collect()
        }),
        "[0-9 .@:+()-]{0,12}",
        "[a-zA-Z0-9 ]{0,8}",
        "[\\PC\"\\\\]{0,3}",
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn cut<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    for size in sizes.iter().cycle().take(bytes.len() + 1) {
        let (part, behind) = rest.split_at((*size).min(rest.len()));
        parts.push(part);
        rest = behind;
    }
    parts.push(rest);
    parts
}

proptest! {
    #[test]
    fn any_split_of_any_text_comes_to_the_same(text in texts(), sizes in prop::collection::vec(1..24usize, 1..12)) {
        let whole = masked(&text);
        prop_assert_eq!(whole.len(), text.len());
        prop_assert_eq!(masked_in(Format::Text, &cut(text.as_bytes(), &sizes)), whole);
    }

    #[test]
    fn any_tokens_in_any_records_come_to_the_text_that_the_whole_comes_to(
        text in texts(), tokens in prop::collection::vec(1..12usize, 1..12), sizes in prop::collection::vec(1..200usize, 1..12),
    ) {
        let expected = masked(&text);
        let (mut events, mut token, mut lengths) = (String::new(), String::new(), tokens.iter().cycle());
        let mut length = *lengths.next().unwrap();
        for c in text.chars() {
            token.push(c);
            if token.chars().count() == length {
                events += &event_of(&token);
                token.clear();
                length = *lengths.next().unwrap();
            }
        }
        events += &event_of(&token);
        let out = masked_in(Format::Events, &cut(events.as_bytes(), &sizes));
        prop_assert_eq!(out.len(), events.len());
        let joined = contents(&out, 0);
        // A masked escape is as many fillers as it had bytes; everything else is as in the whole.
        prop_assert_eq!(joined.replace('*', ""), expected.replace('*', ""));
    }

    #[test]
    fn any_json_stays_valid(text in texts(), number in any::<i64>(), sizes in prop::collection::vec(1..40usize, 1..12)) {
        let value = serde_json::json!({ "a": [text, { "pin": number, "b": text }], "n": number });
        let value = value.to_string();
        let out = masked_in(Format::Json, &cut(value.as_bytes(), &sizes));
        prop_assert_eq!(&out, &json_of(&value));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok());
        prop_assert_eq!(out.len(), value.len());
    }
}

fn event_of(token: &str) -> String {
    let token = serde_json::to_string(token).unwrap();
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{token}}}}}]}}\n\n")
}

/// A field with a length, of protocol buffers.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[number << 3 | 2, content.len() as u8][..], content].concat()
}

fn grpc(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[test]
fn texts_in_grpc_messages_are_masked_field_by_field_however_they_are_cut() {
    let of = |card: &[u8], mail: &[u8], key: &[u8]| {
        // The tag behind the card reads as a digit, that behind the address as a letter, and the key's length as a digit.
        let inner =
            [field(5, card), field(6, b"x"), field(1, mail), field(9, b"more"), field(4, key)].concat();
        let message = [&[0x08, 0x96, 0x01][..], &field(2, &inner), &field(3, b"plain")].concat();
        [grpc(&message), grpc(b""), grpc(&field(1, &field(1, mail)))].concat()
    };
    let key = b"ghp_0123456789abcdefghijABCDEFGHIJ012345 is a secret";
    let sent = of(b"4111111111111111", b"jane@example.com", key);
    let masked =
        of(b"411111******1111", b"jane************", b"ghp_************************************ is a secret");
    for cut in 0..=sent.len() {
        let parts = [&sent[..cut], &sent[cut..]];
        let passed = pieces(&mut Stream::new(rules(), Format::Grpc), &parts).concat();
        assert!(passed == masked, "cut at {cut}: {}", String::from_utf8_lossy(&passed));
    }
}

#[test]
fn grpc_messages_that_are_compressed_or_too_long_are_faults_and_what_comes_before_them_passes() {
    let (fine, long) = (grpc(&field(1, b"jane@example.com")), MAX_HELD_BYTES as u32);
    let mut compressed = fine.clone();
    compressed[0] = 1;
    for bad in [compressed.clone(), [&[0][..], &long.to_be_bytes(), b"x"].concat()] {
        let mut stream = Stream::new(rules(), Format::Grpc);
        assert!(stream.take(&mut fine.clone(), Kind::Payload).is_ok());
        assert!(stream.take(&mut bad.clone(), Kind::Payload).is_err());
        let mut observed = Stream::new(rules_with(HOLD, Mode::Observe), Format::Grpc);
        assert_eq!(pieces(&mut observed, &[&bad, b"", &fine]).concat().len(), bad.len() + fine.len());
    }
}

#[test]
fn a_grpc_message_that_stops_in_its_middle_is_held_and_then_cut() {
    let mut stream = Stream::new(rules(), Format::Grpc);
    let mut half = grpc(&field(1, b"jane@example.com"))[..12].to_vec();
    assert_eq!(stream.take(&mut half, Kind::Payload).unwrap(), Passed { held: 0, at_hand: 0 });
    assert!(stream.due(0).is_some());
    stream.expire(10_000);
    assert!(stream.take(&mut [b'e'], Kind::Payload).is_err());
}
