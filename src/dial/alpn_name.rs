//! Names of application protocols that clients of raw routes bring along (RFC 7301).

use std::fmt;

/// An ALPN name, held in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlpnName {
    length: u8,
    bytes: [u8; MAX_NAME_BYTES],
}

/// Bytes of a name; the longest registered one has 18.
const MAX_NAME_BYTES: usize = 47;

impl AlpnName {
    /// `None` for what no upstream is asked for: nothing, a name that is too long, and the values by which clients find out whether
    /// servers put up with unknown ones (RFC 8701).
    pub fn new(name: &[u8]) -> Option<AlpnName> {
        let is_grease = matches!(name, [a, b] if a == b && a & 0x0f == 0x0a);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || is_grease {
            return None;
        }
        let mut bytes = [0; MAX_NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name);
        Some(AlpnName { length: name.len() as u8, bytes })
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// True for a name of the list of registered names.
    pub fn is_registered(&self) -> bool {
        REGISTERED.iter().any(|known| known.as_bytes() == self.as_bytes())
    }
}

impl fmt::Display for AlpnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for AlpnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names that IANA has registered (TLS ALPN Protocol IDs) and that a raw route may carry: few, so an upstream may be asked for each.
const REGISTERED: [&str; 25] = [
    "h2",
    "http/1.1",
    "http/1.0",
    "postgresql",
    "mqtt",
    "imap",
    "pop3",
    "managesieve",
    "ftp",
    "nntp",
    "irc",
    "smb",
    "sunrpc",
    "xmpp-client",
    "xmpp-server",
    "sip/2",
    "stun.turn",
    "stun.nat-discovery",
    "webrtc",
    "coap",
    "dot",
    "ntske/1",
    "tds/8.0",
    "radius/1.0",
    "radius/1.1",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_nothing_are_none() {
        for name in [&b""[..], &[0x0a, 0x0a], &[0xfa, 0xfa], &[b'a'; MAX_NAME_BYTES + 1]] {
            assert_eq!(AlpnName::new(name), None);
        }
        for name in [&b"h2"[..], b"acme-rpc/3", &[0xff], &[0x0a, 0x1a], &[b'a'; MAX_NAME_BYTES]] {
            assert_eq!(AlpnName::new(name).unwrap().as_bytes(), name);
        }
        assert!(AlpnName::new(b"mqtt").unwrap().is_registered());
        assert!(!AlpnName::new(b"mqtt2").unwrap().is_registered());
    }
}
