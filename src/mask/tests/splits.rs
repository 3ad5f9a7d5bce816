//! Every value of the table, split at every byte, over all that can carry it: records, events, lines, frames, messages, fields.

use super::bodies::chat;
use super::messages::{field, grpc, ws};
use super::*;

/// What carries pieces of one text, its own ends around each.
const CARRIERS: [(Format, &str, &str); 9] = [
    (Format::Events, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"", "\"}}]}\n\n"),
    (Format::Events, "data: {\"choices\":[{\"index\":0,\"text\":\"", "\"}]}\n\n"),
    (
        Format::Events,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"",
        "\"}}]}}]}\r\n\r\n",
    ),
    (
        Format::Events,
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"",
        "\"}}\n\n",
    ),
    (
        Format::Events,
        ": a comment\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"",
        "\"}\r\n\r\n",
    ),
    (Format::Events, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"", "\"}]}}]}\n\n"),
    (
        Format::Json,
        "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"",
        "\"},\"done\":false}\n",
    ),
    (Format::Json, "{\"response\":\"", "\",\"done\":false}\n"),
    (Format::Frames, "", ""),
];

/// Values that stand in JSON as they are.
fn plain_samples() -> impl Iterator<Item = (&'static str, &'static str)> {
    let plain = |(text, _): &(&str, &str)| text.is_ascii() && !text.contains(['"', '\\', '\n', '\r', '\t']);
    SAMPLES.into_iter().filter(plain)
}

/// The text in pieces, each in its carrier.
fn carried(carrier: (Format, &str, &str), pieces: &[&str]) -> Vec<Vec<u8>> {
    let (format, before, after) = carrier;
    let last = pieces.len() - 1;
    let piece = |(n, piece): (usize, &&str)| match format {
        // Fragments of one message; a ping stands between two.
        Format::Frames => {
            let kind = u8::from(n == 0) | if n == last { 0x80 } else { 0 };
            let ping = if n == 1 { ws(0x89, b"4111", Some([9, 8, 7, 6])) } else { Vec::new() };
            [ping, ws(kind, piece.as_bytes(), Some([n as u8, 0xa5, 0x5a, 0xff]))].concat()
        }
        _ => format!("{before}{piece}{after}").into_bytes(),
    };
    pieces.iter().enumerate().map(piece).collect()
}

fn assert_masked(carrier: (Format, &str, &str), text: &[&str], expected: &str, records: &[&[u8]]) {
    let mut from = 0;
    let expected: Vec<&str> = text
        .iter()
        .map(|piece| {
            from += piece.len();
            &expected[from - piece.len()..from]
        })
        .collect();
    let passed = pieces(&mut Stream::new(rules(), carrier.0), records).concat();
    let wanted = carried(carrier, &expected).concat();
    assert!(passed == wanted, "{carrier:?} {text:?}: {}", String::from_utf8_lossy(&passed));
}

#[test]
fn every_split_of_every_value_over_all_carriers_comes_to_the_whole() {
    for (text, _) in plain_samples() {
        let expected = masked(text);
        for carrier in CARRIERS {
            for at in 0..=text.len().min(64) {
                let split = [&text[..at], &text[at..]];
                let sent = carried(carrier, &split);
                assert_masked(carrier, &split, &expected, &[&sent[0], &sent[1]]);
            }
            let bytes: Vec<&str> = (0..text.len()).map(|at| &text[at..=at]).collect();
            let sent = carried(carrier, &bytes);
            let records: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
            assert_masked(carrier, &bytes, &expected, &records);
        }
    }
}

#[test]
fn every_record_of_every_value_in_all_carriers_comes_to_the_whole() {
    for (n, (text, _)) in plain_samples().enumerate() {
        let expected = masked(text);
        // Each value in every third carrier, which is enough for each carrier to have seen every kind.
        for carrier in CARRIERS.into_iter().skip(n % 3).step_by(3) {
            let split = [&text[..text.len() / 2], &text[text.len() / 2..]];
            let sent = carried(carrier, &split).concat();
            for at in 0..=sent.len() {
                assert_masked(carrier, &split, &expected, &[&sent[..at], &sent[at..]]);
            }
            let bytes: Vec<&[u8]> = sent.chunks(1).collect();
            assert_masked(carrier, &split, &expected, &bytes);
        }
    }
}

#[test]
fn every_split_over_messages_of_a_websocket_that_are_events_comes_to_the_whole() {
    let message = |piece: &str| ws(0x81, chat(0, piece)[6..].trim_end().as_bytes(), None);
    for (text, _) in plain_samples() {
        let expected = masked(text);
        for at in 0..=text.len().min(64) {
            let sent = [message(&text[..at]), message(&text[at..])];
            let passed = pieces(&mut Stream::new(rules(), Format::Frames), &[&sent[0], &sent[1]]).concat();
            let wanted = [message(&expected[..at]), message(&expected[at..])].concat();
            assert!(passed == wanted, "{text:?} at {at}: {}", String::from_utf8_lossy(&passed));
        }
    }
}

