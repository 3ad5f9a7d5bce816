//! Gathers the parts of messages that tell of statements, however the bytes are split. Everything else is passed over by
//! its length.

use crate::names::Culprit;
use crate::protocol::postgres::frames::whole_rows;
use crate::protocol::postgres::startup::MAX_NAME;
use crate::protocol::statement::Text;

/// Follows the messages of one direction.
///
/// ```text
///   | tag: u8 | length, itself included: u32 | raw bytes | text 0 | text 0 | rest |
/// ```
pub(super) struct Reader {
    /// The sender in this direction.
    speaker: Culprit,
    place: Place,
    plan: fn(u8) -> Plan,
    limit: usize,
    message: Message,
}

/// What the next byte is.
enum Place {
    /// A byte of the head, of which `have` bytes are here.
    Head { bytes: [u8; 5], have: usize },
    /// A byte of the body, of which `left` are to come; `gathered` once the parts are here.
    Body { left: u32, raw: usize, texts: usize, gathered: bool },
}

/// What of a message is gathered: bytes first, then texts that end with a zero byte.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) raw: usize,
    pub(super) texts: &'static [Size],
}

/// How much of a text is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// As much as the server tells names apart by.
    Name,
    /// Up to the session's limit.
    Statement,
}

/// The parts of a message.
#[derive(Default)]
pub(super) struct Message {
    pub(super) tag: u8,
    /// At most as many bytes as the plan wants.
    pub(super) raw: Vec<u8>,
    /// As many as the plan wants; empty where the message ends early.
    pub(super) texts: [Text; 2],
}

const AT_MESSAGE_START: Place = Place::Head { bytes: [0; 5], have: 0 };

impl Reader {
    /// Follows what `speaker` says by `plan`, with `limit` bytes of each statement's text.
    pub(super) fn new(speaker: Culprit, plan: fn(u8) -> Plan, limit: usize) -> Self {
        Reader { speaker, place: AT_MESSAGE_START, plan, limit, message: Message::default() }
    }

    /// Goes on to the end of a message, or to the end of `data`. Returns how many bytes that is, and the message if it
    /// ended; of rows, as many as there are go by at once. `data` must not be empty.
    pub(super) fn step(&mut self, data: &[u8]) -> (usize, Option<&mut Message>) {
        let mut at = 0;
        if let Place::Head { have: 0, .. } = self.place {
            at = whole_rows(self.speaker, data);
            if at > 0 {
                return (at, None);
            }
        }
        if let Place::Head { bytes, have } = &mut self.place {
            at = data.len().min(5 - *have);
            bytes[*have..*have + at].copy_from_slice(&data[..at]);
            *have += at;
            if *have < 5 {
                return (at, None);
            }
            let (tag, length) = (bytes[0], u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]));
            self.begin(tag, length);
        }
        let Place::Body { left, raw, texts, gathered } = &mut self.place else { return (at, None) };
        let here = (data.len() - at).min(*left as usize);
        let mut body = &data[at..at + here];
        *left -= here as u32;
        let ended = *left == 0;
        if !*gathered {
            let now = body.len().min(*raw);
            self.message.raw.extend_from_slice(&body[..now]);
            *raw -= now;
            body = &body[now..];
            let wanted = (self.plan)(self.message.tag).texts.len();
            while *raw == 0 && *texts < wanted && !body.is_empty() {
                let end = memchr::memchr(0, body);
                self.message.texts[*texts].push(&body[..end.unwrap_or(body.len())]);
                body = end.map_or(&[], |end| &body[end + 1..]);
                *texts += usize::from(end.is_some());
            }
            *gathered = *raw == 0 && *texts == wanted;
        }
        at += here;
        if !ended {
            return (at, None);
        }
        self.place = AT_MESSAGE_START;
        self.message.texts.iter_mut().for_each(Text::end);
        (at, Some(&mut self.message))
    }

    /// Takes back a message that was taken away to be looked at, for its memory.
    pub(super) fn give_back(&mut self, message: Message) {
        self.message.raw = message.raw;
    }

    fn begin(&mut self, tag: u8, length: u32) {
        let plan = (self.plan)(tag);
        self.message.tag = tag;
        self.message.raw.clear();
        let limit = |size: Option<&Size>| match size {
            Some(Size::Name) => MAX_NAME,
            Some(Size::Statement) => self.limit,
            None => 0,
        };
        let texts = [0, 1].map(|i| Text::new(limit(plan.texts.get(i))));
        self.message.texts = texts;
        let gathered = plan.raw == 0 && plan.texts.is_empty();
        // Whoever passes on a length below 4 has not looked at it; nothing can be made of what follows.
        self.place = Place::Body { left: length.saturating_sub(4), raw: plan.raw, texts: 0, gathered };
    }
}
