//! Sniffing: the first bytes of a connection.

use criterion::Criterion;
use staunch::protocol::sniff::{HTTP2_PREFACE, Sniffed, sniff as tell};
use std::hint::black_box;

pub(crate) fn sniff(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sniff");
    let first: [(&str, &[u8], Sniffed); 3] = [
        ("http1", b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n", Sniffed::Http1),
        ("http2", HTTP2_PREFACE, Sniffed::Http2),
        ("other", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Sniffed::Unknown),
    ];
    for (name, bytes, told) in first {
        assert_eq!(tell(bytes), Some(told));
        group.bench_function(name, |bencher| bencher.iter(|| tell(black_box(bytes))));
    }
    group.finish();
}
