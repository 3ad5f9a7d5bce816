//! HTTP/2: a whole HEADERS frame with a small DATA frame behind it, up (decoded, withheld, permitted, encoded anew) and
//! down (followed).

use crate::hpack::{ended, request_blocks};
use crate::samples::{self, ANSWERED, Half, down, half, literals, up};
use criterion::{Criterion, Throughput};
use staunch::protocol::http2::{Http2, Limits};
use staunch::protocol::sniff::HTTP2_PREFACE;
use staunch::protocol::{Edit, Http, Up};
use std::cell::RefCell;

/// Fewer than what streams there may be.
const BATCH: u64 = 50;
/// Stream identifiers end at 2^31; a fresh connection long before.
const MOST: u32 = 1 << 30;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// A connection past its greeting, on which stream 1 has come and gone.
fn connection(first: &[u8], response: &mut [u8]) -> Http2 {
    let mut http = Http2::new(Limits::default());
    let mut out = Vec::new();
    let mut greeting = [HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    assert_eq!(http.up(&mut Edit::new(&mut greeting, &mut out)), Ok(Up::Done));
    let mut settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
    down(&mut http, &mut settings, &mut out);
    let mut acknowledged = frame(SETTINGS, ACK, 0, &[]);
    out.clear();
    assert_eq!(http.up(&mut Edit::new(&mut acknowledged, &mut out)), Ok(Up::Done));
    up(&mut http, &mut exchange(1, first), &mut out);
    let text = String::from_utf8_lossy(&out);
    assert!(!text.contains(&samples::bearer()) && text.contains("Bearer sk-"), "{text}");
    number(response, 1);
    down(&mut http, response, &mut out);
    assert_eq!(http.in_flight(), 0);
    http
}

pub(crate) fn block(criterion: &mut Criterion) {
    let [first, later] = request_blocks();
    let mut response = exchange(1, &literals(&[&[(":status", "200")][..], &ANSWERED].concat()));
    let mut group = criterion.benchmark_group("http2");
    for (name, timed, block) in [
        ("request-first", Half::Up, &first),
        ("request-later", Half::Up, &later),
        ("response", Half::Down, &later),
    ] {
        let mut request = exchange(1, block);
        let length = if timed == Half::Up { request.len() } else { response.len() };
        group.throughput(Throughput::Bytes(length as u64));
        let mut stream = MOST;
        let connected = RefCell::new(connection(&first, &mut response));
        let (mut up_out, mut down_out) = (Vec::new(), Vec::new());
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                if stream >= MOST - 4 * iterations as u32 {
                    connected.replace(connection(&first, &mut response));
                    stream = 1;
                }
                let before = stream;
                stream += 2 * iterations as u32;
                let id = |n: u64| before + 2 + 2 * n as u32;
                half(
                    iterations,
                    BATCH,
                    timed,
                    |n| {
                        number(&mut request, id(n));
                        up(&mut *connected.borrow_mut(), &mut request, &mut up_out);
                    },
                    |n| {
                        number(&mut response, id(n));
                        down(&mut *connected.borrow_mut(), &mut response, &mut down_out);
                    },
                )
            });
        });
        assert_eq!(connected.borrow().in_flight(), 0, "every exchange was whole");
    }
    group.finish();
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS with this block, and DATA that ends the stream.
fn exchange(stream: u32, block: &[u8]) -> Vec<u8> {
    [frame(1, 4, stream, block), frame(0, 1, stream, &[b'x'; 80])].concat()
}

/// Gives both frames of an exchange another stream.
fn number(exchange: &mut [u8], stream: u32) {
    let data = ended(exchange);
    exchange[5..9].copy_from_slice(&stream.to_be_bytes());
    exchange[data + 5..data + 9].copy_from_slice(&stream.to_be_bytes());
}
