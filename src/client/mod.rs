//! The client's side: `staunch login`, `staunch token`, `staunch logout`, `staunch connect`.
//!
//! A person or a program gets a token from its OIDC issuer and keeps it fresh; the gateway is not asked. A *profile*
//! names one login: its settings and its tokens stand in two files that only their owner may read ([`store`]).
//!
//! ```text
//!   login    issuer (discovery) → code | device | grant → store
//!   token    store → still good? → print;  else lock → refresh (grant) → store → print
//!   logout   store → revoke → remove
//!   connect  local port → token → tunnel to a route of the gateway
//! ```
//!
//! Tokens are verified by the gateway, not here. An ID token is read for `nonce`, `iss`, `aud` and `exp` only, and
//! only as it came from the issuer's own token endpoint over verified TLS, which OpenID Connect Core 1.0 section
//! 3.1.3.7 accepts in place of its signature. Issuers are reached over https alone; no proxy is used.

pub mod connect;
pub mod login;
pub mod logout;
pub mod profile;
pub mod revoke;
pub mod store;
pub mod token;
pub mod top;
pub mod whoami;

mod arguments;
mod callback;
mod claims;
mod code;
mod device;
mod fault;
mod grant;
mod issuer;
mod issuer_http;
mod loopback;
pub mod operator;
mod secrets;
mod settings;
mod terminal;
mod token_file;

pub use fault::{Fault, IssuerOffence, Refusal};
pub use issuer::probe as probe_issuer;
pub use profile::Profile;
pub use secrets::Reference;
pub use settings::TokenUse;
pub use token::fresh;

#[cfg(test)]
mod tests;
