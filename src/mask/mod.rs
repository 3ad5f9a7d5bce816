//! Masking: finds values in texts that are still arriving, and overwrites them where they lie, at equal length.
//!
//! Everything here is pure: bytes in, the same bytes out, some of them later. Two stages: anchors ([`Rules`]) are searched in
//! all text; around each, a detector reads forward and comes to a verdict, or asks for more text. Until then nothing passes
//! from its **hold point** on. What stands before that may pass, so a rule overwrites nothing there; each rule says what that is.
//!
//! ```text
//!   4 1 1 1  1 1 | 1 1  1 1 1 1  1 1 1 1        4111 11** **** 1111
//!     may pass   ^ hold point
//! ```
//!
//! A verdict depends on the text alone, never on how it was cut: every split comes to the bytes that the whole would have come
//! to (`tests.rs`, and the fuzz target).

mod blank;
mod coded;
mod credential;
mod cursor;
mod detector;
mod form;
mod frames;
mod grpc;
mod json;
mod keys;
mod lane;
mod literals;
mod magic;
mod marks;
mod numbers;
mod pattern;
mod personal;
mod rests;
mod rules;
mod spans;
mod sse;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod values;
mod wire;

pub use coded::Coding;
pub use credential::MIN_CREDENTIAL;
pub use detector::Detector;
pub use pattern::{MAX_PATTERN, Pattern};
pub use rules::{HoldAction, HoldLimit, MAX_HELD_BYTES, Mode, OWN_CREDENTIAL, Rule, Rules};
pub use spans::Span;
pub use stream::{Format, HoldReason, Holding, Kind, Passed, Stream};
pub use values::{Shape, Value};
