//! The keeper of a directory of recordings: periodic signing, and the work for each closed segment.
//!
//! ```text
//!   signer, each second   chunk entries of open segments → sync (durability 1s) → log → checkpoint → <n>.sum
//!   hasher, idle priority SHA-256 of closed segments → segment entries
//! ```

pub(super) mod hasher;
pub mod requests;
mod retention;
pub(super) mod signer;
mod stop;
#[cfg(test)]
mod tests;

use super::archive::{Archive, Closed, Closing};
use super::clock::{self, WallClock};
use super::directory::{Directory, DirectoryFault};
use super::log::store::Log;
use super::reader::read_head;
use super::settings::Settings;
use signer::Signer;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use stop::Stop;

/// Between two checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The recordings of a gateway, open for writing. Dropped after all [`super::writer::Recorder`]s, it completes the log.
pub struct Recordings {
    archive: Arc<Archive>,
    stop: Arc<Stop>,
    signer: Option<JoinHandle<Signer>>,
    hasher: Option<JoinHandle<()>>,
}

/// Version and digests of the running gateway, for the `start` entry.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// SHA-256 of the configuration.
    pub configuration: [u8; 32],
}

impl Recordings {
    /// Opens a directory, recovers what an earlier process left, and starts the threads.
    pub fn open(settings: Settings, origin: &Origin) -> Result<Self, DirectoryFault> {
        let (archive, log) = open(settings, clock::system, origin)?;
        let signer = Signer::new(archive.clone(), log);
        let stop = Arc::new(Stop::default());
        let fault = DirectoryFault::io(archive.directory.root());
        let threads = start(&archive, &stop, signer).map_err(fault)?;
        Ok(Recordings { archive, stop, signer: Some(threads.0), hasher: Some(threads.1) })
    }

    /// What workers share.
    pub fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }
}

impl Drop for Recordings {
    fn drop(&mut self) {
        self.stop.stop();
        self.archive.wake_hasher.notify_all();
        if let Some(thread) = self.hasher.take() {
            let _ = thread.join();
        }
        if let Some(Ok(mut signer)) = self.signer.take().map(JoinHandle::join) {
            signer.finish();
        }
    }
}

fn start(
    archive: &Arc<Archive>,
    stop: &Arc<Stop>,
    mut signer: Signer,
) -> std::io::Result<(JoinHandle<Signer>, JoinHandle<()>)> {
    let (mine, until) = (archive.clone(), stop.clone());
    let hash = move || hasher::run(&mine, &until);
    let hasher = std::thread::Builder::new().name("recording-hash".into()).spawn(hash)?;
    let until = stop.clone();
    let sign = move || {
        while !until.wait(CHECKPOINT_INTERVAL) {
            signer.turn();
        }
        signer
    };
    Ok((std::thread::Builder::new().name("recording-log".into()).spawn(sign)?, hasher))
}

/// Opens a directory without threads.
pub(super) fn open(
    settings: Settings,
    wall: WallClock,
    origin: &Origin,
) -> Result<(Arc<Archive>, Log), DirectoryFault> {
    let directory = Directory::open(&settings.directory)?;
    let mut log = Log::open(&directory, wall)?;
    let segments = directory.segments()?;
    remove_spares(&directory);
    let unclosed: Vec<u64> =
        segments.iter().copied().filter(|number| !directory.segment(*number, "sum").exists()).collect();
    let opened = |number: &u64| Some(read_head(&directory.segment(*number, "seg"))?.opened);
    let floor = segments.iter().rev().take(64).filter_map(opened).max().unwrap_or(0).max(log.last_time());
    let binary = std::env::current_exe().ok().and_then(|path| hasher::hash_file(&path).ok());
    let binary = binary.map_or("unknown".into(), |(hash, _)| super::hex(&hash));
    let configuration = super::hex(&origin.configuration);
    let version = env!("CARGO_PKG_VERSION");
    log.append(&format!("start version={version} binary={binary} configuration={configuration}"))?;
    log.checkpoint()?;
    let archive = Archive::new(directory, settings, wall, segments.last().copied().unwrap_or(0), floor);
    for number in unclosed {
        archive.closed.lock().push_back(Closed { number, state: Closing::Recovered });
    }
    Ok((archive, log))
}

fn remove_spares(directory: &Directory) {
    let Ok(files) = std::fs::read_dir(directory.root().join("segments")) else { return };
    for file in files.flatten() {
        if file.file_name().as_encoded_bytes().starts_with(b"spare-") {
            let _ = std::fs::remove_file(file.path());
        }
    }
}
