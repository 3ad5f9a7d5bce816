//! gRPC messages: texts in protocol buffers, looked at once a message is whole, for nobody can use a part of one.
//!
//! Nothing on the wire tells a text from a message within a message. What reads as fields to its last byte is a message, and
//! what is UTF-8 without control characters a text; what is both is looked at as both.

use super::rules::{MAX_HELD_BYTES, Rules};
use super::values::{Shape, Value, Values};
use super::wire::{Found, Held, Why};

/// Follows the messages of one direction.
#[derive(Debug)]
pub(super) struct Grpc {
    head: [u8; HEAD],
    have: usize,
    /// Where the message's head stands.
    head_wire: u64,
    /// Bytes of the message that are to come.
    left: usize,
    /// It is compressed or too long: passed over, which is a fault unless masks only count.
    skips: bool,
    message: Vec<u8>,
    /// Where the message stands.
    wire: u64,
    /// The body is one message, without a head.
    is_bare: bool,
    values: Values,
    pub(super) messages: u64,
    pub(super) fault: Option<&'static str>,
}

/// A flag and a length.
const HEAD: usize = 5;
/// The flag of what is compressed.
const COMPRESSED: u8 = 1;
/// Messages within each other.
const MAX_DEPTH: usize = 32;
const TOO_LONG: &str = "a message of protocol buffers is longer than what may be held";

impl Grpc {
    pub(super) fn new() -> Self {
        Grpc {
            head: [0; HEAD],
            have: 0,
            head_wire: 0,
            left: 0,
            skips: false,
            message: Vec::new(),
            wire: 0,
            is_bare: false,
            values: Values::new(),
            messages: 0,
            fault: None,
        }
    }

    /// A body that is one message.
    pub(super) fn bare() -> Self {
        Grpc { is_bare: true, ..Grpc::new() }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], mut wire: u64, rules: &Rules, found: &mut Found) {
        while !bytes.is_empty() {
            if self.is_bare && self.have == 0 {
                (self.have, self.left) = (HEAD, usize::MAX);
                (self.head_wire, self.wire) = (wire, wire);
            }
            if self.have < HEAD {
                if self.have == 0 {
                    self.head_wire = wire;
                }
                let taken = (HEAD - self.have).min(bytes.len());
                self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                (bytes, wire) = (&bytes[taken..], wire + taken as u64);
                if self.have == HEAD {
                    self.wire = wire;
                    self.begin();
                }
            } else {
                let taken = self.left.min(bytes.len());
                if self.is_bare && self.message.len() + taken > MAX_HELD_BYTES {
                    self.fault = self.fault.or(Some(TOO_LONG));
                    self.skips = true;
                }
                if !self.skips {
                    self.message.extend_from_slice(&bytes[..taken]);
                }
                self.left -= taken;
                (bytes, wire) = (&bytes[taken..], wire + taken as u64);
            }
            if self.have == HEAD && self.left == 0 {
                self.look(rules, found);
            }
        }
    }

    fn begin(&mut self) {
        let [flag, length @ ..] = self.head;
        self.left = u32::from_be_bytes(length) as usize;
        self.message.clear();
        let fault = match flag & COMPRESSED {
            COMPRESSED => Some("a message is compressed"),
            _ => (self.left > MAX_HELD_BYTES - HEAD).then_some(TOO_LONG),
        };
        self.skips = fault.is_some();
        self.fault = self.fault.or(fault);
    }

    /// A message is whole, or nothing more of it comes.
    fn look(&mut self, rules: &Rules, found: &mut Found) {
        let message = std::mem::take(&mut self.message);
        self.content(&message, self.wire, 0, rules, found);
        self.message = message;
        self.message.clear();
        (self.have, self.skips) = (0, false);
        self.messages += 1;
    }

    fn content(&mut self, bytes: &[u8], wire: u64, depth: usize, rules: &Rules, found: &mut Found) {
        let is_message = depth < MAX_DEPTH && fields(bytes, |_, _| {}).is_some();
        let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
        let is_text = !bytes.iter().any(is_control) && std::str::from_utf8(bytes).is_ok();
        if is_text || !is_message {
            self.values.begin(Value { shape: Shape::Text, whole: None });
            self.values.feed(bytes, wire, true, rules, found);
            self.fault = self.fault.or(self.values.fault());
        }
        if is_message {
            let mut within = Vec::new();
            fields(bytes, |at, length| within.push((at, length)));
            for (at, length) in within {
                self.content(&bytes[at..at + length], wire + at as u64, depth + 1, rules, found);
            }
        }
    }

    /// A message is held until it is whole.
    pub(super) fn hold(&self) -> Option<Held> {
        let holds = self.have > 0 && (!self.skips || self.fault.is_some());
        holds.then_some(Held { wire: self.head_wire, why: Why::Message })
    }

    /// The time is up: a part of a message cannot be masked, so that it is cut or passes.
    pub(super) fn force(&mut self, passes: bool) -> u32 {
        if self.have == 0 {
            return 0;
        }
        self.skips = true;
        self.message.clear();
        if !passes {
            self.fault =
                self.fault.or(Some("a message did not become whole in the time that it may be held"));
        }
        1
    }

    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        if self.have == HEAD && !self.skips {
            self.look(rules, found);
        }
    }
}

/// Shows every field with a length: where it is, and how long. `None`: that is no message.
fn fields(bytes: &[u8], mut show: impl FnMut(usize, usize)) -> Option<()> {
    let mut at = 0;
    while at < bytes.len() {
        let tag = varint(bytes, &mut at)?;
        if tag >> 3 == 0 {
            return None;
        }
        let length = match tag & 7 {
            0 => {
                varint(bytes, &mut at)?;
                0
            }
            1 => 8,
            2 => {
                let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
                if length > bytes.len() - at {
                    return None;
                }
                show(at, length);
                length
            }
            // The beginning and the end of a group.
            3 | 4 => 0,
            5 => 4,
            _ => return None,
        };
        at = at.checked_add(length).filter(|at| *at <= bytes.len())?;
    }
    Some(())
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
