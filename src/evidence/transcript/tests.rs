//! Wire bytes in, items out; each cut at every offset gives the same.

use super::{Item, Limits, Protocol, TranscriptBuilder, render};
use crate::recording::format::frame::{Plane, Totals};
use crate::recording::reader::Event;
use Plane::{Down, Up};
use serde_json::{Value, json};

/// Pieces in order; `cut`: bytes of a piece at most.
fn items(protocol: Option<Protocol>, pieces: &[(Plane, &[u8])], cut: usize) -> Vec<Item> {
    let (mut transcript, mut items) = (TranscriptBuilder::new(protocol, Limits::default()), Vec::new());
    for (time, (plane, bytes)) in pieces.iter().enumerate() {
        for chunk in bytes.chunks(cut) {
            transcript.take(time as u64, &Event::Data(*plane, Some(chunk.to_vec())), &mut items);
        }
    }
    transcript.finish(&mut items);
    items
}

/// The items of a session, the same however it is cut.
fn transcript(pieces: &[(Plane, &[u8])]) -> Vec<Value> {
    let whole: Vec<Value> = items(None, pieces, usize::MAX).iter().map(Item::to_json).collect();
    let longest = pieces.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    for cut in 1..longest.min(200) {
        let again: Vec<Value> = items(None, pieces, cut).iter().map(Item::to_json).collect();
        assert_eq!(again, whole, "cut at {cut}");
    }
    let shown = items(None, pieces, usize::MAX);
    let mut text = Vec::new();
    shown.iter().for_each(|item| render(&mut text, item).unwrap());
    assert!(!text.iter().any(|byte| *byte < 0x20 && *byte != b'\n'), "no control characters");
    whole
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn http1_requests_pair_with_their_responses_over_chunks_interim_answers_and_head() {
    let found = transcript(&[
        (Up, b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloHEAD /h HTTP/1.1\r\nHost: a\r\n\r\n"),
        (Down, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"),
        (Down, b"4;x=y\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\nX-Sum: 7\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
    ]);
    let kinds: Vec<_> = found.iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["request", "request", "response", "response", "response"]);
    assert_eq!((&found[0]["text"], &found[0]["method"]), (&"hello".into(), &"POST".into()));
    assert_eq!((&found[2]["status"], &found[2]["number"]), (&100.into(), &1.into()));
    assert_eq!((&found[3]["json"], &found[3]["number"]), (&json!({"a": 1}), &1.into()));
    assert_eq!(found[3]["headers"][2], json!(["X-Sum", "7"]));
    assert_eq!((&found[4]["number"], &found[4]["body_bytes"]), (&2.into(), &Value::Null));
}

#[test]
fn a_compressed_body_is_undone_a_bomb_is_cut_and_one_that_lies_is_shown_as_it_is() {
    let respond = |body: &[u8]| {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
        let all = [head.as_bytes(), body].concat();
        items(None, &[(Up, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (Down, &all)], usize::MAX)[1].to_json()
    };
    assert_eq!(respond(&gzip(b"plain"))["text"], "plain");
    let bomb = respond(&gzip(&vec![b'x'; 64 << 20]));
    assert_eq!(bomb["text"].as_str().unwrap().len(), Limits::default().body);
    let lie = respond(b"plain");
    assert_eq!((&lie["text"], lie["coding_note"].is_string()), (&"plain".into(), true));
}

#[test]
fn deltas_of_chat_completions_responses_and_messages_are_joined() {
    let stream = |events: &[Value]| {
        let body: String = events.iter().map(|event| format!("event: e\ndata: {event}\r\n\r\n")).collect();
        let down = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n{body}data: [DONE]\n\n"
        );
        let found = transcript(&[(Up, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"), (Down, down.as_bytes())]);
        found[1].clone()
    };
    let delta = |delta: Value| json!({"model": "m", "choices": [{"index": 0, "delta": delta}]});
    let chat = stream(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "Hel"})),
        delta(json!({"content": "lo"})),
        delta(json!({"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": "{\"q\""}}]})),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"total_tokens": 9}}),
    ]);
    assert_eq!(
        chat["joined"],
        json!([{"part": "text", "text": "Hello"}, {"part": "tool", "name": "find", "text": "{\"q\":1}"}])
    );
    assert_eq!(
        (&chat["finish"], &chat["usage"]["total_tokens"], &chat["events"]),
        (&"stop".into(), &9.into(), &7.into())
    );
    assert_eq!(chat["other_events"], Value::Null);
    let responses = stream(&[
        json!({"type": "response.created", "response": {}}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "name": "f"}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi "}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "you"}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"}),
        json!({"type": "response.completed", "response": {"status": "completed", "model": "m"}}),
    ]);
    assert_eq!(responses["joined"][0], json!({"part": "tool", "name": "f", "text": "{}", "index": [1, 0]}));
    assert_eq!(
        (&responses["joined"][1]["text"], &responses["finish"]),
        (&"Hi you".into(), &"completed".into())
    );
    let messages = stream(&[
        json!({"type": "message_start", "message": {"model": "c"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "A"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "B"}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "t"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
        json!({"unknown": true}),
    ]);
    assert_eq!(messages["joined"][0]["text"], "AB");
    assert_eq!(messages["joined"][1], json!({"part": "tool", "name": "t", "text": "{}", "index": [0, 1]}));
    assert_eq!((&messages["model"], &messages["finish"]), (&"c".into(), &"tool_use".into()));
    assert_eq!(messages["other_events"][0]["data"], "{\"unknown\":true}");
}

#[test]
fn a_websocket_is_followed_from_its_101_on() {
    let masked = |bytes: &[u8]| {
        let mask = [1, 2, 3, 4];
        let body = bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&[0x81, 0x80 | bytes.len() as u8][..], &mask, &body.collect::<Vec<u8>>()].concat()
    };
    let mut deflater = flate2::Compress::new(flate2::Compression::fast(), false);
    let mut deflated = |text: &[u8]| {
        let mut out = Vec::with_capacity(1024);
        deflater.compress_vec(text, &mut out, flate2::FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        [&[0xc1, out.len() as u8][..], &out].concat()
    };
    let down = [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n".to_vec(),
        deflated(b"again and again and again"),
        deflated(b"again and again and again"),
        b"\x01\x02ab\x89\x00\x80\x01c\x88\x05\x03\xe8bye".to_vec(),
    ]
    .concat();
    let up = masked(b"hello");
    let found = transcript(&[
        (Up, b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        (Down, &down),
        (Up, &up),
    ]);
    let texts: Vec<_> = found.iter().filter_map(|item| item["text"].as_str()).collect();
    assert_eq!(texts, ["again and again and again", "again and again and again", "abc", "hello"]);
    let close = found.iter().find(|item| item["name"] == "close").unwrap();
    assert_eq!((&close["code"], &close["reason"]), (&1000.into(), &"bye".into()));
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| {
        crate::protocol::hpack::encode(name.as_bytes(), value.as_bytes(), false, &mut out);
    });
    out
}

#[test]
fn http2_streams_are_told_apart_and_grpc_messages_are_read() {
    let head = block(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/pkg.Svc/Do"),
        ("content-type", "application/grpc"),
    ]);
    let (first, second) = head.split_at(7);
    let compressed = gzip(b"\x0a\x02hi\x10\x05");
    let message = [&[1, 0, 0, 0, compressed.len() as u8][..], &compressed].concat();
    let up = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 0, 1, first),
        frame(9, 4, 1, second),
        frame(0, 9, 1, b"\x02\0\0\0\0\x02\x08\x07\0\0"),
        frame(1, 5, 3, &block(&[(":method", "GET"), (":path", "/x")])),
    ]
    .concat();
    let down = [
        frame(4, 0, 0, &[]),
        frame(
            1,
            4,
            1,
            &block(&[(":status", "200"), ("content-type", "application/grpc"), ("grpc-encoding", "gzip")]),
        ),
        frame(1, 4, 3, &block(&[(":status", "404")])),
        frame(0, 0, 1, &message),
        frame(3, 0, 3, &[0, 0, 0, 8]),
        frame(1, 5, 1, &block(&[("grpc-status", "0")])),
        frame(7, 0, 0, b"\0\0\0\x03\0\0\0\0done"),
    ]
    .concat();
    let found = transcript(&[(Up, &up), (Down, &down)]);
    let of = |kind: &str, stream: u64| {
        found.iter().find(|item| item["kind"] == kind && item["stream"] == stream).unwrap()
    };
    assert_eq!(of("request", 1)["messages"][0]["fields"], json!([{"field": 1, "value": 7}]));
    assert_eq!(of("request", 1)["target"], "/pkg.Svc/Do");
    let response = of("response", 1);
    let fields = json!([{"field": 1, "value": "hi"}, {"field": 2, "value": 5}]);
    assert_eq!(response["messages"][0]["fields"], fields);
    assert_eq!(response["trailers"], json!([["grpc-status", "0"]]));
    assert_eq!((&of("response", 3)["status"], &of("response", 3)["incomplete"]), (&404.into(), &true.into()));
    assert_eq!(of("reset", 3)["code"], 8);
    assert_eq!(found.last().unwrap()["debug"], "done");
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

