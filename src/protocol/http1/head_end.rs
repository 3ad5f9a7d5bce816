//! Where a head or a trailer section ends, and what a line of it must not hold.

use crate::protocol::RefusalReason;
use crate::protocol::head_rules::{self, BrokenRule};

/// A rule that was broken, before it is known by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken {
    pub(super) why: RefusalReason,
    pub(super) rule: &'static str,
    pub(super) section: &'static str,
}

impl Broken {
    pub(super) fn bad(rule: &'static str, section: &'static str) -> Broken {
        Broken { why: RefusalReason::BadRequest, rule, section }
    }

    pub(super) fn large(rule: &'static str) -> Broken {
        Broken { why: RefusalReason::HeadTooLarge, rule, section: "limit" }
    }

    /// True where a limit was exceeded, and no rule of HTTP.
    pub(super) fn is_large(&self) -> bool {
        self.why == RefusalReason::HeadTooLarge
    }
}

impl From<BrokenRule> for Broken {
    fn from(BrokenRule { rule, section }: BrokenRule) -> Broken {
        Broken::bad(rule, section)
    }
}

/// Looks for the empty line over new bytes only, and refuses bare CR and LF on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeadEnd {
    /// Bytes seen since the head's start.
    seen: usize,
    /// Bytes seen since the line's start, the carriage return included.
    line: usize,
    /// The last byte was a carriage return.
    after_cr: bool,
}

impl HeadEnd {
    /// Before the first byte.
    pub(super) const START: HeadEnd = HeadEnd { seen: 0, line: 0, after_cr: false };

    /// True at the boundary between messages.
    pub(super) fn is_start(&self) -> bool {
        self.seen == 0
    }

    /// Bytes seen since the head's start.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// How many of `new` complete the head.
    pub(super) fn find(&mut self, new: &[u8], limit: usize) -> Result<Option<usize>, Broken> {
        let mut at = 0;
        while at < new.len() {
            let room = limit.saturating_sub(self.seen);
            if room == 0 {
                return Err(Broken::large("head larger than the limit"));
            }
            if self.after_cr {
                if new[at] != b'\n' {
                    return Err(Broken::bad("bare CR", "RFC 9112 2.2"));
                }
                let empty = self.line == 1;
                *self = HeadEnd { seen: self.seen + 1, line: 0, after_cr: false };
                at += 1;
                if empty {
                    return Ok(Some(at));
                }
                continue;
            }
            let window = &new[at..new.len().min(at + room)];
            let n = match memchr::memchr2(b'\r', b'\n', window) {
                Some(i) if window[i] == b'\n' => return Err(Broken::bad("bare LF", "RFC 9112 2.2")),
                Some(i) => {
                    self.after_cr = true;
                    i + 1
                }
                None => window.len(),
            };
            self.seen += n;
            self.line += n;
            at += n;
        }
        Ok(None)
    }
}

pub(super) fn check_field(field: &httparse::Header<'_>) -> Result<(), Broken> {
    if field.name.is_empty() {
        return Err(Broken::bad("empty field name", "RFC 9110 5.1"));
    }
    Ok(head_rules::check_value(field.value)?)
}
