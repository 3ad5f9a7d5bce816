//! Limits of an HTTP/2 connection.

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request head, counted as RFC 9113 section 6.5.2 does without the 32 for each field. Default 32 KiB.
    pub head: usize,
    /// Fields of a request head, pseudo-header fields included. Cookie crumbs are bounded by `head` bytes of their own. Default 100.
    pub fields: usize,
    /// Concurrent streams. Default 100.
    pub streams: u32,
    /// Resets that are put up with at once: of streams that were begun a moment ago and not answered, by the client or made
    /// necessary by it. Default 100.
    pub resets: u32,
    /// Such resets that are forgiven each second. Default 33.
    pub resets_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { head: 32 * 1024, fields: 100, streams: 100, resets: 100, resets_per_second: 33 }
    }
}
