//! Witnesses: others that remember how far a log has come, so that it can be neither rolled back nor forked without a trace
//! (c2sp.org/tlog-witness).
//!
//! ```text
//!   memory     this gateway as a witness of other logs: what it has seen of each, on the disk before it is cosigned
//!   client     this gateway's own log: asks its witnesses after new checkpoints; nothing of a session waits for it
//!   cosigned   what they have answered, in `log/witnesses/<key id>`: the checkpoint with the cosignature, the newest of each
//! ```

pub mod client;
pub mod cosigned;
pub mod memory;
#[cfg(test)]
mod tests;
