//! Protocol detection by the first plaintext bytes.

/// Detected protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sniffed {
    /// HTTP/1.x, or other text, which its parser refuses with a 400.
    Http1,
    /// The HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
    /// Neither: bytes that are no text.
    Unknown,
}

/// The HTTP/2 connection preface.
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Detects the protocol; `None` while more bytes are needed. Consumes nothing.
pub fn sniff(first: &[u8]) -> Option<Sniffed> {
    let preface = first.len().min(HTTP2_PREFACE.len());
    if !first.is_empty() && first[..preface] == HTTP2_PREFACE[..preface] {
        return if preface == HTTP2_PREFACE.len() { Some(Sniffed::Http2) } else { None };
    }
    // An empty line before the first request is to be ignored (RFC 9112 section 2.2).
    let first = first.strip_prefix(b"\r\n").unwrap_or(first);
    match first.first()? {
        b'\r' if first.len() == 1 => None,
        b' '..=b'~' | b'\t' | b'\r' | b'\n' => Some(Sniffed::Http1),
        _ => Some(Sniffed::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_to_protocol() {
        let table: &[(&[u8], Option<Sniffed>)] = &[
            (b"", None),
            (b"G", Some(Sniffed::Http1)),
            (b"GET ", Some(Sniffed::Http1)),
            (b"M-SEARCH * HTTP/1.1", Some(Sniffed::Http1)),
            (b"G(T / HTTP/1.1", Some(Sniffed::Http1)),
            (b" GET", Some(Sniffed::Http1)),
            (b"{}", Some(Sniffed::Http1)),
            (b"\r", None),
            (b"\r\n", None),
            (b"\r\n\r", None),
            (b"\r\nGET /", Some(Sniffed::Http1)),
            (b"\r\n\r\nGET /", Some(Sniffed::Http1)),
            (b"\rGET /", Some(Sniffed::Http1)),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (HTTP2_PREFACE, Some(Sniffed::Http2)),
            (b"PRI * HTTP/1.1\r\n", Some(Sniffed::Http1)),
            (b"\x16\x03\x01", Some(Sniffed::Unknown)),
            (b"\0", Some(Sniffed::Unknown)),
            (b"\xc3\xa9", Some(Sniffed::Unknown)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAA", Some(Sniffed::Http1)),
        ];
        for (bytes, expected) in table {
            assert_eq!(sniff(bytes), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
