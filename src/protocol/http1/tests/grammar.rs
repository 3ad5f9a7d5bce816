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
        ("Host:", Refuse, "an empty name is for targets without authority; https has one"),
        ("Host: a\r\nHost: a", Refuse, "RFC 9112 3.2, also where they agree"),
        ("Host : a", Refuse, "RFC 9112 5.1"),
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
        ("Host: a\r\nContent-Length: 1, 1", Refuse, "RFC 9112 6.3 may take it; HAProxy refuses it, too"),
        ("Host: a\r\nContent-Length: 1\r\nContent-Length: 1", Refuse, "the same; nginx refuses it, too"),
        ("Host: a\r\nTransfer-Encoding: Chunked", Take, "coding names compare without case"),
        ("Host: a\r\nTransfer-Encoding: chunked, chunked", Refuse, "RFC 9112 6.1: once"),
        ("Host: a\r\nTransfer-Encoding: chunked;q=1", Refuse, "stricter: no parameters are defined"),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked", Refuse, "stricter: 501 would do; nobody sends it"),
        ("Host: a\r\nTransfer-Encoding: identity", Refuse, "withdrawn, RFC 7230"),
        ("Host: a\r\nTransfer-Encoding: ", Refuse, ""),
        ("Host: a\r\nTransfer-Encoding: \x0bchunked", Refuse, ""),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", Refuse, "RFC 9112 6.1, smuggling"),
        ("Host: a\r\nConnection: close, x", Take, ""),
        ("Host: a\r\nConnection: ,,", Take, "empty elements are ignored, RFC 9110 5.6.1.2"),
        ("Host: a\r\nConnection: host", Refuse, "would take out a field that must pass"),
        ("Host: a\r\nConnection: x-forwarded-for", Refuse, "the same"),
        (
            "Host: a\r\nConnection: upgrade\r\nUpgrade: websocket",
            Take,
            "the WebSocket key is the upstream's to check (RFC 6455 4.2.1)",
        ),
        ("Host: a\r\nUpgrade: websocket", Take, "without Connection it is no upgrade, and stays behind"),
        ("Host: a\r\nExpect: 100-continue", Take, ""),
        ("Host: a\r\nExpect: x", Take, "417 is the upstream's to say"),
        ("Host: a\r\nTE: trailers, gzip", Take, "goes up as trailers"),
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