#[test]
fn every_record_of_every_value_in_a_grpc_message_comes_to_the_whole() {
    for (text, _) in plain_samples().filter(|(text, _)| text.len() < 100) {
        let message = |text: &str| grpc(&field(2, &field(1, text.as_bytes())));
        let (sent, wanted) = (message(text), message(&masked(text)));
        for at in 0..=sent.len() {
            let passed =
                pieces(&mut Stream::new(rules(), Format::Grpc), &[&sent[..at], &sent[at..]]).concat();
            assert!(passed == wanted, "{text:?} at {at}: {}", String::from_utf8_lossy(&passed));
        }
    }
}

#[test]
fn every_record_of_every_value_in_a_form_comes_to_the_whole() {
    let encoded = |text: &str| {
        let byte = |byte: u8| match byte {
            b' ' => "+".to_owned(),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'*' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    for (text, _) in plain_samples() {
        let sent = format!("a=1&text={}&b=2", encoded(text));
        let whole = masked_in(Format::Form, &[sent.as_bytes()]);
        assert_eq!(whole.len(), sent.len());
        // An escape that is overwritten is three fillers.
        let shown = |text: &str| text.replace('*', "");
        assert_eq!(shown(&whole), shown(&format!("a=1&text={}&b=2", encoded(&masked(text)))));
        for at in 0..=sent.len() {
            let (before, behind) = sent.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Form, &[before, behind]), whole, "{text:?} at {at}");
        }
    }
}

#[test]
fn an_exponent_in_what_is_no_json_does_not_depend_on_where_it_is_cut() {
    for text in
        ["[4111111111111111e5]", "[4111111111111111 e5]", "{a:4111111111111111E+2}", "4111111111111111e"]
    {
        let whole = masked_in(Format::Json, &[text.as_bytes()]);
        for at in 0..=text.len() {
            let (before, behind) = text.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Json, &[before, behind]), whole, "{text:?} at {at}");
        }
    }
}

/// Bodies that are nearly of a format: its marks, values, parts of values and names that have a meaning.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let mark = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\\",
        "\\\"",
        "\\u00",
        "34",
        "\\ud83d",
        "\\ude00",
        "data: ",
        "\n",
        "\n\n",
        "\r",
        " ",
        "e",
        "-",
        "true",
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"",
        "\"}}]}\n\n",
        "{\"pin\":",
        "\"token\":\"",
        "\"logprobs\":{\"content\":[{",
        "\"bytes\":[52,",
        "password=",
        "%4",
        "+",
        "\u{1e}",
        "\u{feff}",
        "4111 11",
        "11 1111",
        " 1111",
        "@example.com",
        "é",
        "\u{a0}",
    ]);
    let part = prop_oneof![
        4 => mark.prop_map(|mark| mark.as_bytes().to_vec()),
        1 => (0..SAMPLES.len()).prop_map(|n| SAMPLES[n].0.as_bytes().to_vec()),
        1 => (0..SAMPLES.len(), 0..48usize).prop_map(|(n, at)| SAMPLES[n].0.as_bytes()[..at.min(SAMPLES[n].0.len())].to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

/// What passes of a body; `None` where it cannot be followed.
fn passed(format: Format, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let (mut stream, mut all) = (Stream::new(rules(), format), Vec::new());
    for part in parts {
        let mut part = part.to_vec();
        let passed = stream.take(&mut part, Kind::Payload).ok()?;
        stream.release(passed.held, |bytes| all.extend_from_slice(bytes));
        all.extend_from_slice(&part[..passed.at_hand]);
    }
    let held = stream.finish();
    stream.release(held, |bytes| all.extend_from_slice(bytes));
    Some(all)
}

proptest! {
    #[test]
    fn whatever_a_body_is_it_comes_to_the_same_however_it_is_cut(
        body in nearly(), frame in any::<bool>(), sizes in prop::collection::vec(1..24usize, 1..8),
    ) {
        let body = if frame { ws(0x81, &body, Some([1, 2, 3, 4])) } else { body };
        for format in [Format::Text, Format::Json, Format::Events, Format::Form, Format::Frames] {
            let whole = passed(format, &[&body]);
            if let Some(whole) = &whole {
                prop_assert_eq!(whole.len(), body.len());
            }
            prop_assert_eq!(passed(format, &cut(&body, &sizes)), whole, "{:?} {}", format, String::from_utf8_lossy(&body));
        }
    }
}
