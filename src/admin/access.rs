//! Access to the admin listener: viewers and operators.
//!
//! ```text
//!   Authorization: Bearer …       the configured key                           operate
//!                                 a token of an issuer that the rules name     view or operate
//!   Cookie staunch_admin=…        a login by either                            the same, until it ends
//!   neither, from loopback        where no key and no rule is configured       operate (root, the gateway's own user),
//!                                                                              view (other users of the machine)
//!   neither                       log in first
//! ```
//! Keys and cookies are compared by their digests under a secret of the process, so that the time it takes tells nothing.

use crate::policy::Identity;
use crate::secret::Secret;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Mutex, RwLock};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Role of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    View,
    /// Give orders, too.
    Operate,
}

impl Role {
    /// The word in the configuration and on the page.
    pub fn name(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Operate => "operate",
        }
    }
}

/// A person or program with access.
#[derive(Clone, Debug)]
pub struct Operator {
    /// As in the log: `loopback`, `key`, or the subject at the issuer.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// Their login, which the tokens of their forms belong to.
    pub(super) login: Option<[u8; 32]>,
    /// Whom the issuer says that they are.
    pub(super) identity: Option<Arc<Identity>>,
}

impl Operator {
    /// Access without an issuer's identity.
    fn nameless(name: &str) -> Self {
        Operator { name: name.into(), role: Role::Operate, login: None, identity: None }
    }

    /// Whoever has the key.
    pub(super) fn with_key() -> Self {
        Operator::nameless("key")
    }
}

/// Why access is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessDenied {
    /// Nothing was shown.
    #[error("log in first: send the key as 'Authorization: Bearer …', or open /login in a browser")]
    NoProof,
    /// The key is another.
    #[error("the key is not that of this gateway's [admin] section")]
    BadKey,
    /// The token does not verify.
    #[error(
        "neither the key of this gateway's [admin] section nor a token that verifies; get one with `staunch token`"
    )]
    BadToken,
    /// The token verifies, and no rule names its holder.
    #[error("the token verifies, and no rule of [admin] operate or view names its holder")]
    NotAnOperator,
    /// The identity was revoked.
    #[error("this proof of identity was revoked")]
    Revoked,
    /// The keys of the issuer are not there.
    #[error("the issuer's keys cannot be fetched just now; try again")]
    NoKeys,
    /// The login has ended, or is of another process.
    #[error("the login has expired; log in again at /login")]
    Expired,
}

/// Lifetime of a login.
pub(super) const LOGIN_LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// Logins at a time; the oldest makes room.
const MAX_LOGINS: usize = 1_000;

/// The cookie's name. The prefix keeps it from being set by other hosts and in clear; without TLS, browsers refuse it.
pub(super) fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-staunch_admin" } else { "staunch_admin" }
}

/// The access rules.
pub struct Access {
    proofs: RwLock<Proofs>,
    secret: hmac::Key,
    cookie: &'static str,
    logins: Mutex<HashMap<[u8; 32], Login>>,
}

/// What lets in, besides tokens.
struct Proofs {
    key: Option<Arc<Secret>>,
    /// Somebody at loopback needs no proof.
    is_open: bool,
}

struct Login {
    operator: Operator,
    ends: Instant,
}

impl Access {
    /// `key`: lets in whoever has it. `has_rules`: tokens let in, too. `is_tls`: the listener speaks TLS.
    pub fn new(key: Option<Arc<Secret>>, has_rules: bool, is_tls: bool) -> Self {
        let proofs = RwLock::new(Proofs { is_open: key.is_none() && !has_rules, key });
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system has random numbers, or no TLS would work");
        Access { proofs, secret, cookie: cookie_name(is_tls), logins: Mutex::default() }
    }

    /// Takes what a reload brings. Logins by another key end; those by token are judged at each request.
    pub(super) fn adopt(&self, key: Option<Arc<Secret>>, has_rules: bool) {
        let digest = |key: &Option<Arc<Secret>>| key.as_ref().map(|key| self.digest(key.expose()));
        let mut proofs = self.proofs.write();
        let is_open = key.is_none() && !has_rules;
        if digest(&key) != digest(&proofs.key) || is_open {
            self.logins.lock().retain(|_, login| login.operator.identity.is_some() && !is_open);
        }
        *proofs = Proofs { key, is_open };
    }

    /// True where people log in.
    pub(super) fn has_login(&self) -> bool {
        !self.is_open()
    }

    fn is_open(&self) -> bool {
        self.proofs.read().is_open
    }

