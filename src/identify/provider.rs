//! The `IdentityProvider` trait: one implementation per kind of proof.

use super::oidc::cache::TokenCache;
use crate::policy::Identity;
use crate::protocol::RefusalReason;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

/// A source of identities: it tells from one kind of proof who sent it. A new kind (SAML) is one more file with one more
/// implementation.
///
/// It is asked on the data path: an answer is computed at once, without I/O. What has to be fetched first is handed back
/// as [`Identification::Pending`]: the caller awaits it and asks once more; if the answer is the same again, it refuses
/// with `otherwise`. Nothing in an answer may hold the proof itself.
pub trait IdentityProvider {
    /// Verifies a proof at the time `now`. `cache` is the worker's own.
    fn identify(&self, cache: &mut TokenCache, proof: &[u8], now: SystemTime) -> Identification;
}

/// Result of identification.
pub enum Identification {
    /// Valid until [`Identity::expires`].
    Known(Arc<Identity>),
    /// Refused.
    Refused(Refused),
    /// What is needed to tell is not there yet.
    Pending {
        /// Is over when it has been fetched, or could not be; bounded in time.
        ready: Pin<Box<dyn Future<Output = ()>>>,
        /// The refusal if it did not come.
        otherwise: Refused,
    },
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the client is told.
    pub why: RefusalReason,
    /// What the log says; holds nothing of the proof.
    pub detail: Cow<'static, str>,
}
