//! Where a request may carry its token. The slot is always taken out before the upstream.
//!
//! Finds, and does not verify. A value that is no token (another scheme, other characters) is not found; the
//! field that holds it is taken out nevertheless when its slot is configured.

use crate::protocol::Fields;
use std::borrow::Cow;

/// A place for a token in a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// `Authorization: Bearer <token>` (RFC 6750), also gRPC metadata.
    Bearer,
    /// `Authorization: token <token>`, as Jupyter clients send it.
    Token,
    /// `X-Api-Key: <token>`, as Anthropic clients send it.
    XApiKey,
    /// `api-key: <token>`, as Azure OpenAI clients send it.
    ApiKey,
}

impl Slot {
    /// The field that holds this slot, in lower case.
    pub fn field(self) -> &'static str {
        match self {
            Slot::Bearer | Slot::Token => "authorization",
            Slot::XApiKey => "x-api-key",
            Slot::ApiKey => "api-key",
        }
    }

    fn token(self, value: &[u8]) -> Option<&[u8]> {
        let token = match self {
            Slot::Bearer => after_scheme(b"bearer ", value)?,
            Slot::Token => after_scheme(b"token ", value)?,
            Slot::XApiKey | Slot::ApiKey => value,
        };
        is_token68(token).then_some(token)
    }
}

/// The token in `Bearer <token>`, where that is what a value is.
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    Slot::Bearer.token(value)
}

/// What the configured slots of one request hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// No token.
    None,
    /// One token, perhaps more than once.
    One {
        /// The token, without its scheme.
        token: &'a [u8],
        /// The first slot that held it.
        slot: Slot,
    },
    /// Two different tokens, or one field twice, be it with the same value: these fields are no lists (RFC 9110 section 5.3),
    /// and which line counts must not be guessed, since the gateway and whoever stands behind it could guess differently.
    Two,
}

impl std::fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Found::None => f.write_str("None"),
            Found::One { slot, .. } => write!(f, "One({slot:?})"),
            Found::Two => f.write_str("Two"),
        }
    }
}

/// Reads the slots that a route is configured with; all others are not looked at.
pub fn find<'a>(slots: &[Slot], fields: &'a Fields) -> Found<'a> {
    let mut found = Found::None;
    for &name in strip_names(slots).iter() {
        let mut values =
            fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v);
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Found::Two;
        }
        let read = slots.iter().filter(|s| s.field() == name).find_map(|s| Some((*s, s.token(value)?)));
        match (read, found) {
            (Some((slot, token)), Found::None) => found = Found::One { token, slot },
            (Some((_, token)), Found::One { token: first, .. }) if token != first => return Found::Two,
            _ => {}
        }
    }
    found
}

/// Says what stood in the place of a token, where [`find`] found none: the form, never a value.
pub fn explain_missing(slots: &[Slot], fields: &Fields) -> Cow<'static, str> {
    let reads = |name: &str| slots.iter().any(|slot| slot.field() == name);
    let what: Cow<'static, str> = match fields.get("authorization") {
        Some(value) if reads("authorization") => match scheme_of(value) {
            Scheme::None => "Authorization has no scheme before its value".into(),
            Scheme::Read(scheme) => format!("no token stands behind {scheme} in Authorization").into(),
            Scheme::Known(scheme) => format!("Authorization has the scheme {scheme}").into(),
            Scheme::Unknown => "Authorization has a scheme that carries no token".into(),
        },
        Some(_) => "Authorization is there and no slot of this route".into(),
        None => match OTHER_PLACES.iter().find(|(name, _)| fields.get(name).is_some()) {
            Some((name, shown)) if reads(name) => format!("what stands in {shown} is no token").into(),
            Some((_, shown)) => format!("{shown} is there and no slot of this route").into(),
            None => return NO_TOKEN.into(),
        },
    };
    format!("{NO_TOKEN}: {what}").into()
}

const NO_TOKEN: &str = "no token in any slot of this route";

/// Fields besides `Authorization` in which clients send keys and tokens, as looked for and as shown.
const OTHER_PLACES: [(&str, &str); 6] = [
    ("x-api-key", "X-Api-Key"),
    ("api-key", "api-key"),
    ("x-goog-api-key", "X-Goog-Api-Key"),
    ("proxy-authorization", "Proxy-Authorization"),
    ("x-auth-token", "X-Auth-Token"),
    ("x-access-token", "X-Access-Token"),
];

