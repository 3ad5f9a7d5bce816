//! Work for hostile texts: each scanner of the wire is shown what makes it look again at what it has seen, whole and in small
//! pieces. Eight times the text may take eight times as long, not sixty-four.

use super::*;
use crate::names::SessionId;
use crate::protocol::statement::Watch as _;
use std::time::{Duration, Instant};

const SHORT: usize = 8 * 1024;
const LONG: usize = 8 * SHORT;
/// Times longer that [`LONG`] may take: linear is 8, by the square it would be 64.
const MAX_RATIO: u32 = 24;
/// Below this, the clock says nothing.
const MIN_TIME: Duration = Duration::from_micros(100);

/// The shortest of a few runs: the others had company.
fn time(scan: &dyn Fn(&[u8], usize), text: &[u8], piece: usize) -> Duration {
    let run = |_| {
        let begun = Instant::now();
        scan(text, piece);
        begun.elapsed()
    };
    (0..3).map(run).min().unwrap_or_default()
}

/// `pieces` are repeated between `before` and nothing.
fn is_linear(name: &str, scan: &dyn Fn(&[u8], usize), before: &[u8], pieces: &[&[u8]]) {
    for piece in pieces {
        let text = |length: usize| {
            let repeated: Vec<u8> =
                piece.iter().copied().cycle().take(length / piece.len() * piece.len()).collect();
            [before, &repeated].concat()
        };
        let (short, long) = (text(SHORT), text(LONG));
        for cut in [16, usize::MAX] {
            let measure = |_| (time(scan, &short, cut).max(MIN_TIME), time(scan, &long, cut));
            let mut tries = (0..4).map(measure);
            let holds = tries.any(|(short, long)| long < MAX_RATIO * short);
            let shown = String::from_utf8_lossy(piece);
            assert!(holds, "{name} looks again and again at {shown:?} in pieces of {cut}");
        }
    }
}

fn pieces(text: &[u8], cut: usize) -> std::slice::Chunks<'_, u8> {
    text.chunks(cut.min(text.len()).max(1))
}

