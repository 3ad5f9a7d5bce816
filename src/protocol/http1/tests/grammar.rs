//! The grammar of every field that the gateway interprets, held against the text of the RFCs. `Take`: it passes. `Refuse`: 400. Where
//! the verdict differs from the text, or from what nginx, HAProxy or Envoy do, the reason stands beside it.

use super::*;
use Verdict::{Refuse, Take};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Take,
    Refuse,
}

fn verdict(head: &str) -> Verdict {
    verdict_of_message(&format!("{head}\r\n\r\n"))
}

fn verdict_of_message(message: &str) -> Verdict {
    let mut http = Http1::new(Limits::default());
    match up(&mut http, message.as_bytes()).1 {
        Err(fault) => {
            assert_eq!(fault.culprit, Culprit::Client);
            Refuse
        }
        Ok(_) => Take,
    }
}

#[test]
fn the_request_line_is_read_as_rfc_9112_section_3_says() {
    for (line, expected, reason) in [
        ("GET / HTTP/1.1", Take, ""),
        ("get / HTTP/1.1", Take, "methods are any token, case counts"),
        ("M-SEARCH / HTTP/1.1", Take, ""),
        ("OPTIONS * HTTP/1.1", Take, ""),
        ("OPTIONS http://a HTTP/1.1", Take, "goes up as *"),
        ("GET http://a/b HTTP/1.1", Take, "absolute form, which Host agrees with"),
        ("GET HTTPS://A/b HTTP/1.1", Take, "schemes and hosts compare without case"),
        ("GET https://a:443/b HTTP/1.1", Take, "RFC 9110 4.2.3: the port that the scheme has anyway"),
        ("GET http://a:80/b HTTP/1.1", Take, "the same"),
        ("GET http://a:/b HTTP/1.1", Take, "the same"),
        ("GET http://a:443/b HTTP/1.1", Refuse, "another port"),
        ("GET https://a:4433/b HTTP/1.1", Refuse, "the same"),
        ("GET https://u@a/b HTTP/1.1", Refuse, "user information"),
        ("GET / HTTP/1.9", Take, "RFC 9110 2.5: as the highest known minor version; Envoy refuses it"),
        (
            "GET http://b/ HTTP/1.1",
            Refuse,
            "stricter than RFC 9112 3.2.2, which lets the target win: two names are two services",
        ),
        ("GET * HTTP/1.1", Refuse, "for OPTIONS only"),
        ("GET a HTTP/1.1", Refuse, "a target is absolute or begins with a slash"),
        ("GET \\ HTTP/1.1", Refuse, "the same"),
        ("GET ?a HTTP/1.1", Refuse, "the same; what stands behind a host may begin so"),
        ("GET http://a?b HTTP/1.1", Take, "goes up as /?b"),
        ("GET 1/ HTTP/1.1", Refuse, ""),
        ("GET :80 HTTP/1.1", Refuse, ""),
        ("OPTIONS *a HTTP/1.1", Refuse, ""),
        ("GET /a#b HTTP/1.1", Refuse, "a fragment is never sent; nginx cuts it off, and a next hop may not"),
        ("GET /\u{e4} HTTP/1.1", Refuse, "RFC 3986 is ASCII; nginx takes it"),
        ("GET /a\tb HTTP/1.1", Refuse, ""),
        ("GET  / HTTP/1.1", Refuse, "one space; RFC 9112 3 lets recipients take more"),
        ("GET / HTTP/1.1 ", Refuse, "the same"),
        ("GET /", Refuse, "HTTP/0.9"),
        ("GET / HTTP/1", Refuse, ""),
        ("GET / http/1.1", Refuse, "the name is case-sensitive"),
        ("GET / HTTP/3.0", Refuse, ""),
        ("G@T / HTTP/1.1", Refuse, "no token"),
    ] {
        assert_eq!(verdict(&format!("{line}\r\nHost: a")), expected, "{line:?} {reason}");
    }
}

