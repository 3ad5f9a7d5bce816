//! What may reach whom: streams that one side never heard of, heads and frames in unusual pieces, ends and drains.

use super::*;

/// The same bytes in every split into two pieces and in single bytes; returns the outcome of all.
fn up_however_split(fresh: fn() -> Http2, bytes: &[u8]) -> Run {
    let whole = feed(&mut fresh(), bytes, bytes.len());
    assert_eq!(feed(&mut fresh(), bytes, 1), whole, "single bytes");
    for cut in 1..bytes.len() {
        let mut http = fresh();
        let mut run = feed(&mut http, &bytes[..cut], bytes.len());
        if run.fault.is_none() {
            let rest = feed(&mut http, &bytes[cut..], bytes.len());
            run.up.extend_from_slice(&rest.up);
            run.fault = rest.fault;
        }
        assert_eq!(run, whole, "cut at {cut}");
    }
    whole
}

fn kinds(bytes: &[u8]) -> Vec<(u8, u32)> {
    frames(bytes).iter().map(|(head, _)| (head.kind, head.stream)).collect()
}

fn good(stream: u32) -> Vec<u8> {
    get(stream, &[("authorization", "Bearer good")])
}

/// What the gateway has to say to the upstream just now.
fn said_up(http: &mut Http2) -> Vec<u8> {
    let mut out = Vec::new();
    http.up(&mut Edit::new(&mut [], &mut out)).unwrap();
    out
}

fn ok(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&[(":status", "200")]))
}

#[test]
fn a_head_that_an_empty_continuation_completes_is_withheld_like_any_other() {
    let head = block(&[&GET[..], &[("authorization", "Bearer bad")]].concat());
    let bytes = [
        frame(HEADERS, 0, 1, &head),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
        frame(DATA, END_STREAM, 1, b"nobody permitted this"),
        good(3),
    ]
    .concat();
    let run = up_however_split(greeted, &bytes);
    assert_eq!((run.fault, kinds(&run.up)), (None, vec![(HEADERS, 3)]));
}

#[test]
fn what_follows_a_refused_stream_never_reaches_the_upstream() {
    let late: [(&str, Vec<u8>); 4] = [
        ("DATA", frame(DATA, 0, 3, b"late")),
        ("RST_STREAM", frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes())),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0])),
        ("trailers", frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[("x-sum", "1")]))),
    ];
    for (name, late) in &late {
        let refused = frame(HEADERS, END_HEADERS, 3, &block(&GET));
        let bytes = [good(1), refused, late.clone(), good(5)].concat();
        let run = up_however_split(greeted, &bytes);
        assert_eq!((run.fault, kinds(&run.up)), (None, vec![(HEADERS, 1), (HEADERS, 5)]), "{name}");
    }
}

#[test]
fn the_last_bytes_of_a_refused_body_are_given_back_too() {
    let mut http = greeted();
    let bytes = [frame(HEADERS, END_HEADERS, 1, &block(&GET)), frame(DATA, END_STREAM, 1, &[7; 10])].concat();
    feed(&mut http, &bytes, 1_000);
    let said = frames(&said(&mut http));
    let last = said.last().unwrap();
    assert_eq!((last.0.kind, last.0.stream, &last.1[..]), (WINDOW_UPDATE, 0, &[0, 0, 0, 10][..]));
}

#[test]
fn the_last_bytes_of_a_cut_response_are_given_back_too() {
    let mut http = greeted();
    feed(&mut http, &good(1), 1_000);
    http.cut(1);
    said_up(&mut http);
    let (down, fault) = feed_down(&mut http, &frame(DATA, END_STREAM, 1, &[7; 10]), 3);
    assert_eq!((kinds(&down), fault), (vec![(RST_STREAM, 1)], None));
    assert_eq!(frames(&said_up(&mut http))[0].1, [0, 0, 0, 10]);
}

