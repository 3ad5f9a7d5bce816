//! Where replies begin and end, and the gateway's own among them.

use super::masks::{Payload, unmaskable};
use super::work::Work;
use super::{OK, encode, number, upstream};
use crate::protocol::{Edit, Fault};
use std::collections::VecDeque;

/// Bytes of a line that is read whole: a mark's error, which repeats its name, or the reply to a login.
const MAX_LINE: usize = 1024;
/// Bytes of a line that are kept: a number with its type, or the front of an error.
const MAX_LINE_KEPT: usize = 24;
/// What a client is told in the place of the upstream's words about the stored account.
const ACCOUNT_REFUSED: &[u8] = b"-ERR the upstream does not let the gateway in\r\n";
/// Elements of the array with which HELLO is answered in RESP2: seven names and values, a few less in old servers.
const SERVER_FACTS: i64 = 10;
/// Elements that one reply may still have to come.
const MAX_ELEMENTS: u64 = u32::MAX as u64;

/// Follows the upstream's replies by types and lengths, in RESP2 and RESP3.
pub struct Replies {
    place: Place,
    /// Elements of the reply under way that are still to come, the one under way included; 0 between two replies.
    elements: u64,
    /// The reply under way is a push, which answers no command.
    is_push: bool,
    /// The part of a mark's name that nobody can guess.
    secret: Box<str>,
    /// Marks that went up so far.
    marks: u64,
    /// What stands in the place of which mark's error.
    answers: VecDeque<(u64, Answer)>,
    /// The front of a reply that may be a mark's error, or the reply to the gateway's own login.
    held: Vec<u8>,
    /// Whose login the next reply answers.
    login: Option<LoginOf>,
    /// What the upstream said to the client's login.
    verdict: Option<Verdict>,
    is_refused: bool,
    /// What comes down is not followed any more.
    is_opaque: bool,
}

/// What replaces a mark's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client is told this instead.
    Say(Vec<u8>),
    /// Nothing, and the reply behind it is that to a login.
    Login(LoginOf),
}

/// Whose login a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOf {
    /// The gateway's own, behind a RESET: its reply is for nobody else.
    Gateway,
    /// The client's AUTH, which goes up with the stored account: `+OK`, or an error.
    Auth,
    /// The client's HELLO with AUTH in it, which is answered with a map of what the server is.
    Hello,
}

/// The upstream's verdict on a client's login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The account is in force from here on.
    Accepted,
    /// Nothing changes.
    Refused,
}

/// What the next byte is.
#[derive(Clone, Copy)]
enum Place {
    /// The type of an element.
    Type,
    /// One of a line; the first [`MAX_LINE_KEPT`] are kept.
    Line { kept: [u8; MAX_LINE_KEPT], have: usize, after_cr: bool },
    /// One of a string and the line's end behind it, this many together.
    String(u64),
}

impl Replies {
    /// `secret` is part of what goes up as marks: letters and digits that nobody can guess.
    pub fn new(secret: &str) -> Self {
        Replies {
            place: Place::Type,
            elements: 0,
            is_push: false,
            secret: secret.into(),
            marks: 0,
            answers: VecDeque::new(),
            held: Vec::new(),
            login: None,
            verdict: None,
            is_refused: false,
            is_opaque: false,
        }
    }

    /// True between two replies: one of our own may stand here.
    pub fn is_between(&self) -> bool {
        self.elements == 0 && self.held.is_empty() && !self.is_opaque
    }

    /// What the upstream said to the client's last login, once.
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// True when the upstream did not take the stored account back behind a RESET: it is another user's session now.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Answers that are still to be placed.
    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    /// Follows nothing from here on: what comes down are no replies.
    pub fn stop(&mut self) {
        self.is_opaque = true;
    }

