//! `staunch sessions export`: a session as a capture for Wireshark.
//!
//! ```text
//!   section header: what is fabricated | interface | decryption secrets | packets
//!
//!   TCP          fabricated, with the addresses of the session where they are known
//!   handshake    fabricated under random secrets: ClientHello, ServerHello, EncryptedExtensions, Finished
//!   down         the records as they went over the wire, where the recording holds them from near their beginning
//!   up           sealed anew: what the recording holds is the client's view, without its token
//! ```
//!
//! With `--plain`, and for Redis, which no capture tool finds within TLS, the plaintext stands in TCP itself.

mod login;
mod pcapng;
mod source;
mod tcp;
mod tls;

use super::arguments::{OpenedSession, tell};
use super::output::OutputFile;
use super::transcript::Protocol;
use super::{EvidenceFault, identities};
use crate::recording::directory::Directory;
use crate::recording::reader::Event;
use source::{Source, Survey};
use std::io::Write;
use std::path::PathBuf;
use tcp::{Ends, Stream};
use tls::Legs;

/// `staunch sessions export`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which session, and with whose key.
    #[command(flatten)]
    pub opened: OpenedSession,
    /// The capture to write (pcapng); `-` for standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Write the plaintext over TCP, in place of TLS with its secrets.
    #[arg(long)]
    pub plain: bool,
    /// Replace a file that is there already.
    #[arg(long)]
    pub force: bool,
}

/// Writes the capture; what could not be read goes to `told`.
pub fn run(arguments: &Arguments, out: &mut impl Write, told: &mut impl Write) -> Result<u8, EvidenceFault> {
    let identities = identities(&arguments.opened.identity)?;
    let directory = Directory::read(&arguments.opened.place.directory)?;
    let session =
        Source { directory: &directory, identities: &identities, session: arguments.opened.session };
    let survey = session.survey()?;
    if survey.frames == 0 && survey.faults.is_empty() {
        return Err(EvidenceFault::Refused(format!(
            "no segment holds session {}",
            arguments.opened.session.0
        )));
    }
    if survey.opened == 0 {
        let why =
            "nothing of this session can be opened: no identity fits, it is erased, or nothing was said";
        tell(told, &survey.faults)?;
        return Err(EvidenceFault::Refused(why.into()));
    }
    if survey.sealed > 0 {
        writeln!(told, "{} frames cannot be opened and are left out", survey.sealed)?;
    }
    if arguments.output.as_os_str() == "-" {
        write(&session, arguments, &survey, out)?;
    } else {
        let mut file = OutputFile::create(&arguments.output, arguments.force)?;
        write(&session, arguments, &survey, &mut file)?;
        file.finish()?;
    }
    tell(told, &survey.faults)
}

/// The port by which capture tools know a protocol.
fn port(protocol: Protocol, is_plain: bool) -> u16 {
    match protocol {
        Protocol::Postgres => 5432,
        Protocol::Mysql => 3306,
        Protocol::Redis => 6379,
        Protocol::Http1 | Protocol::Http2 if is_plain => 80,
        Protocol::Http1 | Protocol::Http2 => 443,
        // Discard (RFC 863): nobody looks for HTTP in it.
        Protocol::Raw => 9,
    }
}

fn write(
    source: &Source<'_>,
    arguments: &Arguments,
    survey: &Survey,
    out: &mut impl Write,
) -> Result<(), EvidenceFault> {
    let protocol = arguments.opened.protocol.unwrap_or_else(|| survey.protocol());
    let is_plain = arguments.plain || protocol == Protocol::Redis;
    let ends = Ends::new(survey.text("remote"), survey.text("listener"), port(protocol, is_plain));
    let mut legs = match is_plain {
        true => None,
        false => Some(Legs::new(source, protocol)?),
    };
    let fabricated = match &legs {
        None => "The plaintext of the session over fabricated TCP.".to_owned(),
        Some(legs) => format!(
            "TCP and the TLS handshake are fabricated. {} The client's records are sealed anew under a random secret: they \
             are its view, without its token.",
            legs.describe()
        ),
    };
    let comment = format!(
        "Session {} of gateway {}, recorded by Staunch. {fabricated}{} Remote {}, listener {}, route {}, subject {}.",
        arguments.opened.session.0,
        source.directory.gateway(),
        login::describe(protocol),
        survey.text("remote"),
        survey.text("listener"),
        survey.text("route"),
        survey.text("subject"),
    );
    pcapng::write_head(out, &comment)?;
    if let Some(legs) = &legs {
        pcapng::write_secrets(out, &legs.key_log())?;
    }
    let mut stream = Stream::new(ends);
    stream.open(survey.first, out)?;
    for (plane, bytes) in login::before_tls(protocol, is_plain) {
        stream.send(survey.first, plane, &bytes, out)?;
    }
    if let Some(legs) = &mut legs {
        for (plane, bytes) in legs.handshake(survey.text("sni"), protocol)? {
            stream.send(survey.first, plane, &bytes, out)?;
        }
    }
    for (plane, bytes) in login::behind_tls(protocol) {
        let bytes = match &mut legs {
            None => bytes,
            Some(legs) => legs.seal(plane, &bytes)?,
        };
        stream.send(survey.first, plane, &bytes, out)?;
    }
    let (mut written, mut last) = (Ok(()), survey.first);
    source.play("writing segment", |frame, player, event| {
        let (Event::Data(plane, Some(data)), Ok(())) = (event, &written) else { return };
        last = frame.head.time;
        let bytes = match &mut legs {
            None => Ok(data),
            Some(legs) => legs.carry(plane, frame, player, &data),
        };
        written = bytes.and_then(|bytes| Ok(stream.send(frame.head.time, plane, &bytes, out)?));
    })?;
    written?;
    stream.close(last, out)?;
    Ok(())
}
