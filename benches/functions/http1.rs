//! HTTP/1.1: a request's head parsed, withheld, permitted and written anew; a response's head followed.
//!
//! The connection is kept, so its buffers have grown. Both include a copy of the bytes into place.

use crate::samples::{self, ANSWERED, FIELDS, Half, down, half, up};
use criterion::{Criterion, Throughput};
use staunch::protocol::Http;
use staunch::protocol::http1::{Http1, Limits};

const BODY: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Where does it go?"}]}"#;

/// Fewer than what may be pipelined.
const BATCH: u64 = 8;

pub(crate) fn head(criterion: &mut Criterion) {
    let mut request = String::from("POST /v1/chat/completions HTTP/1.1\r\nhost: route.example\r\n");
    FIELDS.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    request +=
        &format!("authorization: {}\r\ncontent-length: {}\r\n\r\n{BODY}", samples::bearer(), BODY.len());
    let mut response = String::from("HTTP/1.1 200 OK\r\n");
    ANSWERED.iter().for_each(|(name, value)| response += &format!("{name}: {value}\r\n"));
    response += &format!("content-length: {}\r\n\r\n{BODY}", BODY.len());

    let mut http = Http1::new(Limits::default());
    let (mut asked, mut answered) = (request.clone().into_bytes(), response.clone().into_bytes());
    let (mut up_out, mut down_out) = (Vec::new(), Vec::new());
    up(&mut http, &mut asked, &mut up_out);
    let sent = String::from_utf8(up_out.clone()).unwrap();
    assert!(
        !sent.contains(&samples::bearer()) && sent.contains("Bearer sk-") && sent.ends_with(BODY),
        "{sent}"
    );
    down(&mut http, &mut answered, &mut down_out);
    assert!(down_out.is_empty() && http.in_flight() == 0, "a response passes where it lies");

    let mut group = criterion.benchmark_group("http1");
    for (name, timed, length) in
        [("request", Half::Up, request.len()), ("response", Half::Down, response.len())]
    {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                // Both halves need the connection, one after the other.
                let http = std::cell::RefCell::new(&mut http);
                half(
                    iterations,
                    BATCH,
                    timed,
                    |_| {
                        asked.copy_from_slice(request.as_bytes());
                        up(&mut **http.borrow_mut(), &mut asked, &mut up_out);
                    },
                    |_| {
                        answered.copy_from_slice(response.as_bytes());
                        down(&mut **http.borrow_mut(), &mut answered, &mut down_out);
                    },
                )
            });
        });
    }
    group.finish();
}