    /// Appends the command in whose reply's place `answer` will stand.
    pub fn mark(&mut self, answer: Answer, into: &mut Vec<u8>) {
        self.marks += 1;
        self.answers.push_back((self.marks, answer));
        encode(&[format!("STAUNCH-{}-{}.", self.secret, self.marks).as_bytes()], into);
    }

    /// Lets replies pass to the end of the next, or of the input. True when there is no more input. A login's verdict is to
    /// be taken before the next call.
    pub fn pass(
        &mut self,
        edit: &mut Edit<'_>,
        work: &mut Work,
        payload: &mut impl Payload,
    ) -> Result<bool, Fault> {
        if edit.is_done() {
            return Ok(true);
        }
        if self.is_opaque {
            edit.insert(&std::mem::take(&mut self.held));
            payload.keep(edit, edit.rest().len()).map_err(unmaskable)?;
            return Ok(true);
        }
        let first = self.held.first().or(edit.rest().first()).copied();
        let expected = match self.login {
            _ if self.elements > 0 => false,
            None => first == Some(b'-') && !self.answers.is_empty(),
            Some(LoginOf::Gateway) => first != Some(b'>'),
            Some(LoginOf::Auth | LoginOf::Hello) => matches!(first, Some(b'+' | b'-')),
        };
        if expected {
            self.gather(edit, work, payload)?;
        } else {
            let (taken, ended) = self.step(edit.rest())?;
            payload.keep(edit, taken).map_err(unmaskable)?;
            if ended && !self.is_push {
                work.down();
            }
        }
        Ok(edit.is_done())
    }

    /// Holds a reply of one line back until all of it has come, and then decides whose it is.
    fn gather(
        &mut self,
        edit: &mut Edit<'_>,
        work: &mut Work,
        payload: &mut impl Payload,
    ) -> Result<(), Fault> {
        let rest = edit.rest();
        let here = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        self.held.extend_from_slice(&rest[..here]);
        edit.skip(here);
        let whole = self.held.ends_with(b"\r\n");
        if !whole && self.held.len() <= MAX_LINE {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.held);
        match self.login {
            Some(LoginOf::Gateway) => {
                // Another reply than a line is none to AUTH.
                if !whole || !matches!(line[0], b'+' | b'-') {
                    return Err(upstream("what should answer a login does not"));
                }
                self.login = None;
                self.is_refused |= line != OK;
                return Ok(());
            }
            Some(login) => {
                if !whole {
                    return Err(upstream("what should answer a login does not"));
                }
                self.login = None;
                // `+QUEUED` is no verdict either: the mark before the login has spoilt that transaction, and it is never run.
                let accepted = login == LoginOf::Auth && line == OK;
                self.verdict = Some(if accepted { Verdict::Accepted } else { Verdict::Refused });
                let of_account =
                    line.starts_with(b"-WRONGPASS ") || line.starts_with(b"-ERR invalid password");
                edit.insert(if of_account { ACCOUNT_REFUSED } else { &line });
                work.down();
                return Ok(());
            }
            None => {}
        }
        if whole && let Some(answer) = self.answer_of(&line) {
            match answer {
                Answer::Say(words) => edit.insert(&words),
                Answer::Login(login) => self.login = Some(login),
            }
            return Ok(());
        }
        let (mut at, mut ended) = (0, false);
        while at < line.len() {
            let (taken, end) = self.step(&line[at..])?;
            (at, ended) = (at + taken, end);
        }
        payload.line(&mut line).map_err(unmaskable)?;
        edit.insert(&line);
        if ended {
            work.down();
        }
        Ok(())
    }

    /// The answer whose mark an error names. Marks before it went up while replies were off.
    fn answer_of(&mut self, line: &[u8]) -> Option<Answer> {
        let name = format!("STAUNCH-{}-", self.secret);
        let at = memchr::memmem::find(line, name.as_bytes())? + name.len();
        let digits = line[at..].split(|byte| *byte == b'.').next()?;
        let mark = number(digits)? as u64;
        while let Some((number, answer)) = self.answers.pop_front() {
            if number == mark {
                return Some(answer);
            }
        }
        None
    }

