//! Brackets that are not closed: found before the text is parsed, since to a parser all that follows is then wrong.
//!
//! A value whose bracket is missing is one fault, and its key keeps its place with an empty text. The header of a table with a
//! bracket too few is one fault, and is read as what it must be. Lines keep their numbers.

use serde_json::Value as Schema;

/// A text with its brackets closed, and what was wrong with it.
pub(super) struct Closed {
    pub(super) text: String,
    pub(super) faults: Vec<BracketFault>,
}

/// A missing bracket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BracketFault {
    /// The line of it, from 1.
    pub(super) line: usize,
    /// The line of the key whose value was taken out, about which nothing more is to be said.
    pub(super) key_line: usize,
    pub(super) text: String,
}

/// Closes what is open. `schema` knows which tables there are.
pub(super) fn close(text: &str, schema: &Schema) -> Closed {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let mut faults = Vec::new();
    let mut next = 0;
    while next < lines.len() {
        if let Some((header, fault)) = header(&lines[next], next + 1, schema) {
            lines[next] = header;
            faults.push(fault);
            next += 1;
            continue;
        }
        let first = next;
        let mut statement = Statement::default();
        loop {
            statement.line(&lines[next], next + 1);
            next += 1;
            let is_over = !statement.is_open()
                || lines.get(next).is_none_or(|line| statement.is_interrupted_by(line, schema));
            if is_over {
                break;
            }
        }
        let Some((line, text)) = statement.fault() else { continue };
        let Some(of) = key(&lines[first]).map(str::to_owned) else { continue };
        faults.push(BracketFault { line, key_line: first + 1, text });
        lines[first] = empty(&of);
        lines[first + 1..next].iter_mut().for_each(String::clear);
    }
    Closed { text: lines.join("\n"), faults }
}

/// A key with its value, over as many lines as that has.
#[derive(Default)]
struct Statement {
    /// Brackets that are open, with their lines.
    open: Vec<(char, usize)>,
    /// The first bracket that another one closed over.
    missing: Option<(char, usize)>,
    /// The first bracket that closes nothing.
    stray: Option<(char, usize)>,
    /// The quotes of a text over several lines.
    in_text: Option<&'static str>,
    /// True on a line of a list that is an entry without the bracket before its first key.
    lacks_opening: bool,
    /// True while it is tried what the rest of a line would be.
    is_trial: bool,
    /// The last character that is neither blank nor comment.
    last: char,
}

impl Statement {
    fn is_open(&self) -> bool {
        !self.open.is_empty() || self.in_text.is_some()
    }

    /// What is wrong with its brackets, and where.
    fn fault(&self) -> Option<(usize, String)> {
        // What is still open here never ends.
        let missing = self.missing.or_else(|| self.open.last().copied());
        match (missing, self.stray) {
            _ if self.in_text.is_some() => None,
            (None, None) => None,
            (Some((open, line)), None) => {
                Some((line, format!("this `{open}` is never closed; write `{}`", closing(open))))
            }
            (None, Some((close, line))) => Some((line, format!("this `{close}` closes nothing"))),
            (Some(_), Some((_, line))) => Some((line, "the brackets here do not fit each other".into())),
        }
    }

    /// True when a line can only be the beginning of something else.
    fn is_interrupted_by(&self, line: &str, schema: &Schema) -> bool {
        if self.in_text.is_some() {
            return false;
        }
        let name = line.trim().trim_start_matches('[');
        let name = name.split(']').next().unwrap_or_default().trim();
        if line.trim_start().starts_with('[') && properties(schema).any(|(known, _)| known == name) {
            return true;
        }
        let begins = key(line).is_some();
        match self.open.last() {
            // A line that closes more than it opens is an entry without its bracket.
            Some(('[', _)) => begins && !closes_more(line),
            // Entries of a table over several lines have commas between them.
            Some(_) => begins && !matches!(self.last, ',' | '{'),
            None => false,
        }
    }