#[test]
fn fields_are_read_as_rfc_9110_says() {
    for (fields, expected, reason) in [
        ("Host: a", Take, ""),
        ("Host: a:80", Take, ""),
        ("Host: a:", Take, "a port may be empty"),
        ("Host: [::1]:80", Take, ""),
        ("Host:a", Take, "no blank is needed"),
        ("Host: \ta \t", Take, "blanks around a value do not count"),
        ("Host: a;b", Refuse, "stricter than RFC 3986: no name in the DNS has these, and parsers disagree"),
        ("Host: a, b", Refuse, "one host"),
        ("Host: u@a", Refuse, "user information, RFC 9110 4.2.4"),
        ("Host: a:b", Refuse, ""),
        ("Host: a.", Take, "the dot of a whole name; the route's names are compared without"),
        ("Host: %61", Take, "RFC 3986 3.2.2; it names no route, and is never decoded"),
        ("Host: a:65535", Take, ""),
        ("Host: a:65536", Refuse, "stricter than RFC 3986: no port has this number; nginx takes it"),
        ("Host: [::1]x", Refuse, ""),
        (
            "Host: [fe80::1%25eth0]",
            Refuse,
            "stricter than RFC 6874: a zone means something to its own host alone",
        ),
        ("Host: a\\b", Refuse, "browsers read it as a slash"),
        ("Host: a/b", Refuse, ""),
        ("Host: a#b", Refuse, ""),
        ("Host:", Refuse, "an empty name is for targets without authority; https has one"),
        ("Host: a\r\nHost: a", Refuse, "RFC 9112 3.2, also where they agree"),
        ("Host : a", Refuse, "RFC 9112 5.1"),
        ("Host\t: a", Refuse, "the same"),
        ("Host: a\r\nX: a\rb", Refuse, "RFC 9112 2.2: a bare CR; Envoy refuses it, too"),
        ("Host: a\r\nX: a\0b", Refuse, "RFC 9110 5.5"),
        ("Host: a\nX: b", Refuse, "stricter than RFC 9112 2.2, which lets a bare LF end a line: smuggling"),
        (" Host: a", Refuse, "RFC 9112 2.2: a blank before the first field"),
        ("Host: a\r\nX", Refuse, "no colon"),
        ("Host: a\r\n b: c", Refuse, "line folding, RFC 9112 5.2"),
        ("Host: a\r\nContent-Length: 0", Take, ""),
        ("Host: a\r\nContent-Length: 007", Take, "digits; a next hop reads the same number"),
        ("Host: a\r\nContent-Length: 18446744073709551615", Take, "2^64 - 1"),
        ("Host: a\r\nContent-Length: 18446744073709551616", Refuse, "overflow, RFC 9110 8.6"),
        ("Host: a\r\nContent-Length: -1", Refuse, ""),
        ("Host: a\r\nContent-Length: +1", Refuse, ""),
        ("Host: a\r\nContent-Length: 1 1", Refuse, ""),
        ("Host: a\r\nContent-Length: 0x1", Refuse, ""),
        ("Host: a\r\nContent-Length: 1.0", Refuse, ""),
        ("Host: a\r\nContent-Length: 1 ", Take, "blanks around a value do not count"),
        ("Host: a\r\nContent-Length:", Refuse, "no digit"),
        ("Host: a\r\nContent-Length: 9223372036854775808", Take, "2^63"),
        ("Host: a\r\nContent-Length: 1;", Refuse, ""),
        ("Host: a\r\nContent-Length: \"1\"", Refuse, ""),
        ("Host: a\r\nContent-Length: 1, 1", Refuse, "RFC 9112 6.3 may take it; HAProxy refuses it, too"),
        ("Host: a\r\nContent-Length: 1\r\nContent-Length: 1", Refuse, "the same; nginx refuses it, too"),
        ("Host: a\r\nTransfer-Encoding: Chunked", Take, "coding names compare without case"),
        ("Host: a\r\nTransfer-Encoding: chunked, chunked", Refuse, "RFC 9112 6.1: once"),
        ("Host: a\r\nTransfer-Encoding: chunked;q=1", Refuse, "stricter: no parameters are defined"),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked", Refuse, "stricter: 501 would do; nobody sends it"),
        ("Host: a\r\nTransfer-Encoding: identity", Refuse, "withdrawn, RFC 7230"),
        ("Host: a\r\nTransfer-Encoding: ", Refuse, ""),
        ("Host: a\r\nTransfer-Encoding: chunked, identity", Refuse, "RFC 9112 6.1: chunked is the last"),
        ("Host: a\r\nTransfer-Encoding: xchunked", Refuse, ""),
        (
            "Host: a\r\nTransfer-Encoding: chunked,",
            Refuse,
            "stricter: lists may hold empty elements; parsers disagree",
        ),
        ("Host: a\r\nTransfer-Encoding: \"chunked\"", Refuse, "no token"),
        (
            "Host: a\r\nTransfer_Encoding: chunked",
            Take,
            "no framing, and what could be taken for it stays behind",
        ),
        ("Host: a\r\nTransfer-Encoding: \x0bchunked", Refuse, ""),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", Refuse, "RFC 9112 6.1, smuggling"),
        ("Host: a\r\nConnection: close, x", Take, ""),
        ("Host: a\r\nConnection: ,,", Take, "empty elements are ignored, RFC 9110 5.6.1.2"),
        ("Host: a\r\nConnection: host", Refuse, "would take out a field that must pass"),
        ("Host: a\r\nConnection: x-forwarded-for", Refuse, "the same"),
        ("Host: a\r\nConnection: Content-Length", Refuse, "the same"),
        ("Host: a\r\nConnection: Transfer-Encoding", Refuse, "the same"),
        ("Host: a\r\nConnection: Authorization", Refuse, "the same"),
        ("Host: a\r\nConnection: cookie", Refuse, "the same"),
        (
            "Host: a\r\nConnection: TE, close\r\nTE: deflate,gzip;q=0.3",
            Take,
            "RFC 9110 10.1.4; Perl's LWP, curl --tr-encoding",
        ),
        ("Host: a\r\nConnection: te", Take, "the same, of no field"),
        ("Host: a\r\nConnection: Proxy-Authorization, Keep-Alive", Take, "stay behind anyway"),
        ("Host: a\r\nConnection: max-forwards", Take, "the same"),
        (
            "Host: a\r\nConnection: upgrade\r\nUpgrade: websocket",
            Take,
            "the WebSocket key is the upstream's to check (RFC 6455 4.2.1)",
        ),
        ("Host: a\r\nUpgrade: websocket", Take, "without Connection it is no upgrade, and stays behind"),
        ("Host: a\r\nExpect: 100-continue", Take, ""),
        ("Host: a\r\nExpect: x", Take, "417 is the upstream's to say"),
        ("Host: a\r\nTE: trailers, gzip", Take, "goes up as trailers"),
        ("Host: a\r\nTE: ", Take, "an empty list"),
        ("Host: a\r\nTrailer: X-Sum", Take, "what the trailer section holds is checked itself"),
        ("Host: a\r\nTrailer: Authorization", Take, "the same"),
        ("Host: a\r\nVia: 1.1 proxy (x)", Take, "the upstream's to read"),
        (
            "Host: a\r\nMax-Forwards: x",
            Take,
            "not passed on, RFC 9110 7.6.2 counts proxies for TRACE and OPTIONS",
        ),
        ("Host: a\r\nDate: yesterday", Take, "the upstream's to read"),
        ("Host: a\r\nKeep-Alive: timeout=", Take, "not passed on"),
        ("Host: a\r\nProxy-Connection: close", Take, "not passed on, and means nothing, RFC 9112 C.2.2"),
        ("Host: a\r\nProxy-Authorization: Basic eDp5", Take, "not passed on"),
        ("Host: a\r\nConnection: upgrade\r\nUpgrade: ,", Take, "no protocol is named: no upgrade"),
        (
            "Host: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
            Take,
            "RFC 9113 3.1 withdrew it",
        ),
        (
            "Host: a\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 99",
            Take,
            "426 is the upstream's to say",
        ),
        ("Host: a\r\nAuthorization: a\r\nAuthorization: a", Refuse, "RFC 6750 2: one"),
        ("Host: a\r\nX: \u{e4}", Take, "obs-text, RFC 9110 5.5"),
        ("Host: a\r\nX: a\tb", Take, ""),
        ("Host: a\r\nX: \x7f", Refuse, "RFC 9110 5.5: a control byte; nginx takes it"),
        ("Host: a\r\nX: \x01", Refuse, "the same"),
        ("Host: a\r\n: x", Refuse, "no name"),
        ("Host: a\r\nX y: z", Refuse, "no token"),
    ] {
        assert_eq!(verdict(&format!("GET / HTTP/1.1\r\n{fields}")), expected, "{fields:?} {reason}");
    }
}

