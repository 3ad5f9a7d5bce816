//! Bodies: events in the shapes of APIs, lines, form fields.

use super::messages::ws;
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
    let shapes: [(&str, &str); 15] = [
        (
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"custom\":{\"input\":\"",
            "\"}}]}}]}\n\n",
        ),
        ("data: {\"choices\":[{\"index\":0,\"delta\":{\"audio\":{\"transcript\":\"", "\"}}}]}\n\n"),
        (
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"",
            "\"}]}}]}\n\n",
        ),
        (
            "event: thread.message.delta\ndata: {\"object\":\"thread.message.delta\",\"delta\":{\"content\":[{\"index\":0,\"type\":\"text\",\"text\":{\"value\":\"",
            "\"}}]}}\n\n",
        ),
        (
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"partialArgs\":[{\"jsonPath\":\"$.to\",\"stringValue\":\"",
            "\",\"willContinue\":true}]}}]}}]}\n\n",
        ),
        ("data: {\"content\":\"", "\",\"stop\":false}\n\n"),
        ("data: {\"type\":\"tool-plan-delta\",\"delta\":{\"message\":{\"tool_plan\":\"", "\"}}}\n\n"),
        (
            "data: {\"type\":\"tool-call-delta\",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{\"function\":{\"arguments\":\"",
            "\"}}}}}\n\n",
        ),
        ("data: {\"results\":[{\"generated_text\":\"", "\",\"stop_reason\":\"not_finished\"}]}\n\n"),
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
        let format = if before.contains("data: ") { Format::Events } else { Format::Json };
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

/// Every piece of `events`, joined: the texts at this pointer whose event has `index` where the other pointer leads.
fn joined(stream: &str, text: &str, index: Option<(&str, u64)>) -> String {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
    let of_index = |event: &serde_json::Value| {
        index.is_none_or(|(at, index)| event.pointer(at).and_then(serde_json::Value::as_u64) == Some(index))
    };
    events.filter(of_index).filter_map(|event| event.pointer(text)?.as_str().map(str::to_owned)).collect()
}

#[test]
fn an_index_behind_the_text_tells_texts_apart_too() {
    // What Azure sends, what sorts its members, and Gemini.
    type Event = fn(&str, u64) -> String;
    let shapes: [(Event, &str, &str); 4] = [
        (
            |text, n| {
                format!(
                    "{{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null,\"index\":{n}}}]}}"
                )
            },
            "/choices/0/delta/content",
            "/choices/0/index",
        ),
        (
            |text, n| {
                format!(
                    "{{\"delta\":{{\"text\":\"{text}\",\"type\":\"text_delta\"}},\"index\":{n},\"type\":\"content_block_delta\"}}"
                )
            },
            "/delta/text",
            "/index",
        ),
        (
            |text, n| {
                format!(
                    "{{\"content_index\":{n},\"delta\":\"{text}\",\"output_index\":0,\"type\":\"response.output_text.delta\"}}"
                )
            },
            "/delta",
            "/content_index",
        ),
        (
            |text, n| {
                format!(
                    "{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}},\"index\":{n}}}]}}"
                )
            },
            "/candidates/0/content/parts/0/text",
            "/candidates/0/index",
        ),
    ];
    let text = "pay 4111 1111 1111 1111 now";
    for (event, at, index) in shapes {
        for size in 1..text.len() {
            let mut stream = String::new();
            for piece in text.as_bytes().chunks(size) {
                let piece = std::str::from_utf8(piece).unwrap();
                stream += &format!("data: {}\n\ndata: {}\n\n", event(piece, 0), event("7 ", 1));
            }
            let out = masked_in(Format::Events, &[stream.as_bytes()]);
            assert_eq!(joined(&out, at, Some((index, 0))), "pay 4111 11** **** 1111 now", "{at} by {size}");
            assert!(!joined(&out, at, Some((index, 1))).contains('*'));
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(7).collect();
            assert_eq!(masked_in(Format::Events, &bytes), out);
        }
    }
}

#[test]
fn an_id_tells_texts_apart_where_there_is_no_index() {
    // AI SDK, with members in any order, AG-UI, and what is said aloud to OpenAI.
    type Event = fn(&str, &str) -> String;
    let shapes: [(Event, &str, &str); 7] = [
        (|text, id| format!(r#"{{"type":"text-delta","id":"{id}","delta":"{text}"}}"#), "/delta", "/id"),
        (|text, id| format!(r#"{{"delta":"{text}","id":"{id}","type":"reasoning-delta"}}"#), "/delta", "/id"),
        (|text, id| format!(r#"{{"id":"{id}","delta":"{text}","type":"text-delta"}}"#), "/delta", "/id"),
        (
            |text, id| {
                format!(r#"{{"type":"tool-input-delta","toolCallId":"{id}","inputTextDelta":"{text}"}}"#)
            },
            "/inputTextDelta",
            "/toolCallId",
        ),
        (
            |text, id| format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"{id}","delta":"{text}"}}"#),
            "/delta",
            "/messageId",
        ),
        (
            |text, id| format!(r#"{{"type":"TOOL_CALL_ARGS","toolCallId":"{id}","delta":"{text}"}}"#),
            "/delta",
            "/toolCallId",
        ),
        (
            |text, id| {
                format!(
                    r#"{{"type":"conversation.item.input_audio_transcription.delta","event_id":"e","item_id":"{id}","content_index":0,"delta":"{text}"}}"#
                )
            },
            "/delta",
            "/item_id",
        ),
    ];
    let text = "pay 4111 1111 1111 1111 now";
    let of = |stream: &str, at: &str, id: &str, wanted: &str| {
        let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
        let wanted = events.filter(|event| event.pointer(id).unwrap() == wanted);
        wanted.map(|event| event.pointer(at).unwrap().as_str().unwrap().to_owned()).collect::<String>()
    };
    for (event, at, id) in shapes {
        for size in 1..text.len() {
            let mut stream = String::new();
            for piece in text.as_bytes().chunks(size) {
                let piece = std::str::from_utf8(piece).unwrap();
                stream += &format!("data: {}\n\ndata: {}\n\n", event(piece, "msg_1"), event("7 ", "msg_2"));
            }
            let out = masked_in(Format::Events, &[stream.as_bytes()]);
            assert_eq!(of(&out, at, id, "msg_1"), "pay 4111 11** **** 1111 now", "{at} by {size}");
            assert!(!of(&out, at, id, "msg_2").contains('*'));
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(7).collect();
            assert_eq!(masked_in(Format::Events, &bytes), out);
        }
    }
}

#[test]
fn an_id_that_each_event_has_anew_parts_no_text() {
    let event = |text: &str, n: usize| {
        format!(
            "data: {{\"type\":\"response.output_text.delta\",\"id\":\"{n}\",\"item_id\":\"i{n}\",\"output_index\":0,\"delta\":\"{text}\"}}\n\n"
        )
    };
    let stream: String =
        "4111 1111 1111 1111 ".split_inclusive(' ').enumerate().map(|(n, text)| event(text, n)).collect();
    let out = masked_in(Format::Events, &[stream.as_bytes()]);
    assert_eq!(joined(&out, "/delta", None), "4111 11** **** 1111 ");
}

#[test]
fn arguments_that_gemini_streams_are_joined_each_by_its_path() {
    let event = |to: &str, other: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"partialArgs\":[\
             {{\"stringValue\":\"{to}\",\"jsonPath\":\"$.to\"}},{{\"jsonPath\":\"$.n\",\"stringValue\":\"{other}\"}}]}}}}]}}}}]}}\n\n"
        )
    };
    let (said, heard) = (
        ["GB82 WE", "ST 1234 56", "98 7654 3", "2", " ok"],
        ["GB82 **", "** **** **", "** **** *", "*", " ok"],
    );
    let (said, heard) = (said.map(|text| event(text, "7 ")), heard.map(|text| event(text, "7 ")));
    let parts: Vec<&[u8]> = said.iter().map(|event| event.as_bytes()).collect();
    assert_eq!(masked_in(Format::Events, &parts), heard.concat());
}

#[test]
fn the_final_event_that_repeats_the_whole_text_is_masked_as_its_pieces_were() {
    let text = "Pay 4111 1111 1111 1111, mail jane@example.com.";
    let masked = masked(text);
    for size in 1..12 {
        let mut stream = String::new();
        for piece in text.as_bytes().chunks(size) {
            let piece = std::str::from_utf8(piece).unwrap();
            stream += &format!(
                "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"{piece}\"}}\n\n"
            );
        }
        stream += &format!(
            "data: {{\"type\":\"response.output_text.done\",\"output_index\":0,\"content_index\":0,\"text\":\"{text}\"}}\n\n"
        );
        stream += &format!(
            "data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{{\"content\":[{{\"type\":\"output_text\",\"text\":\"{text}\"}}]}}]}}}}\n\n"
        );
        let out = masked_in(Format::Events, &[stream.as_bytes()]);
        assert_eq!(joined(&out, "/delta", None), masked);
        assert_eq!(joined(&out, "/text", None), masked);
        assert_eq!(joined(&out, "/response/output/0/content/0/text", None), masked);
    }
}

#[test]
fn json_within_a_text_stays_json_and_its_members_and_escapes_count() {
    let inner = r#"{"card":4111111111111111,"note":"m\u0061il jane@example.com \"x\"","pin":"1234","more":[{"pin":77}]}"#;
    let expected = r#"{"card":4111110000001111,"note":"m\u0061il jane************ \"x\"","pin":"****","more":[{"pin":10}]}"#;
    let string = |text: &str| serde_json::to_string(text).unwrap();
    // In one string, twice within each other, and as the result of a tool.
    for wrap in [
        |text: String| format!("{{\"arguments\":{text}}}"),
        |text: String| format!("{{\"a\":{}}}", serde_json::to_string(&format!("[{text}]")).unwrap()),
        |text: String| {
            format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":{text}}}]}}}}"
            )
        },
    ] {
        let (sent, wanted) = (wrap(string(inner)), wrap(string(expected)));
        for at in 0..=sent.len() {
            let (before, behind) = sent.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Json, &[before, behind]), wanted, "cut at {at}");
        }
    }
    // In pieces: arguments of a tool, an answer in a given schema.
    let shapes: [(&str, &str, &str); 4] = [
        (
            "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":",
            "}}]}}]}",
            "/choices/0/delta/tool_calls/0/function/arguments",
        ),
        ("{\"choices\":[{\"index\":0,\"delta\":{\"content\":", "}}]}", "/choices/0/delta/content"),
        (
            "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":",
            "}}",
            "/delta/partial_json",
        ),
        ("{\"type\":\"response.function_call_arguments.delta\",\"output_index\":0,\"delta\":", "}", "/delta"),
    ];
    for (before, after, at) in shapes {
        for size in 1..inner.len() {
            let event = |piece: &[u8]| {
                format!("data: {before}{}{after}\n\n", string(std::str::from_utf8(piece).unwrap()))
            };
            let stream: String = inner.as_bytes().chunks(size).map(event).collect();
            let out = masked_in(Format::Events, &[stream.as_bytes()]);
            assert_eq!(joined(&out, at, None), expected, "{at} by {size}");
        }
    }
}

#[test]
fn a_text_that_begins_as_json_does_and_is_none_is_read_as_text() {
    for text in [
        "[prod] postgres://bob:s3cr3t@db/x and 4111 1111 1111 1111",
        "[2026-11-28] host 192.168.10.250:80, mail jane@example.com",
        "{user: 'jane@example.com', password: 'hunter22', at: 2001:db8::8a2e:370:7334}",
        "[4111 1111 1111 1111]",
        "[1] see -----BEGIN RSA PRIVATE KEY-----\nMIIabc=\n-----END RSA PRIVATE KEY-----",
        "{\"a\":1} trailing postgres://bob:s3cr3t@db/x",
    ] {
        // What stands before it makes the same text one that does not begin so.
        let expected = masked(&format!("- {text}"))[2..].to_owned();
        assert_ne!(expected, text);
        for format in [Format::Json, Format::Text] {
            for at in 0..=text.len() {
                let (before, behind) = text.as_bytes().split_at(at);
                assert_eq!(masked_in(format, &[before, behind]), expected, "{format:?} cut at {at}");
            }
        }
        let frame = ws(0x81, text.as_bytes(), None);
        let passed = pieces(&mut Stream::new(rules(), Format::Frames), &[&frame]).concat();
        assert_eq!(passed, ws(0x81, expected.as_bytes(), None));
    }
    // Behind a line that is none, lines of JSON are JSON again.
    let lines = "[oops\n{\"pin\":1234}\n)]}',\n{\"pin\":\"x\"}\n\u{1e}{\"pin\":\"y\"}\n";
    assert_eq!(
        masked_in(Format::Json, &[lines.as_bytes()]),
        lines.replace("1234", "1000").replace("\"x\"", "\"*\"").replace("\"y\"", "\"*\"")
    );
}

#[test]
fn tokens_with_their_probabilities_repeat_no_value() {
    let tokens = ["Pay ", "411", "1", " ", "111", "1", " ", "111", "1", " ", "111", "1", " now"];
    let masked = ["Pay ", "411", "1", " ", "11*", "*", " ", "***", "*", " ", "111", "1", " now"];
    let bytes = |text: &str| format!("{:?}", text.as_bytes());
    let overwritten = |text: &str| {
        let digits = |byte: &u8| format!("1{}", "0".repeat(byte.to_string().len() - 1));
        format!("[{}]", text.as_bytes().iter().map(digits).collect::<Vec<_>>().join(", "))
    };
    let logprobs = |token: &str, bytes: &str, top: &str| {
        format!(
            "[{{\"token\":\"{token}\",\"logprob\":-0.5,\"bytes\":{bytes},\"top_logprobs\":[{{\"token\":\"{top}\",\"logprob\":-0.5,\"bytes\":{bytes}}}]}}]"
        )
    };
    let sorted = |token: &str, bytes: &str, top: &str| {
        format!(
            "[{{\"bytes\":{bytes},\"logprob\":-0.5,\"token\":\"{token}\",\"top_logprobs\":[{{\"bytes\":{bytes},\"token\":\"{top}\"}}]}}]"
        )
    };
    let chat = |text: &str, logprobs: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"logprobs\":{{\"content\":{logprobs},\"refusal\":null}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let responses = |text: &str, logprobs: &str| {
        format!(
            "data: {{\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"{text}\",\"logprobs\":{logprobs}}}\n\n"
        )
    };
    for wrap in [chat, responses] {
        for of in [logprobs, sorted] {
            let sent: String =
                tokens.iter().map(|token| wrap(token, &of(token, &bytes(token), token))).collect();
            let wanted: String = tokens
                .iter()
                .zip(masked)
                .map(|(token, masked)| match token == &masked {
                    true => wrap(token, &of(token, &bytes(token), token)),
                    false => wrap(masked, &of(masked, &overwritten(token), &"*".repeat(token.len()))),
                })
                .collect();
            for size in [1, 2, 7, 50, 333, sent.len()] {
                let parts: Vec<&[u8]> = sent.as_bytes().chunks(size).collect();
                let out = masked_in(Format::Events, &parts);
                for (out, wanted) in out.lines().zip(wanted.lines()) {
                    assert_eq!(out, wanted, "by {size}");
                }
            }
        }
    }
    // All in one answer.
    let all = |of: &dyn Fn(usize) -> String| {
        let tokens: Vec<String> =
            (0..tokens.len()).map(|n| of(n).trim_matches(['[', ']']).to_owned()).collect();
        format!(
            "{{\"choices\":[{{\"index\":0,\"message\":{{\"content\":\"x\"}},\"logprobs\":{{\"content\":[{}]}}}}]}}",
            tokens.join(",")
        )
    };
    let sent = all(&|n| format!("[{{\"token\":\"{}\",\"bytes\":null}}]", tokens[n]));
    let wanted = all(&|n| format!("[{{\"token\":\"{}\",\"bytes\":null}}]", masked[n]));
    assert_eq!(masked_in(Format::Json, &[sent.as_bytes()]), wanted);
}

#[test]
fn a_long_text_that_goes_on_is_not_held_for_its_event_s_end() {
    let text = format!("{} 4111 1111 1111 1111 {}", "word ".repeat(4_000), "more ".repeat(4_000));
    let body = format!("{{\"model\":\"m\",\"response\":\"{text}\",\"done\":true}}");
    let parts: Vec<&[u8]> = body.as_bytes().chunks(1_000).collect();
    let mut stream = Stream::new(rules(), Format::Json);
    let out = pieces(&mut stream, &parts);
    assert!(out[5..].iter().take(10).chain(&out[30..35]).all(|piece| piece.len() == 1_000));
    assert_eq!(
        String::from_utf8(out.concat()).unwrap(),
        body.replace("1 1111 1111 1111", "1 11** **** 1111")
    );
    assert_eq!(stream.take_counts().1, 0, "nothing was held for too long");
}

#[test]
fn a_body_that_nobody_called_json_and_is_some_stays_valid() {
    for (sent, wanted) in [
        (
            "{\"card\":4111111111111111,\"mail\":\"jane\\u0040example.com\"}",
            "{\"card\":4111110000001111,\"mail\":\"jane*****************\"}",
        ),
        (" [{\"pin\":1234}]\n", " [{\"pin\":1000}]\n"),
        (
            "{\"response\":\"4111 1111 1\"}\n{\"response\":\"111 1111 \"}\n",
            "{\"response\":\"4111 11** *\"}\n{\"response\":\"*** 1111 \"}\n",
        ),
    ] {
        for at in 0..=sent.len() {
            let (before, behind) = sent.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Text, &[before, behind]), wanted, "cut at {at}");
        }
    }
    let deep = format!("{}4111 1111 1111 1111", "[".repeat(300));
    assert_eq!(
        masked_in(Format::Text, &[deep.as_bytes()]),
        deep.replace("1 1111 1111 1111", "1 11** **** 1111")
    );
}

#[test]
fn events_that_are_elements_of_one_array_pass_one_by_one_and_are_joined() {
    let event = |text: &str| {
        format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}},\"index\":0}}]}}")
    };
    let tokens = ["pay", " 4111 1", "111 11", "11 1111", " now", " and", " then"];
    let masked = ["pay", " 4111 1", "1** **", "** 1111", " now", " and", " then"];
    let sent = tokens.map(|text| format!(",\n{}", event(text)));
    let parts: Vec<&[u8]> =
        sent.iter().enumerate().map(|(n, part)| &part.as_bytes()[usize::from(n == 0)..]).collect();
    let mut stream = Stream::new(rules(), Format::Json);
    let out = pieces(&mut stream, &[&[&b"["[..]], &parts[..], &[b"]"]].concat());
    let wanted = masked.map(|text| format!(",\n{}", event(text)));
    assert_eq!(out.concat(), format!("[{}]", &wanted.concat()[1..]).into_bytes());
    assert!([1, 2, 5, 6, 7].iter().all(|n| out[*n].ends_with(b"}]}")), "what holds nothing passes at once");
}
