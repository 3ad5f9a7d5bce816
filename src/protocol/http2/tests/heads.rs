//! Heads: rewritten, in pieces, malformed, too large; and trailers.

use super::*;

#[test]
fn a_permitted_head_is_rewritten_with_literals() {
    let mut http = greeted();
    let fields_in =
        [("authorization", "Bearer good"), ("x_api_key", "twin"), ("forwarded", "lie"), ("x-keep", "1")];
    let run = feed(&mut http, &get(1, &fields_in), 1_000);
    let [(head, payload)] = &frames(&run.up)[..] else { panic!("one frame") };
    assert_eq!((head.kind, head.flags, head.stream), (HEADERS, END_HEADERS | END_STREAM, 1));
    let expected = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/a?b"),
        (":authority", "up.example"),
        ("x-keep", "1"),
        ("authorization", "Bearer stored"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields(payload), expected);
}

#[test]
fn heads_in_pieces_padded_and_prioritised_are_read() {
    let head = block(&[&GET[..], &[("authorization", "Bearer good")]].concat());
    let (first, rest) = head.split_at(10);
    let padded = [&[3, 0, 0, 0, 0, 9][..], first, &[0; 3]].concat();
    let bytes = [
        frame(HEADERS, PADDED | PRIORITISED | END_STREAM, 1, &padded),
        frame(CONTINUATION, 0, 1, &rest[..5]),
        frame(CONTINUATION, END_HEADERS, 1, &rest[5..]),
    ]
    .concat();
    let run = feed(&mut greeted(), &bytes, 7);
    let plain = feed(&mut greeted(), &get(1, &[("authorization", "Bearer good")]), 1_000);
    assert_eq!(run, plain);
}

#[test]
fn a_head_too_large_is_answered_431_and_the_connection_goes_on() {
    let crumbs: Vec<(&str, &str)> =
        [vec![("authorization", "Bearer good")], vec![("x-crumb", "a"); 500]].concat();
    // The table as the peer's encoder leaves it: a field that is remembered stands behind what is too much.
    let mut remembered = block(&GET);
    remembered.extend_from_slice(&[0x80 | 19; 200]);
    remembered.extend_from_slice(b"\x40\x01x\x01y");
    let huge = format!("{:040000}", 0);
    let mut http = greeted();
    for (stream, head) in [
        (1, get(1, &crumbs)),
        (3, frame(HEADERS, END_HEADERS | END_STREAM, 3, &remembered)),
        (5, {
            let block = block(&[&GET[..], &[("x", &huge)]].concat());
            let mut out = Vec::new();
            write_block(&mut out, 5, true, &block);
            out
        }),
    ] {
        let run = feed(&mut http, &head, 1_000);
        assert_eq!((run.fault, run.up.len()), (None, 0), "{stream}");
        let answer = fields(&frames(&said(&mut http))[0].1);
        assert!(answer.contains(&(":status".into(), "431".into())), "{stream}: {answer:?}");
        assert_eq!(http.request().path(), b"/a", "the log can tell which");
    }
    // Index 62 is what was remembered last.
    let mut head = block(&[&GET[..], &[("authorization", "Bearer good")]].concat());
    head.push(0x80 | 62);
    let run = feed(&mut http, &frame(HEADERS, END_HEADERS | END_STREAM, 7, &head), 1_000);
    assert_eq!(run.fault, None);
    assert!(fields(&frames(&run.up)[0].1).contains(&("x".into(), "y".into())));
}

#[test]
fn a_client_with_a_smaller_table_is_told_so_before_our_own_answer() {
    let mut http = Http2::new(Limits::default());
    said(&mut http);
    let small = [0, 1, 0, 0, 0, 0];
    feed(&mut http, &[HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &small), &get(1, &[])].concat(), 1_000);
    let answer = frames(&said(&mut http)).remove(1);
    assert_eq!((answer.0.kind, answer.1[0]), (HEADERS, 0x20), "size 0 comes first (RFC 7541 section 4.2)");
    feed(&mut http, &get(3, &[("authorization", "Bearer good")]), 1_000);
    let own = [&[0x20][..], &block(&[(":status", "200")])].concat();
    let down = [
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, ACK, 0, &[]),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &own),
    ];
    assert_eq!(feed_down(&mut http, &down.concat(), 1_000).1, None);
    feed(&mut http, &get(5, &[]), 1_000);
    let answer = frames(&said(&mut http)).remove(0);
    assert_ne!(answer.1[0], 0x20, "the upstream has said it");
}

