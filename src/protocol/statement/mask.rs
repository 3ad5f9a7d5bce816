//! Passwords in SQL texts, found without reading SQL.

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
    let Some(mut end) = find_word(text, b"identified", 0) else { return };
    let (mut masked, mut done) = (Vec::with_capacity(text.len()), 0);
    loop {
        let (start, stop) = match memchr::memchr2(b'\'', b'"', &text[end..]) {
            Some(quote) => (end + quote, quoted(text, end + quote)),
            None => (end, text.len()),
        };
        count(stop - end);
        masked.extend_from_slice(&text[done..start]);
        masked.extend_from_slice(MASK);
        done = stop;
        match find_word(text, b"identified", stop) {
            Some(next) => end = next,
            None => break,
        }
    }
    masked.extend_from_slice(&text[done..]);
    *text = masked;
}

const WORD: &[u8] = b"password";
/// Bytes of what may stand directly before the quote of a literal: `E`, `U&`, `_utf8mb4`.
const MAX_PREFIX: usize = 32;

/// Counts bytes that were looked at, for the test that the work is linear.
#[inline(always)]
fn count(_bytes: usize) {
    #[cfg(test)]
    tests::STEPS.with(|steps| steps.set(steps.get() + _bytes));
}

/// Where the next word PASSWORD ends. What stands before it does not count: `user_password = '…'` is masked, too.
fn find_password(text: &[u8], from: usize) -> Option<usize> {
    find_word(text, WORD, from)
}

/// Where the next of these words ends, in either case; it is given in lower case.
fn find_word(text: &[u8], word: &[u8], from: usize) -> Option<usize> {
    let (mut at, first) = (from, word[0]);
    while let Some(found) = memchr::memchr2(first, first.to_ascii_uppercase(), text.get(at..)?) {
        count(found + 1);
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
    count(start - at);
    let rest = text.get(start..)?;
    match rest {
        [] => None,
        [b'-', b'-', ..] | [b'/', b'*', ..] | [b'#', ..] => Some((start, text.len())),
        [b'$', digit, ..] if digit.is_ascii_digit() => None,
        [b'$', ..] => Some((start, dollar_quoted(text, start))),
        _ => {
            // E'…', U&'…', _utf8'…': the prefix of a literal.
            let in_prefix = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'&');
            let prefix = rest.iter().take(MAX_PREFIX).take_while(in_prefix).count();
            count(prefix);
            match rest.get(prefix) {
                Some(b'\'' | b'"') => Some((start, quoted(text, start + prefix))),
                _ if assigned && rest[0] != b'?' => {
                    let bare =
                        |b: &u8| !b.is_ascii_whitespace() && !matches!(b, b'\'' | b'"' | b';' | b',' | b')');
                    let length = rest.iter().take_while(|b| bare(b)).count();
                    count(length);
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
        count(1);
        match text.get(at) {
            None | Some(b'\\') => return text.len(),
            Some(byte) if *byte == quote => {
                if text.get(at + 1) == Some(&quote) {
                    at += 2;
                    continue;
                }
                // SQL goes on with a literal that follows in the next line.
                let gap = text[at + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                count(gap);
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
    let end = memchr::memmem::find(&text[body..], tag).map_or(text.len(), |at| body + at + tag.len());
    count(end - start);
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn hostile_texts_cost_work_that_grows_with_their_length_and_no_faster() {
        let pieces = [
            "password",
            "\"password\"",
            "'password'",
            "`password`",
            "\"password\" ",
            "password ",
            "password\n\t ",
            "password'",
            "password' ",
            "password''",
            "password=",
            "password=(",
            "password = x",
            "password(",
            "password$",
            "password $a",
            "password $a$",
            "password $a$ $b$",
            "password E",
            "password _",
            "password '\n'",
            "password '\n' ",
            "password:",
            "\"password\"\t",
            "'password' \n",
            "identified",
            "identified ",
            "identified'",
            "identified 'x' ",
            "identified \"",
            "identified password",
            "password identified '",
            "pppp",
            "iiii",
            "passwor",
            "identifie",
            "password --",
            "password /*",
        ];
        // A look-back or a look-ahead that is not bounded shows with a text that another byte breaks near its end.
        for ends in ["", "'", "\"", "=", "$", " '", "\\"] {
            for piece in pieces {
                let text: Vec<u8> = piece.bytes().cycle().take(64 * 1024).chain(ends.bytes()).collect();
                STEPS.set(0);
                let (mut one, mut other) = (text.clone(), text.clone());
                mask_passwords(&mut one);
                mask_identified(&mut other);
                let steps = STEPS.get();
                assert!(steps <= 8 * text.len(), "{piece:?} {ends:?}: {steps} steps");
            }
        }
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
