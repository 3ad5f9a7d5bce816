//! Bytes that are collected up to a limit and counted beyond it.

use super::{Item, Limits};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A body, message or value.
#[derive(Debug, Default)]
pub(super) struct Body {
    kept: Vec<u8>,
    total: u64,
    limit: usize,
}

impl Body {
    pub(super) fn new(limits: Limits) -> Self {
        Body { kept: Vec::new(), total: 0, limit: limits.body }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.limit.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
    }

    /// What was kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn is_cut(&self) -> bool {
        self.total > self.kept.len() as u64
    }

    /// Adds `<name>_bytes`, and `<name>_cut` where not all of it was kept.
    pub(super) fn describe(&self, mut item: Item, name: &str) -> Item {
        item = item.with(&format!("{name}_bytes"), self.total);
        match self.is_cut() {
            true => item.with(&format!("{name}_cut"), true),
            false => item,
        }
    }
}

/// Bytes as text where they are text, else in base64.
pub(super) fn value(bytes: &[u8]) -> Value {
    match text(bytes) {
        Some(text) => text.into(),
        None => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// Text, if the bytes are UTF-8 without control characters but white space. A character that the limit cut counts.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    (!text.contains(is_control)).then_some(text)
}
