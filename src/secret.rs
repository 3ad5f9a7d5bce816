//! A secret that cannot be printed, compared by accident or left behind in memory.

use std::fmt;
use zeroize::Zeroizing;

/// Bytes that never reach a log, an error text or `Debug`. Wiped when dropped.
///
/// There is no `PartialEq`, no `Display` and no `Clone`: share it through an `Arc`.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that puts them on the wire.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A URL or an address as a fault shows it, in quotes: without user, password and query, which may be secrets.
pub fn shown_url(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let (account, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    match rest.find(['?', '#']) {
        Some(at) => format!("\"{}{account}{}…\"", scheme.escape_debug(), rest[..=at].escape_debug()),
        None => format!("\"{}{account}{}\"", scheme.escape_debug(), rest.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_a_secret() {
        for (text, shown) in [
            ("https://idp.test/a", "\"https://idp.test/a\""),
            ("https://u:hunter2@idp.test/a", "\"https://…@idp.test/a\""),
            ("https://u:hun/ter2@idp.test", "\"https://…@idp.test\""),
            ("u:hunter2@idp.test:1", "\"…@idp.test:1\""),
            ("https://idp.test/?key=hunter2", "\"https://idp.test/?…\""),
            ("https://idp.test/#hunter2", "\"https://idp.test/#…\""),
            ("https://u@idp.test?a=b@c", "\"https://…@c\""),
            ("a\nb\"", "\"a\\nb\\\"\""),
            ("", "\"\""),
        ] {
            assert_eq!(shown_url(text), shown, "{text}");
        }
    }

    #[test]
    fn debug_prints_nothing_of_the_secret() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.expose(), b"hunter2");
    }
}
