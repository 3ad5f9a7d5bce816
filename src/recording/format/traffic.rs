//! Traffic secrets: what the keys of a plane are derived from (RFC 8446 sections 7.2 and 7.3).
//!
//! Both planes are TLS 1.3 record streams. What goes down is the client leg's own ciphertext under its own secret; what the
//! gateway seals itself is sealed under a random secret that is used like `CLIENT_TRAFFIC_SECRET_0`.

use super::FormatFault;
use crate::tls::record::{Secrets, Suite, Version};
use ring::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use zeroize::Zeroizing;

/// Bytes of the longest secret, SHA-384's. Shorter ones have zeros behind them in a key file.
pub const MAX_SECRET: usize = 48;
const MAX_KEY: usize = 32;

/// The secret of one plane in one key epoch. Has no `Debug`.
pub struct TrafficSecret {
    suite: Suite,
    bytes: Zeroizing<[u8; MAX_SECRET]>,
}

/// An AEAD key and nonce base.
pub struct TrafficKey {
    suite: Suite,
    key: Zeroizing<[u8; MAX_KEY]>,
    iv: [u8; 12],
}

impl TrafficKey {
    /// As the record layer takes them.
    pub fn secrets(&self) -> Secrets<'_> {
        let key = self.key.get(..self.suite.key_length()).unwrap_or_default();
        Secrets { version: Version::Tls13, suite: self.suite, key, iv: self.iv }
    }
}

/// The code of a suite in key files and KEY frames: the low byte of its number in TLS's registry.
pub fn suite_code(suite: Suite) -> u8 {
    match suite {
        Suite::Aes128Gcm => 1,
        Suite::Aes256Gcm => 2,
        Suite::Chacha20Poly1305 => 3,
    }
}

/// The suite that a code names.
pub fn suite_from_code(code: u8) -> Result<Suite, FormatFault> {
    match code {
        1 => Ok(Suite::Aes128Gcm),
        2 => Ok(Suite::Aes256Gcm),
        3 => Ok(Suite::Chacha20Poly1305),
        _ => Err(FormatFault::Value("unknown cipher suite")),
    }
}

impl TrafficSecret {
    /// Bytes of a suite's secrets: 48 with SHA-384, else 32.
    pub fn length(suite: Suite) -> usize {
        match suite {
            Suite::Aes256Gcm => 48,
            Suite::Aes128Gcm | Suite::Chacha20Poly1305 => 32,
        }
    }

    /// Takes a secret; `None` when it has not the suite's length.
    pub fn new(suite: Suite, secret: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; MAX_SECRET]);
        bytes
            .get_mut(..Self::length(suite))?
            .copy_from_slice((secret.len() == Self::length(suite)).then_some(secret)?);
        Some(TrafficSecret { suite, bytes })
    }

    /// Takes a secret with the zeros behind it.
    pub fn from_padded(suite: Suite, padded: &[u8; MAX_SECRET]) -> Result<Self, FormatFault> {
        match padded[Self::length(suite)..].iter().all(|byte| *byte == 0) {
            true => Ok(TrafficSecret { suite, bytes: Zeroizing::new(*padded) }),
            false => Err(FormatFault::Value("a secret is longer than its cipher suite allows")),
        }
    }

    /// Its cipher suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The secret with zeros behind it, for the one place that seals it.
    pub(super) fn padded(&self) -> &[u8; MAX_SECRET] {
        &self.bytes
    }

    /// The secret itself, for a capture that its reader is to open.
    pub fn expose(&self) -> &[u8] {
        self.bytes.get(..Self::length(self.suite)).unwrap_or_default()
    }

    /// The secret of the next key epoch (RFC 8446 section 7.2).
    pub fn next(&self) -> Self {
        let mut bytes = Zeroizing::new([0; MAX_SECRET]);
        if let Some(place) = bytes.get_mut(..Self::length(self.suite)) {
            self.expand(b"traffic upd", place);
        }
        TrafficSecret { suite: self.suite, bytes }
    }

    /// Key and nonce base (RFC 8446 section 7.3).
    pub fn key(&self) -> TrafficKey {
        let (mut key, mut iv) = (Zeroizing::new([0; MAX_KEY]), [0; 12]);
        if let Some(place) = key.get_mut(..self.suite.key_length()) {
            self.expand(b"key", place);
        }
        self.expand(b"iv", &mut iv);
        TrafficKey { suite: self.suite, key, iv }
    }

    /// HKDF-Expand-Label without a context (RFC 8446 section 7.1).
    fn expand(&self, label: &[u8], out: &mut [u8]) {
        const PREFIX: &[u8] = b"tls13 ";
        let algorithm = match self.suite {
            Suite::Aes256Gcm => HKDF_SHA384,
            Suite::Aes128Gcm | Suite::Chacha20Poly1305 => HKDF_SHA256,
        };
        let secret = self.bytes.get(..Self::length(self.suite)).unwrap_or_default();
        let length = (out.len() as u16).to_be_bytes();
        let label_length = [(PREFIX.len() + label.len()) as u8];
        let info: [&[u8]; 5] = [&length, &label_length, PREFIX, label, &[0]];
        Prk::new_less_safe(algorithm, secret)
            .expand(&info, Length(out.len()))
            .and_then(|okm| okm.fill(out))
            .expect("keys are far shorter than HKDF's limit");
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
