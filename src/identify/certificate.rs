//! Client certificates as identities. (interface being filled in)
/// How a client certificate becomes an identity.
pub struct CertificateMapping {}
