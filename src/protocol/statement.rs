//! Statements of database clients as a log shows them: a text cut at a limit, without passwords, and what became of it.
//!
//! It reads no SQL. A statement's text may hold values that its writer put into it; only what follows the word PASSWORD is
//! known for a secret, and masked. Values that a protocol carries beside the text are never gathered.

use std::time::{Duration, Instant};

/// Follows both directions of a session, and tells of each statement when it is over.
pub trait Watch {
    /// These bytes go up.
    fn up(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>));
    /// These bytes go down.
    fn down(&mut self, bytes: &[u8], now: Instant, say: &mut dyn FnMut(&Statement<'_>));
    /// The session is over: tells what was not answered.
    fn end(&mut self, say: &mut dyn FnMut(&Statement<'_>));
}

/// A statement's text as it goes by, of which no more is kept than a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    kept: Vec<u8>,
    whole: u64,
    limit: usize,
}

impl Text {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Text { kept: Vec::new(), whole: 0, limit }
    }

    /// The next piece, however the text was split.
    pub fn push(&mut self, piece: &[u8]) {
        let room = (self.limit - self.kept.len()).min(piece.len());
        self.kept.extend_from_slice(&piece[..room]);
        self.whole += piece.len() as u64;
    }

    /// The text is whole: ends what was cut between two characters.
    pub fn end(&mut self) {
        if !self.is_cut() {
            return;
        }
        // UTF-8 has at most three bytes behind the first of a character.
        let first = (1..=4)
            .find(|back| self.kept.len().checked_sub(*back).is_none_or(|at| self.kept[at] & 0xc0 != 0x80));
        let length = self.kept.len();
        if let Some(back) = first.filter(|back| *back <= length) {
            let wanted = match self.kept[length - back] {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0.. => 4,
                _ => 1,
            };
            if wanted > back {
                self.kept.truncate(length - back);
            }
        }
    }

    /// What was kept.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// How long the text is, kept or not.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// True where the text is longer than the limit.
    pub fn is_cut(&self) -> bool {
        self.whole > self.limit as u64
    }

    /// Masks what identifies accounts, see [`mask_identified`].
    pub fn mask_identified(&mut self) {
        mask_identified(&mut self.kept);
    }

    /// Masks passwords, see [`mask_passwords`]. The length is still that of what was sent.
    pub fn mask_passwords(&mut self) {
        mask_passwords(&mut self.kept);
    }
}

/// What stands in the place of a password.
pub const MASK: &[u8] = b"***";

/// Masks what follows the word PASSWORD in an SQL text: a quoted literal of any kind, or a bare word behind `=`, as in
/// connection strings. A parameter (`$1`, `?`) holds no value and stays.
///
/// Better too much than too little: a literal that could be read in more than one way (a backslash in it, quotes within
/// quotes, a comment before it, no end) is masked to the end of the text. Only the client itself can hide a password from
/// this, by spelling it in a way of its own.
pub fn mask_passwords(text: &mut Vec<u8>) {
    let Some(mut at) = find_password(text, 0) else { return };
    let mut masked = Vec::with_capacity(text.len());
    let mut done = 0;
    loop {
        if let Some((start, end)) = secret(text, at) {
            masked.extend_from_slice(&text[done..start]);
            masked.extend_from_slice(MASK);
            done = end;
            at = end.max(at);
        }
        match find_password(text, at) {
            Some(next) => at = next,
            None => break,
        }
    }
    masked.extend_from_slice(&text[done..]);
    *text = masked;
}

/// Masks what stands behind the word IDENTIFIED, as MySQL's accounts have it: the next quoted literal, or all that follows
/// where there is none.
pub fn mask_identified(text: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(end) = find_word(text, b"identified", at) {
        let quote = text[end..].iter().position(|byte| matches!(byte, b'\'' | b'"'));
        let (start, stop) = match quote {
            Some(quote) => (end + quote, quoted(text, end + quote)),
            None => (end, text.len()),
        };
        text.splice(start..stop, MASK.iter().copied());
        at = start + MASK.len();
    }
}

const WORD: &[u8] = b"password";

/// Where the next word PASSWORD ends. What stands before it does not count: `user_password = '…'` is masked, too.
fn find_password(text: &[u8], from: usize) -> Option<usize> {
    find_word(text, WORD, from)
}

/// Where the next of these words ends, in either case; it is given in lower case.
fn find_word(text: &[u8], word: &[u8], from: usize) -> Option<usize> {
    let (mut at, first) = (from, word[0]);
    while let Some(found) = memchr::memchr2(first, first.to_ascii_uppercase(), text.get(at..)?) {
        at += found;
        let end = at + word.len();
        if text.get(at..end).is_some_and(|found| found.eq_ignore_ascii_case(word)) {
            return Some(end);
        }
        at += 1;
    }
    None
}

/// Where the secret begins and ends that stands behind a PASSWORD which ended at `at`.
fn secret(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut start = at;
    let mut assigned = false;
    // `"password" = …`, `'password': …`: a name ends here, and no literal begins.
    if let Some([b'"' | b'\'' | b'`', rest @ ..]) = text.get(at..)
        && matches!(rest.trim_ascii_start(), [b'=' | b':', ..])
    {
        start += 1;
    }
    while let Some(byte) = text.get(start) {
        match byte {
            b'=' | b'(' | b':' => assigned = true,
            byte if byte.is_ascii_whitespace() => {}
            _ => break,
        }
        start += 1;
    }
    let rest = text.get(start..)?;
    match rest {
        [] => None,
        [b'-', b'-', ..] | [b'/', b'*', ..] | [b'#', ..] => Some((start, text.len())),
        [b'$', digit, ..] if digit.is_ascii_digit() => None,
        [b'$', ..] => Some((start, dollar_quoted(text, start))),
        _ => {
            // E'…', U&'…', _utf8'…': the prefix of a literal.
            let prefix =
                rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'&')).count();
            match rest.get(prefix) {
                Some(b'\'' | b'"') => Some((start, quoted(text, start + prefix))),
                _ if assigned && rest[0] != b'?' => {
                    let bare =
                        |b: &u8| !b.is_ascii_whitespace() && !matches!(b, b'\'' | b'"' | b';' | b',' | b')');
                    let length = rest.iter().take_while(|b| bare(b)).count();
                    // A call, or a quote that ends a literal around it, or begins one.
                    let unclear =
                        rest[..length].contains(&b'(') || matches!(rest.get(length), Some(b'\'' | b'"'));
                    let end = if unclear { text.len() } else { start + length };
                    (length > 0).then_some((start, end))
                }
                _ => None,
            }
        }
    }
}

