//! HPACK: header blocks of a real client decoded, and fields encoded.

use crate::samples::{self, FIELDS, REWRITE};
use criterion::{Criterion, Throughput};
use staunch::protocol::Fields;
use staunch::protocol::hpack::{Decoder, encode};
use std::hint::black_box;
use tokio::io::AsyncReadExt;

pub(crate) fn code(criterion: &mut Criterion) {
    let [first, later] = request_blocks();
    let mut group = criterion.benchmark_group("hpack");
    for (name, block) in [("decode-first", &first), ("decode-later", &later)] {
        let (mut decoder, mut fields) = (Decoder::default(), Fields::default());
        let mut decode = |block: &[u8]| {
            fields.clear();
            decoder.decode(block, 32 * 1024, 100, &mut fields).unwrap();
            fields.len()
        };
        let count = decode(&first);
        let bearer = samples::bearer();
        // Decoded again, a block means the same: its indices count from the end of the table.
        assert!((0..100).all(|_| decode(block) == count && count == FIELDS.len() + 5));
        group.throughput(Throughput::Bytes(block.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(decode(block))));
        assert_eq!(fields.get("authorization"), Some(bearer.as_bytes()));
    }
    group.throughput(Throughput::Elements((FIELDS.len() + REWRITE.set.len()) as u64));
    let mut out = Vec::new();
    let mut code = || {
        out.clear();
        FIELDS.iter().for_each(|(n, v)| encode(n.as_bytes(), v.as_bytes(), false, &mut out));
        REWRITE.set.iter().for_each(|(n, v)| encode(n.as_bytes(), v, true, &mut out));
        black_box(out.len())
    };
    assert!(code() > 400, "{} bytes", code());
    group.bench_function("encode", |bencher| bencher.iter(&mut code));
    group.finish();
}

/// Header blocks of the same request sent twice by the h2 crate's client: Huffman codes, and entries of the dynamic
/// table where the second repeats the first. The token is a literal in both.
pub(crate) fn request_blocks() -> [Vec<u8>; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (client, connection) = h2::client::handshake(near).await.unwrap();
        let driven = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut uri = http::Request::post("https://route.example/v1/chat/completions");
        for (name, value) in FIELDS {
            uri = uri.header(name, value);
        }
        let request = uri.header("authorization", samples::bearer()).body(()).unwrap();
        let _first = client.send_request(request.clone(), false).unwrap();
        let _second = client.send_request(request, false).unwrap();
        let mut preface = [0; 24];
        far.read_exact(&mut preface).await.unwrap();
        let mut blocks = Vec::new();
        while blocks.len() < 2 {
            let mut head = [0; 9];
            far.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; ended(&head) - 9];
            far.read_exact(&mut payload).await.unwrap();
            // HEADERS with END_HEADERS and nothing else: neither padding nor priority.
            if head[3] == 1 {
                assert_eq!(head[4], 4);
                blocks.push(payload);
            }
        }
        driven.abort();
        // That client never puts a token into the table.
        let bytes = blocks.iter().map(Vec::len).collect::<Vec<_>>();
        assert!(bytes[1] < bytes[0] - 150, "the second repeats the first: {bytes:?}");
        blocks.try_into().unwrap()
    })
}

/// Where the frame in front ends.
pub(crate) fn ended(frame: &[u8]) -> usize {
    9 + u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize
}
