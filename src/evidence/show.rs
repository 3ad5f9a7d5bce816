//! `staunch sessions show`: the transcript of one session.

use super::arguments::{Place, Session, tell};
use super::progress::Progress;
use super::transcript::{Item, Limits, Protocol, TranscriptBuilder, render};
use super::{EvidenceFault, identities};
use crate::recording::directory::Directory;
use crate::recording::format::frame::Plane;
use crate::recording::reader::{Event, play_observed};
use std::io::Write;
use std::path::PathBuf;

/// `staunch sessions show`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which: 16 hex digits.
    pub session: Session,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// An auditor's identity file, as age's.
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long, conflicts_with = "raw")]
    pub json: bool,
    /// Write the plaintext of one direction as it is, and nothing else.
    #[arg(long, value_name = "up|down", requires = "identity")]
    pub raw: Option<Direction>,
    /// The session's protocol. Default: the one that its first bytes show.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// Bytes that are shown of one body, message or value.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body)]
    pub body_limit: usize,
    /// Rows that are shown of one result.
    #[arg(long, value_name = "ROWS", default_value_t = Limits::default().rows)]
    pub row_limit: usize,
}

/// A direction of a session.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Direction {
    /// Client to upstream.
    Up,
    /// Upstream to client.
    Down,
}

impl Direction {
    /// The plane of this direction.
    pub fn plane(self) -> Plane {
        match self {
            Direction::Up => Plane::Up,
            Direction::Down => Plane::Down,
        }
    }
}

/// Prints a session; what could not be read goes to `told`.
pub fn run(arguments: &Arguments, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    let identities = arguments.identity.as_deref().map(identities).transpose()?;
    let directory = Directory::read(&arguments.place.directory)?;
    let limits = Limits { body: arguments.body_limit, rows: arguments.row_limit };
    let mut transcript = TranscriptBuilder::new(arguments.protocol, limits);
    let (mut written, mut is_found, mut items) = (Ok(()), false, Vec::new());
    let progress = Progress::new("reading segment");
    let mut reading = &progress;
    let faults =
        play_observed(&directory, arguments.session.0, identities.as_ref(), &mut reading, |time, event| {
            is_found = true;
            if written.is_err() {
                return;
            }
            progress.give_way();
            written = match arguments.raw {
                Some(direction) => write_plaintext(out, direction.plane(), &event),
                None => {
                    transcript.take(time, &event, &mut items);
                    write_items(out, &mut items, arguments.json)
                }
            };
        })?;
    drop(progress);
    written?;
    if arguments.raw.is_none() {
        transcript.finish(&mut items);
        write_items(out, &mut items, arguments.json)?;
    }
    if !is_found && faults.is_empty() {
        return Err(EvidenceFault::Refused(format!("no segment holds session {}", arguments.session.0)));
    }
    tell(told, &faults)
}

fn write_items(out: &mut impl Write, items: &mut Vec<Item>, json: bool) -> std::io::Result<()> {
    items.drain(..).try_for_each(|item| match json {
        true => writeln!(out, "{}", item.to_json()),
        false => render(out, &item),
    })
}

fn write_plaintext(out: &mut impl Write, wanted: Plane, event: &Event) -> std::io::Result<()> {
    match event {
        Event::Data(plane, Some(data)) if *plane == wanted => out.write_all(data),
        _ => Ok(()),
    }
}
