//! The Merkle tree of the log (RFC 6962 section 2.1), kept as tiles of 256 hashes (c2sp.org/tlog-tiles). Pure.
//!
//! ```text
//!   level 0 tile n: hashes of entries 256 n …      level 1 tile n: hashes of level 0's full tiles 256 n …
//!   edge[level]: hashes of the tile that is not full yet; full ones are handed out and forgotten
//! ```

use ring::digest::{Context, SHA256};

/// A SHA-256.
pub type Hash = [u8; 32];
/// Hashes of a full tile, and entries of a full bundle.
pub const WIDTH: usize = 256;

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The hash of an entry.
pub fn leaf(entry: &[u8]) -> Hash {
    hash(&[&[0], entry])
}

pub(super) fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// The root over some hashes of one level.
pub fn root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => hash(&[]),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The largest power of two below `size`, which is 2 at least.
fn split(size: usize) -> usize {
    1 << (usize::BITS - 1 - (size - 1).leading_zeros())
}

/// The right edge of a tree: enough to go on and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

/// A tile that has become full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile {
    /// Its level.
    pub level: usize,
    /// Its place in the level.
    pub index: u64,
    /// Its 256 hashes.
    pub hashes: Vec<Hash>,
}

impl Edge {
    /// The edge of a tree with `size` entries, by level, from tiles that were read.
    pub fn from_levels(size: u64, levels: Vec<Vec<Hash>>) -> Option<Self> {
        let fits = |(level, hashes): (usize, &Vec<Hash>)| hashes.len() == Self::width(size, level);
        let whole = levels.iter().enumerate().all(fits) && Self::width(size, levels.len()) == 0;
        whole.then_some(Edge { size, levels })
    }

    /// Hashes in the tile at the edge of a level.
    pub fn width(size: u64, level: usize) -> usize {
        let below = u32::try_from(level).ok().and_then(|level| size.checked_shr(8 * level)).unwrap_or(0);
        (below % WIDTH as u64) as usize
    }

    /// Entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hashes of the tiles at the edge, by level.
    pub fn levels(&self) -> &[Vec<Hash>] {
        &self.levels
    }

    /// Adds an entry's hash; gives the tiles that are full with it.
    pub fn push(&mut self, leaf: Hash) -> Vec<FullTile> {
        let (mut full, mut hash, mut level) = (Vec::new(), leaf, 0);
        self.size += 1;
        loop {
            if self.levels.len() <= level {
                self.levels.push(Vec::new());
            }
            let Some(edge) = self.levels.get_mut(level) else { return full };
            edge.push(hash);
            if edge.len() < WIDTH {
                return full;
            }
            let hashes = std::mem::take(edge);
            hash = root(&hashes);
            let index = (self.size >> (8 * (level as u32 + 1))) - 1;
            full.push(FullTile { level, index, hashes });
            level += 1;
        }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut peaks: Vec<Hash> = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = &hashes[..];
            while !rest.is_empty() {
                // The largest perfect subtree.
                let take = 1 << rest.len().ilog2();
                let (now, later) = rest.split_at(take);
                peaks.push(root(now));
                rest = later;
            }
        }
        let last = peaks.pop();
        last.map_or(hash(&[]), |last| peaks.iter().rev().fold(last, |right, left| node(left, &right)))
    }
}

/// The proof that entry `place` is one of `leaves`: the hashes beside its way to the root (RFC 6962 section 2.1.1).
pub fn inclusion(leaves: &[Hash], place: usize) -> Vec<Hash> {
    if leaves.len() < 2 || place >= leaves.len() {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, beside) = match place.checked_sub(left.len()) {
        None => (inclusion(left, place), root(right)),
        Some(place) => (inclusion(right, place), root(left)),
    };
    proof.push(beside);
    proof
}

