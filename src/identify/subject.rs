//! Where in a certificate a subject stands, and patterns for subjects, each with the grammar of its place.
//!
//! A pattern holds for one place only and has a boundary by construction: `*.acme.example` does not fit
//! `evilacme.example`, and `spiffe://corp/ci/*` does not fit `spiffe://corp/ci/../prod`.

/// A place in a certificate where its subject may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectSource {
    /// Subject alternative name of type dNSName, in lower case.
    Dns,
    /// Subject alternative name of type URI, where SPIFFE IDs stand.
    Uri,
    /// Subject alternative name of type rfc822Name.
    Email,
    /// The common name of the subject.
    CommonName,
}

impl SubjectSource {
    /// The word for it in configurations and claims.
    pub fn name(self) -> &'static str {
        match self {
            SubjectSource::Dns => "dns",
            SubjectSource::Uri => "uri",
            SubjectSource::Email => "email",
            SubjectSource::CommonName => "cn",
        }
    }

    /// True when a text has the unambiguous form of a name of this place. Host names are ambiguous.
    pub(super) fn has_form_of(self, text: &str) -> bool {
        match self {
            SubjectSource::Uri => text.contains("://") || text.to_ascii_lowercase().starts_with("urn:"),
            SubjectSource::Email => text.contains('@') && !text.contains("://"),
            SubjectSource::Dns | SubjectSource::CommonName => false,
        }
    }
}

impl std::str::FromStr for SubjectSource {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        use SubjectSource::{CommonName, Dns, Email, Uri};
        [Dns, Uri, Email, CommonName]
            .into_iter()
            .find(|source| source.name() == text)
            .ok_or_else(|| format!("{text:?} is no place for a subject; use dns, uri, email or cn"))
    }
}

/// A pattern for the subjects of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPattern {
    source: SubjectSource,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// `*`: any subject of this place.
    Any,
    /// Exactly this, in the spelling of [`canonical`].
    Exact(String),
    /// `scheme://authority/path/*`: one segment or more below this, which ends in `/`.
    Below(String),
    /// `*.example.com`: one label before this, which begins with a dot.
    Label(String),
    /// `*@example.com`: any mailbox before this, which begins with `@`.
    Mailbox(String),
    /// `ci-*` or `*-ci`, for common names, which have no grammar.
    Text { start: String, end: String },
}

impl SubjectPattern {
    /// Reads a pattern for names of `source`.
    pub fn parse(source: SubjectSource, text: &str) -> Result<Self, String> {
        let form = match (text, text.matches('*').count()) {
            ("", _) => return Err("a pattern that is empty fits nobody".into()),
            ("*", _) => Form::Any,
            (_, 0) => match source {
                SubjectSource::Uri if has_scheme(text) => Form::Exact(canonical(source, text)),
                SubjectSource::Uri => return Err(format!("{text:?} is no URI; {}", advice(source))),
                _ => Form::Exact(canonical(source, text)),
            },
            (_, 1) => Self::wildcard(source, text)
                .ok_or_else(|| format!("{text:?} is no pattern for {}; {}", source.name(), advice(source)))?,
            _ => return Err(format!("{text:?} has more than one *; {}", advice(source))),
        };
        Ok(SubjectPattern { source, form })
    }

    fn wildcard(source: SubjectSource, text: &str) -> Option<Form> {
        match source {
            SubjectSource::Uri => {
                let base = text.strip_suffix("/*").map(|base| canonical(source, base))?;
                let (_, after) = base.split_once("://")?;
                let (authority, path) = after.split_once('/').unwrap_or((after, ""));
                let plain = !authority.is_empty() && (path.is_empty() || is_plain_path(path));
                plain.then(|| Form::Below(format!("{base}/")))
            }
            SubjectSource::Dns => {
                let parent = text.strip_prefix("*.").filter(|parent| !parent.is_empty())?;
                Some(Form::Label(format!(".{}", canonical(source, parent))))
            }
            SubjectSource::Email => {
                let domain = text.strip_prefix("*@").filter(|d| !d.is_empty() && !d.contains('@'))?;
                Some(Form::Mailbox(format!("@{}", domain.to_ascii_lowercase())))
            }
            SubjectSource::CommonName => {
                let (start, end) = text.split_once('*')?;
                (start.is_empty() || end.is_empty())
                    .then(|| Form::Text { start: start.to_owned(), end: end.to_owned() })
            }
        }
    }

    /// True when a subject that stands at `source` fits.
    pub fn matches(&self, source: SubjectSource, subject: &str) -> bool {
        if source != self.source {
            return false;
        }
        let name = canonical(source, subject);
        match &self.form {
            Form::Any => true,
            Form::Exact(exact) => name == *exact,
            Form::Below(base) => name.strip_prefix(base.as_str()).is_some_and(is_plain_path),
            Form::Label(parent) => {
                let label = name.strip_suffix(parent.as_str());
                label.is_some_and(is_plain_label)
            }
            Form::Mailbox(domain) => {
                let mailbox = name.strip_suffix(domain.as_str());
                mailbox.is_some_and(|mailbox| !mailbox.is_empty() && !mailbox.contains('@'))
            }
            Form::Text { start, end } => {
                name.len() > start.len() + end.len()
                    && name.starts_with(start.as_str())
                    && name.ends_with(end.as_str())
            }
        }
    }

