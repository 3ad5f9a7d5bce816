//! The log on the disk: appending, signing, changing epochs, starting again.

use super::super::clock::{Clock, WallClock};
use super::super::directory::{Directory, DirectoryFault};
use super::super::files::{make_folders, private_options, read_small, read_text, replace};
use super::super::format::segment::GatewayId;
use super::entry::Entry;
use super::keys::{epoch_name, origin, read_key, read_public, write_key};
use super::note::{Checkpoint, SignedCheckpoint, Signer};
use super::tree::{self, Edge, Hash, WIDTH, leaf, tile_path};
use rustix::fs::{FallocateFlags, fallocate};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of an entry: the length has 16 bits.
const MAX_ENTRY: usize = 65_535;

/// Bytes of the disk that are the log's own when the disk is full: hours of entries.
const RESERVED_BYTES: u64 = 1 << 20;

/// A log that can be appended to.
pub struct Log {
    folder: PathBuf,
    gateway: GatewayId,
    key: Signer,
    epoch: u64,
    epoch_key: Signer,
    edge: Edge,
    /// Entries of the bundle at the edge.
    bundle: Vec<String>,
    /// Full tiles and bundles that are not on the disk yet.
    unwritten: Vec<(String, Vec<u8>)>,
    /// Partial tiles that the newest checkpoint needs; removed when the next one needs others.
    partial: Vec<String>,
    signed: u64,
    /// The key of an epoch that is named by the last entry, and not begun yet.
    next: Option<Signer>,
    clock: Clock,
}

