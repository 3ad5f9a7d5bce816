//! Why a command failed, with its culprit: the command line, this machine, the person, the issuer, or time.

use super::profile::Profile;
use crate::audit::{Escape, Style};

/// Why there is no token. Never holds one, nor any other secret.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// What was asked for cannot be: command line or remembered settings.
    #[error("{0}")]
    Usage(String),
    /// A file, a socket or the clock of this machine.
    #[error("this machine: {0}")]
    Machine(String),
    /// Standard output cannot be written, or its reader has gone.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    /// Nobody did what a person was asked to do, or not in time.
    #[error("{0}")]
    Person(String),
    /// The issuer could not be reached, broke a rule, or said no.
    #[error("issuer {url}: {offence}")]
    Issuer {
        /// Which.
        url: String,
        /// What it did.
        offence: IssuerOffence,
    },
    /// The gateway said no.
    #[error("gateway {address}: {why}")]
    Gateway {
        /// Which.
        address: String,
        /// In its words.
        why: String,
    },
    /// There is no login, or none that is still good.
    #[error("{why}; run `{}`", next(profile))]
    LoggedOut {
        /// Whose.
        profile: Profile,
        /// Why not.
        why: String,
    },
}

impl Fault {
    /// 2 for usage, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Fault::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// A fault of an issuer.
#[derive(Debug, thiserror::Error)]
pub enum IssuerOffence {
    /// No whole answer.
    #[error("{0}")]
    Unreachable(String),
    /// An answer that the specifications do not allow.
    #[error("{0}")]
    Broken(String),
    /// It has no such endpoint or ability.
    #[error("{0}")]
    Unable(String),
    /// An error answer of RFC 6749 section 4.1.2.1 or 5.2.
    #[error("{0}")]
    Refused(Refusal),
}

/// An error answer: its code, and what it says for people, made safe to print.
#[derive(Debug)]
pub struct Refusal {
    /// `error`.
    pub code: String,
    /// `error_description`, or nothing.
    pub text: String,
}

impl Refusal {
    pub(super) fn new(code: &str, description: Option<&str>) -> Self {
        Refusal { code: shown(code), text: description.map(shown).unwrap_or_default() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.code)?;
        if !self.text.is_empty() {
            write!(f, " ({})", self.text)?;
        }
        // What people get wrong, for the codes that say little (RFC 6749 section 5.2).
        match self.code.as_str() {
            "invalid_client" => {
                f.write_str("; does it know --client-id, and does this client have a secret?")
            }
            "invalid_scope" => f.write_str("; what it offers goes into --scope"),
            "unauthorized_client" | "unsupported_grant_type" => {
                f.write_str("; the client must be registered for this way of logging in")
            }
            _ => Ok(()),
        }
    }
}

/// The command that helps.
fn next(profile: &Profile) -> String {
    match profile.is_default() {
        true => "staunch login".into(),
        false => format!("staunch login --profile {profile}"),
    }
}

/// Text that an issuer chose, safe for a terminal: no control or invisible characters, no JWT, not endless.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    let escape = Escape { style: Style::Human, limit: MAX_SHOWN_BYTES, is_cut: false };
    if !escape.write(&mut out, text.as_bytes()) {
        out.push('…');
    }
    out
}

/// Bytes of an issuer's text that are shown; some issuers put a whole support page there.
const MAX_SHOWN_BYTES: usize = 400;