#[test]
fn malformed_heads_reset_their_stream_and_go_nowhere() {
    let table: &[&[(&str, &str)]] = &[
        &[(":method", "GET"), (":scheme", "https")],
        &[(":scheme", "https"), (":path", "/")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "relative")],
        &[(":method", "GET"), (":method", "GET"), (":scheme", "https"), (":path", "/")],
        &[(":method", "GET"), (":scheme", "https"), ("a", "b"), (":path", "/")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":status", "200")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("Upper", "x")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("connection", "x")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("transfer-encoding", "chunked")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("te", "gzip")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("a", "b\r\nc: d")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("a", " b\u{1} ")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("connection", " ")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a"), ("host", "b")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a:80"), ("host", "a")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("content-length", "1x")],
    ];
    let paths = ["/a b", "/a\tb", "/a\x01", "/a\x7f", "/a#b", "*", "https://a/"];
    let paths = paths.map(|path| vec![(":method", "GET"), (":scheme", "https"), (":path", path), GET[3]]);
    let schemes = ["", "ht tp", "https://a/?", "1a", "http\u{0}"];
    let schemes = schemes.map(|scheme| vec![(":method", "GET"), (":scheme", scheme), (":path", "/"), GET[3]]);
    let authorities = ["", "a b", "a/b", "u@a", "u:p@a", "a:b", "a,b", "a\u{1}"];
    let authorities = authorities
        .map(|name| vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", name)]);
    let fields = [
        ("a", "\u{1}"),
        ("a", "\u{7f}"),
        ("content-length", "1"),
        ("proxy-connection", "a"),
        ("keep-alive", "a"),
        ("upgrade", "a"),
    ];
    let fields = fields.map(|field| [&GET[..], &[field]].concat());
    let lengths = vec![[&GET[..], &[("content-length", "0"), ("content-length", "1")]].concat()];
    let without_authority = table.iter().map(|head| head.to_vec());
    let table = without_authority.chain(paths).chain(schemes).chain(authorities).chain(fields).chain(lengths);
    for head in table {
        let head = &head[..];
        let mut http = greeted();
        let run = feed(&mut http, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(head)), 1_000);
        assert_eq!((run.fault, run.up.len()), (None, 0), "{head:?}");
        let said = frames(&said(&mut http));
        assert_eq!(
            (said[0].0.kind, &said[0].1[..]),
            (RST_STREAM, &PROTOCOL_ERROR.to_be_bytes()[..]),
            "{head:?}"
        );
    }
}

#[test]
fn blanks_around_a_value_are_answered_and_go_nowhere() {
    for (field, value) in [("authorization", "Bearer "), ("x-key", " b"), ("x-key", "b\t"), ("x-key", " \t ")]
    {
        let mut http = greeted();
        let run = feed(&mut http, &get(1, &[("authorization", "Bearer good"), (field, value)]), 1_000);
        assert_eq!((run.fault, run.up.len()), (None, 0), "{field}: {value:?}");
        assert_eq!(http.request().fields.all(field).last(), Some(value.trim().as_bytes()));
        assert_eq!(http.request().barred, Some(RefusalReason::BadRequest));
        let answer = frames(&said(&mut http));
        assert_eq!(answer[0].0.kind, HEADERS, "{field}: {value:?}");
        assert!(fields(&answer[0].1).contains(&(":status".into(), "400".into())));
        // The stream alone is refused.
        assert_eq!(frames(&feed(&mut http, &get(3, &[("authorization", "Bearer good")]), 1_000).up).len(), 1);
    }
}

#[test]
fn twins_of_framing_hop_by_hop_and_injected_fields_do_not_go_up() {
    let sent = [
        ("authorization", "Bearer good"),
        ("transfer_encoding", "chunked"),
        ("content_length", "4"),
        ("keep_alive", "1"),
        ("proxy-authorization", "Basic a"),
        ("proxy_authorization", "Basic a"),
        ("max-forwards", "0"),
        ("x.api.key", "twin"),
        ("te", "trailers"),
    ];
    let run = feed(&mut greeted(), &get(1, &sent), 1_000);
    let names: Vec<String> = fields(&frames(&run.up)[0].1).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [":method", ":scheme", ":path", ":authority", "te", "authorization"]);
}

#[test]
fn cookie_crumbs_are_no_fields_and_have_bytes_of_their_own() {
    let crumbs =
        |count, value| [vec![("authorization", "Bearer good")], vec![("cookie", value); count]].concat();
    let fields_too = [crumbs(200, "a=b"), vec![("x", "y"); 90]].concat();
    let run = feed(&mut greeted(), &get(1, &fields_too), 1_000);
    assert_eq!(frames(&run.up).len(), 1);
    assert_eq!(fields(&frames(&run.up)[0].1).iter().filter(|(name, _)| name == "cookie").count(), 200);
    for (count, value) in [(1_000, "a"), (40, &"c".repeat(1_000)[..])] {
        let mut http = greeted();
        let mut head = Vec::new();
        write_block(&mut head, 1, true, &block(&[&GET[..], &crumbs(count, value)].concat()));
        assert!(feed(&mut http, &head, 100_000).up.is_empty());
        assert!(fields(&frames(&said(&mut http))[0].1).contains(&(":status".into(), "431".into())));
    }
}

