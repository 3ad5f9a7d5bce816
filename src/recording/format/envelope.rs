//! Envelopes: keys of a segment as age files (age-encryption.org/v1) to X25519 recipients.
//!
//! `age -d -i auditor.key` opens one that was cut out of a segment; its plaintext is the 32 bytes of the key. X25519 is not
//! safe against a quantum computer: what is kept for long can be harvested.

use super::FormatFault;
use super::keys::EnvelopeKey;
use age::secrecy::ExposeSecret;
use age::x25519;
use std::io::{Read, Write};
use std::str::FromStr;
use zeroize::Zeroizing;

/// A recipient: `age1…`.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl FromStr for Recipient {
    type Err = String;
    /// The text is repeated only when it is certainly no secret.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY") {
            return Err(
                "this is an auditor's secret; write the public half, age1…, and keep the secret away \
                        from the gateway"
                    .into(),
            );
        }
        x25519::Recipient::from_str(text)
            .map(Recipient)
            .map_err(|_| format!("{text:?} is no age recipient; `staunch audit keygen` makes one: age1…"))
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Eq for Recipient {}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// An auditor's secrets, as read from an identity file. Has no `Debug`.
pub struct Identities(pub(super) Vec<x25519::Identity>);

impl Identities {
    /// Makes a new one.
    pub fn generate() -> Self {
        Identities(vec![x25519::Identity::generate()])
    }

    /// Reads an identity file as age's: a secret on each line, empty lines and `#` comments between.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut found = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = x25519::Identity::from_str(line)
                .map_err(|_| format!("line {}: no age identity (AGE-SECRET-KEY-1…)", number + 1))?;
            found.push(identity);
        }
        match found.is_empty() {
            true => Err("holds no age identity (AGE-SECRET-KEY-1…)".into()),
            false => Ok(Identities(found)),
        }
    }

    /// The public halves.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.0.iter().map(|identity| Recipient(identity.to_public())).collect()
    }

    /// The identity file's secret lines, for the one place that writes them.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for identity in &self.0 {
            text.push_str(identity.to_string().expose_secret());
            text.push('\n');
        }
        text
    }
}

/// Seals a key to all of `recipients`.
pub fn seal(key: &EnvelopeKey, recipients: &[Recipient]) -> Result<Vec<u8>, FormatFault> {
    const NOT_SEALED: FormatFault = FormatFault::Value("an envelope could not be sealed");
    let to = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(to).map_err(|_| NOT_SEALED)?;
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).map_err(|_| NOT_SEALED)?;
    writer.write_all(key.bytes()).map_err(|_| NOT_SEALED)?;
    writer.finish().map_err(|_| NOT_SEALED)?;
    Ok(out)
}

/// Opens an envelope with whichever identity fits; `None` when none does.
pub fn open(envelope: &[u8], identities: &Identities) -> Result<Option<EnvelopeKey>, FormatFault> {
    const BROKEN: FormatFault = FormatFault::Value("an envelope is broken");
    let decryptor = age::Decryptor::new_buffered(envelope).map_err(|_| BROKEN)?;
    let ours = identities.0.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = match decryptor.decrypt(ours) {
        Ok(reader) => reader,
        Err(age::DecryptError::NoMatchingKeys) => return Ok(None),
        Err(_) => return Err(BROKEN),
    };
    let mut bytes = Zeroizing::new([0; 32]);
    reader.read_exact(&mut *bytes).map_err(|_| BROKEN)?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(Some(EnvelopeKey::new(bytes))),
        _ => Err(BROKEN),
    }
}
