//! Who speaks: a token ([`oidc`]) found in a [`slots`] of the request, or a client [`certificate`].

pub mod certificate;
pub mod oidc;
mod provider;
pub mod signals;
pub mod slots;
pub mod subject;

pub use oidc::cache;
pub use provider::{Identification, IdentityProvider, Refused};
