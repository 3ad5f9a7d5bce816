//! What waits, and what does not: acknowledgements before there is an upstream, streams that an upstream does not allow yet, refused
//! bodies, resets that are no attack.

use super::*;

fn good(stream: u32) -> Vec<u8> {
    get(stream, &[("authorization", "Bearer good")])
}

fn kinds(bytes: &[u8]) -> Vec<(u8, u32)> {
    frames(bytes).iter().map(|(head, _)| (head.kind, head.stream)).collect()
}

fn said_up(http: &mut Http2) -> Vec<u8> {
    let mut out = Vec::new();
    http.up(&mut Edit::new(&mut [], &mut out)).unwrap();
    out
}

fn done(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":status", "200")]))
}

/// A connection whose upstream has not said anything.
fn unheard() -> Http2 {
    let mut http = Http2::new(Limits::default());
    said(&mut http);
    feed(&mut http, &greeting(), 1_000);
    http
}

#[test]
fn settings_are_acknowledged_without_an_upstream_and_once() {
    let mut http = unheard();
    feed(&mut http, &get(1, &[]), 1_000);
    assert!(http.wants_down());
    assert_eq!(
        kinds(&said(&mut http)),
        [(SETTINGS, 0), (HEADERS, 1), (DATA, 1)],
        "the acknowledgement is first"
    );
    assert_eq!(feed(&mut http, &frame(SETTINGS, 0, 0, &[]), 1_000).fault, None);
    assert_eq!(kinds(&said(&mut http)), [(SETTINGS, 0)]);
    feed(&mut http, &good(3), 1_000);
    feed(&mut http, &frame(SETTINGS, 0, 0, &[]), 1_000);
    assert!(!http.wants_down(), "there is an upstream");
    let upstream = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[]).repeat(3)].concat();
    let (down, _) = feed_down(&mut http, &upstream, 5);
    assert_eq!(frames(&down).iter().filter(|(head, _)| head.flags & ACK != 0).count(), 1, "two it has had");
}

#[test]
fn streams_beyond_what_the_upstream_allows_wait_and_go_up_in_order() {
    let limit = |streams: u32| {
        let mut payload = Vec::new();
        push_setting(&mut payload, MAX_CONCURRENT_STREAMS, streams);
        frame(SETTINGS, 0, 0, &payload)
    };
    for step in [1, 7, 10_000] {
        let mut http = unheard();
        let bodies = [frame(DATA, 0, 7, b"some"), frame(WINDOW_UPDATE, 0, 7, &[0, 0, 1, 0])].concat();
        let all = [good(1), good(3), good(5), post(7), bodies, frame(DATA, END_STREAM, 7, b"more")].concat();
        let up = feed(&mut http, &all, step).up;
        assert_eq!(
            (kinds(&up), http.in_flight()),
            (vec![(HEADERS, 1)], 4),
            "none but one before settings came"
        );
        feed_down(&mut http, &limit(2), step);
        assert!(http.wants_up());
        assert_eq!(kinds(&said_up(&mut http)), [(HEADERS, 3)]);
        feed_down(&mut http, &done(3), step);
        assert_eq!(kinds(&said_up(&mut http)), [(HEADERS, 5)]);
        feed_down(&mut http, &[done(1), done(5)].concat(), step);
        let up = said_up(&mut http);
        assert_eq!(kinds(&up), [(HEADERS, 7), (DATA, 7), (WINDOW_UPDATE, 7), (DATA, 7)]);
        feed_down(&mut http, &done(7), step);
        let ended: Vec<Event> = std::iter::from_fn(|| http.event()).collect();
        assert!(ended.contains(&Event::Ended { key: 7, up: 8, down: 0, how: Ended::Whole }), "{ended:?}");
        assert_eq!((ended.len(), http.in_flight()), (8, 0));
    }
}

#[test]
fn a_stream_that_waits_may_be_reset_cut_or_refused_and_the_upstream_never_hears_of_it() {
    let mut http = unheard();
    feed(&mut http, &[good(1), post(3), post(5), post(7), good(9)].concat(), 1_000);
    http.tick(1_000);
    feed(&mut http, &frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), 1_000);
    assert!(http.cut(5));
    let body = frame(DATA, 0, 7, &[0; 16_000]).repeat(5);
    assert_eq!(feed(&mut http, &body, 1_000).fault, None);
    let said_down = frames(&said(&mut http));
    let resets: Vec<_> = said_down.iter().filter(|(head, _)| head.kind == RST_STREAM).collect();
    assert_eq!(resets.len(), 2);
    assert_eq!((resets[0].0.stream, resets[0].1[3]), (5, CANCEL as u8));
    assert_eq!(
        (resets[1].0.stream, resets[1].1[3]),
        (7, REFUSED_STREAM as u8),
        "more than is kept: it may come again"
    );
    feed_down(&mut http, &[frame(SETTINGS, 0, 0, &[]), done(1)].concat(), 1_000);
    assert_eq!(kinds(&said_up(&mut http)), [(HEADERS, 9)]);
}