/// Where the literal ends whose quote stands at `start`.
fn quoted(text: &[u8], start: usize) -> usize {
    let quote = text[start];
    // Two quotes in a row: nothing, or a literal inside a literal.
    if text.get(start + 1) == Some(&quote) {
        return text.len();
    }
    let mut at = start + 1;
    loop {
        match text.get(at) {
            None | Some(b'\\') => return text.len(),
            Some(byte) if *byte == quote => {
                if text.get(at + 1) == Some(&quote) {
                    at += 2;
                    continue;
                }
                // SQL goes on with a literal that follows in the next line.
                let gap = text[at + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                if text.get(at + 1 + gap) != Some(&quote) {
                    return at + 1;
                }
                at += 2 + gap;
            }
            Some(_) => at += 1,
        }
    }
}

/// Where `$tag$…$tag$` ends.
fn dollar_quoted(text: &[u8], start: usize) -> usize {
    let Some(tag) = memchr::memchr(b'$', &text[start + 1..]).map(|at| &text[start..start + at + 2]) else {
        return text.len();
    };
    let body = start + tag.len();
    memchr::memmem::find(&text[body..], tag).map_or(text.len(), |at| body + at + tag.len())
}

/// What a client asked for, and what became of it. Borrowed for one call.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// How it was asked.
    pub kind: Kind,
    /// The name of a prepared statement; empty without one.
    pub name: &'a [u8],
    /// The name of a portal; empty without one.
    pub portal: &'a [u8],
    /// The text, as far as it was kept.
    pub text: Shown<'a>,
    /// What became of it.
    pub outcome: Outcome,
    /// The SQLSTATE of its error; empty without one.
    pub sqlstate: &'a [u8],
    /// What the server calls that which it has done (`SELECT 3`): the last, if there are several; empty without one.
    pub tag: &'a [u8],
    /// How many results a text of several statements had; at least 2, or `None`.
    pub results: Option<u64>,
    /// Rows that the server counts, of all results.
    pub rows: Option<u64>,
    /// The bulk transfer that it began.
    pub copy: Option<Copying>,
    /// The function that was called without SQL.
    pub function: Option<u32>,
    /// From the whole statement to its result; `None` without a result.
    pub took: Option<Duration>,
}