    /// Goes on to the end of the reply at the front of `data`, or to the end of `data`. Returns how many bytes that is,
    /// and whether the reply ended.
    fn step(&mut self, data: &[u8]) -> Result<(usize, bool), Fault> {
        let mut at = 0;
        while at < data.len() {
            match &mut self.place {
                Place::Type => {
                    if self.elements == 0 {
                        self.elements = 1;
                        self.is_push = data[at] == b'>';
                    }
                    if !b"+-:_#,($=!*%~>|".contains(&data[at]) {
                        return Err(upstream("a reply of an unknown type"));
                    }
                    self.place = Place::Line { kept: [0; MAX_LINE_KEPT], have: 0, after_cr: false };
                }
                Place::String(left) => {
                    let here = (*left).min((data.len() - at) as u64);
                    *left -= here;
                    at += here as usize;
                    if *left == 0 && self.element_ended() {
                        return Ok((at, true));
                    }
                }
                Place::Line { kept, have, after_cr } => {
                    let rest = &data[at..];
                    let end = memchr::memchr(b'\n', rest);
                    let here = end.map_or(rest.len(), |end| end + 1);
                    let keep = here.min(MAX_LINE_KEPT - *have);
                    kept[*have..*have + keep].copy_from_slice(&rest[..keep]);
                    *have += keep;
                    let cr = if here >= 2 { rest[here - 2] == b'\r' } else { *after_cr };
                    *after_cr = rest[here - 1] == b'\r';
                    at += here;
                    if end.is_some() {
                        if !cr {
                            return Err(upstream("a line that does not end as lines do"));
                        }
                        let (kept, have) = (*kept, *have);
                        if self.line_ended(&kept[..have])? {
                            return Ok((at, true));
                        }
                    }
                }
            }
        }
        Ok((at, false))
    }

    /// A line is over, of which `kept` is the front. True at the end of a reply.
    fn line_ended(&mut self, kept: &[u8]) -> Result<bool, Fault> {
        let kind = kept[0];
        if matches!(kind, b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(') {
            return Ok(self.element_ended());
        }
        let value = kept.strip_suffix(b"\r\n").and_then(|line| number(&line[1..]));
        let value = value.ok_or_else(|| upstream("what should be a number is none"))?;
        // In RESP2 a message of a subscription may come before it, an array as well, but a short one.
        let tells_server = kind == b'%' || kind == b'*' && value >= SERVER_FACTS;
        if self.login == Some(LoginOf::Hello) && self.elements == 1 && !self.is_push && tells_server {
            self.login = None;
            self.verdict = Some(Verdict::Accepted);
        }
        match (kind, u64::try_from(value)) {
            (b'$' | b'=' | b'!', Ok(size)) => {
                self.place = Place::String(size + 2);
                return Ok(false);
            }
            (b'$' | b'*', Err(_)) if value == -1 => return Ok(self.element_ended()),
            (b'*' | b'~' | b'>', Ok(count)) => self.more(count)?,
            (b'%', Ok(count)) => self.more(count.saturating_mul(2))?,
            // It stands before what it describes.
            (b'|', Ok(count)) => {
                self.more(count.saturating_mul(2))?;
                self.place = Place::Type;
                return Ok(false);
            }
            _ => return Err(upstream("a reply of an impossible length")),
        }
        Ok(self.element_ended())
    }

    fn more(&mut self, count: u64) -> Result<(), Fault> {
        self.elements = self.elements.saturating_add(count);
        if self.elements > MAX_ELEMENTS {
            return Err(upstream("a reply of an impossible length"));
        }
        Ok(())
    }

    fn element_ended(&mut self) -> bool {
        self.place = Place::Type;
        self.elements -= 1;
        self.elements == 0
    }
}