impl Log {
    /// Opens the log of a directory; begins one if there is none. Refuses a log whose tiles disagree with its last signed
    /// checkpoint: what is signed on top of it would vouch for it.
    pub fn open(directory: &Directory, wall: WallClock) -> Result<Self, DirectoryFault> {
        let (folder, gateway) = (directory.log(), directory.gateway());
        let (_, seed) = read_key(&folder.join("log.key"))?;
        let key = Signer::new(origin(gateway), &seed);
        if read_public(&folder)?.key() != key.verifier().key() {
            return Err(DirectoryFault::broken(&folder.join("log.pub"), "is not the public half of log.key"));
        }
        let path = folder.join("checkpoint");
        let signed = match read_text(&path) {
            Ok(text) => Some(
                SignedCheckpoint::parse(&text)
                    .filter(|signed| signed.is_signed_by(&key.verifier()))
                    .ok_or_else(|| DirectoryFault::broken(&path, "not signed by this gateway"))?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(DirectoryFault::Io { path, error }),
        };
        if signed.is_none() && folder.join("tile").exists() {
            return Err(DirectoryFault::broken(&path, "is missing beside the log's tiles"));
        }
        let size = signed.as_ref().map_or(0, |signed| signed.checkpoint.size);
        let (edge, bundle) = read_edge(&folder, size)?;
        if signed.as_ref().is_some_and(|signed| signed.checkpoint.root != edge.root()) {
            let why =
                "the log's tiles and entries disagree with it; the log was changed, nothing is signed on it";
            return Err(DirectoryFault::broken(&path, why));
        }
        let last = match bundle.last() {
            Some(last) => Some(last.clone()),
            None if size > 0 => read_bundle(&folder, size / WIDTH as u64 - 1, WIDTH)?.pop(),
            None => None,
        };
        let last = last.unwrap_or_default();
        let last = Entry::parse(&last);
        let floor = last.as_ref().and_then(|entry| entry.number("time")).unwrap_or(0);
        settle_epoch(&folder, gateway, signed.as_ref(), last.as_ref())?;
        let (epoch, seed) = read_key(&folder.join("epoch.key"))?;
        let epoch_key = Signer::new(epoch_name(gateway, epoch), &seed);
        if let Some(signed) = &signed
            && !signed.is_signed_by(&epoch_key.verifier())
            && named_key(last.as_ref(), epoch) != Some(*epoch_key.verifier().key())
        {
            return Err(DirectoryFault::broken(&path, "not signed by the key of this epoch; an older log?"));
        }
        // Those of the process before, which the next checkpoint needs no more.
        let partial = partial_tiles(&edge, bundle.len()).map(|(path, _)| path).collect();
        let mut log = Log {
            folder,
            gateway,
            key,
            epoch,
            epoch_key,
            edge,
            bundle,
            unwritten: Vec::new(),
            partial,
            signed: size,
            next: None,
            clock: Clock::new(wall, floor),
        };
        if size == 0 {
            log.append(&format!("log gateway={gateway}"))?;
            let key = super::super::hex(log.epoch_key.verifier().key());
            log.append(&format!("epoch number=1 key={key}"))?;
        }
        Ok(log)
    }

    /// Entries.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The time of the last entry.
    pub fn last_time(&mut self) -> u64 {
        self.clock.stamp()
    }

    /// True when entries came since the last checkpoint.
    pub fn has_grown(&self) -> bool {
        self.edge.size() > self.signed
    }

    /// Signs with the stable key, as `ssh-keygen -Y verify` checks it.
    pub fn sign_file(&self, bytes: &[u8]) -> String {
        super::sshsig::sign(&self.key, super::sshsig::SEGMENT, bytes)
    }

    /// Signs the sum of a report.
    pub fn sign_report(&self, bytes: &[u8]) -> String {
        super::sshsig::sign(&self.key, super::sshsig::REPORT, bytes)
    }

    /// Adds an entry, with its time. It is on the disk after [`Log::checkpoint`]. Refused while a change of epochs cannot be
    /// finished: what stands behind the entry that names a key is signed by that key alone.
    pub fn append(&mut self, line: &str) -> Result<(), DirectoryFault> {
        self.finish_epoch()?;
        self.push(line)
    }

    fn push(&mut self, line: &str) -> Result<(), DirectoryFault> {
        let line = format!("{line} time={}", self.clock.stamp());
        if line.len() > MAX_ENTRY || line.contains('\n') || Entry::parse(&line).is_none() {
            return Err(DirectoryFault::broken(&self.folder, "an entry of the log is malformed"));
        }
        let full = self.edge.push(leaf(line.as_bytes()));
        self.bundle.push(line);
        for tile in full {
            let bytes = tile.hashes.concat();
            self.unwritten.push((tile_path(&tile.level.to_string(), tile.index, WIDTH), bytes));
            if tile.level == 0 {
                let bundle = encode_bundle(&std::mem::take(&mut self.bundle));
                self.unwritten.push((tile_path("entries", tile.index, WIDTH), bundle));
            }
        }
        Ok(())
    }

    /// Writes what was appended and signs it.
    pub fn checkpoint(&mut self) -> Result<(), DirectoryFault> {
        for (path, bytes) in &self.unwritten {
            write_tile(&self.folder, path, bytes)?;
        }
        self.unwritten.clear();
        let (size, mut partial) = (self.edge.size(), Vec::new());
        for (path, hashes) in partial_tiles(&self.edge, self.bundle.len()) {
            let bytes = hashes.map_or_else(|| encode_bundle(&self.bundle), <[Hash]>::concat);
            if !self.partial.contains(&path) {
                write_tile(&self.folder, &path, &bytes)?;
            }
            partial.push(path);
        }
        replace(&self.folder.join("checkpoint"), self.signed_note().as_bytes())?;
        for old in self.partial.iter().filter(|old| !partial.contains(old)) {
            let _ = std::fs::remove_file(self.folder.join(old));
        }
        (self.partial, self.signed) = (partial, size);
        Ok(())
    }

    fn signed_note(&self) -> String {
        let checkpoint =
            Checkpoint { origin: origin(self.gateway), size: self.edge.size(), root: self.edge.root() };
        checkpoint.sign(&[&self.key, &self.epoch_key])
    }

    /// Begins another epoch: the old key signs the entry that names the new one, and is destroyed. After an error it is
    /// finished by the next call, or the next entry: there is one entry for each epoch.
    pub fn change_epoch(&mut self) -> Result<(), DirectoryFault> {
        if self.next.is_none() {
            let (next, seed) = (self.epoch + 1, Zeroizing::new(super::super::random::<32>()));
            let new = Signer::new(epoch_name(self.gateway, next), &seed);
            write_key(&self.folder.join("epoch.key.next"), next, &seed)?;
            let key = super::super::hex(new.verifier().key());
            self.push(&format!("epoch number={next} key={key}"))?;
            self.next = Some(new);
        }
        self.finish_epoch()
    }

    fn finish_epoch(&mut self) -> Result<(), DirectoryFault> {
        if self.next.is_none() {
            return Ok(());
        }
        if self.has_grown() {
            self.checkpoint()?;
        }
        write_epoch(&self.folder, self.epoch, self.signed_note().as_bytes())?;
        destroy_epoch_key(&self.folder)?;
        if let Some(new) = self.next.take() {
            (self.epoch, self.epoch_key) = (self.epoch + 1, new);
        }
        Ok(())
    }

    /// Keeps `RESERVED_BYTES` bytes of the disk for the log: a full disk must not keep retention from saying what it deletes.
    pub fn reserve(&self) {
        let path = self.folder.join("reserve");
        if path.exists() {
            return;
        }
        let file = private_options().create(true).truncate(true).open(&path);
        // Without space there is no reserve; the next try is a second later.
        if file.is_ok_and(|file| fallocate(&file, FallocateFlags::empty(), 0, RESERVED_BYTES).is_err()) {
            let _ = std::fs::remove_file(&path);
        }
    }

    /// Gives the reserve back to the disk; false when there is none.
    pub fn release_reserve(&self) -> bool {
        std::fs::remove_file(self.folder.join("reserve")).is_ok()
    }
}

/// Paths of the tiles at the edge that are not full, with their hashes; without, of the bundle of `entries` entries.
fn partial_tiles(edge: &Edge, entries: usize) -> impl Iterator<Item = (String, Option<&[Hash]>)> {
    let size = edge.size();
    let levels = edge.levels().iter().enumerate().filter(|(_, hashes)| !hashes.is_empty());
    let tiles = levels.map(move |(level, hashes)| {
        let index = size >> (8 * (level as u32 + 1));
        (tile_path(&level.to_string(), index, hashes.len()), Some(&hashes[..]))
    });
    let bundle = (entries > 0).then(|| (tile_path("entries", size / WIDTH as u64, entries), None));
    tiles.chain(bundle)
}

/// The key that an `epoch` entry names for this epoch.
fn named_key(entry: Option<&Entry<'_>>, epoch: u64) -> Option<[u8; 32]> {
    let entry = entry.filter(|entry| entry.verb == "epoch" && entry.number("number") == Some(epoch))?;
    entry.hash("key")
}

/// Finishes a change of epochs that the process did not live to finish, or takes it back when its entry was not signed.
fn settle_epoch(
    folder: &Path,
    gateway: GatewayId,
    signed: Option<&SignedCheckpoint>,
    last: Option<&Entry<'_>>,
) -> Result<(), DirectoryFault> {
    let path = folder.join("epoch.key.next");
    if !path.exists() {
        return Ok(());
    }
    // Cut by a crash, it was never named.
    let next = read_key(&path).ok();
    let named = next.as_ref().filter(|(epoch, seed)| {
        let public = *Signer::new(epoch_name(gateway, *epoch), seed).verifier().key();
        named_key(last, *epoch) == Some(public)
    });
    match (named, signed) {
        (Some((epoch, _)), Some(_)) => {
            let note = folder.join("checkpoint");
            let note = read_small(&note).map_err(DirectoryFault::io(&note))?;
            write_epoch(folder, epoch - 1, &note)?;
            destroy_epoch_key(folder)
        }
        _ => std::fs::remove_file(&path).map_err(DirectoryFault::io(&path)),
    }
}

fn write_epoch(folder: &Path, epoch: u64, note: &[u8]) -> Result<(), DirectoryFault> {
    let path = folder.join("epochs");
    make_folders(&path)?;
    replace(&path.join(epoch.to_string()), note)
}

/// Overwrites the key of the epoch that is over, and puts the next one in its place.
fn destroy_epoch_key(folder: &Path) -> Result<(), DirectoryFault> {
    let path = folder.join("epoch.key");
    let overwrite = || {
        let mut file = private_options().open(&path)?;
        let length = file.metadata()?.len() as usize;
        file.write_all(&vec![b'0'; length])?;
        file.sync_all()?;
        std::fs::rename(folder.join("epoch.key.next"), &path)
    };
    overwrite().map_err(DirectoryFault::io(&path))
}

fn write_tile(folder: &Path, path: &str, bytes: &[u8]) -> Result<(), DirectoryFault> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        make_folders(parent)?;
    }
    replace(&path, bytes)
}

