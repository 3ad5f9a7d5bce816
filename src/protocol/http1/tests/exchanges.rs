//! Transcripts of whole exchanges: who gets which bytes, and in which order.

use super::*;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";

/// Feeds a request and permits it with another authority.
fn with_authority(client: &str) -> String {
    let mut http = Http1::new(Limits::default());
    let (mut data, mut out) = (client.as_bytes().to_vec(), Vec::new());
    let mut edit = Edit::new(&mut data, &mut out);
    assert_eq!(http.up(&mut edit), Ok(Up::Request));
    http.permit(&mut edit, &Rewrite { strip: &[], set: &[], authority: Some("up.example:8443") });
    assert_eq!(http.up(&mut edit), Ok(Up::Done));
    text(&out)
}

#[test]
fn the_upstreams_own_name_takes_the_place_of_the_clients() {
    assert_eq!(
        with_authority("GET /a HTTP/1.1\r\nAccept: x\r\nHost: gw.example\r\n\r\n"),
        "GET /a HTTP/1.1\r\nAccept: x\r\nHost: up.example:8443\r\n\r\n"
    );
    // The absolute form names it too, and is not what an origin expects (RFC 9112 section 3.2.2).
    let absolute = with_authority("GET http://gw.example/a?b HTTP/1.1\r\nHost: gw.example\r\n\r\n");
    assert_eq!(absolute, "GET /a?b HTTP/1.1\r\nHost: up.example:8443\r\n\r\n");
    let old = with_authority("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old, "GET / HTTP/1.0\r\nHost: up.example:8443\r\nConnection: close\r\n\r\n");
}

#[test]
fn a_client_that_asks_before_it_sends_is_answered_by_whoever_decides() {
    let asks = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let goes_on = format!("HTTP/1.1 100 Continue\r\n\r\n{OK}");
    let s = seen(&format!("{asks}abc"), &goes_on);
    assert!(s.up.contains("\r\nExpect: 100-continue\r\n") && s.up.ends_with("\r\n\r\nabc"), "{}", s.up);
    assert_eq!((s.down.as_str(), s.over), (goes_on.as_str(), false));
    assert_eq!(s.events, [Event::Response { key: 1, status: 200 }, whole(1, 3, 2)]);
    // Refused, it may send the body or not: nobody can tell, so the connection ends.
    let s = seen(&asks.replace("POST / ", "POST /no "), "");
    assert!(s.up.is_empty() && s.over && s.down.starts_with("HTTP/1.1 401 "), "{}", s.down);
    assert!(s.down.contains("connection: close\r\n"));
}

#[test]
fn an_answer_that_comes_before_the_request_is_whole_ends_nothing_by_itself() {
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, POST.as_bytes());
    let _ = up(&mut http, b"a");
    assert_eq!(down(&mut http, OK.as_bytes()), (OK.as_bytes().to_vec(), Ok(())));
    assert_eq!((http.in_flight(), http.is_over()), (1, false), "the client may finish its body");
    assert_eq!(up(&mut http, b"bc").0, b"bc");
    assert_eq!(http.in_flight(), 0);
    let events: Vec<Event> = std::iter::from_fn(|| http.event()).collect();
    assert_eq!(events, [Event::Response { key: 1, status: 200 }, whole(1, 3, 2)]);
    assert_eq!(text(&up(&mut http, GET.as_bytes()).0), "GET / HTTP/1.1\r\nHost: a\r\nx-user: ada\r\n\r\n");

    // With `Connection: close` the upstream says that it reads no more of it.
    let closing = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, POST.as_bytes());
    assert_eq!(text(&down(&mut http, closing.as_bytes()).0), closing);
    assert!(http.is_over());
    let ended = Event::Ended { key: 1, up: 0, down: 0, how: Ended::ByUpstream };
    assert_eq!(std::iter::from_fn(|| http.event()).last(), Some(ended));
}