#[test]
fn what_was_kept_of_a_stream_that_ends_while_it_waits_is_given_back_to_the_connection() {
    type End = fn(&mut Http2);
    let reset: End = |http| drop(feed(http, &frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), 1_000));
    let ends: [End; 3] = [
        reset,
        |http| assert!(http.cut(3)),
        // More than is kept: what does not fit as well as what did.
        |http| drop(feed(http, &frame(DATA, 0, 3, &[0; 16_000]).repeat(3), 1_000)),
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let mut http = unheard();
        let padded = frame(DATA, PADDED, 3, &[&[99][..], &[1; 900], &[0; 99]].concat());
        feed(
            &mut http,
            &[good(1), post(3), padded, frame(DATA, 0, 3, &[0; 16_000]).repeat(2)].concat(),
            1_000,
        );
        said(&mut http);
        end(&mut http);
        let said = frames(&said(&mut http));
        let returned: u32 = said
            .iter()
            .filter(|(head, _)| (head.kind, head.stream) == (WINDOW_UPDATE, 0))
            .map(|(_, payload)| u32::from_be_bytes(payload[..4].try_into().unwrap()))
            .sum();
        let sent = 1_000 + 16_000 * if n == 2 { 5 } else { 2 };
        assert_eq!(returned, sent, "{n}");
    }
}

#[test]
fn draining_names_the_streams_that_wait() {
    let mut http = unheard();
    feed(&mut http, &[good(1), good(3)].concat(), 1_000);
    http.drain();
    let goaway = frames(&said(&mut http)).into_iter().find(|(head, _)| head.kind == GOAWAY).unwrap();
    assert_eq!(goaway.1[..4], [0, 0, 0, 3], "it is not to be sent again");
    assert!(!http.is_over());
}

#[test]
fn a_refused_body_is_read_and_thrown_away_within_bounds_and_then_reset() {
    let mut http = greeted();
    let head = frame(HEADERS, END_HEADERS, 1, &block(&GET));
    feed(&mut http, &head, 1_000);
    assert_eq!(
        kinds(&said(&mut http)),
        [(HEADERS, 1), (DATA, 1)],
        "no reset beside the answer: clients would not see it"
    );
    let piece = frame(DATA, 0, 1, &[0; 16_000]);
    let (mut sent, mut window) = (0, 0);
    let reset = loop {
        assert_eq!(feed(&mut http, &piece, 20_000).fault, None);
        sent += 16_000;
        let said = frames(&said(&mut http));
        window += said.iter().filter(|(head, _)| head.kind == WINDOW_UPDATE && head.stream == 1).count();
        if let Some((_, code)) = said.iter().find(|(head, _)| head.kind == RST_STREAM) {
            break code.clone();
        }
        assert!(sent < 100 << 20, "no bound");
    };
    assert_eq!(reset, NO_ERROR.to_be_bytes());
    assert!(sent > 20 << 20 && window > 100, "{sent} bytes, {window} times window");
    let late = [piece, frame(DATA, END_STREAM, 1, b"x")].concat();
    assert_eq!(feed(&mut http, &late, 20_000).fault, None, "what was on its way is nobody's fault");
    // The next one ends by itself; after that, its stream is closed for good.
    feed(
        &mut http,
        &[frame(HEADERS, END_HEADERS, 3, &block(&GET)), frame(DATA, END_STREAM, 3, b"x")].concat(),
        1_000,
    );
    said(&mut http);
    feed(&mut http, &frame(DATA, 0, 3, b"x"), 1_000);
    let said = frames(&said(&mut http));
    assert_eq!((said[0].0.kind, said[0].1[3]), (RST_STREAM, STREAM_CLOSED as u8));
}

#[test]
fn deadlines_that_run_out_are_no_rapid_reset() {
    // 57 calls a second whose deadline is 0.3 s, for a minute.
    let (mut http, mut stream) = (greeted(), 1);
    for _ in 0..60 * 57 {
        let call = good(stream);
        assert_eq!(feed(&mut http, &call, 1_000).fault, None);
        http.tick(300);
        let cancel = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        assert_eq!(feed(&mut http, &cancel, 1_000).fault, None, "stream {stream}");
        stream += 2;
    }
    // Streams whose answer has begun may be given up at once.
    for _ in 0..1_000 {
        feed(&mut http, &good(stream), 1_000);
        feed_down(&mut http, &frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])), 1_000);
        let cancel = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        assert_eq!(feed(&mut http, &cancel, 1_000).fault, None, "stream {stream}");
        stream += 2;
    }
}

#[test]
fn the_budget_of_resets_is_a_setting() {
    let count = |resets, resets_per_second| {
        let mut http = Http2::new(Limits { resets, resets_per_second, ..Limits::default() });
        feed(&mut http, &greeting(), 1_000);
        feed_down(&mut http, &frame(SETTINGS, 0, 0, &[]), 1_000);
        let rapid = |n: u32| [good(2 * n + 1), frame(RST_STREAM, 0, 2 * n + 1, &[0; 4])].concat();
        (0..1_000)
            .take_while(|n| {
                http.tick(1);
                feed(&mut http, &rapid(*n), 1_000).fault.is_none()
            })
            .count()
    };
    assert_eq!((count(10, 1), count(200, 1), count(100, 1_000)), (10, 200, 1_000));
}