#[test]
fn the_upstream_cannot_speak_on_streams_that_were_never_opened() {
    for (name, bytes) in [
        ("HEADERS", ok(3, 0)),
        ("DATA", frame(DATA, 0, 3, b"x")),
        ("RST_STREAM", frame(RST_STREAM, 0, 3, &[0; 4])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1])),
        ("a pushed stream", ok(2, 0)),
    ] {
        let mut http = greeted();
        feed(&mut http, &[good(1), get(3, &[])].concat(), 1_000);
        let fault = feed_down(&mut http, &bytes, 1_000).1.unwrap_or_else(|| panic!("{name} passed"));
        assert_eq!(fault.culprit, Culprit::Upstream, "{name}");
    }
}

#[test]
fn a_stream_cut_inside_its_header_block_gets_none_of_the_block() {
    let mut http = greeted();
    feed(&mut http, &good(1), 1_000);
    let begin = frame(HEADERS, 0, 1, &block(&[(":status", "200")]));
    let end = frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")]));
    assert_eq!(feed_down(&mut http, &begin, 1_000), (Vec::new(), None));
    http.cut(1);
    assert!(!http.wants_down());
    let (down, fault) = feed_down(&mut http, &end, 4);
    assert_eq!((kinds(&down), fault), (vec![(RST_STREAM, 1)], None));
}

#[test]
fn a_cut_streams_late_head_passes_only_if_later_heads_depend_on_it() {
    let stored = [&[0x40, 1][..], b"x", &[1], b"y"].concat();
    for (name, late, passes) in [
        ("a head of the static table", vec![0x88], false),
        ("a head that is remembered", [&[0x88][..], &stored].concat(), true),
        ("a head that changes the table's size", vec![0x20, 0x88], true),
    ] {
        let mut http = greeted();
        feed(&mut http, &[good(1), good(3)].concat(), 1_000);
        http.cut(1);
        said(&mut http);
        let late = frame(HEADERS, END_HEADERS | END_STREAM, 1, &late);
        let other = ok(3, END_STREAM);
        let (down, fault) = feed_down(&mut http, &[late.clone(), other.clone()].concat(), 1);
        let expected = if passes { [late, other].concat() } else { other };
        assert_eq!((down, fault), (expected, None), "{name}");
    }
}

#[test]
fn frames_that_are_gathered_are_bounded_whatever_the_peers_announce() {
    let mut largest = Vec::new();
    push_setting(&mut largest, MAX_FRAME_SIZE, (1 << 24) - 1);
    let announced = || {
        let mut http = Http2::new(Limits::default());
        feed(&mut http, &[HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &largest)].concat(), 1_000);
        feed(&mut http, &good(1), 1_000);
        assert_eq!(feed_down(&mut http, &frame(SETTINGS, 0, 0, &largest), 1_000).1, None);
        http
    };
    let huge = vec![0; 1 << 20];
    let fault = feed(&mut announced(), &frame(HEADERS, 0, 3, &huge)[..HEAD], 1_000).fault;
    assert_eq!(fault.map(|fault| fault.culprit), Some(Culprit::Client));
    for kind in [HEADERS, SETTINGS, GOAWAY] {
        let stream = u32::from(kind == HEADERS);
        let huge = frame(kind, 0, stream, &huge[..(1 << 20) - 4]);
        let fault = feed_down(&mut announced(), &huge[..HEAD], 1_000).1;
        assert_eq!(fault.map(|fault| fault.culprit), Some(Culprit::Upstream), "kind {kind}");
    }
    assert_eq!(feed(&mut announced(), &[post(3), frame(DATA, 0, 3, &huge)].concat(), 99_999).fault, None);
}

#[test]
fn an_upstream_that_announces_impossible_settings_is_at_fault() {
    for (id, value) in [(MAX_FRAME_SIZE, 100), (MAX_FRAME_SIZE, 1 << 24), (INITIAL_WINDOW_SIZE, 1 << 31)] {
        let mut payload = Vec::new();
        push_setting(&mut payload, id, value);
        let mut http = Http2::new(Limits::default());
        let fault = feed_down(&mut http, &frame(SETTINGS, 0, 0, &payload), 1_000).1;
        assert_eq!(fault.map(|fault| fault.culprit), Some(Culprit::Upstream), "{id} = {value}");
    }
}

