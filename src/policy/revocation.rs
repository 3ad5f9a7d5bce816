//! Revocations: identities refused before their proof expires. Pure: time is an argument.
//!
//! A revocation covers proofs that were issued before it, so that somebody who logs in again gets in; one of a single token
//! or certificate covers that one for good. Where none stands, asking costs one load.

use super::{CLOCK_SKEW, Identity};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What a revocation names. All that is given must fit; one at least is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `sub` of the token, or the name taken from the certificate.
    pub subject: Option<Arc<str>>,
    /// `jti` of the token.
    pub token_id: Option<Arc<str>>,
    /// A group of the identity.
    pub group: Option<Arc<str>>,
    /// Serial number of the client's certificate: lower-case hex without leading zeros.
    pub serial: Option<Arc<str>>,
    /// The configured name of the issuer or certificate authority.
    pub issuer: Option<Arc<str>>,
    /// An e-mail address of the identity, in lower case: `email`, `preferred_username` or `upn` of the token, or its `sub`.
    pub email: Option<Arc<str>>,
    /// The issuer's session: `sid` of the token, or `session_state`.
    pub session_id: Option<Arc<str>>,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whom.
    pub target: Target,
    /// When it was ordered: proofs that were issued later are not meant.
    pub at: SystemTime,
    /// How long it stands.
    pub until: SystemTime,
}

impl Target {
    /// True when nothing is named.
    pub fn is_empty(&self) -> bool {
        *self == Target::default()
    }

    /// True when a single token or certificate is named.
    fn names_single_proof(&self) -> bool {
        self.token_id.is_some() || self.serial.is_some()
    }

    fn fits(&self, identity: &Identity) -> bool {
        let is = |wanted: &Option<Arc<str>>, found: &str| wanted.as_deref().is_none_or(|one| one == found);
        let has = |wanted: &Option<Arc<str>>, claim| {
            wanted.as_deref().is_none_or(|one| identity.claims.has(claim, one))
        };
        is(&self.issuer, &identity.issuer.0)
            && is(&self.subject, &identity.subject)
            && self.group.as_ref().is_none_or(|group| identity.groups.contains(group))
            && has(&self.token_id, TOKEN_ID)
            && has(&self.serial, SERIAL)
            && self.email.as_ref().is_none_or(|email| emails(identity).any(|one| one == **email))
            && self.session_id.as_deref().is_none_or(|id| session_ids(identity).any(|one| one == id))
    }

    /// The rarest of what it names, under which it is looked up.
    fn key(&self) -> Option<Key> {
        let named = [
            (Kind::TokenId, &self.token_id),
            (Kind::Serial, &self.serial),
            (Kind::SessionId, &self.session_id),
            (Kind::Email, &self.email),
            (Kind::Subject, &self.subject),
            (Kind::Group, &self.group),
            (Kind::Issuer, &self.issuer),
        ];
        named.into_iter().find_map(|(kind, name)| Some((kind, name.clone()?)))
    }
}

/// Claims in which issuers tell e-mail addresses.
const EMAILS: [&str; 3] = ["email", "preferred_username", "upn"];
/// Claims in which issuers tell their own session.
const SESSION_IDS: [&str; 2] = ["sid", "session_state"];

/// The e-mail addresses of an identity, in lower case. A name without `@` is none.
fn emails(identity: &Identity) -> impl Iterator<Item = String> {
    let claims = EMAILS.into_iter().flat_map(|claim| identity.claims.values(claim));
    let all = claims.chain([&*identity.subject]).filter(|text| text.contains('@'));
    all.map(str::to_lowercase)
}

fn session_ids(identity: &Identity) -> impl Iterator<Item = &str> {
    SESSION_IDS.into_iter().flat_map(|claim| identity.claims.values(claim))
}

/// Claims of an identity by which a single proof is named, and when it was issued.
const TOKEN_ID: &str = "jti";
/// As [`Target::serial`].
pub const SERIAL: &str = "serial";
/// Seconds since 1970. A certificate is issued at its notBefore.
pub const ISSUED: &str = "iat";

impl Revocation {
    /// True when this identity is shut out.
    pub fn covers(&self, identity: &Identity) -> bool {
        self.target.fits(identity) && (self.target.names_single_proof() || !self.is_newer(identity))
    }

    /// A proof without a time of issue counts as old; one that was issued a moment later may be of a clock that is ahead.
    fn is_newer(&self, identity: &Identity) -> bool {
        let issued = identity.claims.values(ISSUED).next().and_then(|text| text.parse::<f64>().ok());
        let issued = issued.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        issued.is_some_and(|since| SystemTime::UNIX_EPOCH + since > self.at + CLOCK_SKEW)
    }
}

