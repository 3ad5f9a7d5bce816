//! Stored credentials: what replaces the client's token on the way up.

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
