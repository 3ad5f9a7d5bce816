//! Time-stamps of the log by an authority outside (RFC 3161): that its entries existed when they say.
//!
//! ```text
//!   query     what is asked: the SHA-256 of a checkpoint and a number that is used once
//!   token     what is answered, and whether it holds; pure
//!   stored    both beside the log, with the checkpoint as it was: `openssl ts -verify` reads them as they are
//!   client    asks while the log grows, at most once in an interval; nothing of a session waits for it
//! ```

pub mod client;
pub mod query;
pub mod stored;
#[cfg(test)]
mod tests;
pub mod token;
