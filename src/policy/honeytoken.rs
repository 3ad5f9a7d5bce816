//! Honeytokens: identities and tokens that have no honest use. Pure.

use super::Identity;
use std::sync::Arc;

/// A honeytoken. All fields that are given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Honeytoken {
    /// How the alarm calls it.
    pub name: Arc<str>,
    /// The configured name of the issuer or certificate authority.
    pub issuer: Option<Arc<str>>,
    /// `sub` of the token, or the name taken from the certificate.
    pub subject: Option<Arc<str>>,
    /// SHA-256 of a token, which need not verify.
    pub token_sha256: Option<[u8; 32]>,
    /// The user that a database client names.
    pub database_user: Option<Arc<str>>,
    /// True: its session is refused and cut; false: only an alarm is raised.
    pub cuts: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Honeytokens(pub Vec<Honeytoken>);

impl Honeytokens {
    /// The one that this identity is.
    pub fn by_identity(&self, identity: &Identity) -> Option<&Honeytoken> {
        self.0.iter().find(|one| {
            one.subject.as_deref().is_some_and(|subject| *subject == *identity.subject)
                && one.issuer.as_deref().is_none_or(|issuer| *issuer == *identity.issuer.0)
        })
    }

    /// The one that a token is. Its digest is made only where one is looked for.
    pub fn by_token(&self, digest: impl FnOnce() -> [u8; 32]) -> Option<&Honeytoken> {
        if self.0.iter().all(|one| one.token_sha256.is_none()) {
            return None;
        }
        let digest = digest();
        self.0.iter().find(|one| one.token_sha256 == Some(digest))
    }

    /// The one whose name a database client gives.
    pub fn by_database_user(&self, user: &[u8]) -> Option<&Honeytoken> {
        self.0.iter().find(|one| one.database_user.as_deref().is_some_and(|name| name.as_bytes() == user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;
    use crate::policy::Proof;
    use std::time::SystemTime;

    fn identity(issuer: &str, subject: &str) -> Identity {
        Identity {
            issuer: IssuerName(issuer.into()),
            subject: subject.into(),
            groups: vec![],
            claims: Default::default(),
            proof: Proof::Token,
            expires: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_is_found_by_what_it_is_and_by_nothing_else() {
        let subject = Honeytoken {
            name: "old".into(),
            issuer: Some("corp".into()),
            subject: Some("svc_backup".into()),
            ..Honeytoken::default()
        };
        let token = Honeytoken { name: "wiki".into(), token_sha256: Some([7; 32]), ..Honeytoken::default() };
        let user =
            Honeytoken { name: "user".into(), database_user: Some("root".into()), ..Honeytoken::default() };
        let all = Honeytokens(vec![subject, token, user]);
        let name = |found: Option<&Honeytoken>| found.map(|one| one.name.to_string());
        assert_eq!(name(all.by_identity(&identity("corp", "svc_backup"))).as_deref(), Some("old"));
        for (issuer, subject) in [("other", "svc_backup"), ("corp", "svc_backup2"), ("corp", "")] {
            assert_eq!(name(all.by_identity(&identity(issuer, subject))), None);
        }
        assert_eq!(name(all.by_token(|| [7; 32])).as_deref(), Some("wiki"));
        assert_eq!(name(all.by_token(|| [8; 32])), None);
        assert_eq!(name(all.by_database_user(b"root")).as_deref(), Some("user"));
        assert_eq!(name(all.by_database_user(b"")), None);
        assert!(Honeytokens::default().by_token(|| unreachable!("nothing is looked for")).is_none());
    }
}
