//! Allocations per relayed record in steady state: `cargo bench --bench allocations`. Fails if there are any but the
//! few spare buffers that a worker makes the first time a peer is slower than the other.
//!
//! Every allocation of the worker's thread is counted; the load's own thread is left out. What is counted lies between
//! two moments of a running transfer, so the session's beginning and end do not blur it.

#![allow(
    unsafe_code,
    reason = "a global allocator can be written in no other way; it only counts and passes on"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Rig, Wish};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that is being torn down has no cell any more; it is not the worker.
    if !EXEMPT.try_with(Cell::get).unwrap_or(true) {
        COUNT.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A worker makes a spare buffer of each size once for each direction, whenever the kernel first gives it cause.
const FIRST_SPARES: u64 = 6;

fn main() {
    EXEMPT.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let mut failed = false;
        println!("{:<34} {:>10} {:>14}", "records", "moved", "allocations");
        for (length, records) in [(16 * 1024, 20_000), (1_400, 50_000), (120, 50_000)] {
            let counted = run(length, records).await;
            println!("{:<34} {records:>10} {counted:>14}", format!("{length} bytes, as fast as they go"));
            failed |= counted > FIRST_SPARES;
        }
        let counted = paced(120, 500).await;
        println!("{:<34} {:>10} {counted:>14}", "120 bytes, one at a time", 500);
        failed || counted > FIRST_SPARES
    });
    std::process::exit(i32::from(failed));
}

/// Sends records down and counts what the worker allocates in the second half.
async fn run(length: usize, records: usize) -> u64 {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = rig.pair().await;
    // Spare buffers have grown to what this traffic needs by then.
    let warm = records / 2;
    let send = async {
        let block = vec![0x5a; length];
        for _ in 0..records {
            upstream.write_all(&block).await.unwrap();
            upstream.flush().await.unwrap();
        }
    };
    let receive = async {
        let mut buffer = vec![0; length];
        let mut before = 0;
        for n in 0..records {
            client.read_exact(&mut buffer).await.unwrap();
            if n == warm {
                before = COUNT.load(Relaxed);
            }
        }
        COUNT.load(Relaxed) - before
    };
    tokio::join!(send, receive).1
}

/// Sends a record, waits for it, sends the next: what a stream of tokens looks like.
async fn paced(length: usize, records: usize) -> u64 {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = rig.pair().await;
    let (block, mut buffer) = (vec![0x5a; length], vec![0; length]);
    let mut before = 0;
    for n in 0..records {
        upstream.write_all(&block).await.unwrap();
        upstream.flush().await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        if n == records / 10 {
            before = COUNT.load(Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    COUNT.load(Relaxed) - before
}
