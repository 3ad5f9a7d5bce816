//! Bodies: events in the shapes of APIs, lines, form fields.

use super::*;

pub(super) fn chat(index: u32, text: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-4111111\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":{text:?}}}}}]}}\n\n"
    )
}

/// The contents of the deltas of one choice.
pub(super) fn contents(stream: &str, index: u64) -> String {
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

pub(super) fn event_of(token: &str) -> String {
    let token = serde_json::to_string(token).unwrap();
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{token}}}}}]}}\n\n")
}
