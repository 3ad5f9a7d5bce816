//! AEAD keys, expanded while they are in use.
//!
//! An expanded key takes 544 bytes, and a connection has four of them: more than all else that an idle one keeps. So a
//! connection keeps the key as it was agreed, and each worker the expanded keys that were used last, in [`CACHED_KEYS`]
//! places. Keys that were made one after the other never share one; of those that outlive many others, and of more than a
//! thousand connections, some do, and a record whose key has lost its place costs 150 ns more (AES-GCM, measured; sealing
//! 128 bytes takes 80).
//!
//! ```text
//!   place of a key = its number modulo PLACES; whoever uses it last has it
//! ```

use ring::aead::{Aad, Algorithm, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::error::Unspecified;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

/// Expanded keys that a worker keeps: 2.2 MiB if all are in use.
const CACHED_KEYS: usize = 4_096;
/// Bytes of the longest key.
const MAX_KEY: usize = 32;

/// One direction's AEAD key.
pub(super) struct Cipher {
    algorithm: &'static Algorithm,
    secret: Zeroizing<[u8; MAX_KEY]>,
    number: u64,
}

/// Different for every key of the process: a leg may have been made on another thread.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static EXPANDED: RefCell<Vec<Option<Box<Expanded>>>> = const { RefCell::new(Vec::new()) };
}

struct Expanded {
    number: u64,
    key: LessSafeKey,
}

impl Cipher {
    /// `None` when the key has not the length that the algorithm asks for.
    pub(super) fn new(algorithm: &'static Algorithm, key: &[u8]) -> Option<Self> {
        if key.len() != algorithm.key_len() {
            return None;
        }
        let mut secret = Zeroizing::new([0; MAX_KEY]);
        secret.get_mut(..key.len())?.copy_from_slice(key);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Some(Cipher { algorithm, secret, number })
    }

    /// Opens in place; the plaintext stands at the front.
    pub(super) fn open<A: AsRef<[u8]>>(
        &self,
        nonce: Nonce,
        aad: Aad<A>,
        sealed: &mut [u8],
    ) -> Result<(), Unspecified> {
        self.with(|key| key.open_in_place(nonce, aad, sealed).map(|_| ()))
    }

    /// Seals in place.
    pub(super) fn seal<A: AsRef<[u8]>>(
        &self,
        nonce: Nonce,
        aad: Aad<A>,
        plaintext: &mut [u8],
    ) -> Result<Tag, Unspecified> {
        self.with(|key| key.seal_in_place_separate_tag(nonce, aad, plaintext))
    }

    fn place(&self) -> usize {
        (self.number % CACHED_KEYS as u64) as usize
    }

    fn with<R>(
        &self,
        use_key: impl FnOnce(&LessSafeKey) -> Result<R, Unspecified>,
    ) -> Result<R, Unspecified> {
        EXPANDED.with_borrow_mut(|places| {
            if places.len() <= self.place() {
                places.resize_with(CACHED_KEYS, || None);
            }
            let place = places.get_mut(self.place()).ok_or(Unspecified)?;
            match place {
                Some(expanded) if expanded.number == self.number => {}
                Some(expanded) => **expanded = self.expand()?,
                None => *place = Some(Box::new(self.expand()?)),
            }
            use_key(&place.as_ref().ok_or(Unspecified)?.key)
        })
    }

    #[cold]
    fn expand(&self) -> Result<Expanded, Unspecified> {
        let secret = self.secret.get(..self.algorithm.key_len()).ok_or(Unspecified)?;
        let key = LessSafeKey::new(UnboundKey::new(self.algorithm, secret)?);
        Ok(Expanded { number: self.number, key })
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // Fails only where the thread ends, and its keys with it.
        let _ = EXPANDED.try_with(|places| {
            if let Some(place) = places.borrow_mut().get_mut(self.place())
                && place.as_ref().is_some_and(|expanded| expanded.number == self.number)
            {
                *place = None;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::aead::AES_128_GCM;

    fn nonce() -> Nonce {
        Nonce::assume_unique_for_key([7; 12])
    }

    fn sealed(cipher: &Cipher) -> Vec<u8> {
        let mut text = b"some text".to_vec();
        let tag = cipher.seal(nonce(), Aad::empty(), &mut text).unwrap();
        text.extend_from_slice(tag.as_ref());
        text
    }

    #[test]
    fn keys_that_share_a_place_take_turns_and_none_is_taken_for_the_other() {
        let one = Cipher::new(&AES_128_GCM, &[1; 16]).unwrap();
        let mut other = Cipher::new(&AES_128_GCM, &[2; 16]).unwrap();
        other.number = one.number + CACHED_KEYS as u64;
        assert_eq!(one.place(), other.place());
        let (a, b) = (sealed(&one), sealed(&other));
        assert_ne!(a, b);
        for _ in 0..3 {
            assert!(one.open(nonce(), Aad::empty(), &mut a.clone()).is_ok());
            assert!(other.open(nonce(), Aad::empty(), &mut b.clone()).is_ok());
            assert!(one.open(nonce(), Aad::empty(), &mut b.clone()).is_err());
        }
    }

    #[test]
    fn a_key_that_is_dropped_leaves_nothing_behind() {
        let cipher = Cipher::new(&AES_128_GCM, &[1; 16]).unwrap();
        let place = cipher.place();
        let kept = || EXPANDED.with_borrow(|places| places.get(place).is_some_and(Option::is_some));
        assert!(!kept(), "nothing is expanded before it is used");
        sealed(&cipher);
        assert!(kept());
        drop(cipher);
        assert!(!kept());
    }

    #[test]
    fn a_key_of_another_length_is_none() {
        for length in [0, 15, 17, 32, 33] {
            assert!(Cipher::new(&AES_128_GCM, &vec![0; length]).is_none(), "{length}");
        }
    }
}