#[test]
fn a_later_settings_frame_does_not_raise_the_streams_that_an_earlier_one_allowed() {
    let mut http = Http2::new(Limits::default());
    let (mut few, mut window) = (Vec::new(), Vec::new());
    push_setting(&mut few, MAX_CONCURRENT_STREAMS, 10);
    push_setting(&mut window, INITIAL_WINDOW_SIZE, 1 << 20);
    said(&mut http);
    let bytes = [frame(SETTINGS, 0, 0, &few), frame(SETTINGS, 0, 0, &window)].concat();
    assert_eq!(feed_down(&mut http, &bytes, 5), (bytes, None));
    let mut silent = Http2::new(Limits::default());
    said(&mut silent);
    let (down, _) = feed_down(&mut silent, &frame(SETTINGS, 0, 0, &[]).repeat(2), 5);
    let told: Vec<Vec<_>> = frames(&down).iter().map(|(_, payload)| settings(payload).collect()).collect();
    assert_eq!(told, [vec![(3, 100)], vec![]], "only the first says what the upstream left out");
}

#[test]
fn goaway_counts_a_request_that_still_waits_for_its_verdict() {
    let mut http = greeted();
    let mut head = good(1);
    let mut out = Vec::new();
    let mut edit = Edit::new(&mut head, &mut out);
    assert_eq!(http.up(&mut edit), Ok(Up::Request));
    http.drain();
    let rewrite = Rewrite { strip: &[], set: &[], authority: None };
    http.permit(&mut edit, &rewrite);
    assert_eq!(kinds(&out), [(HEADERS, 1)]);
    // A client may send again what lies above this number (RFC 9113 section 6.8): it would be done twice.
    assert_eq!(frames(&said(&mut http))[0].1[..4], [0, 0, 0, 1]);
}

#[test]
fn a_stream_is_over_with_its_last_byte_and_not_with_its_last_frames_head() {
    let mut http = greeted();
    feed(&mut http, &good(1), 1_000);
    let response = [ok(1, 0), frame(DATA, END_STREAM, 1, b"the end")].concat();
    feed_down(&mut http, &response[..response.len() - 1], 1_000);
    assert_eq!(http.event(), Some(Event::Response { key: 1, status: 200 }));
    assert_eq!((http.event(), http.in_flight() > 0), (None, true));
    assert!(http.down_ended().is_err(), "a frame was cut");
    assert!(matches!(http.event(), Some(Event::Ended { how: Ended::ByUpstream, .. })));

    let mut http = greeted();
    let request = [post(1), frame(DATA, END_STREAM, 1, b"the end")].concat();
    feed(&mut http, &request[..request.len() - 1], 1_000);
    feed_down(&mut http, &ok(1, END_STREAM), 1_000);
    http.drain();
    assert!((http.in_flight(), http.is_over()) == (1, false), "a byte of the request is still to come");
    feed(&mut http, &request[request.len() - 1..], 1_000);
    assert!(http.is_over());
}

#[test]
fn answers_that_a_client_does_not_read_are_bounded() {
    let mut http = greeted();
    let fault = (0..).map(|n| n * 2 + 1).take(5_000).find_map(|n| feed(&mut http, &get(n, &[]), 1_000).fault);
    assert_eq!(fault.map(|fault| fault.culprit), Some(Culprit::Client));
    assert!(http.to_client.len() < 200 * 1024, "{} bytes", http.to_client.len());
    let mut reader = greeted();
    for n in (1..4_000).step_by(2) {
        assert_eq!(feed(&mut reader, &get(n, &[]), 1_000).fault, None, "who reads is answered");
        said(&mut reader);
    }
}

