//! OIDC tokens. (interface being filled in)
/// All configured issuers.
pub struct Issuers {}