    fn line(&mut self, line: &str, number: usize) {
        self.lacks_opening = matches!(self.open.last(), Some(('[', _))) && key(line).is_some();
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            if let Some(quotes) = self.in_text {
                let Some(end) = rest.find(quotes) else { return };
                rest = &rest[end + quotes.len()..];
                (self.in_text, self.last) = (None, '"');
                continue;
            }
            rest = match c {
                '#' => return,
                '"' | '\'' => match long_text(rest) {
                    Some(quotes) => {
                        self.in_text = Some(quotes);
                        &rest[quotes.len()..]
                    }
                    // A text that does not end on its line is told by the parser.
                    None => &rest[short_text(rest)..],
                },
                _ => &rest[c.len_utf8()..],
            };
            match c {
                '{' if matches!((self.open.last(), self.last), (Some(('{', _)), ',')) => {
                    self.close_over();
                    self.open.push(('{', number));
                }
                '[' | '{' => self.open.push((c, number)),
                ']' | '}' if self.is_closed_by(c, rest, number) => {
                    while self.open.last().is_some_and(|(open, _)| closing(*open) != c) {
                        self.close_over();
                    }
                    self.open.pop();
                }
                ']' | '}' => self.stray = self.stray.or(Some((c, number))),
                _ => {}
            }
            if !c.is_whitespace() {
                self.last = c;
            }
        }
    }

    /// True when a bracket closes one that is open. Where that would close over one of this line, the rest of the line decides: if
    /// it is balanced without this bracket, this one is the one too many.
    fn is_closed_by(&self, bracket: char, rest: &str, number: usize) -> bool {
        let Some(place) = self.open.iter().rposition(|(open, _)| closing(*open) == bracket) else {
            return false;
        };
        if place + 1 == self.open.len() || self.is_trial {
            return true;
        }
        if self.lacks_opening && self.open[place].1 < number {
            return false;
        }
        if self.open.last().is_some_and(|(_, line)| *line < number) {
            return true;
        }
        let before = self.open.iter().filter(|(_, line)| *line < number).count();
        let mut trial = Statement { open: self.open.clone(), is_trial: true, ..Statement::default() };
        trial.line(rest, number);
        trial.stray.is_some() || trial.missing.is_some() || trial.open.len() != before
    }

    fn close_over(&mut self) {
        let open = self.open.pop();
        self.missing = self.missing.or(open);
    }
}

/// True when a line by itself has a bracket that closes nothing.
fn closes_more(line: &str) -> bool {
    let mut alone = Statement::default();
    alone.line(line, 0);
    alone.stray.is_some()
}

fn closing(bracket: char) -> char {
    if bracket == '[' { ']' } else { '}' }
}

/// The quotes of a text that may go over several lines.
fn long_text(rest: &str) -> Option<&'static str> {
    [r#"""""#, "'''"].into_iter().find(|quotes| rest.starts_with(quotes))
}

