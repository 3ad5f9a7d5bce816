//! Signed notes and checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint) with Ed25519, and witnesses' cosignatures of
//! them (c2sp.org/tlog-cosignature, version 1). Pure.
//!
//! ```text
//!   <origin>\n<size>\n<base64 root>\n\n— <key name> <base64(4 bytes key id ‖ 64 bytes signature)>\n…
//!   a cosignature:                       — <key name> <base64(4 bytes key id ‖ 8 bytes seconds since 1970 ‖ 64 bytes signature)>\n
//! ```

use super::tree::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use ring::digest::{SHA256, digest};

const ED25519: u8 = 1;
const COSIGNATURE: u8 = 4;
/// Signatures of a note that are looked at (c2sp.org/signed-note allows a limit of 16 at least).
const MAX_SIGNATURES: usize = 100;

/// Purpose of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Notes: a log's key.
    Notes,
    /// Cosignatures with their time: a witness's key.
    Cosignatures,
}

impl Purpose {
    fn algorithm(self) -> u8 {
        match self {
            Purpose::Notes => ED25519,
            Purpose::Cosignatures => COSIGNATURE,
        }
    }
}

/// A public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
    purpose: Purpose,
}

/// Result of matching a signature line with a key.
enum Signed {
    /// Another key's.
    No,
    /// This key's by its name and number, and it does not verify.
    Falsely,
    /// This key's, with the time of a cosignature (0 of others).
    At(u64),
}

impl Verifier {
    /// Takes a public key's 32 bytes.
    pub fn new(name: String, key: &[u8]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        Some(Verifier { name, key, purpose: Purpose::Notes })
    }

    /// Reads `name+keyid+base64(01 ‖ key)`; of a witness `name+keyid+base64(04 ‖ key)`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.trim().split_once('+')?;
        let (id, key) = rest.split_once('+')?;
        let bytes = STANDARD.decode(key).ok()?;
        let (algorithm, key) = bytes.split_first()?;
        let purposes = [Purpose::Notes, Purpose::Cosignatures];
        let purpose = purposes.into_iter().find(|purpose| purpose.algorithm() == *algorithm)?;
        let verifier = Verifier { purpose, ..Verifier::new(name.to_owned(), key)? };
        (is_key_name(name) && super::super::hex(&verifier.id()) == id).then_some(verifier)
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The public key.
    pub fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The key's number in signature lines.
    pub fn id(&self) -> [u8; 4] {
        let bytes = [self.name.as_bytes(), &[b'\n', self.purpose.algorithm()], self.key.as_bytes()].concat();
        let hash = digest(&SHA256, &bytes);
        hash.as_ref().first_chunk().copied().unwrap_or_default()
    }

    fn signed(&self, body: &str, line: &str) -> Signed {
        let Some((name, signature)) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')) else {
            return Signed::No;
        };
        let Ok(bytes) = STANDARD.decode(signature) else { return Signed::No };
        let Some((id, rest)) = bytes.split_first_chunk::<4>() else { return Signed::No };
        if name != self.name || *id != self.id() {
            return Signed::No;
        }
        let (time, text, signature) = match self.purpose {
            Purpose::Notes => (0, body.to_owned(), rest),
            Purpose::Cosignatures => match rest.split_first_chunk::<8>() {
                Some((time, rest)) => {
                    let time = u64::from_be_bytes(*time);
                    (time, cosigned_text(time, body), rest)
                }
                None => return Signed::Falsely,
            },
        };
        let signature = Signature::from_slice(signature);
        match signature.is_ok_and(|signature| self.key.verify_strict(text.as_bytes(), &signature).is_ok()) {
            true => Signed::At(time),
            false => Signed::Falsely,
        }
    }
}

/// The text that a witness signs.
fn cosigned_text(seconds: u64, body: &str) -> String {
    format!("cosignature/v1\ntime {seconds}\n{body}")
}

/// True for names that can stand in a signature line.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = STANDARD.encode([&[self.purpose.algorithm()], &self.key.as_bytes()[..]].concat());
        write!(f, "{}+{}+{key}", self.name, super::super::hex(&self.id()))
    }
}

/// A private key with its name. Wiped when dropped.
pub struct Signer {
    name: String,
    key: SigningKey,
    purpose: Purpose,
}

impl Signer {
    /// Takes a seed.
    pub fn new(name: String, seed: &[u8; 32]) -> Self {
        Signer { name, key: SigningKey::from_bytes(seed), purpose: Purpose::Notes }
    }

    /// Takes the seed of a witness's key.
    pub fn witness(name: String, seed: &[u8; 32]) -> Self {
        Signer { purpose: Purpose::Cosignatures, ..Signer::new(name, seed) }
    }

    /// Its public half.
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), key: self.key.verifying_key(), purpose: self.purpose }
    }

    /// Signs bytes as they are.
    pub(super) fn sign_bytes(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes).to_bytes()
    }

    fn line(&self, body: &str) -> String {
        let id = self.verifier().id();
        let signature = STANDARD.encode([&id[..], &self.sign_bytes(body.as_bytes())].concat());
        format!("— {} {signature}\n", self.name)
    }

    /// The signature line of a witness, which has seen this at `seconds` since 1970.
    pub fn cosign(&self, note: &SignedCheckpoint, seconds: u64) -> String {
        let signature = self.sign_bytes(cosigned_text(seconds, &note.body).as_bytes());
        let bytes = [&self.verifier().id()[..], &seconds.to_be_bytes(), &signature].concat();
        format!("— {} {}\n", self.name, STANDARD.encode(bytes))
    }
}

/// A checkpoint: the log's size and root at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The signed note.
    pub fn sign(&self, signers: &[&Signer]) -> String {
        let body = self.body();
        let lines: String = signers.iter().map(|signer| signer.line(&body)).collect();
        format!("{body}\n{lines}")
    }
}