#[test]
fn trace_is_answered_405_and_goes_nowhere() {
    for (method, more) in
        [("TRACE", &[][..]), ("TRACK", &[]), ("POST", &[("x-http-method-override", "TRACE")])]
    {
        let head = [&[(":method", method)], &GET[1..], &[("authorization", "Bearer good")], more].concat();
        let mut http = greeted();
        let run = feed(&mut http, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&head)), 1_000);
        assert_eq!((run.fault, run.up.len()), (None, 0), "{method}");
        let answer = fields(&frames(&said(&mut http))[0].1);
        assert!(answer.contains(&(":status".into(), "405".into())), "{answer:?}");
        assert!(answer.iter().any(|(name, value)| name == "allow" && !value.contains("TRACE")), "{answer:?}");
    }
}

#[test]
fn trailers_pass_and_those_that_authenticate_do_not() {
    let trailers = |list: &[(&str, &str)]| {
        let end = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(list));
        feed(&mut greeted(), &[post(1), end].concat(), 9)
    };
    let good = trailers(&[("x-checksum", "abc")]);
    assert_eq!(fields(&frames(&good.up)[1].1), [("x-checksum".to_owned(), "abc".to_owned())]);
    for name in ["authorization", "content-length", ":path", "x-api-key"] {
        let bad = trailers(&[(name, "1")]);
        let up: Vec<u8> = frames(&bad.up).iter().map(|(head, _)| head.kind).collect();
        assert_eq!((bad.fault, up), (None, vec![HEADERS, RST_STREAM]), "{name}");
    }
}

#[test]
fn the_emitted_head_is_at_most_twice_the_limit() {
    let value = "x".repeat(300);
    let many: Vec<(&str, &str)> =
        std::iter::once(("authorization", "Bearer good")).chain(vec![("a", &value[..]); 45]).collect();
    let run = feed(&mut greeted(), &get(1, &many), 100_000);
    assert_eq!(run.fault, None);
    assert!(run.up.len() <= 2 * Limits::default().head, "{} bytes", run.up.len());
}

#[test]
fn the_reserved_bit_of_a_head_never_goes_on_however_the_bytes_are_cut() {
    let marked = |kind, flags, stream, payload: &[u8]| {
        let mut bytes = frame(kind, flags, stream, payload);
        bytes[STREAM] |= RESERVED;
        bytes
    };
    let padded = [&[2][..], &block(&[(":status", "200")]), &[0; 2]].concat();
    let down = [
        marked(HEADERS, END_HEADERS | PADDED, 1, &padded),
        marked(DATA, 0, 1, b"abc"),
        marked(DATA, PADDED, 1, b"\x01d\x00"),
        marked(RST_STREAM, 0, 1, &[0; 4]),
        marked(PING, 0, 0, &[7; 8]),
        marked(0x42, 0x80, 0, b"unknown"),
    ]
    .concat();
    let up = [post_of(1, &[]), marked(DATA, 0, 1, b"abc"), marked(PING, 0, 0, &[7; 8])].concat();
    let mut seen = Vec::new();
    for step in [1, 4, 9, 50_000] {
        let mut http = greeted();
        let sent = feed(&mut http, &up, step);
        assert_eq!(sent.fault, None);
        let (answered, fault) = feed_down(&mut http, &down, step);
        assert_eq!(fault, None);
        for bytes in [&sent.up, &answered] {
            for at in frame_starts(bytes) {
                assert_eq!(bytes[at + STREAM] & RESERVED, 0, "pieces of {step}");
            }
        }
        seen.push(answered);
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "the same bytes however they are cut");
}

/// Where each frame begins.
fn frame_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEAD) {
        starts.push(at);
        at += HEAD + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    }
    starts
}

#[test]
fn host_and_authority_agree_with_and_without_the_schemes_own_port() {
    for (scheme, authority, host) in
        [("https", "a", "a:443"), ("https", "A:443", "a"), ("http", "a:80", "a"), ("https", "a:", "a")]
    {
        let mut http = greeted();
        let head = [
            (":method", "GET"),
            (":scheme", scheme),
            (":path", "/"),
            (":authority", authority),
            ("host", host),
            ("authorization", "Bearer good"),
        ];
        let run = feed(&mut http, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&head)), 100_000);
        assert_eq!((run.fault, http.in_flight()), (None, 1), "{scheme} {authority} {host}");
    }
}
