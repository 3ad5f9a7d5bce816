//! Verifies a whole log: its tree, and that each entry is covered by a signature of its own epoch.

use super::super::directory::{Directory, DirectoryFault};
use super::super::files::read_text;
use super::entry::Entry;
use super::keys::{epoch_name, gateway_id, origin, read_public};
use super::note::{SignedCheckpoint, Verifier};
use super::store::{bundles, last_bundle, read_checked_bundle, read_entries};
use super::tree::{Edge, Hash, leaf};
use std::path::PathBuf;

/// A verified log and its findings.
#[derive(Debug, Default)]
pub struct VerifiedLog {
    /// Entries up to the newest signed checkpoint.
    pub entries: u64,
    /// What is wrong.
    pub faults: Vec<DirectoryFault>,
    /// Epochs that are over and covered by their own key.
    pub epochs: u64,
}

/// One epoch: its key and the size of the tree in which its first and its successor's entries are the last.
struct Epoch {
    number: u64,
    key: [u8; 32],
    end: Option<(u64, Hash)>,
}

/// Entries that the newest checkpoint covers.
pub fn checkpoint_size(directory: &Directory) -> Result<u64, DirectoryFault> {
    Ok(read_checkpoint(directory)?.1.checkpoint.size)
}

/// Gives the entries of a log up to its newest checkpoint, and verifies nothing.
pub fn read(directory: &Directory, mut take: impl FnMut(u64, &str)) -> Result<(), DirectoryFault> {
    let (_, signed) = read_checkpoint(directory)?;
    read_entries(&directory.log(), signed.checkpoint.size, |number, line| take(number, &line))
}

/// Reads and verifies the log of a directory, entry by entry. What can be read is given even when something is wrong.
pub fn verify(directory: &Directory, mut take: impl FnMut(u64, &str)) -> VerifiedLog {
    let mut log = VerifiedLog::default();
    if let Err(fault) = walk(directory, &mut log, &mut take) {
        log.faults.push(fault);
    }
    log
}

/// The newest checkpoint, whose signatures are not checked yet, and its file.
pub(in super::super) fn read_checkpoint(
    directory: &Directory,
) -> Result<(PathBuf, SignedCheckpoint), DirectoryFault> {
    let path = directory.log().join("checkpoint");
    let text = read_text(&path).map_err(DirectoryFault::io(&path))?;
    let signed = SignedCheckpoint::parse(&text);
    let signed = signed.ok_or_else(|| DirectoryFault::broken(&path, "not a signed checkpoint"))?;
    Ok((path, signed))
}

fn walk(
    directory: &Directory,
    log: &mut VerifiedLog,
    take: &mut impl FnMut(u64, &str),
) -> Result<(), DirectoryFault> {
    let (folder, gateway) = (directory.log(), directory.gateway());
    let key = read_public(&folder)?;
    let (path, signed) = read_checkpoint(directory)?;
    let broken = |why: &str| DirectoryFault::broken(&path, why);
    if !signed.is_signed_by(&key) || signed.checkpoint.origin != origin(gateway) {
        log.faults.push(broken("not signed by the log's key"));
    }
    let (mut edge, mut epochs) = (Edge::default(), Vec::<Epoch>::new());
    // The first entry that cannot be read: hashes from there on are not known, and what follows is read all the same.
    let mut missing_from = None;
    // A checkpoint that nobody has signed may tell of more than there is.
    let there = last_bundle(&folder).map_or(0, |last| last.saturating_add(1));
    for index in 0..bundles(signed.checkpoint.size).min(there) {
        let (first, bundle) = match read_checked_bundle(&folder, index, signed.checkpoint.size) {
            Ok(found) => found,
            Err(fault) => {
                missing_from.get_or_insert(edge.size());
                log.faults.push(fault);
                continue;
            }
        };
        for (number, line) in (first..).zip(&bundle) {
            edge.push(leaf(line.as_bytes()));
            let entry = Entry::parse(line).filter(|entry| entry.verb == "epoch");
            let epoch = entry.and_then(|entry| Some((entry.number("number")?, entry.hash("key")?)));
            if let (Some((number, key)), None) = (epoch, missing_from) {
                if let Some(last) = epochs.last_mut() {
                    last.end = Some((edge.size(), edge.root()));
                }
                epochs.push(Epoch { number, key, end: None });
            }
            log.entries = number + 1;
            take(number, line);
        }
    }
    if there < bundles(signed.checkpoint.size) {
        missing_from.get_or_insert(edge.size());
        let why =
            format!("it tells of {} entries; the bundles behind {there} are missing", signed.checkpoint.size);
        log.faults.push(broken(&why));
    }
    if let Some(first) = missing_from {
        log.faults.push(broken(&format!("entries from {first} on prove nothing: some cannot be read")));
    }
    if edge.size() == signed.checkpoint.size && edge.root() != signed.checkpoint.root {
        log.faults.push(broken("the entries do not have the signed root"));
    }
    match epochs.first() {
        Some(first) if first.number == 1 && gateway_id(key.key(), &first.key) == gateway => {}
        _ => {
            let why = "the log key and the first epoch's key are not those of this gateway's identity";
            log.faults.push(DirectoryFault::broken(&directory.root().join("gateway"), why));
        }
    }
    for (place, epoch) in epochs.iter().enumerate() {
        if epoch.number != place as u64 + 1 {
            log.faults.push(broken(&format!("epoch {} stands where {} should", epoch.number, place + 1)));
        }
        let verifier = Verifier::new(epoch_name(gateway, epoch.number), &epoch.key);
        let Some(verifier) = verifier else {
            log.faults.push(broken(&format!("epoch {} has no usable key", epoch.number)));
            continue;
        };
        let Some((size, root)) = &epoch.end else {
            if missing_from.is_some() {
                continue;
            }
            // The newest epoch: nothing but the entry that names it may be signed by the one before.
            let only_named = place > 0
                && place + 1 == epochs.len()
                && epochs.get(place - 1).and_then(|before| before.end).map(|(size, _)| size)
                    == Some(signed.checkpoint.size);
            if !signed.is_signed_by(&verifier) && !only_named {
                log.faults.push(broken(&format!("not signed by the key of epoch {}", epoch.number)));
            }
            continue;
        };
        let path = folder.join("epochs").join(epoch.number.to_string());
        match read_text(&path) {
            Err(error) => log.faults.push(DirectoryFault::Io { path, error }),
            Ok(text) => {
                let note = SignedCheckpoint::parse(&text).filter(|note| {
                    note.checkpoint.origin == origin(gateway)
                        && note.is_signed_by(&verifier)
                        && note.is_signed_by(&key)
                });
                match note {
                    None => {
                        let why = "not signed by this epoch's key: its entries may be forged";
                        log.faults.push(DirectoryFault::broken(&path, why));
                    }
                    Some(note) if (note.checkpoint.size, note.checkpoint.root) != (*size, *root) => {
                        let why = format!(
                            "what was signed at entry {} of this epoch is not what the log says now",
                            note.checkpoint.size
                        );
                        log.faults.push(DirectoryFault::broken(&path, why));
                    }
                    Some(_) => log.epochs += 1,
                }
            }
        }
    }
    Ok(())
}
