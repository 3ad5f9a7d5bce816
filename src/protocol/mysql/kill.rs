//! KILL, by which clients cancel: as a command, and as the statement that takes its place.

use super::command;
use super::{HEAD, write};

/// The longest KILL that is looked at: two words, a number of ten digits, blanks.
const MAX_KILL: usize = 64;

/// A whole command packet at the front of what goes up that kills a connection or its query.
#[derive(Debug, PartialEq, Eq)]
pub struct Kill {
    /// Bytes of the packet, head and all.
    pub length: usize,
    /// The connection, as the client knows it.
    pub thread: u32,
    /// Its number stands there: in binary (COM_PROCESS_KILL), or so many digits of the text.
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Binary,
    Text { at: usize, digits: usize },
}

impl Kill {
    /// The KILL at the front of `data`, where a packet begins. `None` for everything else, a KILL that is cut in two among it.
    ///
    /// ```text
    ///   | 5, 0, 0 | 0 | 0x0c | number: u32 |
    ///   | length  | 0 | 0x03 | KILL [HARD | SOFT] [CONNECTION | QUERY] number [;] |
    /// ```
    pub fn read(data: &[u8]) -> Option<Kill> {
        let [a, 0, 0, 0, kind, rest @ ..] = data else { return None };
        let length = usize::from(*a);
        if !(2..=MAX_KILL).contains(&length) || data.len() < HEAD + length {
            return None;
        }
        let payload = &rest[..length - 1];
        let (thread, place) = match *kind {
            command::PROCESS_KILL => (u32::from_le_bytes(payload.try_into().ok()?), Place::Binary),
            command::QUERY => text(payload)?,
            _ => return None,
        };
        Some(Kill { length: HEAD + length, thread, place })
    }

    /// The packet with another connection's number; `packet` is what was read.
    pub fn with_thread(&self, packet: &[u8], thread: u32) -> Vec<u8> {
        let mut payload = packet[HEAD..self.length].to_vec();
        match self.place {
            Place::Binary => payload[1..].copy_from_slice(&thread.to_le_bytes()),
            Place::Text { at, digits } => {
                payload.splice(1 + at..1 + at + digits, thread.to_string().into_bytes());
            }
        }
        let mut out = Vec::with_capacity(HEAD + payload.len());
        write(&mut out, 0, &payload);
        out
    }
}

fn text(text: &[u8]) -> Option<(u32, Place)> {
    let mut words = Words { text, at: 0 };
    let is = |word: &[u8], wanted: &str| word.eq_ignore_ascii_case(wanted.as_bytes());
    if !is(words.next()?.1, "KILL") {
        return None;
    }
    let (mut at, mut word) = words.next()?;
    for wanted in [&["HARD", "SOFT"][..], &["CONNECTION", "QUERY"]] {
        if wanted.iter().any(|wanted| is(word, wanted)) {
            (at, word) = words.next()?;
        }
    }
    let thread = std::str::from_utf8(word).ok()?.parse().ok().filter(|_| word[0] != b'+')?;
    let ends =
        words.text[words.at..].iter().all(|byte| byte.is_ascii_whitespace() || matches!(byte, b';' | 0));
    ends.then_some((thread, Place::Text { at, digits: word.len() }))
}

/// The words of a text, each with its place.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<(usize, &'a [u8])> {
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b';';
        self.at += self.text[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let start = self.at;
        self.at += self.text[start..].iter().take_while(|byte| !is_end(byte)).count();
        (self.at > start).then(|| (start, &self.text[start..self.at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, 0, &[&[command::QUERY], text.as_bytes()].concat());
        out
    }

    #[test]
    fn a_kill_is_known_in_all_its_forms_and_gets_another_number() {
        let table = [
            ("KILL 7", "KILL 4294967295"),
            ("kill query 7", "kill query 4294967295"),
            ("KILL CONNECTION 7;", "KILL CONNECTION 4294967295;"),
            (" Kill\tSoft Query\n7 ; ", " Kill\tSoft Query\n4294967295 ; "),
            ("KILL HARD 7", "KILL HARD 4294967295"),
        ];
        for (said, expected) in table {
            let packet = query(said);
            let kill = Kill::read(&[&packet[..], b"more"].concat()).expect(said);
            assert_eq!((kill.thread, kill.length), (7, packet.len()));
            assert_eq!(kill.with_thread(&packet, u32::MAX), query(expected), "{said}");
            for cut in 0..packet.len() {
                assert_eq!(Kill::read(&packet[..cut]), None, "{said} {cut}");
            }
        }
        let packet = b"\x05\0\0\0\x0c\x07\0\0\0";
        let kill = Kill::read(packet).unwrap();
        assert_eq!((kill.thread, kill.with_thread(packet, 258)), (7, b"\x05\0\0\0\x0c\x02\x01\0\0".to_vec()));
    }

    #[test]
    fn what_kills_nothing_by_its_number_is_let_alone() {
        for said in [
            "KILL",
            "KILL x",
            "KILL QUERY ID 7",
            "KILL 7 8",
            "KILL USER ann",
            "KILL -7",
            "KILL +7",
            "KILL 99999999999",
            "SELECT 7",
            "KILLER 7",
            "KILL/**/7",
            "",
        ] {
            assert_eq!(Kill::read(&query(said)), None, "{said}");
        }
    }
}