#[test]
fn trailers_cannot_carry_what_the_gateway_strips_or_sets() {
    for name in
        ["x-api-key", "x_api_key", "authorization", "x-forwarded-for", "forwarded", "x-real-ip", "x_real_ip"]
    {
        let end = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(name, "1")]));
        let mut http = greeted();
        let run = feed(&mut http, &[post(1), end].concat(), 1_000);
        assert_eq!((run.fault, kinds(&run.up)), (None, vec![(HEADERS, 1), (RST_STREAM, 1)]), "{name}");
        assert_eq!(kinds(&said(&mut http)), [(RST_STREAM, 1)], "{name}");
    }
    for name in ["x-slot", "x_user"] {
        let mut http = greeted();
        let (mut data, mut out) = (post(1), Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        assert_eq!(http.up(&mut edit), Ok(Up::Request));
        http.permit(&mut edit, &Rewrite { strip: &["x-slot"], set: &[("x-user", b"ann")], authority: None });
        let end = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(name, "eve")]));
        assert_eq!(kinds(&feed(&mut http, &end, 1_000).up), [(RST_STREAM, 1)], "{name}");
    }
}

#[test]
fn resets_that_a_client_provokes_from_the_upstream_count_as_its_own() {
    let provoke = |code: u32| {
        let mut http = greeted();
        (1..).step_by(2).take(300).find_map(|stream| {
            // What the upstream takes offence at may be something that the gateway does not follow.
            let window = frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]);
            let up = feed(&mut http, &[good(stream), window].concat(), 1_000).fault;
            up.or_else(|| feed_down(&mut http, &frame(RST_STREAM, 0, stream, &code.to_be_bytes()), 1_000).1)
        })
    };
    let fault = provoke(FLOW_CONTROL_ERROR).unwrap();
    assert_eq!((fault.culprit, fault.section), (Culprit::Client, "CVE-2025-8671"));
    for honest in [NO_ERROR, REFUSED_STREAM, CANCEL] {
        assert_eq!(provoke(honest), None, "the upstream's own reasons are not the client's fault");
    }
}

