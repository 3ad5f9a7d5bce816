//! Message framing, independent of how bytes are split.

use super::SECTION;
use crate::names::Culprit;
use crate::protocol::Fault;

/// The longest message that PostgreSQL takes or makes (`MaxAllocSize`): lengths beyond it overflow somewhere
/// (CVE-2024-27304).
const MAX_MESSAGE: u32 = 0x3fff_ffff;

/// Follows the messages of one direction by their lengths.
///
/// ```text
///   | tag: u8 | length, itself included: u32 | body: length − 4 bytes |
/// ```
pub struct Frames {
    /// The sender in this direction.
    speaker: Culprit,
    place: Place,
}

/// What the next byte is.
#[derive(Clone, Copy)]
enum Place {
    /// A byte of the head, `have` of its 5 bytes being here: 0 means between two messages.
    Head { bytes: [u8; 5], have: u8 },
    /// A byte of the body.
    Body { tag: u8, first: Option<u8>, left: u32 },
}

const AT_MESSAGE_START: Place = Place::Head { bytes: [0; 5], have: 0 };

/// A message that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its kind.
    pub tag: u8,
    /// The first byte of its body; 0 without one.
    pub first: u8,
}

impl Frames {
    /// Messages of `speaker`, beginning between two.
    pub fn new(speaker: Culprit) -> Self {
        Frames { speaker, place: AT_MESSAGE_START }
    }

    /// True between two messages: one of our own may stand here.
    pub fn is_between(&self) -> bool {
        matches!(self.place, Place::Head { have: 0, .. })
    }

    /// Goes on to the end of the message at the front of `data`, or to the end of `data`. Returns how many bytes that
    /// is, and the message if it ended, unless it is one of many (rows, the data of a COPY): of those, as many as there
    /// are go by at once and none is told. `Err`: at the message's first byte, if all of its head is in `data`.
    pub fn step(&mut self, data: &[u8]) -> Result<(usize, Option<Ended>), Fault> {
        let mut at = if self.is_between() { whole_rows(self.speaker, data) } else { 0 };
        if at > 0 {
            return Ok((at, None));
        }
        if let Place::Head { mut bytes, have } = self.place {
            let have = usize::from(have);
            let new = data.len().min(5 - have);
            bytes[have..have + new].copy_from_slice(&data[..new]);
            if have + new > 0 {
                self.check_tag(bytes[0])?;
            }
            at = new;
            if have + new < 5 {
                self.place = Place::Head { bytes, have: (have + new) as u8 };
                return Ok((at, None));
            }
            let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            if !(4..=MAX_MESSAGE).contains(&length) {
                return Err(self.fault("a message of an impossible length"));
            }
            self.place = Place::Body { tag: bytes[0], first: None, left: length - 4 };
        }
        let Place::Body { tag, first, left } = self.place else { return Ok((at, None)) };
        let here = (data.len() - at).min(left as usize);
        let first = first.or(if here > 0 { Some(data[at]) } else { None });
        at += here;
        let left = left - here as u32;
        if left > 0 {
            self.place = Place::Body { tag, first, left };
            return Ok((at, None));
        }
        self.place = AT_MESSAGE_START;
        let message = Ended { tag, first: first.unwrap_or(0) };
        Ok((at, Some(message).filter(|message| !self.is_row(message.tag))))
    }

    /// CopyData, and DataRow, which the client's tag of the same letter (Describe) is not.
    fn is_row(&self, tag: u8) -> bool {
        tag == b'd' || (tag == b'D' && self.speaker == Culprit::Upstream)
    }

    /// A password after the login has no meaning to a server, and may be a token that it must not see.
    fn check_tag(&self, tag: u8) -> Result<(), Fault> {
        match (self.speaker, tag) {
            (Culprit::Client, b'p') => Err(self.fault("a password after the login")),
            _ => Ok(()),
        }
    }

    fn fault(&self, rule: &'static str) -> Fault {
        Fault { culprit: self.speaker, rule, section: SECTION }
    }
}

/// How many bytes of whole rows of `speaker` are at the front of `data`. A COPY is hardly anything else, so that this loop is
/// what following it costs.
pub(super) fn whole_rows(speaker: Culprit, data: &[u8]) -> usize {
    // CopyData from either end, and from the upstream DataRow, whose tag is the capital letter.
    let capitals = if speaker == Culprit::Upstream { b'd' ^ b'D' } else { 0 };
    let mut rest = data;
    while let Some(([tag, a, b, c, d], tail)) = rest.split_first_chunk() {
        // What is wrong with a length is found where single messages are followed: too short a one is far too long here.
        let body = u32::from_be_bytes([*a, *b, *c, *d]).wrapping_sub(4) as usize;
        if tag | capitals != b'd' || body > tail.len() {
            break;
        }
        rest = &tail[body..];
    }
    data.len() - rest.len()
}
