//! Bytes as they are.

use super::body::{Body, text, value};
use super::{Decoder, Item, Limits, TranscriptFault};
use crate::recording::format::frame::Plane;

/// Shows each piece by itself.
pub(super) struct Raw(pub(super) Limits);

impl Decoder for Raw {
    fn take(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), TranscriptFault> {
        let mut body = Body::new(self.0);
        body.push(bytes);
        let item = body.describe(Item::new(time, Some(plane), "bytes"), "body");
        items.push(match text(bytes).filter(|text| text.len() == bytes.len()) {
            Some(_) => item.with("text", text(body.kept()).unwrap_or_default()),
            None => item.with("body", value(body.kept())),
        });
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<Item>) {}
}
