//! Certificates from ACME authorities (RFC 8555): ordered, renewed and swapped while sessions go on.
//!
//! ```text
//!   config ──▶ Plan ──▶ Manager ── one task per certificate ──▶ order ──▶ Store (state directory)
//!                                        │ challenges                     │ Issued
//!                                        ▼                                ▼
//!   session: acme-tls/1 hello ──▶ Challenges      handshake ──▶ Certificate (resolver)
//! ```
//! Promises: a certificate that was obtained once serves until a better one is there, whatever the authority does; a failed
//! order is repeated after a delay that grows up to days, which a restart does not shorten; nothing here runs on a worker's
//! thread. Limits: account keys and contacts are not rolled over, certificates are not revoked, and OCSP responses are not
//! stapled.

mod account;
mod certificate;
mod challenge;
mod client;
mod fault;
mod hook;
mod http01;
mod manager;
mod order;
mod schedule;
mod settings;
mod store;
mod task;

pub use certificate::{Certificate, Issued, Status};
pub use challenge::{Challenges, TLS_ALPN};
pub use manager::{Manager, Plan};
pub use settings::{Authority, BUILT_IN, ChallengeKind, Eab, Name, Settings, built_in};
pub use store::Store;
