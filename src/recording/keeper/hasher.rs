//! Hashes closed segments as a whole, at the lowest priority.

use super::super::archive::{Archive, Closed, Closing, Pending};
use super::super::files::open_file;
use super::super::reader::SegmentFile;
use super::stop::Stop;
use ring::digest::{Context, SHA256};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(1);
/// The least urgent niceness.
const MAX_NICENESS: i32 = 19;
const BUFFER: usize = 1 << 20;

pub(super) fn run(archive: &Archive, stop: &Stop) {
    // A niceness is a thread's own on Linux. Without it, hashing only competes more.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), MAX_NICENESS);
    loop {
        match archive.wait_closed(IDLE) {
            Some(closed) => enter(archive, closed),
            None if stop.is_stopped() => return,
            None => {}
        }
    }
}

/// Hashes a closed segment and gives its entry to the signer.
pub(in super::super) fn enter(archive: &Archive, closed: Closed) {
    let path = archive.directory.segment(closed.number, "seg");
    let number = closed.number;
    let (line, sum) = match hash_file(&path) {
        Err(error) => {
            let why = super::super::log::entry::word(&error.to_string());
            (format!("damaged number={number} reason={why}"), None)
        }
        Ok((hash, size)) => {
            let hex = super::super::hex(&hash);
            let line = match closed.state {
                Closing::Clean => format!("segment number={number} size={size} sha256={hex}"),
                Closing::Damaged => format!("segment number={number} size={size} sha256={hex} damaged=yes"),
                Closing::Recovered => {
                    let valid = SegmentFile::open(&path).map_or(0, SegmentFile::valid_length);
                    format!("recovered number={number} size={size} valid={valid} sha256={hex}")
                }
            };
            (line, Some((number, hash)))
        }
    };
    archive.entries.lock().push(Pending { line, sum });
}

/// SHA-256 and size of a file.
pub(in super::super) fn hash_file(path: &Path) -> io::Result<([u8; 32], u64)> {
    let (mut file, mut context) = (open_file(path)?, Context::new(&SHA256));
    let (mut buffer, mut size) = (vec![0; BUFFER], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => {
                context.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
    Ok((context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"), size))
}