#[test]
fn chunks_are_read_as_rfc_9112_section_7_1_says() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked";
    for (body, expected, reason) in [
        ("0\r\n\r\n", Take, ""),
        ("000\r\n\r\n", Take, "leading zeros, up to 16 digits"),
        ("1\r\na\r\n0\r\n\r\n", Take, ""),
        ("A\r\n0123456789\r\n0\r\n\r\n", Take, "either case"),
        ("1;a=b\r\nx\r\n0\r\n\r\n", Take, "extensions pass, 256 bytes of them"),
        (
            "1 ;a\r\nx\r\n0\r\n\r\n",
            Refuse,
            "RFC 9112 7.1.1 calls this BWS bad; some read it, some end the size here",
        ),
        ("1\nx\r\n0\r\n\r\n", Refuse, "a bare LF; nginx took it (CVE-2025-55315 is of this kind)"),
        ("1;\nx\r\n0\r\n\r\n", Refuse, "the same, in an extension"),
        ("1\r\nxx0\r\n\r\n", Refuse, ""),
        ("+1\r\nx\r\n0\r\n\r\n", Refuse, ""),
        ("0x1\r\nx\r\n0\r\n\r\n", Refuse, ""),
        ("1_0\r\n", Refuse, ""),
        (";a\r\n", Refuse, "no size"),
    ] {
        assert_eq!(verdict_of_message(&format!("{head}\r\n\r\n{body}")), expected, "{body:?} {reason}");
    }
}

