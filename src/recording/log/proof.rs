//! Consistency proofs from tiles: reads a few files, however long the log is.

use super::super::directory::DirectoryFault;
use super::store::read_hashes;
use super::tree::{Hash, WIDTH, node, root};
use std::path::Path;

/// Levels of the tree that a tile spans.
const TILE_HEIGHT: u32 = WIDTH.ilog2();

/// The proof that the log's first `old` entries are the beginning of its first `new` (RFC 6962 section 2.1.2).
pub fn consistency(folder: &Path, old: u64, new: u64) -> Result<Vec<Hash>, DirectoryFault> {
    let mut proof = Vec::new();
    if (1..new).contains(&old) {
        Tiles { folder, size: new }.walk((0, new), old, true, &mut proof)?;
    }
    Ok(proof)
}

/// The tiles of a tree with `size` entries.
struct Tiles<'f> {
    folder: &'f Path,
    size: u64,
}

impl Tiles<'_> {
    fn walk(
        &self,
        (from, to): (u64, u64),
        old: u64,
        is_known: bool,
        proof: &mut Vec<Hash>,
    ) -> Result<(), DirectoryFault> {
        if old == to {
            if !is_known {
                proof.push(self.root(from, to)?);
            }
            return Ok(());
        }
        let middle = from + split(to - from);
        match old <= middle {
            true => {
                self.walk((from, middle), old, is_known, proof)?;
                proof.push(self.root(middle, to)?);
            }
            false => {
                self.walk((middle, to), old, false, proof)?;
                proof.push(self.root(from, middle)?);
            }
        }
        Ok(())
    }

    /// The root over entries `from` to `to`, a subtree of the whole.
    fn root(&self, from: u64, to: u64) -> Result<Hash, DirectoryFault> {
        let count = to - from;
        if !count.is_power_of_two() {
            let middle = from + split(count);
            return Ok(node(&self.root(from, middle)?, &self.root(middle, to)?));
        }
        // As many neighbours in one tile as make a root `rest` levels above them.
        let (level, rest) = (count.ilog2() / TILE_HEIGHT, count.ilog2() % TILE_HEIGHT);
        let first = from >> (level * TILE_HEIGHT);
        let (index, place) = (first / WIDTH as u64, (first % WIDTH as u64) as usize);
        let there = (self.size >> (level * TILE_HEIGHT)) - index * WIDTH as u64;
        let width = there.min(WIDTH as u64) as usize;
        let hashes = read_hashes(self.folder, level as usize, index, width)?;
        let neighbours = hashes.get(place..place + (1 << rest));
        neighbours
            .map(root)
            .ok_or_else(|| DirectoryFault::broken(self.folder, "its tiles do not make a tree"))
    }
}

/// The largest power of two below `count`, which is 2 at least.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}