/// Capacity for revocations in force.
pub const MAX_REVOCATIONS: usize = 100_000;

/// Age at which a revocation makes room for others where all room is taken: few proofs live longer.
const OLD: Duration = Duration::from_secs(30 * 86_400);

/// There is no room for another revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_REVOCATIONS} revocations stand; revoke by group or issuer, or remove keys at the issuer")]
pub struct TooMany;

/// Revocations in force.
#[derive(Debug, Default)]
pub struct Revocations {
    /// Goes up with each that is added; 0: there was none.
    generation: AtomicU64,
    table: RwLock<Table>,
}

type Key = (Kind, Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    TokenId,
    Serial,
    SessionId,
    Email,
    Subject,
    Group,
    Issuer,
}

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<Key, Vec<Revocation>>,
    count: usize,
}

impl Revocations {
    /// Adds one. Whoever asks afterwards is told.
    pub fn add(&self, revocation: Revocation, now: SystemTime) -> Result<(), TooMany> {
        let Some(key) = revocation.target.key() else { return Ok(()) };
        let mut table = self.table.write();
        if table.count >= MAX_REVOCATIONS {
            table.make_room(now);
        }
        if table.count >= MAX_REVOCATIONS {
            return Err(TooMany);
        }
        let list = table.by_key.entry(key).or_default();
        match list.iter_mut().find(|known| known.target == revocation.target) {
            Some(known) => {
                known.at = known.at.max(revocation.at);
                known.until = known.until.max(revocation.until);
            }
            None => {
                list.push(revocation);
                table.count += 1;
            }
        }
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Takes the one of this target back. False: there is none.
    ///
    /// Sessions need not look: none that is live is meant by it any more.
    pub fn withdraw(&self, target: &Target) -> bool {
        let mut table = self.table.write();
        let before = table.count;
        table.retain(|one| one.target != *target);
        table.count < before
    }

    /// Another number whenever one was added.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// True when this identity is shut out at the time `now()`, which is asked only where anybody is.
    pub fn cover(&self, identity: &Identity, now: impl FnOnce() -> SystemTime) -> bool {
        self.generation() != 0 && self.table.read().cover(identity, now())
    }

    /// All that stand at `now`, the youngest first.
    pub fn list(&self, now: SystemTime) -> Vec<Revocation> {
        let table = self.table.read();
        let mut all: Vec<_> =
            table.by_key.values().flatten().filter(|one| one.until > now).cloned().collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.at));
        all
    }
}

impl Table {
    fn cover(&self, identity: &Identity, now: SystemTime) -> bool {
        let claims = |claim| identity.claims.values(claim).map(Arc::from);
        let keys = claims(TOKEN_ID)
            .map(|id| (Kind::TokenId, id))
            .chain(claims(SERIAL).map(|serial| (Kind::Serial, serial)))
            .chain(session_ids(identity).map(|id| (Kind::SessionId, id.into())))
            .chain(emails(identity).map(|email| (Kind::Email, email.into())))
            .chain([(Kind::Subject, identity.subject.clone()), (Kind::Issuer, identity.issuer.0.clone())])
            .chain(identity.groups.iter().map(|group| (Kind::Group, group.clone())));
        keys.filter_map(|key| self.by_key.get(&key))
            .flatten()
            .any(|one| one.until > now && one.covers(identity))
    }