/// What of a request reaches the upstream: the field as it goes up, or nothing.
#[test]
fn each_field_goes_up_or_stays_behind_as_its_section_says() {
    for (field, goes_up, reason) in [
        ("Accept: */*", Some("Accept: */*"), ""),
        ("Connection: close", Some("Connection: close"), "the client's wish holds for both legs"),
        ("Connection: keep-alive", None, "RFC 9110 7.6.1"),
        ("Connection: x\r\nX: y", None, "what it names belongs to this connection"),
        ("Keep-Alive: timeout=5", None, "RFC 9112 C.2.2"),
        ("Proxy-Connection: keep-alive", None, "RFC 9112 C.2.2"),
        ("Proxy-Authorization: Basic eDp5", None, "RFC 9110 11.7.1: for the first proxy"),
        ("Upgrade: websocket", None, "without Connection it is none, RFC 9110 7.8"),
        ("Connection: upgrade\r\nUpgrade: h2c", None, "RFC 9113 3.1: would hide requests"),
        ("Connection: upgrade\r\nUpgrade: websocket, h2c", None, "the same"),
        ("Connection: upgrade\r\nUpgrade: ,", None, "no protocol is named"),
        ("HTTP2-Settings: AAMAAABk", None, "the same"),
        ("TE: gzip", None, "RFC 9110 10.1.4: trailers alone are passed on"),
        ("TE: trailers", Some("TE: trailers\r\nConnection: TE"), ""),
        ("Connection: TE\r\nTE: trailers", Some("TE: trailers\r\nConnection: TE"), ""),
        ("TE: gzip\r\nConnection: TE", None, "trailers alone are passed on"),
        ("Max-Forwards: 0", None, "would make the next hop answer with what it was sent"),
        ("Trailer: X-Sum", Some("Trailer: X-Sum"), "RFC 9110 6.6.2"),
        ("Via: 1.0 a", Some("Via: 1.0 a"), ""),
        ("Date: Thu, 01 Jan 1970 00:00:00 GMT", Some("Date: Thu, 01 Jan 1970 00:00:00 GMT"), ""),
        ("Expect: 100-continue", Some("Expect: 100-continue"), ""),
        ("Expect: 200-ok", Some("Expect: 200-ok"), "417 is the upstream's to say"),
        ("Sec-WebSocket-Protocol: a, b", Some("Sec-WebSocket-Protocol: a, b"), ""),
        ("X-Forwarded-For: 1", None, "only the gateway says it"),
        ("X_Forwarded_Proto: http", None, "the same, in a spelling that CGI takes for it"),
        ("Forwarded: for=1", None, "RFC 7239, the same"),
        ("X-Real-IP: 1", None, "the same"),
        ("content_length: 5", None, "could be taken for the framing"),
        ("transfer_encoding: chunked", None, "the same"),
        ("X-Api-Key: k", None, "stripped by the route"),
        ("X.API.KEY: k", None, "the same, in any spelling"),
        ("x-user: eve", None, "set by the gateway"),
    ] {
        let mut http = Http1::new(Limits::default());
        let (sent, end) = up(&mut http, format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").as_bytes());
        assert!(end.is_ok(), "{field:?}: {end:?}");
        let sent = text(&sent).replace("x-user: ada\r\n", "");
        let field = goes_up.map_or(String::new(), |field| format!("{field}\r\n"));
        assert_eq!(sent, format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"), "{reason}");
    }
}

/// The same for what an upstream answers. `Refuse`: the client gets a 502.
#[test]
fn the_fields_of_an_answer_are_read_as_the_rfcs_say() {
    for (answer, expected, reason) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0", Take, ""),
        ("HTTP/1.1 200 \r\nContent-Length: 0", Take, "a reason may be empty, RFC 9112 4"),
        ("HTTP/1.1 200\r\nContent-Length: 0", Take, "the space is missing, as many servers have it"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0", Take, ""),
        ("HTTP/1.3 200 OK\r\nContent-Length: 0", Take, "RFC 9110 2.5: as 1.1"),
        ("HTTP/1.1 599 ?\r\nContent-Length: 0", Take, ""),
        ("HTTP/1.1 600 ?\r\nContent-Length: 0", Refuse, "RFC 9110 15"),
        ("HTTP/1.1 20 OK\r\nContent-Length: 0", Refuse, ""),
        ("HTTP/1.1 2000 OK\r\nContent-Length: 0", Refuse, ""),
        ("HTTP/1.1 -20 OK\r\nContent-Length: 0", Refuse, ""),
        ("HTTP/0.9 200 OK", Refuse, ""),
        ("HTTP/2 200 OK", Refuse, "another major version"),
        ("ICY 200 OK", Refuse, "no HTTP"),
        ("http/1.1 200 OK", Refuse, "the name is case-sensitive"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0",
            Take,
            "RFC 9112 6.3: the same number again",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0, 0", Refuse, "stricter: no server in use says it so"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1", Refuse, "RFC 9112 6.3"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x", Refuse, "RFC 9112 6.3"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1", Refuse, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length:", Refuse, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
            Refuse,
            "stricter: nobody asked for it by TE",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity", Refuse, "withdrawn, RFC 7230"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Refuse,
            "RFC 9112 6.1: once",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", Refuse, "RFC 9112 6.1: framing that is faulty"),
        (
            "HTTP/1.1 200 OK\r\nX : y",
            Refuse,
            "stricter than RFC 9112 5.1, by which the blank may be taken out",
        ),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b", Refuse, "line folding, RFC 9112 5.2 allows a 502"),
        ("HTTP/1.1 200 OK\r\nX: a\rb", Refuse, ""),
        ("HTTP/1.1 200 OK\r\nX: a\0", Refuse, ""),
        ("HTTP/1.1 200 OK\r\n: x", Refuse, "no name"),
        ("HTTP/1.1 200 OK\r\nX: \u{e4}\r\nContent-Length: 0", Take, "obs-text"),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 5",
            Take,
            "there is no body, whatever is said, RFC 9112 6.3",
        ),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked", Take, "the same"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: w", Refuse, "nobody asked for it"),
        ("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0", Refuse, "RFC 9112 2.2 forgives it in requests alone"),
    ] {
        let mut http = Http1::new(Limits::default());
        let _ = up(&mut http, GET.as_bytes());
        let (mut got, _) = down(&mut http, format!("{answer}\r\n\r\n").as_bytes());
        got.extend(down(&mut http, b"").0);
        let verdict = if text(&got).starts_with("HTTP/1.1 502") { Refuse } else { Take };
        assert_eq!(verdict, expected, "{answer:?} {reason}: {}", text(&got));
    }
}
