//! Stored credentials: what replaces the client's token on the way up.

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
    /// At least one of these groups; empty means no condition.
    pub groups: Vec<Arc<str>>,
    /// One of these subjects; empty means no condition.
    pub subjects: Vec<Arc<str>>,
}

impl Account {
    /// True when everybody who is permitted may have it.
    pub fn is_for_all(&self) -> bool {
        self.groups.is_empty() && self.subjects.is_empty()
    }

    /// True when it is for this identity.
    pub fn is_for(&self, identity: &Identity) -> bool {
        (self.groups.is_empty() || self.groups.iter().any(|group| identity.groups.contains(group)))
            && (self.subjects.is_empty() || self.subjects.contains(&identity.subject))
    }
}