fn encode_bundle(entries: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        out.extend_from_slice(entry.as_bytes());
    }
    out
}

/// How often a tile is looked for: the gateway replaces the one at the edge each second, while others read.
const READ_ATTEMPTS: usize = 8;

/// Reads the file of a tile that holds `width` items at least: the full one, or a partial one that is wide enough.
fn read_tile(
    folder: &Path,
    level: &str,
    index: u64,
    width: usize,
) -> Result<(PathBuf, Vec<u8>), DirectoryFault> {
    let full = folder.join(tile_path(level, index, WIDTH));
    let exact = folder.join(tile_path(level, index, width));
    for _ in 0..READ_ATTEMPTS {
        let wider = if width < WIDTH { wider_tile(&exact, width) } else { None };
        for path in [Some(&exact), wider.as_ref(), Some(&full)].into_iter().flatten() {
            match read_small(path) {
                Ok(bytes) => return Ok((path.clone(), bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(DirectoryFault::Io { path: path.clone(), error }),
            }
        }
    }
    Err(DirectoryFault::Io { path: exact, error: io::ErrorKind::NotFound.into() })
}

/// The partial tile beside `exact` that has more items: what the next checkpoint put in its place.
fn wider_tile(exact: &Path, width: usize) -> Option<PathBuf> {
    let found = std::fs::read_dir(exact.parent()?).ok()?.flatten();
    let widths = found.filter_map(|file| file.file_name().to_str()?.parse::<usize>().ok());
    let wider = widths.filter(|other| (width + 1..WIDTH).contains(other)).min()?;
    Some(exact.with_file_name(wider.to_string()))
}

/// The first `width` entries of a bundle.
pub(super) fn read_bundle(folder: &Path, index: u64, width: usize) -> Result<Vec<String>, DirectoryFault> {
    let (path, bytes) = read_tile(folder, "entries", index, width)?;
    let mut entries = Vec::new();
    let mut rest = &bytes[..];
    while entries.len() < width {
        let entry = rest.split_first_chunk::<2>().and_then(|(length, after)| {
            let (entry, later) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
            rest = later;
            String::from_utf8(entry.to_vec()).ok()
        });
        let at = bytes.len() - rest.len();
        entries.push(entry.ok_or_else(|| {
            DirectoryFault::broken(&path, format!("entry {} is cut or no text, at {at}", entries.len()))
        })?);
    }
    Ok(entries)
}

pub(super) fn read_hashes(
    folder: &Path,
    level: usize,
    index: u64,
    width: usize,
) -> Result<Vec<Hash>, DirectoryFault> {
    let (path, bytes) = read_tile(folder, &level.to_string(), index, width)?;
    let (hashes, _) = bytes.as_chunks::<32>();
    match hashes.get(..width) {
        Some(hashes) => Ok(hashes.to_vec()),
        None => Err(DirectoryFault::broken(&path, format!("holds fewer than {width} hashes"))),
    }
}

/// The edge of the tree with `size` entries, and the entries of its last bundle.
fn read_edge(folder: &Path, size: u64) -> Result<(Edge, Vec<String>), DirectoryFault> {
    let width = Edge::width(size, 0);
    let bundle = if width > 0 { read_bundle(folder, size / WIDTH as u64, width)? } else { Vec::new() };
    let mut levels = vec![bundle.iter().map(|entry| leaf(entry.as_bytes())).collect::<Vec<_>>()];
    for level in 1.. {
        if u32::try_from(8 * level).ok().and_then(|bits| size.checked_shr(bits)).unwrap_or(0) == 0 {
            break;
        }
        let width = Edge::width(size, level);
        let index = size.checked_shr(8 * (level as u32 + 1)).unwrap_or(0);
        levels.push(if width > 0 { read_hashes(folder, level, index, width)? } else { Vec::new() });
    }
    let edge = Edge::from_levels(size, levels);
    let edge = edge.ok_or_else(|| DirectoryFault::broken(folder, "tiles do not make a tree"))?;
    Ok((edge, bundle))
}

/// Bundles of the first `size` entries.
pub(super) fn bundles(size: u64) -> u64 {
    size.div_ceil(WIDTH as u64)
}

/// The highest number of a bundle that is there, whole or in part.
pub(super) fn last_bundle(folder: &Path) -> Option<u64> {
    last_below(&folder.join("tile/entries"), 0)
}

/// As [`last_bundle`], below a folder that stands for the number's first digits. Folders for more digits begin with `x`.
fn last_below(folder: &Path, digits: u64) -> Option<u64> {
    let of = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        let (name, is_folder) = name.strip_prefix('x').map_or((name, false), |name| (name, true));
        let group = name.strip_suffix(".p").unwrap_or(name);
        let plain = group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.checked_mul(1000)?.checked_add(group.parse().ok()?)?;
        match (plain, is_folder) {
            (false, _) => None,
            (true, true) => last_below(&entry.path(), number),
            (true, false) => Some(number),
        }
    };
    std::fs::read_dir(folder).ok()?.flatten().filter_map(of).max()
}

/// The entries of a bundle that are among the first `size`, checked against their tile; and the first one's number.
pub(super) fn read_checked_bundle(
    folder: &Path,
    index: u64,
    size: u64,
) -> Result<(u64, Vec<String>), DirectoryFault> {
    let first = index * WIDTH as u64;
    let width = (size - first).min(WIDTH as u64) as usize;
    let bundle = read_bundle(folder, index, width)?;
    let hashes: Vec<Hash> = bundle.iter().map(|entry| leaf(entry.as_bytes())).collect();
    let tile = read_hashes(folder, 0, index, width)?;
    if let Some(at) = (0..width).find(|at| tile.get(*at) != hashes.get(*at)) {
        let (path, _) = read_tile(folder, "entries", index, width)?;
        let why = format!("entry {} does not have the hash in its tile", first + at as u64);
        return Err(DirectoryFault::broken(&path, why));
    }
    Ok((first, bundle))
}

/// The last of the first `size` entries, of which there is one at least.
pub fn read_last_entry(folder: &Path, size: u64) -> Result<String, DirectoryFault> {
    let (_, mut bundle) = read_checked_bundle(folder, bundles(size).saturating_sub(1), size)?;
    bundle.pop().ok_or_else(|| DirectoryFault::broken(folder, "the log has no entry"))
}

/// Calls `take` with each of the first `size` entries; checks them against their tiles on the way.
pub fn read_entries(
    folder: &Path,
    size: u64,
    mut take: impl FnMut(u64, String),
) -> Result<(), DirectoryFault> {
    for index in 0..bundles(size) {
        let (first, bundle) = read_checked_bundle(folder, index, size)?;
        (first..).zip(bundle).for_each(|(number, entry)| take(number, entry));
    }
    Ok(())
}

/// Hashes of all entries, for proofs.
pub fn read_leaves(folder: &Path, size: u64) -> Result<Vec<tree::Hash>, DirectoryFault> {
    let mut leaves = Vec::new();
    read_entries(folder, size, |_, entry| leaves.push(leaf(entry.as_bytes())))?;
    Ok(leaves)
}