/// The proof that the tree of the first `old` of `leaves` is the beginning of the whole (RFC 6962 section 2.1.2).
pub fn consistency(leaves: &[Hash], old: usize) -> Vec<Hash> {
    fn walk(leaves: &[Hash], old: usize, known: bool, proof: &mut Vec<Hash>) {
        if old == leaves.len() {
            if !known {
                proof.push(root(leaves));
            }
            return;
        }
        let middle = split(leaves.len());
        if old <= middle {
            walk(&leaves[..middle], old, known, proof);
            proof.push(root(&leaves[middle..]));
        } else {
            walk(&leaves[middle..], old - middle, false, proof);
            proof.push(root(&leaves[..middle]));
        }
    }
    let mut proof = Vec::new();
    if (1..leaves.len()).contains(&old) {
        walk(leaves, old, true, &mut proof);
    }
    proof
}

/// Checks a consistency proof (RFC 9162 section 2.1.4.2).
pub fn is_consistent(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size > new_size {
        return old_size == 0 && proof.is_empty();
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    let (mut fnode, mut snode) = (old_size - 1, new_size - 1);
    while fnode & 1 == 1 {
        (fnode, snode) = (fnode >> 1, snode >> 1);
    }
    let mut rest = proof.iter();
    let first = match old_size.is_power_of_two() {
        true => *old_root,
        false => match rest.next() {
            Some(first) => *first,
            None => return false,
        },
    };
    let (mut fr, mut sr) = (first, first);
    for hash in rest {
        if snode == 0 {
            return false;
        }
        if fnode & 1 == 1 || fnode == snode {
            (fr, sr) = (node(hash, &fr), node(hash, &sr));
            while fnode & 1 == 0 && fnode != 0 {
                (fnode, snode) = (fnode >> 1, snode >> 1);
            }
        } else {
            sr = node(&sr, hash);
        }
        (fnode, snode) = (fnode >> 1, snode >> 1);
    }
    snode == 0 && fr == *old_root && sr == *new_root
}

/// The path of a tile or bundle below the log's folder: `tile/0/x001/234.p/5`.
pub fn tile_path(level: &str, index: u64, width: usize) -> String {
    let mut groups = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    groups.reverse();
    let partial = if width == WIDTH { String::new() } else { format!(".p/{width}") };
    format!("tile/{level}/{}{partial}", groups.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf(n.to_string().as_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_rfc_6962() {
        let hex = |hash: Hash| super::super::super::hex(&hash);
        assert_eq!(hex(root(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(leaf(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let two = [leaf(b""), leaf(&[0])];
        assert_eq!(hex(root(&two)), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    }

    #[test]
    fn the_edge_knows_the_root_of_the_whole() {
        let leaves = leaves(70_000);
        let mut edge = Edge::default();
        for (at, leaf) in leaves.iter().enumerate() {
            let full = edge.push(*leaf);
            let size = at + 1;
            assert_eq!(full.len(), usize::from(size % 256 == 0) + usize::from(size % 65_536 == 0));
            if size < 600 || size % 9_973 == 0 || size.abs_diff(65_536) < 3 {
                assert_eq!(edge.root(), root(&leaves[..size]), "{size}");
                assert_eq!(Edge::from_levels(size as u64, edge.levels().to_vec()), Some(edge.clone()));
            }
        }
        assert_eq!(Edge::from_levels(3, vec![leaves[..2].to_vec()]), None);
    }

    #[test]
    fn consistency_is_proved_for_every_pair_and_for_no_fork() {
        let leaves = leaves(40);
        let mut forked = leaves.clone();
        forked[3] = leaf(b"forged");
        for new in 1..=leaves.len() {
            for old in 1..=new {
                let proof = consistency(&leaves[..new], old);
                let (a, b) = (root(&leaves[..old]), root(&leaves[..new]));
                assert!(is_consistent((old as u64, &a), (new as u64, &b), &proof), "{old} {new}");
                if old > 3 {
                    let fork = (new as u64, &root(&forked[..new]));
                    let its = consistency(&forked[..new], old);
                    assert!(!is_consistent((old as u64, &a), fork, &proof), "{old} {new}");
                    assert!(!is_consistent((old as u64, &a), fork, &its), "{old} {new}");
                }
            }
        }
    }

    #[test]
    fn tiles_have_the_paths_of_the_specification() {
        assert_eq!(tile_path("0", 1_234_067, WIDTH), "tile/0/x001/x234/067");
        assert_eq!(tile_path("entries", 0, 5), "tile/entries/000.p/5");
    }
}
