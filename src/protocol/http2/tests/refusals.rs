//! What is refused: answered in the request's own protocol, and the connection goes on.

use super::*;

#[test]
fn a_refused_stream_is_answered_swallowed_and_its_window_given_back() {
    let mut http = greeted();
    let bad = frame(HEADERS, END_HEADERS, 1, &block(&GET));
    let body = frame(DATA, 0, 1, &[7; 3_000]);
    let run = feed(&mut http, &[bad, body.clone(), body, frame(DATA, END_STREAM, 1, &[7; 10])].concat(), 500);
    assert_eq!((run.fault, run.up.len()), (None, 0));
    let said = frames(&said(&mut http));
    let kinds: Vec<u8> = said.iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [HEADERS, DATA, WINDOW_UPDATE, WINDOW_UPDATE], "no reset");
    assert!(fields(&said[0].1).contains(&(":status".into(), "401".into())));
    assert_eq!((&said[2].1[..], &said[3].1[..]), (&6_000u32.to_be_bytes()[..], &10u32.to_be_bytes()[..]));
    assert_eq!(http.in_flight(), 0);
}

#[test]
fn grpc_is_refused_with_trailers_only() {
    let mut http = greeted();
    feed(&mut http, &get(1, &[("content-type", "application/grpc+proto"), ("te", "trailers")]), 1_000);
    let said = frames(&said(&mut http));
    assert_eq!((said.len(), said[0].0.flags), (1, END_HEADERS | END_STREAM));
    assert!(fields(&said[0].1).contains(&("grpc-status".into(), "16".into())));
    assert_eq!(http.request().kind, Kind::Grpc);
}

#[test]
fn connect_is_answered_405_and_goes_nowhere() {
    let mut http = greeted();
    let head = block(&[
        (":method", "CONNECT"),
        (":authority", "db.internal:5432"),
        ("authorization", "Bearer good"),
    ]);
    let run = feed(&mut http, &frame(HEADERS, END_HEADERS, 1, &head), 1_000);
    assert_eq!((run.fault, run.up.len()), (None, 0));
    let answer = fields(&frames(&said(&mut http))[0].1);
    assert!(answer.contains(&(":status".into(), "405".into())));
    let id = RequestId { session: SessionId(1), number: 1 };
    assert!(answer.contains(&("x-request-id".into(), id.to_string())), "{answer:?}");
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_go_on() {
    let mut http = Http2::new(Limits { streams: 2, ..Limits::default() });
    let bytes = [greeting(), post(1), post(3), post(5), frame(DATA, END_STREAM, 5, b"x")].concat();
    let run = feed(&mut http, &bytes, 1_000);
    assert_eq!((run.fault, http.in_flight()), (None, 2));
    let said = frames(&said(&mut http));
    assert!(
        said.iter().any(|(head, payload)| head.stream == 5 && payload[..] == REFUSED_STREAM.to_be_bytes())
    );
}