    /// Where names of this pattern stand.
    pub fn source(&self) -> SubjectSource {
        self.source
    }

    /// A warning about the pattern, for `check`.
    pub fn doubt(&self) -> Option<&'static str> {
        match &self.form {
            Form::Any => Some("fits every certificate of the authority"),
            Form::Text { start, end } => {
                let open = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                (open(start.chars().next_back()) || open(end.chars().next()))
                    .then_some("has no boundary beside its *, so longer names fit, too")
            }
            Form::Label(host) | Form::Mailbox(host) if !host.is_ascii() => Some(IN_UNICODE),
            Form::Label(host) | Form::Mailbox(host) if host.ends_with('.') => Some(FINAL_DOT),
            Form::Label(parent) if !parent[1..].contains('.') => {
                Some("fits names of everybody below that ending; write the domain that is yours")
            }
            Form::Mailbox(domain) if PUBLIC_MAIL.contains(&&domain[1..]) => {
                Some("fits everybody, as anybody gets an address there; write each one out")
            }
            Form::Exact(text) => match self.source {
                SubjectSource::Uri => {
                    let path = text.split_once("://").and_then(|(_, after)| after.split_once('/'));
                    path.is_some_and(|(_, path)| !path.is_empty() && !is_plain_path(path)).then_some(
                        "has an empty part, `.`, `..` or an escape in its path; write it as certificates have it",
                    )
                }
                SubjectSource::Email => (!text.contains('@')).then_some("has no @, so it fits no address"),
                SubjectSource::Dns if !text.is_ascii() => Some(IN_UNICODE),
                SubjectSource::Dns if text.ends_with('.') => Some(FINAL_DOT),
                SubjectSource::Dns => {
                    let is_other = text.contains(['/', ':', '@', ' ']);
                    is_other
                        .then_some("is no DNS name, so it fits none; uri and email have keys of their own")
                }
                SubjectSource::CommonName => None,
            },
            _ => None,
        }
    }
}

const IN_UNICODE: &str =
    "is in Unicode, and certificates have such hosts as \"xn--…\" (RFC 5280 section 7.2); write that";
const FINAL_DOT: &str = "ends with a dot, which host names in certificates do not have; leave it out";

/// Where anybody gets an address.
const PUBLIC_MAIL: [&str; 9] = [
    "gmail.com",
    "googlemail.com",
    "outlook.com",
    "hotmail.com",
    "live.com",
    "yahoo.com",
    "icloud.com",
    "proton.me",
    "gmx.net",
];

/// The spelling by which names of a place are compared: host names and schemes have no case.
fn canonical(source: SubjectSource, text: &str) -> String {
    match source {
        SubjectSource::Dns => text.to_ascii_lowercase(),
        SubjectSource::Email => match text.rsplit_once('@') {
            Some((mailbox, domain)) => format!("{mailbox}@{}", domain.to_ascii_lowercase()),
            None => text.to_owned(),
        },
        SubjectSource::Uri => {
            let path = text.find("://").map(|at| at + 3).map_or(text.find(':').unwrap_or(0), |after| {
                text[after..].find(['/', '?', '#']).map_or(text.len(), |at| after + at)
            });
            format!("{}{}", text[..path].to_ascii_lowercase(), &text[path..])
        }
        SubjectSource::CommonName => text.to_owned(),
    }
}

fn has_scheme(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
}

/// One label of a host (RFC 5890 section 2.3.1, and `_`): not the `*` of a certificate that is good for many hosts.
fn is_plain_label(label: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !label.is_empty() && label.chars().all(plain)
}

/// Plain path segments: none empty, no dot segments, no percent-encoding (SPIFFE-ID section 2.2), no query.
fn is_plain_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-~!$&'()+,;=:@".contains(c);
    path.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.chars().all(plain))
}

fn advice(source: SubjectSource) -> &'static str {
    match source {
        SubjectSource::Uri => {
            "write for example \"spiffe://corp/ci/*\", with the * as the last part of a path"
        }
        SubjectSource::Dns => "write for example \"*.example.com\", with the * for one label at the start",
        SubjectSource::Email => "write for example \"*@example.com\", with the * for the whole mailbox",
        SubjectSource::CommonName => "write for example \"ci-*\", with one * at the start or end",
    }
}

#[cfg(test)]
mod tests {
    use super::SubjectSource::{CommonName, Dns, Email, Uri};
    use super::*;

