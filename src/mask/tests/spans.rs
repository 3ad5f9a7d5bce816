//! Where values were overwritten, as recordings say it.

use super::*;

/// Spans and output of a body in these pieces, each with framing before it.
fn spans(format: Format, parts: &[&[u8]], framing: &[u8]) -> (Vec<Span>, Vec<u8>) {
    let mut stream = Stream::new(rules(), format);
    stream.keep_spans();
    let (mut all, mut body) = (Vec::new(), Vec::new());
    for part in parts {
        let mut framing = framing.to_vec();
        let passed = stream.take(&mut framing, Kind::Framing).unwrap();
        stream.release(passed.held, |bytes| body.extend_from_slice(bytes));
        body.extend_from_slice(&framing[..passed.at_hand]);
        let mut part = part.to_vec();
        let passed = stream.take(&mut part, Kind::Payload).unwrap();
        stream.release(passed.held, |bytes| body.extend_from_slice(bytes));
        body.extend_from_slice(&part[..passed.at_hand]);
        if stream.has_many_spans() {
            all.extend(stream.take_spans());
        }
    }
    let held = stream.finish();
    stream.release(held, |bytes| body.extend_from_slice(bytes));
    all.extend(stream.take_spans());
    (all, body)
}

#[test]
fn spans_are_where_bytes_were_overwritten_whatever_the_framing_between() {
    let text = b"pay 4111 1111 1111 1111 now, mail jane@example.com or 192.168.17.23 at once";
    let expected = masked_in(Format::Text, &[text]);
    let fill: Vec<u64> =
        (0..text.len() as u64).filter(|at| expected.as_bytes()[*at as usize] == b'*').collect();
    for size in 1..text.len() {
        let parts: Vec<&[u8]> = text.chunks(size).collect();
        for framing in [&b""[..], b"\r\n1f\r\n"] {
            let (spans, body) = spans(Format::Text, &parts, framing);
            let said: Vec<u64> =
                spans.iter().flat_map(|span| span.offset..span.offset + span.length as u64).collect();
            assert_eq!(said, fill, "pieces of {size}");
            let framed = parts.len() * framing.len();
            assert_eq!(body.len(), text.len() + framed);
        }
    }
    let rules = rules();
    let names: Vec<&str> =
        spans(Format::Text, &[text], b"").0.iter().map(|span| rules.rules()[span.rule].name()).collect();
    assert_eq!(names, ["card", "card", "email", "ip", "ip"]);
}

#[test]
fn digits_of_a_number_are_one_span_and_members_are_whole() {
    let (spans, _) = spans(Format::Json, &[b"{\"n\":4111111111111111,\"pin\":\"1234\"}"], b"");
    let places: Vec<(u64, usize)> = spans.iter().map(|span| (span.offset, span.length)).collect();
    assert_eq!(places, [(11, 6), (29, 4)]);
}

#[test]
fn a_body_with_many_values_asks_for_its_spans_to_be_taken_and_misses_none() {
    let text = b"4111111111111111 ".repeat(2_000);
    let parts: Vec<&[u8]> = text.chunks(1_000).collect();
    let mut stream = Stream::new(rules(), Format::Text);
    stream.keep_spans();
    for part in &parts[..10] {
        let passed = stream.take(&mut part.to_vec(), Kind::Payload).unwrap();
        stream.release(passed.held, |_| ());
    }
    assert!(stream.has_many_spans());
    let (spans, _) = spans(Format::Text, &parts, b"!");
    assert_eq!(spans.len(), 2_000);
    assert!(spans.iter().enumerate().all(|(n, span)| (span.offset, span.length) == (17 * n as u64 + 6, 6)));
}

#[test]
fn nothing_is_kept_where_nobody_wants_it() {
    let mut stream = Stream::new(rules(), Format::Text);
    stream.take(&mut b"4111111111111111 ".to_vec(), Kind::Payload).unwrap();
    assert!(stream.take_spans().is_empty() && !stream.has_many_spans());
}
