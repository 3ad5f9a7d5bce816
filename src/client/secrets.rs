//! Secrets of the client's side: where they are named, how they are kept, how random ones are made.

use super::fault::Fault;
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use clap::{Arg, Command};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a secret stands. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// An environment variable.
    Env(String),
    /// A file that only its owner may read.
    File(PathBuf),
}

/// Reads a reference from a command line. Unlike clap's own, its errors do not repeat the text.
#[derive(Clone)]
pub struct ReferenceParser;

impl TypedValueParser for ReferenceParser {
    type Value = Reference;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, text: &OsStr) -> Result<Reference, clap::Error> {
        let read =
            text.to_str().ok_or_else(|| "a secret's reference is no text".to_owned()).and_then(str::parse);
        read.map_err(|why| command.clone().error(ErrorKind::ValueValidation, why))
    }
}

impl ValueParserFactory for Reference {
    type Parser = ReferenceParser;

    fn value_parser() -> ReferenceParser {
        ReferenceParser
    }
}

impl FromStr for Reference {
    type Err = String;
    /// The text is not repeated in the error: it may be the secret.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Reference::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Reference::File(path.into())),
            _ => Err(
                "a secret is named by where it stands, never written on the command line, which others can \
                      see; write env:NAME or file:PATH"
                    .into(),
            ),
        }
    }
}

impl Reference {
    /// The same place, whatever the working folder will be.
    pub(super) fn absolute(self) -> std::io::Result<Self> {
        match self {
            Reference::File(path) => std::path::absolute(path).map(Reference::File),
            env => Ok(env),
        }
    }

    /// Reads the secret. A newline at its end is cut.
    pub fn read(&self) -> Result<Secret, Fault> {
        let bytes = match self {
            Reference::Env(name) => std::env::var(name).map(String::into_bytes).map_err(|_| {
                // Whoever writes the secret in the place of its name does not find it in the error.
                let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
                let name = if is_name { name.as_str() } else { "that stands there" };
                Fault::Usage(format!("the environment variable {name} is not set, or is no text"))
            })?,
            Reference::File(path) => read_private(path)?.ok_or_else(|| {
                let is_path = path.as_os_str().as_encoded_bytes().iter().any(|b| matches!(b, b'/' | b'.'));
                Fault::Usage(match is_path {
                    true => format!("{}: there is no such file", path.display()),
                    false => "there is no file of the name that stands behind file:".to_owned(),
                })
            })?,
        };
        trimmed(bytes).ok_or_else(|| {
            let place = match self {
                Reference::Env(name) => format!("the environment variable {name}"),
                Reference::File(path) => path.display().to_string(),
            };
            Fault::Usage(format!("{place} holds no secret: it is empty, or not one line of text"))
        })
    }
}

/// Reads a file that only its owner may read; `None` if there is no such file.
pub(super) fn read_private(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let fault = |error| Fault::Machine(format!("{}: {error}", path.display()));
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(fault)?,
    };
    check_access(&file, path, 0o077)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(fault)?;
    Ok(Some(bytes))
}

/// Refuses a file that others have rights to, of `rights`, or that belongs to somebody other than this user or root. Looks at what
/// was opened, not at what bears its name by then.
pub(super) fn check_access(file: &File, path: &Path, rights: u32) -> Result<(), Fault> {
    let fault = |why: String| Fault::Machine(format!("{} {why}", path.display()));
    let metadata = file.metadata().map_err(|error| fault(format!("cannot be looked at: {error}")))?;
    let (mode, owner) = (metadata.permissions().mode() & 0o777, metadata.uid());
    if mode & rights != 0 {
        let advice = if rights & 0o044 == 0 { "chmod go-w it" } else { "chmod 600 it" };
        return Err(fault(format!("is open to others (mode {mode:o}); {advice}")));
    }
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(fault("belongs to another user, who can change it at any time; chown it".into()));
    }
    Ok(())
}

/// One line of text without its line end; `None` if it is empty or there is more.
pub(super) fn trimmed(bytes: Vec<u8>) -> Option<Secret> {
    let whole = Secret::new(bytes);
    let text = std::str::from_utf8(whole.expose()).ok()?.trim_end_matches(['\r', '\n']);
    let good = !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_control());
    good.then(|| Secret::new(text.as_bytes().to_vec()))
}

/// A secret that was made from text.
pub(super) fn text(secret: &Secret) -> &str {
    std::str::from_utf8(secret.expose()).unwrap_or_default()
}

/// 256 random bits as 43 characters that need no encoding in a URL.
pub(super) fn random() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes())
}

pub(super) fn random_bytes() -> [u8; 32] {
    ring::rand::generate(&SystemRandom::new()).expect("the system has random bytes").expose()
}

/// Compares digests, so that the time tells nothing of the secret.
pub(super) fn same(a: &str, b: &str) -> bool {
    digest(&SHA256, a.as_bytes()).as_ref() == digest(&SHA256, b.as_bytes()).as_ref()
}

/// Secrets inside the token file. [`Secret`] itself cannot be serialised on purpose.
pub(super) mod kept {
    use super::{Secret, text};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde's `with` gives it so")]
    pub(in crate::client) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(text).serialize(to)
    }

    pub(in crate::client) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(|text| Secret::new(text.into_bytes())))
    }
}