#[test]
fn draining_finishes_what_is_under_way_in_order_and_takes_nothing_new() {
    let mut http = Http1::new(Limits::default());
    let two = format!("{GET}GET /no HTTP/1.1\r\nHost: a\r\n\r\n{GET}");
    assert_eq!(up(&mut http, two.as_bytes()).1, Ok(Up::Done));
    http.drain();
    assert_eq!(up(&mut http, GET.as_bytes()).0, b"", "it is not sent up");
    assert_eq!((http.in_flight(), http.is_over()), (2, false));
    let mut said = text(&down(&mut http, OK.as_bytes()).0);
    assert!(!http.is_over() && !said.to_ascii_lowercase().contains("connection: close"), "{said}");
    said += &text(&down(&mut http, OK.as_bytes()).0);
    assert!(http.is_over());
    let places: Vec<usize> =
        ["200 OK", "401 Unauthorized", "Connection: close"].map(|part| said.find(part).unwrap()).into();
    assert!(places.is_sorted() && said.matches("200 OK").count() == 2, "{said}");
    assert_eq!(said.to_ascii_lowercase().matches("connection: close").count(), 1, "{said}");

    // Nothing is in flight but a refusal: it is the last word.
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n");
    http.drain();
    let said = text(&down(&mut http, b"").0);
    assert!(said.contains("connection: close\r\n") && http.is_over(), "{said}");
}

#[test]
fn a_tunnels_bytes_are_counted_both_ways_until_both_sides_have_ended_it() {
    let mut http = Http1::new(Limits::default());
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let _ = up(&mut http, ask.as_bytes());
    let _ = down(&mut http, b"HTTP/1.1 101 Switching Protocols\r\n\r\nfirst");
    assert_eq!(up(&mut http, b"GET / HTTP/1.1\r\n\r\n").0.len(), 18, "opaque, whatever it looks like");
    assert_eq!(down(&mut http, b"HTTP/1.1 400").0.len(), 12);
    assert!(http.is_tunnel() && http.up_ended().is_ok());
    assert_eq!(http.event(), Some(Event::Response { key: 1, status: 101 }));
    assert_eq!(http.event(), None, "one half may go on without the other");
    assert_eq!(down(&mut http, b"last").0, b"last");
    assert!(http.down_ended().is_ok());
    assert_eq!(http.event(), Some(whole(1, 18, 21)));
    // The other way round: what goes up behind the upstream's end is under the permit and in the line.
    let mut http = Http1::new(Limits::default());
    let _ = up(&mut http, ask.as_bytes());
    let _ = down(&mut http, b"HTTP/1.1 101 Switching Protocols\r\n\r\nfirst");
    assert!(http.down_ended().is_ok() && http.in_flight() == 1);
    assert_eq!(http.event(), Some(Event::Response { key: 1, status: 101 }));
    assert_eq!(up(&mut http, b"and more").0.len(), 8);
    assert_eq!(http.event(), None);
    assert!(http.up_ended().is_ok() && http.in_flight() == 0);
    assert_eq!(http.event(), Some(whole(1, 8, 5)));
}

#[test]
fn a_refusal_is_exactly_this() {
    let answer = |why: RefusalReason, head: &str| {
        let mut http = Http1::new(Limits::default());
        let (mut data, mut out) = (head.as_bytes().to_vec(), Vec::new());
        assert_eq!(http.up(&mut Edit::new(&mut data, &mut out)), Ok(Up::Request));
        http.refuse(&Refusal { id: id(http.request().key), why });
        text(&down(&mut http, b"").0)
    };
    let body = format!(
        r#"{{"error":{{"code":"expired_token","message":"The token has expired; get a new one.","id":"{}"}}}}"#,
        id(1)
    );
    let expected = format!(
        "HTTP/1.1 401 Unauthorized\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nwww-authenticate: Bearer realm=\"staunch\", error=\"invalid_token\", \
         error_description=\"the token has expired\"\r\nx-request-id: {}\r\n\r\n{body}",
        body.len(),
        id(1)
    );
    assert_eq!(answer(RefusalReason::ExpiredToken, GET), expected);
    for (why, status, more) in [
        (RefusalReason::TwoTokens, "400 Bad Request", "error=\"invalid_request\""),
        (RefusalReason::Forbidden, "403 Forbidden", "error=\"insufficient_scope\""),
        (RefusalReason::BadGateway, "502 Bad Gateway", "\"code\":\"bad_gateway\""),
        (RefusalReason::IssuerUnavailable, "503 Service Unavailable", "retry-after: 1\r\n"),
        (RefusalReason::Draining, "503 Service Unavailable", "connection: close\r\n"),
        (RefusalReason::Overloaded, "503 Service Unavailable", "connection: close\r\n"),
        (RefusalReason::Overloaded, "503 Service Unavailable", "retry-after: "),
    ] {
        let said = answer(why, GET);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")) && said.contains(more), "{said}");
    }
    let said = answer(RefusalReason::NoToken, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(said.ends_with("\r\n\r\n") && !said.contains("content-length: 0"), "{said}");
}