/// What stands before the credential in `Authorization`.
enum Scheme {
    /// The field is one word, which may be a secret.
    None,
    /// One that slots read.
    Read(&'static str),
    /// One that is registered or common.
    Known(&'static str),
    Unknown,
}

/// Schemes that are shown in the log; any other first word may be a part of a secret.
const KNOWN_SCHEMES: [&str; 14] = [
    "Basic",
    "Token",
    "ApiKey",
    "Api-Key",
    "Key",
    "Digest",
    "Negotiate",
    "NTLM",
    "DPoP",
    "OAuth",
    "AWS4-HMAC-SHA256",
    "GoogleLogin",
    "SharedKey",
    "JWT",
];

fn scheme_of(value: &[u8]) -> Scheme {
    let scheme = value.split(|b| matches!(b, b' ' | b'\t')).next().unwrap_or_default();
    let is = |name: &&str| scheme.eq_ignore_ascii_case(name.as_bytes());
    match KNOWN_SCHEMES.into_iter().find(|name| is(name)) {
        _ if is(&"Bearer") => Scheme::Read("Bearer"),
        Some(name) => Scheme::Known(name),
        None if scheme.len() == value.len() => Scheme::None,
        None => Scheme::Unknown,
    }
}

/// Names of fields, at most one for each field that can hold a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    names: [&'static str; 3],
    len: usize,
}

impl Names {
    fn add(&mut self, name: &'static str) {
        if !self.contains(&name) {
            // There are as many places as there are values of `Slot::field`.
            self.names[self.len] = name;
            self.len += 1;
        }
    }
}

impl std::ops::Deref for Names {
    type Target = [&'static str];
    fn deref(&self) -> &Self::Target {
        &self.names[..self.len]
    }
}

/// The fields that a route with these slots takes out of every request, whatever they hold.
pub fn strip_names(slots: &[Slot]) -> Names {
    let mut names = Names::default();
    slots.iter().for_each(|slot| names.add(slot.field()));
    names
}

/// [`strip_names`], and any other token field that holds `token` too: some clients send one key in two fields, and
/// the upstream must see it in neither.
pub fn strip_names_holding(slots: &[Slot], fields: &Fields, token: &[u8]) -> Names {
    let mut names = strip_names(slots);
    for field in [Slot::Bearer, Slot::XApiKey, Slot::ApiKey].map(Slot::field) {
        // What goes in any case need not be searched: that took a tenth of an HTTP/2 request.
        let goes = token.is_empty() || names.contains(&field);
        if !goes && fields.all(field).any(|value| memchr::memmem::find(value, token).is_some()) {
            names.add(field);
        }
    }
    names
}

/// The rest of `value` after a scheme and its spaces, of which there is one or more (RFC 9110 section 11.4, RFC 6750 section 2.1); schemes
/// compare without case (RFC 9110 section 11.1).
fn after_scheme<'a>(scheme: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (head, mut rest) = value.split_at_checked(scheme.len())?;
    while let [b' ', more @ ..] = rest {
        rest = more;
    }
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// `token68` of RFC 9110 section 11.2. A comma or a space inside would let two credentials pass as one.
fn is_token68(token: &[u8]) -> bool {
    let body = token.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    // Without an early exit the compiler looks at sixteen bytes at a time, and nearly all are tokens to their end.
    let other = |b: u8| !(b.is_ascii_alphanumeric() | matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'));
    body > 0 && !token[..body].iter().fold(false, |found, &b| found | other(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Slot] = &[Slot::Bearer, Slot::Token, Slot::XApiKey, Slot::ApiKey];

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        list.iter().for_each(|(n, v)| fields.push(n.as_bytes(), v.as_bytes()));
        fields
    }

    #[test]
    fn fields_to_what_is_found() {
        const A: &str = "authorization";
        let one = |slot| Found::One { token: b"a.b-c_d", slot };
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [Slot], Found<'a>);
        let table: &[Row<'_>] = &[
            (&[], ALL, Found::None),
            (&[(A, "Bearer a.b-c_d")], ALL, one(Slot::Bearer)),
            (&[("Authorization", "bEARER a.b-c_d")], ALL, one(Slot::Bearer)),
            (&[(A, "token a.b-c_d")], ALL, one(Slot::Token)),
            (&[("X-Api-Key", "a.b-c_d")], ALL, one(Slot::XApiKey)),
            (&[("api-key", "a.b-c_d")], ALL, one(Slot::ApiKey)),
            // A slot that is not configured is not read.
            (&[("api-key", "a.b-c_d")], &[Slot::Bearer], Found::None),
            (&[(A, "token a.b-c_d")], &[Slot::Bearer], Found::None),
            (&[("api-key", "other"), (A, "Bearer a.b-c_d")], &[Slot::Bearer], one(Slot::Bearer)),
            // Not a token.
            (&[(A, "Basic YTpi")], ALL, Found::None),
            (&[(A, "Bearer")], ALL, Found::None),
            (&[(A, "Bearer ")], ALL, Found::None),
            (&[(A, "Bearer ===")], ALL, Found::None),
            // One space or more (RFC 9110 section 11.4), and no tab.
            (&[(A, "Bearer   a.b-c_d")], ALL, one(Slot::Bearer)),
            (&[(A, "token  a.b-c_d")], ALL, one(Slot::Token)),
            (&[(A, "Bearer  ")], ALL, Found::None),
            (&[(A, "Bearer  a  b")], ALL, Found::None),
            (&[(A, "Bearer\ta.b-c_d")], ALL, Found::None),
            (&[(A, "Bearer a b")], ALL, Found::None),
            (&[(A, "Bearer a, Bearer b")], ALL, Found::None),
            (&[(A, "Bearer a=b")], ALL, Found::None),
            (&[(A, "Bearera.b-c_d")], ALL, Found::None),
            (&[("x-api-key", "")], ALL, Found::None),
            // The same token in two fields is one; two different are two, and a field is no list.
            (&[(A, "Bearer a.b-c_d"), (A, "Bearer a.b-c_d")], ALL, Found::Two),
            (&[("x-api-key", "a.b-c_d"), ("X-Api-Key", "a.b-c_d")], ALL, Found::Two),
            (&[("x-api-key", ""), (A, "Bearer a.b-c_d"), ("x-api-key", "")], ALL, Found::Two),
            (
                &[("x-api-key", "a"), (A, "Bearer a.b-c_d"), ("x-api-key", "a")],
                &[Slot::Bearer],
                one(Slot::Bearer),
            ),
            (&[(A, "Bearer a.b-c_d"), ("x-api-key", "a.b-c_d")], ALL, one(Slot::Bearer)),
            (&[(A, "Bearer a"), (A, "Bearer b")], ALL, Found::Two),
            (&[(A, "Bearer a"), (A, "Basic b")], ALL, Found::Two),
            (&[(A, "Basic b"), ("AUTHORIZATION", "Bearer a")], ALL, Found::Two),
            (&[(A, "Bearer a"), ("x-api-key", "b")], ALL, Found::Two),
            (&[("api-key", "a"), ("x-api-key", "b")], ALL, Found::Two),
            (&[("x-api-key", "a"), ("X-API-KEY", "a b")], ALL, Found::Two),
            // Basic credentials beside a key are no second token.
            (&[(A, "Basic YTpi"), ("x-api-key", "a.b-c_d")], ALL, one(Slot::XApiKey)),
        ];
        for (list, slots, expected) in table {
            assert!(find(slots, &fields(list)) == *expected, "{list:?}");
        }
    }

    #[test]
    fn a_configured_slot_is_taken_out_whatever_it_holds_and_others_when_they_hold_the_token() {
        assert_eq!(&*strip_names(&[Slot::Bearer, Slot::Token, Slot::ApiKey]), ["authorization", "api-key"]);
        assert!(strip_names(&[]).is_empty());
        let sent = fields(&[("authorization", "Bearer a.b"), ("X-Api-Key", "a.b"), ("api-key", "mine")]);
        assert_eq!(&*strip_names_holding(&[Slot::Bearer], &sent, b"a.b"), ["authorization", "x-api-key"]);
        assert_eq!(&*strip_names_holding(&[Slot::ApiKey], &sent, b""), ["api-key"]);
    }

    #[test]
    fn what_stood_in_the_place_of_a_token_is_told_by_its_form_alone() {
        const A: &str = "authorization";
        let bearer: &[Slot] = &[Slot::Bearer];
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [Slot], &'a str);
        let table: &[Row<'_>] = &[
            (&[], bearer, ""),
            (&[(A, "Basic canary")], bearer, "Authorization has the scheme Basic"),
            (&[(A, "token canary")], bearer, "Authorization has the scheme Token"),
            (&[(A, "API-KEY canary")], bearer, "Authorization has the scheme Api-Key"),
            (&[(A, "DPoP canary")], bearer, "Authorization has the scheme DPoP"),
            (&[(A, "canary")], bearer, "Authorization has no scheme before its value"),
            (&[(A, "canary canary")], bearer, "Authorization has a scheme that carries no token"),
            (&[(A, "Bearer")], bearer, "no token stands behind Bearer in Authorization"),
            (&[(A, "Bearer can ary")], bearer, "no token stands behind Bearer in Authorization"),
            (&[(A, "Bearer canary")], &[Slot::XApiKey], "Authorization is there and no slot of this route"),
            (&[("x-api-key", "canary")], bearer, "X-Api-Key is there and no slot of this route"),
            (&[("api-key", "can ary")], &[Slot::ApiKey], "what stands in api-key is no token"),
            (
                &[("proxy-authorization", "Bearer canary")],
                bearer,
                "Proxy-Authorization is there and no slot of this route",
            ),
        ];
        for (list, slots, expected) in table {
            assert!(matches!(find(slots, &fields(list)), Found::None), "{list:?}");
            let said = explain_missing(slots, &fields(list));
            let what = said.strip_prefix(NO_TOKEN).unwrap();
            assert_eq!(what.strip_prefix(": ").unwrap_or(what), *expected, "{list:?}");
            assert!(!said.contains("canary") && !said.contains("ary"), "{said}");
        }
    }

    #[test]
    fn debug_of_a_found_token_does_not_show_it() {
        let sent = fields(&[("authorization", "Bearer canary")]);
        assert_eq!(format!("{:?}", find(ALL, &sent)), "One(Bearer)");
    }
}