#[test]
fn streams_that_crossed_goaway_do_not_end_those_under_way() {
    let mut http = greeted();
    feed(&mut http, &post(1), 1_000);
    for stream in (3..163).step_by(2) {
        feed(&mut http, &[good(stream), frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat(), 1_000);
    }
    http.drain();
    let crossed: Vec<u8> = (163..361).step_by(2).flat_map(good).collect();
    assert_eq!(feed(&mut http, &crossed, 1_000).fault, None);
    assert_eq!(http.in_flight(), 1);
}

#[test]
fn streams_that_the_upstreams_goaway_leaves_out_are_over() {
    let mut http = greeted();
    feed(&mut http, &[good(1), good(3), post(5)].concat(), 1_000);
    let goaway = frame(GOAWAY, 0, 0, &[&[0, 0, 0, 1, 0, 0, 0, 0][..], b"going"].concat());
    assert_eq!(feed_down(&mut http, &goaway, 1), (goaway, None));
    assert_eq!(http.in_flight(), 1);
    let body = frame(DATA, END_STREAM, 5, b"into the void");
    assert_eq!(feed(&mut http, &body, 1_000).up, b"");
    assert_eq!(feed_down(&mut http, &ok(1, END_STREAM), 1_000).1, None);
    assert_eq!(http.down_ended(), Ok(()), "nothing was cut");
}

#[test]
fn an_upstream_that_wants_a_smaller_table_is_told_that_ours_is_empty() {
    let mut table = Vec::new();
    push_setting(&mut table, HEADER_TABLE_SIZE, 0);
    let mut http = greeted();
    feed_down(&mut http, &frame(SETTINGS, 0, 0, &table), 1_000);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-sum", "1")]));
    let run = feed(&mut http, &[frame(SETTINGS, ACK, 0, &[]).repeat(2), post(1), trailers].concat(), 1_000);
    // RFC 7541 section 4.2: decoders refuse a block without this after the table was made smaller.
    let starts: Vec<u8> = frames(&run.up).iter().filter(|f| f.0.kind == HEADERS).map(|f| f.1[0]).collect();
    assert_eq!(starts, [0x20, 0x20]);
}

#[test]
fn an_upstream_may_send_what_was_on_its_way_to_a_stream_that_is_over_and_no_more() {
    let window = |stream: u32, more: u32| frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    let mut http = greeted();
    let begun = [good(1), window(1, 10_000), good(3)].concat();
    assert_eq!(feed(&mut http, &begun, begun.len()).fault, None);
    let (_, fault) =
        feed_down(&mut http, &[ok(1, 0), frame(DATA, 0, 1, &[7; 5_000]), ok(3, 0)].concat(), 1 << 20);
    assert_eq!(fault, None);
    let reset = frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    assert_eq!(feed(&mut http, &reset, reset.len()).fault, None);

    // All that the client had allowed may be on its way, in frames of any size. None of it passes; its credit goes back.
    let mut left = 65_535 + 10_000 - 5_000;
    let mut size = 1;
    while left > 0 {
        let data = frame(DATA, 0, 1, &vec![7; left.min(size)]);
        let (down, fault) = feed_down(&mut http, &data, data.len());
        assert_eq!((down, fault), (Vec::new(), None), "{left} left");
        left -= left.min(size);
        size = if size < 16_384 { size * 2 } else { 1 };
    }
    assert!(kinds(&said_up(&mut http)).contains(&(WINDOW_UPDATE, 0)));
    let (down, _) = feed_down(&mut http, &frame(DATA, 0, 3, b"alive"), 100);
    assert_eq!(kinds(&down), [(DATA, 3)]);

    // A flood ends the connection, and the upstream is told to be its cause.
    let flood = frame(DATA, 0, 1, &[7; 16_384]);
    let fault =
        (0..100).find_map(|_| feed_down(&mut http, &flood, flood.len()).1).expect("a flood without end");
    assert_eq!((fault.culprit, fault.rule), (Culprit::Upstream, "DATA on streams that are over"));
}

#[test]
fn an_upstream_that_ended_a_stream_itself_has_nothing_on_its_way() {
    let ends = [
        [ok(1, 0), frame(DATA, END_STREAM, 1, b"all")].concat(),
        [ok(1, 0), frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())].concat(),
        ok(1, END_STREAM),
    ];
    for end in ends {
        for late in [frame(DATA, 0, 1, b"late"), frame(DATA, 0, 1, b"")] {
            let mut http = greeted();
            let begun = good(1);
            assert_eq!(feed(&mut http, &begun, begun.len()).fault, None);
            assert_eq!(feed_down(&mut http, &end, end.len()).1, None);
            let (_, fault) = feed_down(&mut http, &late, late.len());
            assert_eq!(fault.expect("it goes on").culprit, Culprit::Upstream);
        }
    }
}

#[test]
fn an_upstream_that_has_ended_its_answer_says_nothing_more_while_the_request_goes_on() {
    for end in [[ok(1, 0), frame(DATA, END_STREAM, 1, b"all")].concat(), ok(1, END_STREAM)] {
        for more in [frame(DATA, 0, 1, b"more"), frame(DATA, END_STREAM, 1, b""), ok(1, 0), ok(1, END_STREAM)]
        {
            let mut http = greeted();
            let begun = post(1);
            assert_eq!(feed(&mut http, &begun, begun.len()).fault, None);
            assert_eq!(feed_down(&mut http, &end, end.len()).1, None);
            let (passed, fault) = feed_down(&mut http, &more, more.len());
            let fault = fault.expect("it goes on");
            assert_eq!((fault.culprit, fault.section), (Culprit::Upstream, "RFC 9113 5.1"));
            assert!(!passed.ends_with(b"more"));
        }
    }
}