#[test]
fn postgres_statements_have_parameters_and_rows_in_text_and_binary() {
    let column = |name: &str, oid: u32, format: u8| {
        [name.as_bytes(), &[0; 7], &oid.to_be_bytes(), &[0; 6], &[0, format]].concat()
    };
    let up = [
        message(b'Q', b"select name from t\0"),
        message(b'P', b"s1\0select $1::int4\0\0\x01\0\0\0\x17"),
        message(b'D', b"Ss1\0"),
        message(b'B', b"\0s1\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x2a\0\x01\0\x01"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
        message(b'P', b"\0broken\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
        message(b'Q', b"copy t to stdout\0"),
    ]
    .concat();
    let down = [
        message(b'T', &[&[0, 1][..], &column("name", 25, 0)].concat()),
        message(b'D', b"\0\x01\0\0\0\x03ann"),
        message(b'D', b"\0\x01\xff\xff\xff\xff"),
        message(b'C', b"SELECT 2\0"),
        message(b'Z', b"I"),
        message(b'1', b""),
        message(b't', b"\0\x01\0\0\0\x17"),
        message(b'T', &[&[0, 1][..], &column("int4", 23, 0)].concat()),
        message(b'2', b""),
        message(b'D', b"\0\x01\0\0\0\x04\0\0\0\x2a"),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
        message(b'E', b"SERROR\0C42601\0Msyntax\0\0"),
        message(b'Z', b"I"),
        message(b'H', b"\0\0\x01\0\0"),
        message(b'd', b"1\tann\n"),
        message(b'c', b""),
        message(b'C', b"COPY 1\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let found = transcript(&[(Up, &up), (Down, &down)]);
    let of = |kind: &str, number: u64| {
        found.iter().find(|item| item["kind"] == kind && item["number"] == number).unwrap()
    };
    assert_eq!(of("statement", 1)["text"], "select name from t");
    assert_eq!(
        (&of("result", 1)["rows"], &of("result", 1)["tag"]),
        (&json!([["ann"], [null]]), &"SELECT 2".into())
    );
    assert_eq!(
        (&of("statement", 2)["text"], &of("statement", 2)["parameters"]),
        (&"select $1::int4".into(), &json!([42]))
    );
    assert_eq!((&of("result", 2)["rows"], &of("result", 2)["columns"]), (&json!([[42]]), &json!(["int4"])));
    assert_eq!(of("error", 3)["fields"]["sqlstate"], "42601");
    assert_eq!(of("result", 4)["tag"], "COPY 1");
    assert!(found.iter().any(|item| item["kind"] == "copy" && item["body"] == "1\tann\n"), "{found:?}");
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes()[..3], &[sequence], payload].concat()
}

#[test]
fn mysql_results_are_read_with_and_without_eof_packets() {
    let column = |name: &str, kind: u8| {
        let name = [&[name.len() as u8], name.as_bytes()].concat();
        [&b"\x03def\0\0\0"[..], &name, &name, &[0x0c, 33, 0, 0, 1, 0, 0, kind, 0, 0, 0, 0, 0]].concat()
    };
    const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
    const OK: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];
    for has_eof in [true, false] {
        let end = if has_eof { EOF } else { OK };
        let reply = |payloads: &[&[u8]]| {
            let kept = payloads.iter().filter(|payload| has_eof || **payload != EOF);
            kept.enumerate().flat_map(|(at, payload)| packet(at as u8 + 1, payload)).collect::<Vec<u8>>()
        };
        let execute = packet(0, b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\x03\0\x07\0\0\0");
        let prepared: [&[u8]; 5] =
            [&[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], &column("?", 3), EOF, &column("n", 3), EOF];
        let found = transcript(&[
            (Up, &packet(0, b"\x03select n from t")),
            (Down, &reply(&[&[1], &column("n", 3), EOF, b"\x0242", b"\xfb", end])),
            (Up, &packet(0, b"\x16select ?")),
            (Down, &reply(&prepared)),
            (Up, &execute),
            (Down, &reply(&[&[1], &column("n", 3), EOF, &[0, 0, 0xff, 0xff, 0xff, 0xff], end])),
            (Up, &[packet(0, b"\x03insert"), packet(0, b"\x03nonsense")].concat()),
            (Down, &[reply(&[&[0, 2, 5, 2, 0, 0, 0]]), reply(&[b"\xff\x28\x04#42000nonsense"])].concat()),
            (Up, &packet(0, b"\x01")),
        ]);
        let of = |kind: &str, number: u64| {
            found.iter().find(|item| item["kind"] == kind && item["number"] == number).unwrap()
        };
        assert_eq!(of("statement", 1)["text"], "select n from t");
        assert_eq!(
            (&of("result", 1)["rows"], &of("result", 1)["columns"]),
            (&json!([["42"], [null]]), &json!(["n"]))
        );
        assert_eq!(
            (&of("statement", 3)["text"], &of("statement", 3)["parameters"]),
            (&"select ?".into(), &json!([7]))
        );
        assert_eq!(of("result", 3)["rows"], json!([[-1]]));
        assert_eq!(
            (&of("result", 4)["affected_rows"], &of("result", 4)["last_insert_id"]),
            (&2.into(), &5.into())
        );
        assert_eq!(
            of("error", 5)["fields"],
            json!({"code": 1064, "sqlstate": "42000", "message": "nonsense"})
        );
    }
}

#[test]
fn redis_commands_pair_with_replies_and_pushes_do_not_count() {
    let found = transcript(&[
        (Up, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$4\r\nINFO\r\n"),
        (Down, b"$-1\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+PONG\r\n%1\r\n+a\r\n*2\r\n:1\r\n$2\r\n\0\xff\r\n-ERR no\r\n"),
    ]);
    assert_eq!(found[0]["words"], json!(["GET", "k"]));
    assert_eq!(found[1]["words"], json!(["PING"]));
    assert_eq!((&found[3]["kind"], &found[3]["value"]), (&"reply".into(), &Value::Null));
    assert_eq!((&found[4]["kind"], &found[4]["value"]), (&"push".into(), &json!(["invalidate", ["k"]])));
    assert_eq!((&found[5]["number"], &found[5]["value"]), (&2.into(), &"PONG".into()));
    assert_eq!(found[6]["value"], json!(["a", [1, {"base64": "AP8="}]]));
    assert_eq!(found[7]["value"], json!({"error": "ERR no"}));
}

#[test]
fn what_is_no_known_protocol_is_shown_as_bytes_and_so_is_what_stops_being_one() {
    let found = items(None, &[(Up, &[7; 80]), (Down, b"text")], usize::MAX);
    assert_eq!((found[0].kind, found[1].to_json()["text"].as_str()), ("bytes", Some("text")));
    let found = items(
        None,
        &[(Up, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (Down, b"nonsense\r\n\r\n"), (Up, b"more")],
        usize::MAX,
    );
    let kinds: Vec<_> = found.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, ["request", "lost", "bytes", "bytes"]);
}

#[test]
fn facts_gaps_and_what_nobody_can_open_have_items_of_their_own() {
    let (mut transcript, mut items) = (TranscriptBuilder::new(None, Limits::default()), Vec::new());
    let gap = crate::recording::format::frame::Gap { plane: Down, bytes: 9, records: 1 };
    let events = [
        Event::Fact(b"{\"event\":\"session opened\",\"route\":\"a\"}".to_vec()),
        Event::Data(Up, None),
        Event::Data(Up, None),
        Event::Data(Down, None),
        Event::Gap(gap),
        Event::Data(Down, Some(b"HTTP/1.1 200 OK\r\n".to_vec())),
        Event::End(Totals::default()),
    ];
    events.iter().for_each(|event| transcript.take(1, event, &mut items));
    let kinds: Vec<_> = items.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, ["fact", "sealed", "sealed", "gap", "bytes", "end"]);
    assert_eq!((&items[1].fields["frames"], &items[2].fields["frames"]), (&2.into(), &1.into()));
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let protocols = [
        Protocol::Http1,
        Protocol::Http2,
        Protocol::Postgres,
        Protocol::Mysql,
        Protocol::Redis,
        Protocol::Raw,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let starts: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
        b"\0\0\x05\x01\x04\0\0\0\x01",
        b"Q\0\0\0\x08abc\0",
        b"D\0\0\0\x08\0\x01\0\0",
        b"\x05\0\0\0\x03abcd",
        b"*2\r\n$3\r\nGET\r\n",
        b"\x01\0\0\x01\x02",
    ];
    for round in 0..2_000 {
        let mut pieces: Vec<(Plane, Vec<u8>)> = Vec::new();
        for _ in 0..6 {
            let plane = if random() % 2 == 0 { Up } else { Down };
            let mut bytes = starts[random() as usize % starts.len()].to_vec();
            for _ in 0..random() % 4 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            pieces.push((plane, bytes));
        }
        let pieces: Vec<_> = pieces.iter().map(|(plane, bytes)| (*plane, bytes.as_slice())).collect();
        items(Some(protocols[round % protocols.len()]), &pieces, 1 + round % 7);
    }
}

#[test]
fn a_certificate_s_line_says_from_when_until_when_it_holds_and_in_json_as_it_was_recorded() {
    let line = br#"{"event":"certificates","certificates":[{"by":"upstream","not_before":1767225600,"not_after":9999999999999}]}"#;
    let mut items = Vec::new();
    TranscriptBuilder::new(None, Limits::default()).take(7, &Event::Fact(line.to_vec()), &mut items);
    let mut text = Vec::new();
    items.iter().for_each(|item| render(&mut text, item).unwrap());
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with("\n    by=upstream not_after=9999-12-31 not_before=2026-01-01\n"), "{text}");
    assert_eq!(items[0].to_json()["line"]["certificates"][0]["not_before"], 1_767_225_600);
}
