//! What came along when somebody copied a service's key. A key is one word, so nothing here is ever right.

/// What is wrong with a key as it was pasted; `None` where nothing is. Nothing of the key is repeated.
pub(crate) fn fault(key: &str) -> Option<&'static str> {
    let begins = |what: &str| key.get(..what.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(what));
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
            && ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|end| name.ends_with(end))
    };
    let quotes = ['"', '\'', '`', '“', '”', '‘', '’'];
    if key.is_empty() {
        Some("there is nothing in it")
    } else if key.chars().any(char::is_control) {
        Some("it holds control characters, which no header can carry")
    } else if key.starts_with(quotes) || key.ends_with(quotes) {
        Some("quotes stand around it; leave them out")
    } else if begins("bearer ") || begins("basic ") || begins("authorization:") {
        Some("the header's name or scheme stands in front of it, and would be sent twice; leave it out")
    } else if begins("export ") || key.split_once('=').is_some_and(|(name, _)| is_name(name)) {
        Some("a variable's name stands in front of it; leave it out")
    } else if key.contains(char::is_whitespace) {
        Some("there are blanks in it")
    } else if !key.is_ascii() {
        Some("it holds other than ASCII characters; was it copied from a formatted text?")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_along_with_a_key_is_named() {
        for (key, part) in [
            ("", "nothing"),
            ("\"sk-abc\"", "quotes"),
            ("sk-abc'", "quotes"),
            ("“sk-abc”", "quotes"),
            ("Bearer sk-abc", "scheme"),
            ("authorization: Bearer sk-abc", "scheme"),
            ("OPENAI_API_KEY=sk-abc", "variable"),
            ("export OPENAI_API_KEY=sk-abc", "variable"),
            ("sk-abc def", "blanks"),
            ("sk-abc\u{a0}", "blanks"),
            ("sk\u{2011}abc", "ASCII"),
            ("sk-\u{1b}[200~abc", "control"),
        ] {
            assert!(fault(key).is_some_and(|why| why.contains(part)), "{key}: {:?}", fault(key));
        }
        for key in ["sk-abc", "AIzaSy_x-y", "YWJjZGVm==", "QUJD==", "a=b", "key:with/odd+bytes"] {
            assert_eq!(fault(key), None, "{key}");
        }
    }
}
