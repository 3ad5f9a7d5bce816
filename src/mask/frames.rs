//! WebSocket frames (RFC 6455): texts of messages, each JSON or a piece of plain text; a client's are unmasked to be looked at.
//!
//! Binary messages are looked at where they begin as an object of JSON does, for many programs send theirs so. Other ones and
//! control frames are not. Extensions are a fault: the session takes their offer out.

use super::blank::Blank;
use super::json::Json;
use super::lane::Lane;
use super::rules::Rules;
use super::wire::{Fill, Found, Held};
use std::collections::VecDeque;

/// Follows the frames of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    /// What the message is that is under way.
    message: Message,
    /// White space that the message begins with: what follows says whose it is.
    blank: Blank,
    json: Json,
    text: Lane,
    /// Payloads with a masking key, as long as something of them may be overwritten.
    keys: VecDeque<Keyed>,
    plain: Vec<u8>,
    pub(super) messages: u64,
    fault: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the head are there.
    Head([u8; 14], usize),
    Payload {
        left: u64,
        looks: bool,
        ends: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    None,
    /// A text of which nothing came yet.
    Begun,
    /// A binary message of which nothing came yet.
    BinaryBegun,
    Json,
    Text,
    Binary,
}

/// A payload that its sender masked.
#[derive(Clone, Copy, Debug)]
struct Keyed {
    from: u64,
    to: u64,
    key: [u8; 4],
}

impl Keyed {
    fn at(&self, wire: u64) -> u8 {
        self.key[((wire - self.from) % 4) as usize]
    }
}

impl Frames {
    pub(super) fn new() -> Self {
        Frames {
            state: State::Head([0; 14], 0),
            message: Message::None,
            blank: Blank::default(),
            json: Json::new(),
            text: Lane::new(Fill::Text),
            keys: VecDeque::new(),
            plain: Vec::new(),
            messages: 0,
            fault: None,
        }
    }

    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault.or(self.json.fault)
    }

    pub(super) fn feed(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        let mut at = 0;
        while at < bytes.len() && self.fault.is_none() {
            let here = wire + at as u64;
            match self.state {
                State::Head(mut head, mut length) => {
                    head[length] = bytes[at];
                    length += 1;
                    at += 1;
                    self.state = State::Head(head, length);
                    if length == head_length(&head, length) {
                        self.begin(&head[..length], here + 1, rules, found);
                    }
                }
                State::Payload { left, looks, ends } => {
                    let n = left.min((bytes.len() - at) as u64) as usize;
                    if looks {
                        self.look(&bytes[at..at + n], here, rules, found);
                    }
                    at += n;
                    self.state = State::Payload { left: left - n as u64, looks, ends };
                    if left == n as u64 {
                        self.end_frame(looks, ends, rules, found);
                    }
                }
            }
        }
        if self.message == Message::Text {
            self.text.scan(rules, false, found);
        }
    }

    /// A frame's head is whole; its payload begins at `wire`.
    fn begin(&mut self, head: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        let (ends, kind) = (head[0] & 0x80 != 0, head[0] & 0x0f);
        if head[0] & 0x70 != 0 {
            self.fault = Some("a WebSocket frame has an extension's bits, and none was agreed on");
            return;
        }
        // What a message says before another begins within it would pass unseen.
        let follows = self.message != Message::None;
        if matches!(kind, 1 | 2) && follows || kind == 0 && !follows || matches!(kind, 3..=7 | 11..) {
            self.fault = Some("a WebSocket frame stands where none of its kind may (RFC 6455 5.4)");
            return;
        }
        let masked = head[1] & 0x80 != 0;
        let length = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([head[2], head[3]])),
            127 => u64::from_be_bytes(head[2..10].try_into().unwrap_or_default()),
            short => short.into(),
        };
        match kind {
            1 => self.message = Message::Begun,
            2 => self.message = Message::BinaryBegun,
            _ => {}
        }
        let looks = kind < 3 && !matches!(self.message, Message::Binary | Message::None);
        if let (true, true, Some(key)) = (masked, looks, head.last_chunk()) {
            self.keys.push_back(Keyed { from: wire, to: wire.saturating_add(length), key: *key });
        }
        let ends = ends && kind < 3;
        self.state = State::Payload { left: length, looks, ends };
        if length == 0 {
            self.end_frame(looks, ends, rules, found);
        }
    }

    fn look(&mut self, bytes: &[u8], wire: u64, rules: &Rules, found: &mut Found) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        plain.extend_from_slice(bytes);
        if let Some(keyed) = self.keys.back().filter(|keyed| (keyed.from..keyed.to).contains(&wire)) {
            for (place, byte) in plain.iter_mut().enumerate() {
                *byte ^= keyed.at(wire + place as u64);
            }
        }
        let (mut rest, mut wire) = (&plain[..], wire);
        if self.message == Message::BinaryBegun
            && let Some(first) = rest.first()
        {
            self.message = if *first == b'{' { Message::Json } else { Message::Binary };
        }
        if self.message == Message::Begun
            && let Some(is_json) = self.blank.begins_json(&mut rest, &mut wire)
        {
            self.begin_text(is_json);
        }
        match self.message {
            Message::Json => self.json.feed(rest, wire, rules, found),
            Message::Text => self.text.push(rest, wire),
            _ => {}
        }
        self.plain = plain;
    }

    /// The message is JSON or plain text from here on.
    fn begin_text(&mut self, is_json: bool) {
        self.message = if is_json { Message::Json } else { Message::Text };
        let blank = std::mem::take(&mut self.blank);
        if !is_json {
            self.text.push(&blank.bytes, blank.wire);
        }
    }

    fn end_frame(&mut self, looks: bool, ends: bool, rules: &Rules, found: &mut Found) {
        self.state = State::Head([0; 14], 0);
        if !ends {
            return;
        }
        if looks {
            self.messages += 1;
            if self.message == Message::Begun {
                self.begin_text(false);
            }
            match self.message {
                Message::Json => self.json.next_event(rules, found),
                Message::Text => self.text.scan(rules, false, found),
                _ => {}
            }
        }
        self.message = Message::None;
    }

    /// What the sender's key makes of a byte that is overwritten at `wire`.
    pub(super) fn key_at(&self, wire: u64) -> u8 {
        self.keys
            .iter()
            .find(|keyed| (keyed.from..keyed.to).contains(&wire))
            .map_or(0, |keyed| keyed.at(wire))
    }

    /// Nothing before `wire` is overwritten any more.
    pub(super) fn passed(&mut self, wire: u64) {
        while self.keys.front().is_some_and(|keyed| keyed.to <= wire) {
            self.keys.pop_front();
        }
    }

    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Found) {
        if self.blank.hold().is_some() {
            self.begin_text(false);
        }
        self.json.finish(rules, found);
        self.text.scan(rules, true, found);
    }

    pub(super) fn hold(&self) -> Option<Held> {
        self.json.hold().into_iter().chain(self.text.hold()).chain(self.blank.hold()).min()
    }

    pub(super) fn force(&mut self, passes: bool, rules: &Rules, found: &mut Found) -> u32 {
        if self.blank.hold().is_some() {
            self.begin_text(false);
        }
        self.json.force(passes, rules, found) + self.text.force(passes, found)
    }
}

/// How long a head is, by as much of it as is there.
fn head_length(head: &[u8; 14], seen: usize) -> usize {
    if seen < 2 {
        return 2;
    }
    let length = match head[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    if head[1] & 0x80 != 0 { length + 4 } else { length }
}
