//! White space before a text of which it is not known yet whether it is JSON.

use super::wire::{Held, Why};

/// White space that was read, and where it stands.
#[derive(Debug, Default)]
pub(super) struct Blank {
    pub(super) bytes: Vec<u8>,
    pub(super) wire: u64,
}

/// So much of it is kept; no detector looks further back.
const KEPT: usize = 32;

impl Blank {
    /// Takes white space off the front of `bytes`, which stand at `wire`. True when JSON follows, false when another text
    /// does, `None` as long as nothing follows.
    pub(super) fn begins_json(&mut self, bytes: &mut &[u8], wire: &mut u64) -> Option<bool> {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        if blank > 0 {
            // What stands apart on the wire is kept apart: the older white space says nothing more.
            if self.wire + self.bytes.len() as u64 != *wire {
                self.bytes.clear();
                self.wire = *wire;
            }
            self.bytes.extend_from_slice(&bytes[..blank]);
            let gone = self.bytes.len().saturating_sub(KEPT);
            self.bytes.drain(..gone);
            self.wire += gone as u64;
            *bytes = &bytes[blank..];
            *wire += blank as u64;
        }
        bytes.first().map(|byte| matches!(byte, b'{' | b'['))
    }

    /// Where what is kept begins.
    pub(super) fn hold(&self) -> Option<Held> {
        (!self.bytes.is_empty()).then_some(Held { wire: self.wire, why: Why::Blank })
    }
}
