//! One read buffer per worker, and spare buffers for what must be kept while a peer is waited for.
//!
//! An idle connection holds no buffer: what it has to keep (a record that is not whole, a remainder that was not
//! written) sits in a spare buffer that goes back here as soon as it is empty.

use super::{LARGE_BATCH, MAX_HELD, MAX_LARGE};
use crate::tls::record::MAX_RECORD;
use std::cell::{Cell, RefCell};

/// What a worker lends to the connection that it is just now serving.
pub(super) struct Scratch {
    /// Records are read, opened and sealed here.
    pub(super) read: Box<[u8]>,
    /// Where edited plaintext is put together.
    pub(super) edited: Vec<u8>,
    spares: Vec<Vec<u8>>,
}

/// Spare buffers that are kept; more are given back to the allocator.
const MAX_SPARES: usize = 64;
/// A spare buffer that grew beyond this is not kept.
const MAX_SPARE: usize = 2 * MAX_HELD;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; LARGE_BATCH + MAX_RECORD].into_boxed_slice(),
        edited: Vec::new(),
        spares: Vec::new(),
    });
}

thread_local! {
    static LARGE: Cell<usize> = const { Cell::new(0) };
}

/// A connection's leave to hold more than others, given back when dropped.
pub(super) struct Large(());

impl Large {
    /// Counts a connection that holds a large remainder.
    pub(super) fn hold() -> Self {
        LARGE.set(LARGE.get() + 1);
        Large(())
    }

    /// True while another connection may come to hold one.
    pub(super) fn may() -> bool {
        LARGE.get() < MAX_LARGE
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        LARGE.set(LARGE.get() - 1);
    }
}

/// Lends the worker's buffers for one poll; nothing may wait inside.
pub(super) fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

impl Scratch {
    /// Makes sure that `buffer` has memory before it is filled.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0
            && let Some(spare) = self.spares.pop()
        {
            *buffer = spare;
        }
    }

    /// Takes an empty buffer's memory back.
    pub(super) fn take_back(&mut self, buffer: &mut Vec<u8>) {
        if buffer.is_empty() && buffer.capacity() > 0 {
            let spare = std::mem::take(buffer);
            if self.spares.len() < MAX_SPARES && spare.capacity() <= MAX_SPARE {
                self.spares.push(spare);
            }
        }
    }
}
