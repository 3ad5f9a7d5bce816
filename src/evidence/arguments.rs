//! Arguments shared by commands that read recordings, and the output of read faults.

use super::EvidenceFault;
use super::transcript::Protocol;
use crate::names::SessionId;
use crate::recording::format::segment::GatewayId;
use crate::recording::log::note::{Purpose, Verifier};
use crate::recording::reader::ReadFault;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where recordings stand.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The directory of the gateway's recordings.
    #[arg(long, short, env = "STAUNCH_RECORDINGS", value_name = "FOLDER")]
    pub directory: PathBuf,
}

/// A session as it is written: 16 hex digits.
#[derive(Clone, Copy, Debug)]
pub struct Session(pub SessionId);

impl FromStr for Session {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = plain.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(|id| Session(SessionId(id))).ok_or_else(|| "write 16 hex digits, as `list` prints them".into())
    }
}

/// A session that is opened with an identity.
#[derive(Debug, clap::Args)]
pub struct OpenedSession {
    /// Which: 16 hex digits.
    pub session: Session,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// An auditor's identity file, as age's.
    #[arg(long, short, value_name = "FILE")]
    pub identity: PathBuf,
    /// The session's protocol. Default: the one that its first bytes show.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
}

/// A gateway's identity as it is written: 32 hex digits.
#[derive(Clone, Copy, Debug)]
pub struct Gateway(pub GatewayId);

impl FromStr for Gateway {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = plain.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(|id| Gateway(GatewayId(id.to_be_bytes()))).ok_or_else(|| "write 32 hex digits".into())
    }
}

/// A witness's public key, or the file that has it.
#[derive(Clone, Debug)]
pub struct WitnessKey(pub Verifier);

impl FromStr for WitnessKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let read = if text.contains('+') { None } else { std::fs::read_to_string(text).ok() };
        let key = Verifier::parse(read.as_deref().unwrap_or(text));
        let key = key.filter(|key| key.purpose() == Purpose::Cosignatures);
        key.map(WitnessKey)
            .ok_or_else(|| "write the key that stands in the witness's witness.pub, or that file".into())
    }
}

/// How long: `90s`, `30m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug)]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        super::when::period(text).map(Period).ok_or_else(|| "write for example 90s, 30m, 2h, 7d".into())
    }
}

/// Prints what could not be read.
pub(super) fn tell(told: &mut impl Write, faults: &[ReadFault]) -> Result<u8, EvidenceFault> {
    faults.iter().try_for_each(|fault| writeln!(told, "{fault}"))?;
    Ok(u8::from(!faults.is_empty()))
}