    /// Who sends a request. `is_own`: whether a connection from this machine is root's or the gateway's own user's.
    pub(super) fn operator(
        &self,
        headers: &HeaderMap,
        peer: SocketAddr,
        is_own: impl FnOnce() -> bool,
    ) -> Result<Operator, AccessDenied> {
        if headers.contains_key(AUTHORIZATION) {
            return match bearer(headers).is_some_and(|key| self.is_key(key)) {
                true => Ok(Operator::with_key()),
                false => Err(AccessDenied::BadKey),
            };
        }
        match cookie(headers, self.cookie) {
            Some(cookie) => match self.login_of(cookie) {
                Err(AccessDenied::Expired) if self.is_open() => self.nobody(peer, is_own),
                found => found,
            },
            None => self.nobody(peer, is_own),
        }
    }

    fn nobody(&self, peer: SocketAddr, is_own: impl FnOnce() -> bool) -> Result<Operator, AccessDenied> {
        if !self.is_open() || !peer.ip().to_canonical().is_loopback() {
            return Err(AccessDenied::NoProof);
        }
        let role = if is_own() { Role::Operate } else { Role::View };
        Ok(Operator { role, ..Operator::nameless("loopback") })
    }

    fn login_of(&self, cookie: &str) -> Result<Operator, AccessDenied> {
        let id = self.digest(cookie.as_bytes());
        let mut logins = self.logins.lock();
        logins.retain(|_, login| login.ends > Instant::now());
        let login = logins.get(&id).ok_or(AccessDenied::Expired)?;
        Ok(Operator { login: Some(id), ..login.operator.clone() })
    }

    /// True for the configured key.
    pub(super) fn is_key(&self, key: &[u8]) -> bool {
        self.proofs.read().key.as_ref().is_some_and(|known| self.digest(known.expose()) == self.digest(key))
    }

    /// Begins a login, and returns its cookie's value.
    pub(super) fn log_in(&self, operator: Operator, lifetime: Duration) -> String {
        let cookie = random();
        let login = Login { operator, ends: Instant::now() + lifetime.min(LOGIN_LIFETIME) };
        let mut logins = self.logins.lock();
        logins.retain(|_, login| login.ends > Instant::now());
        if logins.len() >= MAX_LOGINS
            && let Some(oldest) = logins.iter().min_by_key(|(_, login)| login.ends).map(|(id, _)| *id)
        {
            logins.remove(&oldest);
        }
        logins.insert(self.digest(cookie.as_bytes()), login);
        cookie
    }

    /// Ends a login.
    pub(super) fn log_out(&self, operator: &Operator) {
        if let Some(id) = operator.login {
            self.logins.lock().remove(&id);
        }
    }

    /// What a form of this operator's carries, which no other page can know.
    pub(super) fn form_token(&self, operator: &Operator) -> String {
        let login = operator.login.unwrap_or_default();
        let bound =
            [b"form\0", operator.role.name().as_bytes(), b"\0", operator.name.as_bytes(), &login].concat();
        URL_SAFE_NO_PAD.encode(self.digest(&bound))
    }

    /// True when a form came from a page of this operator's.
    pub(super) fn is_form_token(&self, operator: &Operator, token: &str) -> bool {
        self.digest(self.form_token(operator).as_bytes()) == self.digest(token.as_bytes())
    }

    /// A text that only this process can derive from `from`, another for each purpose.
    pub(super) fn derive(&self, purpose: &str, from: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.digest(format!("{purpose}\0{from}").as_bytes()))
    }

    fn digest(&self, text: &[u8]) -> [u8; 32] {
        hmac::sign(&self.secret, text).as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }
}

/// The key or token of the one `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (scheme, proof) = all.next()?.as_bytes().split_first_chunk::<7>()?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && all.next().is_none()).then_some(proof)
}