/// The length of a text on one line, with its quotes.
fn short_text(rest: &str) -> usize {
    let quote = rest.as_bytes()[0];
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quote == b'"' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The header of a table with a bracket too few or too many, as it must be.
fn header(line: &str, number: usize, schema: &Schema) -> Option<(String, BracketFault)> {
    let bare = line.split('#').next()?.trim();
    if !bare.starts_with('[') && !bare.ends_with(']') {
        return None;
    }
    let name = bare.trim_start_matches('[').trim_end_matches(']').trim();
    let (_, property) = properties(schema).find(|(known, _)| *known == name)?;
    let of = |wanted: &str| property.get("type").and_then(Schema::as_str) == Some(wanted);
    let wanted = if of("array") { format!("[[{name}]]") } else { format!("[{name}]") };
    let opened = bare.len() - bare.trim_start_matches('[').len();
    let closed = bare.len() - bare.trim_end_matches(']').len();
    // With equal numbers it is a table, if not the right one, which is told elsewhere.
    if opened == closed && opened <= 2 {
        return None;
    }
    let text = format!("brackets are missing or too many here; write {wanted}");
    Some((wanted, BracketFault { line: number, key_line: number, text }))
}

fn properties(schema: &Schema) -> impl Iterator<Item = (&String, &Schema)> {
    schema.get("properties").and_then(Schema::as_object).into_iter().flatten()
}

/// A key with nothing in it.
pub(super) fn empty(key: &str) -> String {
    format!("{key} = ''")
}

/// The bare key at the start of a line.
pub(super) fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    Some(key.trim()).filter(|key| !key.is_empty() && key.chars().all(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        let closed = close(text, &crate::config::schema());
        assert_eq!(closed.text.matches('\n').count(), text.matches('\n').count(), "lines keep their numbers");
        closed.faults.into_iter().map(|fault| (fault.line, fault.text)).collect()
    }

    #[test]
    fn a_bracket_that_is_missing_is_told_where_it_was_opened() {
        for (text, line, bracket) in [
            ("a = [\"x\"\nb = 1\nc = 2\n", 1, '['),
            ("a = [\"x\"\n[limits]\n", 1, '['),
            ("a = [\"x\"\n", 1, '['),
            ("a = { b = \"x\", c = \"y\"\nd = 1\n", 1, '{'),
            ("a = [{ b = [\"x\" }]\nd = 1\n", 1, '['),
            ("a = [\n  { b = \"x\",\n  { b = \"y\" },\n]\nd = 1\n", 2, '{'),
            ("a = [\n  { b = \"x\" },\n  { b = \"y\" \n]\nd = 1\n", 3, '{'),
            ("a = [\n  { b = \"x\" },\n  { b = \"y\" },\n\nd = 1\n", 1, '['),
        ] {
            let told = lines(text);
            let wanted = format!("this `{bracket}` is never closed");
            assert!(told.len() == 1 && told[0].0 == line && told[0].1.starts_with(&wanted), "{text}{told:?}");
        }
        for (text, line) in [
            ("a = [\n  b = \"x\" },\n  { b = \"y\" },\n]\nd = 1\n", 2),
            ("a = [{ b = \"x\"] }]\nd = 1\n", 1),
            ("a = { g = [\n  { b = \"x\"] },\n  { b = \"y\" },\n] }\nd = 1\n", 2),
            ("a = { g = [\n  b = \"x\" },\n  { b = \"y\" },\n] }\nd = 1\n", 2),
            ("a = \"x\"]\nd = 1\n", 1),
        ] {
            let told = lines(text);
            assert!(told.len() == 1 && told[0].0 == line, "{text}{told:?}");
        }
    }

    #[test]
    fn headers_are_read_as_what_they_must_be() {
        for header in
            ["[[listener]", "[listener]]", "[[listener", "listener]]", "[[[listener]]", "[[listener] # x"]
        {
            let closed = close(header, &crate::config::schema());
            assert_eq!((closed.text.as_str(), closed.faults.len()), ("[[listener]]", 1), "{header}");
        }
        assert_eq!(close("[secrets", &crate::config::schema()).text, "[secrets]");
    }

    #[test]
    fn what_is_whole_stays_as_it_is() {
        for text in [
            "a = [\n  1,\n  2, # ]\n]\nb = { c = 1 }\n",
            "a = \"[\"\nb = '{'\nc = \"\\\"[\"\n",
            "a = \"\"\"\n[ {\n\"\"\"\nb = 1\n",
            "a = {\n  b = 1,\n  c = 2,\n}\n",
            "[[listener]]\naddress = \"[::]:443\"\n[limits]\n",
            "a = [ [1], [2] ]\n",
            "# [[listener]\n",
        ] {
            let closed = close(text, &crate::config::schema());
            assert_eq!((closed.text.as_str(), closed.faults.len()), (text, 0));
        }
    }
}
