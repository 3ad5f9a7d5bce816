//! One read buffer per worker, and spare buffers for what must be kept while a peer is waited for.
//!
//! An idle connection holds no buffer: what it has to keep (a record that is not whole, a remainder that was not
//! written) sits in a spare buffer that goes back here as soon as it is empty.

use super::{LARGE_BATCH, MAX_HELD, MAX_LARGE};
use crate::tls::record::MAX_RECORD;
use std::cell::{Cell, RefCell};

/// A worker's shared buffers, used by the connection that is being polled.
pub(super) struct Scratch {
    /// Records are read, opened and sealed here.
    pub(super) read: Box<[u8]>,
    /// Assembles edited plaintext.
    pub(super) edited: Vec<u8>,
    /// Assembles what the recording holds of the client's bytes.
    pub(super) view: Vec<u8>,
    /// Spare buffers, by [`SIZES`].
    spares: [Vec<Vec<u8>>; SIZES.len()],
}

/// Spare buffers come in three sizes, so that none has to grow in use: for one record, for what any connection may
/// hold, for what is left of a large batch.
const SIZES: [usize; 3] = [MAX_RECORD, MAX_HELD + MAX_RECORD, LARGE_BATCH + MAX_RECORD];
/// Spare buffers of each size that are kept; more are given back to the allocator.
const MAX_SPARES: [usize; SIZES.len()] = [64, 64, MAX_LARGE];

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; LARGE_BATCH + MAX_RECORD].into_boxed_slice(),
        edited: Vec::new(),
        view: Vec::new(),
        spares: Default::default(),
    });
}

thread_local! {
    static LARGE: Cell<usize> = const { Cell::new(0) };
}

/// A permit to buffer more than [`MAX_HELD`], released when dropped.
pub(super) struct Large(());

impl Large {
    /// Counts a connection that holds a large remainder.
    pub(super) fn hold() -> Self {
        LARGE.set(LARGE.get() + 1);
        Large(())
    }

    /// True while another connection may take one.
    pub(super) fn may() -> bool {
        LARGE.get() < MAX_LARGE
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        LARGE.set(LARGE.get() - 1);
    }
}

/// Gives `f` the worker's buffers for one poll; it must not await.
pub(super) fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

impl Scratch {
    /// Makes sure that `buffer` has memory for `needed` bytes before it is filled.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>, needed: usize) {
        if buffer.capacity() == 0 {
            let size = SIZES.iter().position(|size| *size >= needed).unwrap_or(SIZES.len() - 1);
            *buffer = self.spares[size].pop().unwrap_or_else(|| Vec::with_capacity(SIZES[size]));
        }
    }

    /// Takes an empty buffer's memory back. One that is smaller than any size was not lent.
    pub(super) fn take_back(&mut self, buffer: &mut Vec<u8>) {
        if buffer.is_empty() && buffer.capacity() > 0 {
            let spare = std::mem::take(buffer);
            if let Some(size) = SIZES.iter().rposition(|size| spare.capacity() >= *size)
                && self.spares[size].len() < MAX_SPARES[size]
            {
                self.spares[size].push(spare);
            }
        }
    }
}