/// 256 random bits as text.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers, or no TLS would work");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|list| list.split(';')).find_map(|one| one.trim().strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:5";
    const REMOTE: &str = "192.0.2.1:5";

    fn access(key: Option<&str>) -> Access {
        Access::new(key.map(|key| Arc::new(Secret::new(key.as_bytes().to_vec()))), false, false)
    }

    fn viewer() -> Operator {
        Operator { name: "ann".into(), role: Role::View, login: None, identity: None }
    }

    fn ask(
        access: &Access,
        peer: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Operator, AccessDenied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        access.operator(&map, peer.parse().unwrap(), || true)
    }

    #[test]
    fn loopback_is_open_only_where_nothing_is_configured() {
        assert_eq!(ask(&access(None), LOCAL, &[]).unwrap().role, Role::Operate);
        assert_eq!(ask(&access(None), "[::ffff:127.0.0.1]:5", &[]).unwrap().role, Role::Operate);
        let neighbour = access(None).operator(&HeaderMap::new(), LOCAL.parse().unwrap(), || false).unwrap();
        assert_eq!((&*neighbour.name, neighbour.role), ("loopback", Role::View));
        assert_eq!(ask(&access(None), REMOTE, &[]).unwrap_err(), AccessDenied::NoProof);
        assert_eq!(ask(&access(Some("k")), LOCAL, &[]).unwrap_err(), AccessDenied::NoProof);
        assert_eq!(ask(&Access::new(None, true, false), LOCAL, &[]).unwrap_err(), AccessDenied::NoProof);
    }

    #[test]
    fn the_key_lets_in_and_nothing_like_it() {
        let access = access(Some("key"));
        let bearer = |text: &str| vec![("authorization", text.to_owned())];
        assert_eq!(&*ask(&access, REMOTE, &bearer("Bearer key")).unwrap().name, "key");
        for bad in ["Bearer ke", "Bearer keyy", "Bearer ", "Bearer", "Basic key", "key", ""] {
            assert_eq!(ask(&access, LOCAL, &bearer(bad)).unwrap_err(), AccessDenied::BadKey, "{bad}");
        }
        let twice = [bearer("Bearer key"), bearer("Bearer key")].concat();
        assert_eq!(ask(&access, LOCAL, &twice).unwrap_err(), AccessDenied::BadKey);
    }

    #[test]
    fn a_login_lasts_until_it_ends_and_has_form_tokens_of_its_own() {
        let access = access(Some("key"));
        let cookie = access.log_in(viewer(), LOGIN_LIFETIME);
        let with = |cookie: &str| vec![("cookie", format!("a=b; staunch_admin={cookie}"))];
        let ann = ask(&access, REMOTE, &with(&cookie)).unwrap();
        assert_eq!((&*ann.name, ann.role), ("ann", Role::View));
        let other = ask(&access, REMOTE, &with(&access.log_in(viewer(), LOGIN_LIFETIME))).unwrap();
        let token = access.form_token(&ann);
        assert!(access.is_form_token(&ann, &token) && !access.is_form_token(&other, &token));
        access.log_out(&ann);
        assert_eq!(ask(&access, REMOTE, &with(&cookie)).unwrap_err(), AccessDenied::Expired);
        let short = access.log_in(viewer(), Duration::ZERO);
        assert_eq!(ask(&access, REMOTE, &with(&short)).unwrap_err(), AccessDenied::Expired);
        assert_eq!(ask(&access, REMOTE, &with("x")).unwrap_err(), AccessDenied::Expired);
    }

    #[test]
    fn a_new_key_ends_logins_by_the_old_one_and_no_others() {
        let key = |text: &str| Some(Arc::new(Secret::new(text.as_bytes().to_vec())));
        let access = access(Some("key"));
        let ann = Identity {
            issuer: crate::names::IssuerName("corp".into()),
            subject: "ann".into(),
            groups: Vec::new(),
            claims: std::iter::empty().collect(),
            proof: crate::policy::Proof::Token,
            expires: std::time::SystemTime::now(),
        };
        let identity = Some(Arc::new(ann));
        let by_key = access.log_in(Operator::with_key(), LOGIN_LIFETIME);
        let by_token = access.log_in(Operator { identity, ..viewer() }, LOGIN_LIFETIME);
        let is_in = |cookie: &str| {
            ask(&access, LOCAL, &[("cookie", format!("staunch_admin={cookie}"))])
                .is_ok_and(|one| one.login.is_some())
        };
        access.adopt(key("key"), true);
        assert!(is_in(&by_key) && is_in(&by_token));
        access.adopt(key("other"), true);
        assert!(!is_in(&by_key) && is_in(&by_token) && access.is_key(b"other") && !access.is_key(b"key"));
        access.adopt(None, false);
        assert!(!is_in(&by_token), "nobody is logged in where nobody needs to be");
        assert_eq!(ask(&access, LOCAL, &[]).unwrap().role, Role::Operate);
    }

    #[test]
    fn forms_of_one_role_are_not_anothers() {
        let access = access(None);
        let (owner, neighbour) =
            (Operator::nameless("loopback"), Operator { role: Role::View, ..Operator::nameless("loopback") });
        assert!(!access.is_form_token(&owner, &access.form_token(&neighbour)));
    }

    #[test]
    fn logins_are_bounded() {
        let access = access(Some("key"));
        (0..MAX_LOGINS + 5).for_each(|_| drop(access.log_in(viewer(), LOGIN_LIFETIME)));
        assert_eq!(access.logins.lock().len(), MAX_LOGINS);
    }
}