    #[test]
    fn patterns_fit_by_the_grammar_of_their_place() {
        for (source, pattern, subject, fits) in [
            (Dns, "a.example", "a.example", true),
            (Dns, "A.Example", "a.example", true),
            (Dns, "a.example", "xa.example", false),
            (Dns, "*.acme.com", "ci.acme.com", true),
            (Dns, "*.acme.com", "evilacme.com", false),
            (Dns, "*.acme.com", "acme.com", false),
            (Dns, "*.acme.com", "a.b.acme.com", false),
            (Dns, "*.acme.com", ".acme.com", false),
            (Dns, "*.acme.com", "ci.acme.com.evil.com", false),
            (Dns, "*.acme.com", "*.acme.com", false),
            (Dns, "*.acme.com", "a/b.acme.com", false),
            (Dns, "*.acme.com", "a@b.acme.com", false),
            (Dns, "*.acme.com", "ci acme.acme.com", false),
            (Dns, "*.acme.com", "ci.acme.com.", false),
            (Dns, "*.acme.com", "m\u{fc}ller.acme.com", false),
            (Dns, "*.acme.com", "xn--mller-kva.acme.com", true),
            (Dns, "*.acme.com", "ci_1.acme.com", true),
            (Dns, "*.acme.com", "CI-1.ACME.COM", true),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci%2fx", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/x%2f..%2f..%2fprod", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a:443/ci/x", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/x\\..\\prod", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/m\u{fc}ller", false),
            (Uri, "spiffe://a/ci/*", "https://a/ci/x", false),
            (Email, "*@acme.com", "\"ann@evil.com\"@acme.com", false),
            (Email, "*@acme.com", "ann@acme.com.", false),
            (Uri, "spiffe://a/*", "spiffe://a/b", true),
            (Uri, "spiffe://a/*", "spiffe://a/b/c", true),
            (Uri, "SPIFFE://A/ci/*", "spiffe://a/ci/x", true),
            (Uri, "spiffe://a/ci/*", "spiffe://a/CI/x", false),
            (Uri, "spiffe://a/*", "spiffe://ab/b", false),
            (Uri, "spiffe://a/*", "spiffe://a/", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/../prod", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/./x", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci//x", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/%2e%2e/prod", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/x?y", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a/ci/x#y", false),
            (Uri, "spiffe://a/ci/*", "spiffe://a@evil/ci/x", false),
            (Uri, "urn:x:y", "urn:x:y", true),
            (Uri, "*", "urn:x:y", true),
            (Email, "*@acme.com", "ann@acme.com", true),
            (Email, "*@acme.com", "ann@ACME.com", true),
            (Email, "*@acme.com", "ann@evilacme.com", false),
            (Email, "*@acme.com", "ann@evil@acme.com", false),
            (Email, "*@acme.com", "@acme.com", false),
            (Email, "ann@acme.com", "Ann@acme.com", false),
            (CommonName, "ci-*", "ci-1", true),
            (CommonName, "ci-*", "ci-", false),
            (CommonName, "*-ci", "a-ci", true),
            (CommonName, "ci", "ci-1", false),
        ] {
            let read = SubjectPattern::parse(source, pattern).unwrap();
            assert_eq!(read.matches(source, subject), fits, "{source:?} {pattern} {subject}");
            for other in [Dns, Uri, Email, CommonName] {
                assert!(other == source || !read.matches(other, subject), "{pattern} in another place");
            }
        }
    }

    #[test]
    fn patterns_without_a_boundary_are_refused_or_doubted() {
        for (source, pattern) in [
            (Dns, "*acme.com"),
            (Dns, "a.*.com"),
            (Dns, "*."),
            (Dns, "*.*.com"),
            (Uri, "spiffe://corp*"),
            (Uri, "spiffe://corp/ci*"),
            (Uri, "*/runner"),
            (Uri, "spiffe:///*"),
            (Uri, "/*"),
            (Uri, "spiffe://corp/../*"),
            (Uri, "runner"),
            (Email, "*acme.com"),
            (Email, "ann@*"),
            (Email, "*@"),
            (CommonName, "a*b"),
            (CommonName, ""),
        ] {
            assert!(SubjectPattern::parse(source, pattern).is_err(), "{source:?} {pattern}");
        }
        let doubt = |source, pattern| SubjectPattern::parse(source, pattern).unwrap().doubt().is_some();
        assert!(doubt(Dns, "*") && doubt(CommonName, "ci*") && doubt(CommonName, "*ci"));
        assert!(
            doubt(Dns, "*.m\u{fc}nchen.example")
                && doubt(Dns, "b\u{fc}ro.example")
                && doubt(Email, "*@b\u{fc}ro.example")
        );
        assert!(doubt(Dns, "*.acme.com.") && doubt(Dns, "ci.acme.com.") && doubt(Uri, "spiffe://a/ci%2fx"));
        assert!(!doubt(CommonName, "ci-*") && !doubt(Dns, "*.acme.com") && !doubt(Uri, "spiffe://a/*"));
    }
}
