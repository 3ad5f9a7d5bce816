//! Packet framing.

use super::HEAD;

/// Bytes of an answer's packet that tell what it is: header, two numbers, status.
const HEAD_BYTES_KEPT: usize = 24;

/// Follows the packets of one direction.
#[derive(Default)]
pub(super) struct Packets {
    head: [u8; HEAD],
    /// Bytes of the head that are here.
    have: usize,
    /// Bytes of the payload that are to come.
    left: usize,
    /// The packet before this one goes on in it.
    pub(super) continued: bool,
    /// The payload's first bytes.
    first: [u8; HEAD_BYTES_KEPT],
    telling: usize,
    /// The payload's length in this packet.
    pub(super) length: usize,
}

impl Packets {
    /// True between two packets.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0
    }

    pub(super) fn sequence(&self) -> u8 {
        self.head[3]
    }

    pub(super) fn told(&self) -> &[u8] {
        &self.first[..self.telling]
    }

    /// Takes what is missing of the head. True once it is whole.
    pub(super) fn read_head(&mut self, data: &[u8], at: &mut usize) -> bool {
        let new = (HEAD - self.have).min(data.len() - *at);
        self.head[self.have..self.have + new].copy_from_slice(&data[*at..*at + new]);
        self.have += new;
        *at += new;
        if self.have < HEAD {
            return false;
        }
        if new > 0 {
            let [a, b, c, _] = self.head;
            self.length = u32::from_le_bytes([a, b, c, 0]) as usize;
            (self.left, self.telling) = (self.length, 0);
        }
        true
    }

    /// Takes what is here of the payload. True once it is whole: then the next packet begins.
    pub(super) fn read_payload(&mut self, data: &[u8], at: &mut usize) -> bool {
        let here = self.left.min(data.len() - *at);
        let telling = here.min(HEAD_BYTES_KEPT - self.telling);
        self.first[self.telling..self.telling + telling].copy_from_slice(&data[*at..*at + telling]);
        self.telling += telling;
        self.left -= here;
        *at += here;
        if self.left > 0 {
            return false;
        }
        self.have = 0;
        true
    }
}