/// Shows a client's bytes; every request is permitted, or refused.
fn ask(http: &mut dyn Http, text: &[u8], cut: usize, permits: bool) {
    for piece in pieces(text, cut) {
        let (mut data, mut out) = (piece.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        while let Ok(Up::Request) = http.up(&mut edit) {
            let id = crate::names::RequestId { session: SessionId(1), number: http.request().key };
            match permits {
                true => {
                    http.permit(&mut edit, &Rewrite { strip: &["authorization"], set: &[], authority: None })
                }
                false => http.refuse(&Refusal { id, why: RefusalReason::NoToken }),
            }
        }
        answer(http, b"", 1);
        while http.event().is_some() {}
    }
}

fn answer(http: &mut dyn Http, text: &[u8], cut: usize) {
    let some = if text.is_empty() { vec![&b""[..]] } else { pieces(text, cut).collect() };
    for piece in some {
        let (mut data, mut out) = (piece.to_vec(), Vec::new());
        if http.down(&mut Edit::new(&mut data, &mut out)).is_err() {
            return;
        }
    }
}

#[test]
fn http_1_looks_once_at_what_clients_and_upstreams_send() {
    let limits = || http1::Limits {
        head_bytes: 1 << 20,
        response_head_bytes: 1 << 20,
        trailer_bytes: 1 << 20,
        ..Default::default()
    };
    let up = |text: &[u8], cut: usize| ask(&mut http1::Http1::new(limits()), text, cut, true);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    let chunked = [&head[..], b"\r\n"].concat();
    let trailers = [&chunked[..], b"0\r\n"].concat();
    is_linear(
        "a request",
        &up,
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        &[b"a", b"X: y\r\n", b"Connection: a\r\n", b":", b"\r", b"\t "],
    );
    is_linear(
        "a value",
        &up,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ",
        &[b",", b" ,", b"a", b"a, ", b"\t"],
    );
    is_linear("chunks", &up, &chunked, &[b"1\r\nx\r\n", b"1;a=b\r\nx\r\n", b"0", b"2\r\n\r\n\r\n"]);
    is_linear("trailers", &up, &trailers, &[b"X: y\r\n", b"a", b"X:\t"]);
    is_linear("requests", &up, b"", &[b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n"]);
    let down = |text: &[u8], cut: usize| {
        let mut http = http1::Http1::new(limits());
        ask(&mut http, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1_000, true);
        answer(&mut http, text, cut);
    };
    let ok = b"HTTP/1.1 200 OK\r\n";
    is_linear("an answer", &down, ok, &[b"X: y\r\n", b"a", b"Connection: a,", b"\r"]);
    is_linear("interim answers", &down, b"", &[b"HTTP/1.1 103 Early Hints\r\n\r\n"]);
    is_linear(
        "chunks down",
        &down,
        &[&ok[..], b"Transfer-Encoding: chunked\r\n\r\n"].concat(),
        &[b"1\r\nx\r\n", b"1;a\r\nx\r\n"],
    );
}

#[test]
fn the_head_that_opens_a_tunnel_is_looked_at_once() {
    let limits = http1::Limits { head_bytes: 1 << 20, ..Default::default() };
    let read = |text: &[u8], cut: usize| {
        let mut head = http1::connect::ConnectHead::default();
        let ends = (0..text.len()).step_by(cut.min(text.len())).chain([text.len()]);
        assert!(ends.map(|end| head.read(&text[..end], &limits)).all(|read| matches!(read, Ok(None))));
    };
    is_linear("a tunnel", &read, b"CONNECT r HTTP/1.1\r\nHost: r\r\n", &[b"a", b"X: y\r\n", b"a:", b"\t "]);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn http_2_looks_once_at_what_clients_send() {
    let mut head = Vec::new();
    for (name, value) in [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "a")] {
        hpack::encode(name.as_bytes(), value.as_bytes(), false, &mut head);
    }
    let begun = [sniff::HTTP2_PREFACE, &frame(4, 0, 0, &[])].concat();
    let opened = [&begun[..], &frame(1, 4, 1, &head)].concat();
    for permits in [true, false] {
        let up = move |text: &[u8], cut: usize| {
            ask(&mut http2::Http2::new(Default::default()), text, cut, permits)
        };
        let of_stream = [
            frame(0, 0, 1, b"x"),
            frame(8, 0, 1, &[0, 0, 0, 1]),
            frame(0, 8, 1, &[2, 0, 0]),
            frame(2, 0, 1, &[0, 0, 0, 9, 1]),
        ];
        is_linear("a stream", &up, &opened, &of_stream.each_ref().map(Vec::as_slice));
        let of_connection = [
            frame(6, 0, 0, &[0; 8]),
            frame(4, 0, 0, &[0, 4, 0, 0, 9, 9]),
            frame(8, 0, 0, &[0, 0, 0, 1]),
            frame(99, 0, 0, &[]),
        ];
        is_linear("a connection", &up, &begun, &of_connection.each_ref().map(Vec::as_slice));
        // Crumbs of cookies and indexed fields, each of a byte, in one block.
        for crumb in [&b"\x60\x00"[..], b"\x82", b"\x0f\x11\x00"] {
            let one_block = |text: &[u8], cut: usize| {
                let mut bytes = [&begun[..], &frame(1, 0, 1, &head)].concat();
                text.chunks(16_000).for_each(|part| bytes.extend(frame(9, 0, 1, part)));
                bytes.extend(frame(9, 4, 1, &[]));
                up(&bytes, cut);
            };
            is_linear("a block", &one_block, b"", &[crumb]);
        }
    }
}

#[test]
fn redis_looks_once_at_commands_and_replies() {
    let up = |text: &[u8], cut: usize| {
        let (mut commands, mut work) = (redis::Commands::default(), redis::Work::default());
        for piece in pieces(text, cut) {
            let (mut data, mut out) = (piece.to_vec(), Vec::new());
            let mut edit = Edit::new(&mut data, &mut out);
            loop {
                match commands.pass(&mut edit, &mut work) {
                    Ok(redis::Passed::Login(_)) => {}
                    Ok(redis::Passed::All) => break,
                    Err(_) => return,
                }
            }
        }
    };
    is_linear(
        "commands",
        &up,
        b"",
        &[
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"\r\n",
            b"AUTH a\r\n",
            b"A",
            b"A ",
            b"*3\r\n$4\r\nAUTH\r\n$1\r\na\r\n$1\r\nb\r\n",
        ],
    );
    is_linear("a login", &up, b"*3\r\n$4\r\nAUTH\r\n$1\r\na\r\n$16000\r\n", &[b"a"]);
    let down = |text: &[u8], cut: usize| {
        let (mut replies, mut work) = (redis::Replies::new("5EC"), redis::Work::default());
        for piece in pieces(text, cut) {
            let (mut data, mut out) = (piece.to_vec(), Vec::new());
            let mut edit = Edit::new(&mut data, &mut out);
            loop {
                match replies.pass(&mut edit, &mut work, &mut ()) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(_) => return,
                }
            }
        }
    };
    is_linear(
        "replies",
        &down,
        b"",
        &[
            b"+OK\r\n",
            b"*1\r\n",
            b"*2\r\n:1\r\n",
            b"%1\r\n",
            b">1\r\n+a\r\n",
            b"|1\r\n",
            b"$1\r\nx\r\n",
            b"$-1\r\n",
            b"*0\r\n",
            b"+",
            b"*100\r\n",
        ],
    );
}

#[test]
fn statements_are_looked_at_once() {
    let message =
        |kind: u8, body: &[u8]| [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat();
    let postgres = |text: &[u8], cut: usize| {
        let mut statements = postgres::Statements::new(1 << 20);
        let now = Instant::now();
        pieces(text, cut).for_each(|piece| statements.up(piece, now, &mut |_| {}));
        let done = message(b'Z', b"I").repeat(text.len() / 16);
        pieces(&done, cut).for_each(|piece| statements.down(piece, now, &mut |_| {}));
    };
    let queries = [
        message(b'Q', b"\0"),
        message(b'P', b"a\0select 1\0\0\0"),
        message(b'P', b"\0password 'x\0\0\0"),
        message(b'B', b"\0a\0\0\0\0\0\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
        message(b'D', b"Sa\0"),
        message(b'C', b"Sa\0"),
        message(b'd', b"x"),
    ];
    is_linear("messages", &postgres, b"", &queries.each_ref().map(Vec::as_slice));
    let mysql = |text: &[u8], cut: usize| {
        let mut statements = mysql::Statements::new(1 << 20, 0);
        pieces(text, cut).for_each(|piece| statements.up(piece, Instant::now(), &mut |_| {}));
        let done = [&[7, 0, 0, 1][..], &[0, 0, 0, 2, 0, 0, 0]].concat().repeat(text.len() / 16);
        pieces(&done, cut).for_each(|piece| statements.down(piece, Instant::now(), &mut |_| {}));
    };
    let packet = |body: &[u8]| [&[body.len() as u8, 0, 0, 0][..], body].concat();
    let commands = [
        packet(b"\x03select 1"),
        packet(b"\x16select ?"),
        packet(b"\x17\x01\0\0\0\0\x01\0\0\0"),
        packet(b"\x19\x01\0\0\0"),
        packet(b"\x03"),
    ];
    is_linear("packets", &mysql, b"", &commands.each_ref().map(Vec::as_slice));
}
