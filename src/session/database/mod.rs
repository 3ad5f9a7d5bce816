//! Database sessions: one login (`login`), one traffic ([`traffic`]) with one end (`ending`).
//!
//! PostgreSQL, MySQL and Redis are dialects of it. A dialect knows its protocol's messages and how a refusal or an end is
//! encoded (`login::LoginDialect`, [`dialect::Dialect`]); who is let in, and when a session expires, drains or ends, is
//! decided here, once.

pub mod cancels;
pub mod dialect;
mod ending;
pub(super) mod login;
mod masks;
mod statements;
pub mod traffic;

pub use dialect::{ClosingMessage, Dialect, Grant, Stop, Until};
pub(super) use masks::Masks;
pub(super) use statements::Statements;
pub use traffic::DatabaseTraffic;
