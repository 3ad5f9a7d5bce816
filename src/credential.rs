//! Stored credentials, which replace the client's token on requests to the upstream.

use crate::names::IssuerName;
use crate::policy::Identity;
use crate::secret::Secret;
use std::sync::Arc;

/// A header that the gateway sets on every permitted request, the client's own of that name taken out.
///
/// The value was made from its template (`Bearer {secret:openai-key}`) when the configuration was loaded, so the
/// data path neither reads files nor formats text. Rotation is a reload.
#[derive(Clone, Debug)]
pub struct HeaderInjection {
    /// Field name, lower case.
    pub name: Box<str>,
    /// Field value, complete.
    pub value: Arc<Secret>,
}

/// An account of a database, and whose it is.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user that the upstream knows.
    pub user: Box<str>,
    /// Its password; `None` where the gateway's certificate proves it.
    pub password: Option<Arc<Secret>>,
    /// Whose identities it is for; `None` means no condition.
    pub issuer: Option<IssuerName>,
    /// At least one of these groups; empty means no condition.
    pub groups: Vec<Arc<str>>,
    /// One of these subjects; empty means no condition.
    pub subjects: Vec<Arc<str>>,
}

impl Account {
    /// True when everybody who is permitted may have it.
    pub fn is_for_all(&self) -> bool {
        self.issuer.is_none() && self.groups.is_empty() && self.subjects.is_empty()
    }

    /// True when it is for this identity.
    pub fn is_for(&self, identity: &Identity) -> bool {
        self.issuer.as_ref().is_none_or(|issuer| *issuer == identity.issuer)
            && (self.groups.is_empty() || self.groups.iter().any(|group| identity.groups.contains(group)))
            && (self.subjects.is_empty() || self.subjects.contains(&identity.subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Proof;
    use std::time::SystemTime;

    #[test]
    fn an_account_is_for_whom_all_its_conditions_name() {
        let ann = Identity {
            issuer: IssuerName("corp".into()),
            subject: "ann".into(),
            groups: vec!["dba".into(), "ops".into()],
            claims: Default::default(),
            proof: Proof::Token,
            expires: SystemTime::UNIX_EPOCH,
        };
        let account = |issuer: Option<&str>, groups: &[&str], subjects: &[&str]| Account {
            user: "svc".into(),
            password: None,
            issuer: issuer.map(|name| IssuerName(name.into())),
            groups: groups.iter().map(|one| Arc::from(*one)).collect(),
            subjects: subjects.iter().map(|one| Arc::from(*one)).collect(),
        };
        let table = [
            (account(None, &[], &[]), true, true),
            (account(Some("corp"), &[], &[]), true, false),
            (account(Some("partner"), &[], &[]), false, false),
            (account(Some("partner"), &["dba"], &[]), false, false),
            (account(Some("corp"), &["dba"], &["ann"]), true, false),
            (account(None, &["web", "ops"], &[]), true, false),
            (account(None, &["web"], &[]), false, false),
            (account(None, &["dba"], &["bob"]), false, false),
        ];
        for (account, hers, for_all) in table {
            assert_eq!((account.is_for(&ann), account.is_for_all()), (hers, for_all), "{account:?}");
        }
    }
}
