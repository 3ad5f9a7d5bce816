//! Signed notes and checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint) with Ed25519. Pure.
//!
//! ```text
//!   <origin>\n<size>\n<base64 root>\n\n— <key name> <base64(4 bytes key id ‖ 64 bytes signature)>\n…
//! ```

use super::tree::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use ring::digest::{SHA256, digest};

const ED25519: u8 = 1;

/// A public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Verifier {
    /// Takes a public key's 32 bytes.
    pub fn new(name: String, key: &[u8]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        Some(Verifier { name, key })
    }

    /// Reads `name+keyid+base64(01 ‖ key)`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.trim().split_once('+')?;
        let (id, key) = rest.split_once('+')?;
        let bytes = STANDARD.decode(key).ok()?;
        let verifier = Verifier::new(name.to_owned(), bytes.strip_prefix(&[ED25519])?)?;
        (super::super::hex(&verifier.id()) == id).then_some(verifier)
    }

    /// The public key.
    pub fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    fn id(&self) -> [u8; 4] {
        let bytes = [self.name.as_bytes(), &[b'\n', ED25519], self.key.as_bytes()].concat();
        let hash = digest(&SHA256, &bytes);
        hash.as_ref().first_chunk().copied().unwrap_or_default()
    }

    fn verifies(&self, body: &str, line: &str) -> bool {
        let Some((name, signature)) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')) else {
            return false;
        };
        let Ok(bytes) = STANDARD.decode(signature) else { return false };
        let (Some(id), Some(rest)) = (bytes.first_chunk::<4>(), bytes.get(4..)) else { return false };
        let Ok(signature) = Signature::from_slice(rest) else { return false };
        name == self.name && *id == self.id() && self.key.verify_strict(body.as_bytes(), &signature).is_ok()
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = STANDARD.encode([&[ED25519], &self.key.as_bytes()[..]].concat());
        write!(f, "{}+{}+{key}", self.name, super::super::hex(&self.id()))
    }
}

/// A private key with its name. Wiped when dropped.
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl Signer {
    /// Takes a seed.
    pub fn new(name: String, seed: &[u8; 32]) -> Self {
        Signer { name, key: SigningKey::from_bytes(seed) }
    }

    /// Its public half.
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), key: self.key.verifying_key() }
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
}

/// What a log was at one moment.
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
    /// Reads a signed note.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, signatures) = text.split_once("\n\n")?;
        let body = format!("{body}\n");
        let mut lines = body.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size: size.parse().ok().filter(|n: &u64| n.to_string() == size)?,
            root: STANDARD.decode(root).ok()?.try_into().ok()?,
        };
        let lines: Vec<String> = signatures.lines().map(str::to_owned).collect();
        (checkpoint.body() == body && signatures.ends_with('\n') && !lines.is_empty())
            .then_some(SignedCheckpoint { checkpoint, body, lines })
    }

    /// True when one of the signatures is this key's.
    pub fn is_signed_by(&self, verifier: &Verifier) -> bool {
        self.lines.iter().any(|line| verifier.verifies(&self.body, line))
    }
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
}
