//! `staunch sessions rewrap`: old recordings opened to auditors who came later.

use super::arguments::Place;
use super::interrupt::Uninterrupted;
use super::progress::Progress;
use super::{EvidenceFault, identities};
use crate::recording::directory::Directory;
use crate::recording::format::envelope::Recipient;
use crate::recording::keeper::requests::note_rewrap;
use crate::recording::reader::{ReadFault, SegmentFile, SegmentKeys};
use std::io::Write;
use std::path::PathBuf;

/// `staunch sessions rewrap`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The identity file of an auditor who can open the recordings.
    #[arg(long, short, value_name = "FILE")]
    pub identity: PathBuf,
    /// Who is to open them, too: `age1…`. Name all of them: who was named before and is not now loses what was given before.
    #[arg(long, short, value_name = "AGE1…", required = true)]
    pub recipient: Vec<Recipient>,
    /// Leave the gateway's log as it is: on a copy, which has no key to sign with.
    #[arg(long)]
    pub unlogged: bool,
}

/// Seals the keys of all segments that the identity opens to the recipients; what could not be opened goes to `told`.
pub fn run(arguments: &Arguments, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    let identities = identities(&arguments.identity)?;
    let root = &arguments.place.directory;
    let directory = Directory::read(root)?;
    let numbers = directory.segments()?;
    let opens = |number: &u64| {
        let file = SegmentFile::open(&directory.segment(*number, "seg")).ok()?;
        SegmentKeys::open(&file, Some(&identities)).ok().filter(SegmentKeys::can_open)
    };
    if !numbers.iter().any(|number| opens(number).is_some()) {
        return Err(EvidenceFault::Refused("this identity opens no segment; nobody is let in".into()));
    }
    let mut guard = Uninterrupted::begin()?;
    // Before anything is sealed: who can read the past must be found in the log.
    if !arguments.unlogged {
        let done = note_rewrap(root, numbers.len(), &arguments.recipient)?.map_err(EvidenceFault::Refused)?;
        writeln!(out, "{done} of the log")?;
    }
    let (progress, mut sealed, mut faults) = (Progress::new("sealing segment"), 0, Vec::new());
    for (place, number) in numbers.iter().enumerate() {
        progress.update(place, numbers.len());
        if guard.is_interrupted() {
            writeln!(told, "interrupted: run it again for the segments from {number} on")?;
            return Ok(1);
        }
        let again = |file: SegmentFile| -> Result<(), ReadFault> {
            match SegmentKeys::open(&file, Some(&identities))?.seal_again(&file, &arguments.recipient)? {
                true => Ok(()),
                false => Err(file.fault(96, "no identity opens this segment's envelope")),
            }
        };
        match SegmentFile::open(&directory.segment(*number, "seg")).and_then(again) {
            Ok(()) => sealed += 1,
            Err(fault) => faults.push(fault),
        }
    }
    drop(progress);
    let names: Vec<String> = arguments.recipient.iter().map(ToString::to_string).collect();
    writeln!(out, "{sealed} of {} segments can be opened by {}", numbers.len(), names.join(", "))?;
    super::arguments::tell(told, &faults)
}