impl Statement<'_> {
    /// A statement of which nothing is known but its kind and its outcome.
    pub fn new(kind: Kind, outcome: Outcome) -> Self {
        Statement {
            kind,
            name: b"",
            portal: b"",
            text: Shown::None,
            outcome,
            sqlstate: b"",
            tag: b"",
            results: None,
            rows: None,
            copy: None,
            function: None,
            took: None,
        }
    }
}

/// A statement's text in its line.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// It has none, or what it refers to is not known.
    None,
    /// As much as was kept.
    Text(&'a Text),
    /// It was not kept: a limit of the session's was reached.
    NotHeld,
}

/// How a statement is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text to be run.
    Query,
    /// A text to be prepared.
    Parse,
    /// Values for a prepared statement; told only when it fails.
    Bind,
    /// What a statement or a portal looks like; told only when it fails.
    Describe,
    /// A prepared statement to be run.
    Execute,
    /// A statement or a portal to be forgotten; told only when it fails.
    Close,
    /// The end of a batch, and of its transaction; told only when it fails.
    Sync,
    /// A function to be called by its number.
    FunctionCall,
}

impl Kind {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Query => "query",
            Kind::Parse => "parse",
            Kind::Bind => "bind",
            Kind::Describe => "describe",
            Kind::Execute => "execute",
            Kind::Close => "close",
            Kind::Sync => "sync",
            Kind::FunctionCall => "function_call",
        }
    }
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has done it.
    Done,
    /// The server has sent as many rows as were asked for, and has more.
    Suspended,
    /// The server refused it, or gave up.
    Error,
    /// The server passed it over, since an error came before it.
    Skipped,
    /// The session ended first.
    Unanswered,
    /// Too many were under way to tell which answer is whose.
    NotFollowed,
}

impl Outcome {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Suspended => "suspended",
            Outcome::Error => "error",
            Outcome::Skipped => "skipped",
            Outcome::Unanswered => "unanswered",
            Outcome::NotFollowed => "not_followed",
        }
    }
}

/// Which way a bulk transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// To the server.
    In,
    /// From the server.
    Out,
    /// Both ways: replication.
    Both,
}

impl Copying {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Copying::In => "in",
            Copying::Out => "out",
            Copying::Both => "both",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(text: &[u8], limit: usize, piece: usize) -> Text {
        let mut gathered = Text::new(limit);
        text.chunks(piece).for_each(|piece| gathered.push(piece));
        gathered.end();
        gathered
    }