    /// Forgets those that ended, and where that is not enough, those that are [`OLD`].
    fn make_room(&mut self, now: SystemTime) {
        self.retain(|one| one.until > now);
        if self.count >= MAX_REVOCATIONS {
            self.retain(|one| one.at + OLD > now);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Revocation) -> bool) {
        self.by_key.retain(|_, list| {
            list.retain(&keep);
            !list.is_empty()
        });
        self.count = self.by_key.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;
    use crate::policy::Proof;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn ann(issued: Option<u64>) -> Identity {
        let issued = issued.map(|seconds| (Arc::from(ISSUED), Arc::from(seconds.to_string())));
        let named = [("jti", "t-1"), ("serial", "2a"), ("email", "Ann@Corp.test"), ("sid", "s-1")]
            .map(|(name, value)| (name.into(), value.into()));
        Identity {
            issuer: IssuerName("corp".into()),
            subject: "ann".into(),
            groups: vec!["ml".into(), "ops".into()],
            claims: named.into_iter().chain(issued).collect(),
            proof: Proof::Token,
            expires: at(5_000),
        }
    }

    fn target(named: &[(&str, &str)]) -> Target {
        let get = |name| named.iter().find(|(n, _)| *n == name).map(|(_, value)| Arc::from(*value));
        Target {
            subject: get("subject"),
            token_id: get("token_id"),
            group: get("group"),
            serial: get("serial"),
            issuer: get("issuer"),
            email: get("email"),
            session_id: get("session_id"),
        }
    }

    fn covered(named: &[(&str, &str)], identity: &Identity, now: u64) -> bool {
        let all = Revocations::default();
        all.add(Revocation { target: target(named), at: at(1_000), until: at(2_000) }, at(1_000)).unwrap();
        all.cover(identity, || at(now))
    }

    #[test]
    fn all_that_is_named_must_fit_and_nothing_named_covers_nobody() {
        let ann = ann(Some(900));
        for (named, fits) in [
            (&[("subject", "ann")][..], true),
            (&[("subject", "anna")], false),
            (&[("token_id", "t-1")], true),
            (&[("token_id", "t-2")], false),
            (&[("group", "ops")], true),
            (&[("group", "op")], false),
            (&[("serial", "2a")], true),
            (&[("email", "ann@corp.test")], true),
            (&[("email", "bob@corp.test")], false),
            (&[("session_id", "s-1")], true),
            (&[("session_id", "s-2"), ("subject", "ann")], false),
            (&[("issuer", "corp")], true),
            (&[("issuer", "corp"), ("subject", "ann")], true),
            (&[("issuer", "other"), ("subject", "ann")], false),
            (&[("group", "ml"), ("subject", "bob")], false),
            (&[("token_id", "t-1"), ("subject", "bob")], false),
            (&[], false),
        ] {
            assert_eq!(covered(named, &ann, 1_500), fits, "{named:?}");
        }
    }

    #[test]
    fn who_logs_in_again_gets_in_but_not_with_the_same_token() {
        for (issued, subject, token) in [
            (None, true, true),
            (Some(1_000), true, true),
            (Some(1_030), true, true),
            (Some(1_031), false, true),
        ] {
            let ann = ann(issued);
            assert_eq!(covered(&[("subject", "ann")], &ann, 1_500), subject, "{issued:?}");
            assert_eq!(covered(&[("token_id", "t-1")], &ann, 1_500), token, "{issued:?}");
        }
    }

    #[test]
    fn a_revocation_ends_when_it_says_and_the_later_of_two_counts() {
        let ann = ann(Some(900));
        assert!(covered(&[("subject", "ann")], &ann, 1_999));
        assert!(!covered(&[("subject", "ann")], &ann, 2_000));
        let all = Revocations::default();
        for until in [3_000, 2_000] {
            let one = Revocation { target: target(&[("subject", "ann")]), at: at(1_000), until: at(until) };
            all.add(one, at(1_000)).unwrap();
        }
        assert!(all.cover(&ann, || at(2_500)) && all.list(at(2_500)).len() == 1);
        assert!(all.list(at(3_000)).is_empty());
    }

    #[test]
    fn without_any_the_clock_is_not_even_asked() {
        assert!(!Revocations::default().cover(&ann(None), || unreachable!("nobody is revoked")));
    }

    #[test]
    fn there_is_room_for_many_and_those_that_ended_make_room() {
        let all = Revocations::default();
        let one = |n: usize, until| Revocation {
            target: Target { token_id: Some(n.to_string().into()), ..Target::default() },
            at: at(0),
            until: at(until),
        };
        for n in 0..MAX_REVOCATIONS {
            all.add(one(n, if n == 0 { 10 } else { 100 }), at(0)).unwrap();
        }
        assert_eq!(all.add(one(MAX_REVOCATIONS, 100), at(5)), Err(TooMany));
        assert_eq!(all.add(one(MAX_REVOCATIONS, 100), at(50)), Ok(()));
        // Those that stand make room when proofs that they cover have most probably expired.
        let all = Revocations::default();
        let late = OLD.as_secs() + 1;
        (0..MAX_REVOCATIONS).for_each(|n| all.add(one(n, late * 2), at(0)).unwrap());
        assert_eq!(all.add(one(MAX_REVOCATIONS, late * 2), at(late - 2)), Err(TooMany));
        assert_eq!(all.add(one(MAX_REVOCATIONS, late * 2), at(late)), Ok(()));
        assert_eq!(all.list(at(late)).len(), 1);
    }
}
