//! Tracks the dynamic table size that the client's HPACK decoder expects before a header block of the gateway's.
//!
//! A client that makes its dynamic table smaller refuses blocks until one begins with the new size (RFC 7541 section 4.2).
//! The upstream's encoder says so in its own blocks, which pass as they are. A refusal is a block of ours and may come
//! first. Said too early it would drop entries that blocks of the upstream on their way still refer to; so it is said
//! from the moment at which the upstream has taken the setting too.

use crate::protocol::hpack::TABLE;

/// Follows the client's settings, their acknowledgements, and header blocks on their way down.
#[derive(Debug, Default)]
pub(super) struct ClientTable {
    /// The smallest size that the client asked for and was not told of.
    least: Option<u32>,
    /// Which settings asked for it, counted from 1.
    asked_by: u32,
    sent: u32,
    acknowledged: u32,
    /// A block of the upstream's has passed.
    used: bool,
}

impl ClientTable {
    /// Settings of the client's go up; [`ClientTable::asked`] follows if they name a table size.
    pub(super) fn settings_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    pub(super) fn asked(&mut self, size: u32) {
        if size < TABLE as u32 {
            self.least = Some(self.least.map_or(size, |least| least.min(size)));
            self.asked_by = self.sent;
        }
    }

    pub(super) fn settings_acknowledged(&mut self) {
        self.acknowledged = self.acknowledged.saturating_add(1);
    }

    /// A block of the upstream's passes; after its acknowledgement, such a block has said what there was to say.
    pub(super) fn head_passed(&mut self) {
        self.used = true;
        if self.acknowledged >= self.asked_by {
            self.least = None;
        }
    }

    /// True when the upstream has acknowledged all settings of the client's.
    pub(super) fn is_settled(&self) -> bool {
        self.acknowledged >= self.sent
    }

    /// The size with which a block of ours has to begin.
    pub(super) fn to_tell(&self) -> Option<u32> {
        // The first settings reach the upstream before any request does.
        let known = self.acknowledged >= self.asked_by || (self.asked_by == 1 && !self.used);
        self.least.filter(|_| known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_settings_are_told_at_once_and_later_ones_when_the_upstream_has_them() {
        let mut table = ClientTable::default();
        table.settings_sent();
        assert_eq!(table.to_tell(), None);
        table.asked(0);
        assert_eq!(table.to_tell(), Some(0));
        table.settings_acknowledged();
        table.head_passed();
        assert_eq!(table.to_tell(), None, "the upstream's own block said so");

        table.settings_sent();
        table.asked(8_192);
        assert_eq!(table.to_tell(), None, "a larger table needs no word");
        table.settings_sent();
        table.asked(100);
        table.head_passed();
        assert_eq!(table.to_tell(), None, "on its way to the upstream");
        table.settings_acknowledged();
        assert_eq!(table.to_tell(), None, "that was for the settings before");
        table.settings_acknowledged();
        assert_eq!(table.to_tell(), Some(100));
    }
}