/// A checkpoint with its signatures, none of which is checked yet.
#[derive(Clone, Debug)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    body: String,
    lines: Vec<String>,
}

impl SignedCheckpoint {
    /// Reads a signed note. Lines behind the root are the log's own, and signed with the rest.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, signatures) = text.split_once("\n\n")?;
        let body = format!("{body}\n");
        let mut lines = body.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let checkpoint = Checkpoint {
            origin: Some(origin).filter(|origin| !origin.is_empty())?.to_owned(),
            size: parse_decimal(size)?,
            root: STANDARD.decode(root).ok()?.try_into().ok()?,
        };
        let lines: Vec<String> = signatures.lines().map(str::to_owned).collect();
        let is_plain = !body.contains(|c: char| c.is_control() && c != '\n');
        (is_plain && signatures.ends_with('\n') && (1..=MAX_SIGNATURES).contains(&lines.len()))
            .then_some(SignedCheckpoint { checkpoint, body, lines })
    }

    /// True when one of the signatures is this key's.
    pub fn is_signed_by(&self, verifier: &Verifier) -> bool {
        self.signed_at(verifier).is_some()
    }

    /// When this key signed: seconds since 1970 of a cosignature, 0 of other signatures. `None`: it did not, or a signature
    /// that has its name and number does not verify.
    pub fn signed_at(&self, verifier: &Verifier) -> Option<u64> {
        let mut found = None;
        for line in &self.lines {
            match verifier.signed(&self.body, line) {
                Signed::No => {}
                Signed::Falsely => return None,
                Signed::At(time) => found = Some(found.unwrap_or(0).max(time)),
            }
        }
        found
    }

    /// The note with the signatures of one key alone, and `more` behind it.
    pub fn with_signatures_of(&self, verifier: &Verifier, more: &str) -> String {
        let is_own = |line: &&String| matches!(verifier.signed(&self.body, line), Signed::At(_));
        let lines: String = self.lines.iter().filter(is_own).map(|line| format!("{line}\n")).collect();
        format!("{}\n{lines}{more}", self.body)
    }
}

/// A number as checkpoints have it: digits, and no zero before them.
pub(super) fn parse_decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> (Signer, String) {
        let signer = Signer::new("staunch/x".into(), &[7; 32]);
        let text = Checkpoint { origin: "staunch/x".into(), size: 5, root: [9; 32] }.sign(&[&signer]);
        (signer, text)
    }

    #[test]
    fn a_checkpoint_verifies_as_it_is_and_with_no_byte_changed() {
        let (signer, text) = note();
        let verifier = Verifier::parse(&signer.verifier().to_string()).unwrap();
        assert_eq!(verifier, signer.verifier());
        assert!(SignedCheckpoint::parse(&text).unwrap().is_signed_by(&verifier));
        for at in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] ^= 1;
            let Ok(bad) = String::from_utf8(bad) else { continue };
            let verifies = SignedCheckpoint::parse(&bad).is_some_and(|note| note.is_signed_by(&verifier));
            assert!(!verifies, "{at}");
        }
        let other = Signer::new("staunch/x".into(), &[8; 32]).verifier();
        assert!(!SignedCheckpoint::parse(&text).unwrap().is_signed_by(&other));
    }

    /// The example key of the specification.
    #[test]
    fn the_specification_s_key_is_read() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(Verifier::parse(text).unwrap().to_string(), text);
    }

    /// The example of c2sp.org/tlog-cosignature: the witness's name, number and time of its line.
    #[test]
    fn a_cosignature_covers_the_time_and_every_byte_of_the_checkpoint() {
        let (log, text) = note();
        let witness = Signer::witness("witness.example/w1".into(), &[5; 32]);
        let key = Verifier::parse(&witness.verifier().to_string()).unwrap();
        assert_eq!((key.name(), key.purpose()), ("witness.example/w1", Purpose::Cosignatures));
        let cosigned =
            format!("{text}{}", witness.cosign(&SignedCheckpoint::parse(&text).unwrap(), 1_679_315_147));
        let read = SignedCheckpoint::parse(&cosigned).unwrap();
        assert_eq!(read.signed_at(&key), Some(1_679_315_147));
        assert!(read.is_signed_by(&log.verifier()), "the log's own signature stays");
        for at in 0..cosigned.len() {
            let mut bad = cosigned.clone().into_bytes();
            bad[at] ^= 1;
            let Some(bad) = String::from_utf8(bad).ok().and_then(|bad| SignedCheckpoint::parse(&bad)) else {
                continue;
            };
            let signed = (bad.signed_at(&key), bad.is_signed_by(&log.verifier()));
            assert_ne!(signed, (Some(1_679_315_147), true), "{at}");
        }
        // The same key as a log's is another key.
        let as_log = Signer::new("witness.example/w1".into(), &[5; 32]).verifier();
        assert_eq!(read.signed_at(&as_log), None);
    }

    #[test]
    fn lines_of_the_log_s_own_are_signed_with_the_rest() {
        let log = Signer::new("example.com/log".into(), &[7; 32]);
        let body = "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension 1\n";
        let text = format!("{body}\n{}", log.line(body));
        assert!(SignedCheckpoint::parse(&text).unwrap().is_signed_by(&log.verifier()));
        let other = text.replace("extension 1", "extension 2");
        assert!(!SignedCheckpoint::parse(&other).unwrap().is_signed_by(&log.verifier()));
        let many = format!("{text}{}", "— x AAAA\n".repeat(100));
        assert!(SignedCheckpoint::parse(&many).is_none(), "no note has so many signatures");
    }
}
