//! The static and the dynamic table of a decoder (RFC 7541 section 2.3).

use super::fault::HpackFault;
use std::collections::VecDeque;

/// Bytes that an entry counts for besides its name and value (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// The fields that a peer's encoder has told us to remember, newest first.
#[derive(Debug)]
pub(super) struct Table {
    /// Names and values of each entry, and where the value begins.
    entries: VecDeque<(Box<[u8]>, usize)>,
    size: usize,
    /// What the encoder has chosen.
    limit: usize,
    /// The most that it may choose.
    most: usize,
}

impl Table {
    pub(super) fn new(most: usize) -> Self {
        Table { entries: VecDeque::new(), size: 0, limit: most, most }
    }

    /// The field at an index, from 1; the static table comes first.
    pub(super) fn get(&self, index: usize) -> Result<(&[u8], &[u8]), HpackFault> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (bytes, middle) = index
            .checked_sub(STATIC.len() + 1)
            .and_then(|index| self.entries.get(index))
            .ok_or(HpackFault::Index)?;
        Ok(bytes.split_at(*middle))
    }

    /// Remembers a field; what is too large for the table empties it (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.shrink(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.entries.push_front(([name, value].concat().into(), name.len()));
            self.size += size;
        }
    }

    /// Forgets every field, as for one that is too large to be remembered.
    pub(super) fn clear(&mut self) {
        self.shrink(0);
    }

    /// The encoder changes the table's size (RFC 7541 section 6.3).
    pub(super) fn resize(&mut self, limit: usize) -> Result<(), HpackFault> {
        if limit > self.most {
            return Err(HpackFault::TableSize);
        }
        self.limit = limit;
        self.shrink(limit);
        Ok(())
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let Some((bytes, _)) = self.entries.pop_back() else { return };
            self.size -= bytes.len() + OVERHEAD;
        }
    }
}

/// The static table (RFC 7541 appendix A); index 1 stands first.
#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