    #[test]
    fn a_text_is_cut_between_characters_however_it_comes() {
        let text = "aü€🦀z".as_bytes();
        let ends = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11];
        for (limit, end) in ends.into_iter().enumerate() {
            for piece in 1..=text.len() {
                let found = gathered(text, limit, piece);
                assert_eq!(found.kept(), &text[..end], "{limit} {piece}");
                assert_eq!((found.whole(), found.is_cut()), (11, limit < 11));
            }
        }
        // Other encodings are cut where they are cut.
        assert_eq!(gathered(b"gr\xfc\xdf mich", 4, 3).kept(), b"gr\xfc");
        assert_eq!(gathered(b"\x80\x80\x80\x80\x80\x80", 5, 1).kept(), b"\x80\x80\x80\x80\x80");
    }

    fn masked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask_passwords(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_follows_the_word_password_is_masked() {
        let table = [
            (
                "create role a login password 'x' valid until '2027-01-01'",
                "create role a login password *** valid until '2027-01-01'",
            ),
            (
                "ALTER USER a ENCRYPTED PASSWORD'it''s';select 'b'",
                "ALTER USER a ENCRYPTED PASSWORD***;select 'b'",
            ),
            ("alter role a Password\n\tE'x' nologin", "alter role a Password\n\t*** nologin"),
            ("alter role a password U&'x' uescape '!'", "alter role a password *** uescape '!'"),
            ("alter role a password $$x'y$$ nologin", "alter role a password *** nologin"),
            ("alter role a password $a$x$$y$a$ nologin", "alter role a password *** nologin"),
            ("alter role a password 'x'\n  'y' nologin", "alter role a password *** nologin"),
            (
                "alter role a password 'x'; alter role b password 'y';",
                "alter role a password ***; alter role b password ***;",
            ),
            (
                "create subscription s connection 'host=h password=x user=u'",
                "create subscription s connection 'host=h password=*** user=u'",
            ),
            (
                "create user mapping for a server s options (user 'u', password 'x')",
                "create user mapping for a server s options (user 'u', password ***)",
            ),
            (
                "select * from u where \"password\" = 'x' and n = 'y'",
                "select * from u where \"password\" = *** and n = 'y'",
            ),
            ("{\"password\": \"x\", \"a\": 1}", "{\"password\": ***, \"a\": 1}"),
        ];
        for (text, expected) in table {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_more_than_one_way_is_masked_to_the_end() {
        for start in ["alter role a password ", "set password = "] {
            for rest in [
                "'x",
                "'x''",
                "'a\\'b' c 'd",
                "E'a\\'b'",
                "''x''', 'y'",
                "/* */ 'x'",
                "-- 'y'\n'x'",
                "$a$x",
                "$x",
                "\"x",
                "'x' 'y",
            ] {
                assert_eq!(masked(&format!("{start}{rest}")), format!("{start}***"), "{rest}");
            }
        }
    }

    #[test]
    fn what_a_password_is_made_of_is_masked_to_the_end() {
        for rest in ["password('x'), b = 'c'", "md5( 'x')", "x' publication p", "concat('a', 'b')"] {
            assert_eq!(masked(&format!("set password={rest}")), "set password=***", "{rest}");
        }
    }

    #[test]
    fn what_identifies_an_account_is_masked() {
        let table = [
            (
                "create user a identified by 'x', b identified by \"y\"",
                "create user a identified by ***, b identified by ***",
            ),
            (
                "CREATE USER a IDENTIFIED WITH p AS '*AB' require ssl",
                "CREATE USER a IDENTIFIED WITH p AS *** require ssl",
            ),
            ("create user a identified by 0x41", "create user a identified***"),
            (
                "alter user a identified by 'it''s' account lock",
                "alter user a identified by *** account lock",
            ),
            ("select identity from ident", "select identity from ident"),
        ];
        for (text, expected) in table {
            let mut bytes = text.as_bytes().to_vec();
            mask_identified(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn what_holds_no_password_stays() {
        for text in [
            "",
            "select 1",
            "select password from u",
            "alter role a password null",
            "alter role a password $1",
            "update u set password = $2 where n = ?",
            "update u set password = ?",
            "select 'passwor",
            "PASSWORD",
            "password ",
            "alter table u rename password to phrase",
        ] {
            assert_eq!(masked(text), text);
        }
    }
}
