//! What names stand for, and the texts that are kept for them.

use crate::protocol::statement::{Shown, Text};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// Prepared statements that are remembered, and portals; drivers keep about a hundred.
pub const MAX_NAMES: usize = 256;
/// Bytes of texts that are held at once: of prepared statements, and of what waits for its answer.
pub const MAX_HELD: usize = 1 << 20;

pub(super) type Name = Box<[u8]>;

/// A portal.
pub(super) struct Portal {
    pub(super) name: Name,
    pub(super) text: Held,
}

/// A text that counts against [`MAX_HELD`] as long as anything refers to it; `None` where it did not fit, or is not known.
#[derive(Clone, Default)]
pub(super) struct Held(Option<Rc<Counted>>);

struct Counted {
    text: Text,
    held: Rc<Cell<usize>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.set(self.held.get() - self.text.kept().len());
    }
}

impl Held {
    /// The text without its passwords, if there is room beside the bytes that are `held`.
    pub(super) fn of(mut text: Text, held: &Rc<Cell<usize>>) -> Self {
        text.mask_passwords();
        let bytes = held.get() + text.kept().len();
        if bytes > MAX_HELD {
            return Held(None);
        }
        held.set(bytes);
        Held(Some(Rc::new(Counted { text, held: held.clone() })))
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        self.0.as_ref().map_or(Shown::NotHeld, |counted| Shown::Text(&counted.text))
    }
}

/// Remembers what a name stands for, or at least that it is not what it was.
pub(super) fn put<T>(names: &mut HashMap<Name, T>, name: Name, value: T) {
    if names.len() >= MAX_NAMES && !names.contains_key(&name) && !name.is_empty() {
        return;
    }
    names.insert(name, value);
}
