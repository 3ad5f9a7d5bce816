use super::*;
use std::collections::HashSet;

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];
const NO_LIMIT: u64 = u64::MAX;

fn key(suite: Suite) -> &'static [u8] {
    match suite {
        Suite::Aes128Gcm => &[7; 16],
        _ => &[7; 32],
    }
}

fn pair(version: Version, suite: Suite) -> (Sealer, Opener) {
    let secrets = Secrets { version, suite, key: key(suite), iv: *b"twelve bytes" };
    (Sealer::new(&secrets, 0, NO_LIMIT).unwrap(), Opener::new(&secrets, 0).unwrap())
}

fn each_pair() -> impl Iterator<Item = (Version, Suite)> {
    [Version::Tls12, Version::Tls13].into_iter().flat_map(|v| SUITES.map(|s| (v, s)))
}

fn sealed(sealer: &mut Sealer, content: Content, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(content, plaintext, &mut out).unwrap();
    out
}

/// Seals an inner plaintext as TLS 1.3 sees it, type and padding as given.
fn sealed_inner(suite: Suite, sequence: u64, inner: &[u8]) -> Vec<u8> {
    let secrets = Secrets { version: Version::Tls13, suite, key: key(suite), iv: *b"twelve bytes" };
    let mut sealer = Sealer::new(&secrets, sequence, NO_LIMIT).unwrap();
    let length = (inner.len() + TAG) as u16;
    let mut record = [&[23, 3, 3][..], &length.to_be_bytes(), inner, &[0; TAG]].concat();
    sealer.reseal(&mut record).unwrap();
    record
}

#[test]
fn what_was_sealed_opens_for_each_version_and_suite() {
    for (version, suite) in each_pair() {
        let (mut sealer, mut opener) = pair(version, suite);
        for length in [1, 2, 100, MAX_PLAINTEXT] {
            let plaintext = vec![length as u8; length];
            let mut record = sealed(&mut sealer, Content::Data, &plaintext);
            assert_eq!(record_length(&record).unwrap(), Some(record.len()));
            let opened = opener.open(&mut record).unwrap();
            assert_eq!(opened.content, Content::Data);
            assert_eq!(&record[opened.start..opened.end], plaintext, "{version:?} {suite:?}");
        }
    }
}

#[test]
fn more_than_a_record_is_sealed_as_several() {
    let (mut sealer, mut opener) = pair(Version::Tls13, Suite::Aes128Gcm);
    let plaintext: Vec<u8> = (0..MAX_PLAINTEXT * 2 + 5).map(|i| i as u8).collect();
    let mut wire = sealed(&mut sealer, Content::Data, &plaintext);
    let (mut got, mut rest) = (Vec::new(), &mut wire[..]);
    while let Some(length) = record_length(rest).unwrap() {
        let (record, after) = rest.split_at_mut(length);
        let opened = opener.open(record).unwrap();
        got.extend_from_slice(&record[opened.start..opened.end]);
        rest = after;
    }
    assert_eq!(got, plaintext);
}

#[test]
fn resealing_moves_nothing_and_keeps_padding() {
    let inner = [&b"hello"[..], &[23], &[0; 9]].concat();
    let mut record = sealed_inner(Suite::Aes128Gcm, 0, &inner);
    let before = record.len();
    let (_, mut opener) = pair(Version::Tls13, Suite::Aes128Gcm);
    let opened = opener.open(&mut record).unwrap();
    assert_eq!(&record[opened.start..opened.end], b"hello");
    let (mut sealer, mut far_opener) = pair(Version::Tls13, Suite::Chacha20Poly1305);
    assert!(sealer.fits(&opener));
    sealer.reseal(&mut record).unwrap();
    assert_eq!(record.len(), before);
    let opened = far_opener.open(&mut record).unwrap();
    assert_eq!(&record[opened.start..opened.end], b"hello");
}

#[test]
fn resealing_works_between_equal_geometries_of_tls12() {
    for suite in SUITES {
        let (mut near, mut opener) = pair(Version::Tls12, suite);
        let (mut sealer, mut far) = pair(Version::Tls12, suite);
        for text in ["one", "two"] {
            let mut record = sealed(&mut near, Content::Data, text.as_bytes());
            opener.open(&mut record).unwrap();
            sealer.reseal(&mut record).unwrap();
            let opened = far.open(&mut record).unwrap();
            assert_eq!(&record[opened.start..opened.end], text.as_bytes());
        }
    }
}

#[test]
fn different_geometries_do_not_fit() {
    let (_, opener) = pair(Version::Tls12, Suite::Aes128Gcm);
    assert!(!pair(Version::Tls13, Suite::Aes128Gcm).0.fits(&opener));
    assert!(!pair(Version::Tls12, Suite::Chacha20Poly1305).0.fits(&opener));
    assert!(pair(Version::Tls12, Suite::Aes256Gcm).0.fits(&opener));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    for (version, suite) in each_pair() {
        let record = sealed(&mut pair(version, suite).0, Content::Data, b"payload");
        for byte in HEADER..record.len() {
            let mut bad = record.clone();
            bad[byte] ^= 1;
            assert_eq!(
                pair(version, suite).1.open(&mut bad),
                Err(RecordFault::BadMac),
                "{version:?} byte {byte}"
            );
        }
    }
}

#[test]
fn records_out_of_order_or_twice_do_not_open() {
    let (mut sealer, mut opener) = pair(Version::Tls13, Suite::Aes256Gcm);
    let first = sealed(&mut sealer, Content::Data, b"first");
    let second = sealed(&mut sealer, Content::Data, b"second");
    assert_eq!(opener.open(&mut second.clone()), Err(RecordFault::BadMac));
    let (_, mut opener) = pair(Version::Tls13, Suite::Aes256Gcm);
    opener.open(&mut first.clone()).unwrap();
    assert_eq!(opener.open(&mut first.clone()), Err(RecordFault::BadMac));
}

#[test]
fn each_nonce_is_used_exactly_once_however_records_are_sealed() {
    let (mut sealer, _) = pair(Version::Tls12, Suite::Aes128Gcm);
    let mut nonces = HashSet::new();
    for round in 0..1_000 {
        let mut record = sealed(&mut sealer, Content::Data, b"x");
        assert!(nonces.insert(record[HEADER..HEADER + EXPLICIT_NONCE].to_vec()));
        if round % 3 == 0 {
            let mut opener = pair(Version::Tls12, Suite::Aes128Gcm).1;
            opener.key.sequence = sealer.key.sequence - 1;
            opener.open(&mut record).unwrap();
            sealer.reseal(&mut record).unwrap();
            assert!(nonces.insert(record[HEADER..HEADER + EXPLICIT_NONCE].to_vec()));
        }
    }
}

#[test]
fn limits_of_length_are_kept() {
    let header = |length: u16| [&[23, 3, 3][..], &length.to_be_bytes()].concat();
    assert_eq!(record_length(&header(MAX_PAYLOAD as u16)), Ok(Some(MAX_RECORD)));
    assert_eq!(record_length(&header(MAX_PAYLOAD as u16 + 1)), Err(RecordFault::TooLong));
    assert_eq!(record_length(&[23, 3, 3, 0]), Ok(None));
    // 16,384 bytes and the type are allowed, one byte more is not, be it only padding.
    let suite = Suite::Aes128Gcm;
    let full = [&vec![1; MAX_PLAINTEXT][..], &[23]].concat();
    assert!(pair(Version::Tls13, suite).1.open(&mut sealed_inner(suite, 0, &full)).is_ok());
    let over = [&full[..], &[0]].concat();
    let opened = pair(Version::Tls13, suite).1.open(&mut sealed_inner(suite, 0, &over));
    assert_eq!(opened, Err(RecordFault::TooLong));
}

#[test]
fn record_types_that_cannot_stand_here_are_refused() {
    let suite = Suite::Aes128Gcm;
    for (inner, fault) in [
        (&[0u8, 0, 0][..], RecordFault::NoType),
        (&[][..], RecordFault::NoType),
        (&[1, 20], RecordFault::Unexpected),
        (&[1, 24], RecordFault::Unexpected),
        (&[21], RecordFault::Unexpected),
        (&[22], RecordFault::Unexpected),
    ] {
        let opened = pair(Version::Tls13, suite).1.open(&mut sealed_inner(suite, 0, inner));
        assert_eq!(opened, Err(fault), "{inner:?}");
    }
    assert_eq!(record_length(b"GET / HTTP/1.1"), Err(RecordFault::Unexpected));
    assert_eq!(record_length(&[23, 2, 0, 0, 1]), Err(RecordFault::Unexpected));
    // change_cipher_spec and bare alerts after the handshake of TLS 1.3
    for kind in [20, 21] {
        let mut record = [&[kind, 3, 3, 0, 20][..], &[1; 20]].concat();
        assert_eq!(pair(Version::Tls13, suite).1.open(&mut record), Err(RecordFault::Unexpected));
    }
}

#[test]
fn too_short_to_hold_a_tag_is_a_bad_record() {
    for (version, suite) in each_pair() {
        for length in 0..TAG {
            let mut record = [&[23, 3, 3, 0, length as u8][..], &vec![0; length]].concat();
            assert_eq!(
                pair(version, suite).1.open(&mut record),
                Err(RecordFault::BadMac),
                "{version:?} {suite:?}"
            );
        }
    }
}

#[test]
fn thirty_two_empty_records_in_a_row_pass_and_the_next_does_not() {
    let suite = Suite::Aes128Gcm;
    let (_, mut opener) = pair(Version::Tls13, suite);
    for sequence in 0..u64::from(MAX_EMPTY) {
        opener.open(&mut sealed_inner(suite, sequence, &[23])).unwrap();
    }
    let next = u64::from(MAX_EMPTY);
    assert_eq!(opener.open(&mut sealed_inner(suite, next, &[23])), Err(RecordFault::TooManyEmpty));
}

#[test]
fn a_record_with_data_forgives_the_empty_ones_before_it() {
    let suite = Suite::Aes128Gcm;
    let (_, mut opener) = pair(Version::Tls13, suite);
    for sequence in 0..100 {
        let inner: &[u8] = if sequence % 20 == 19 { &[1, 23] } else { &[23] };
        opener.open(&mut sealed_inner(suite, sequence, inner)).unwrap();
    }
}

#[test]
fn sequence_numbers_never_wrap() {
    let (mut sealer, _) = pair(Version::Tls13, Suite::Aes128Gcm);
    sealer.key.sequence = u64::MAX - 2;
    assert!(sealer.seal(Content::Data, b"last", &mut Vec::new()).is_ok());
    assert_eq!(sealer.seal(Content::Data, b"over", &mut Vec::new()), Err(RecordFault::Exhausted));
}

#[test]
fn a_key_is_worn_at_its_limit_and_fresh_after_renewal() {
    let secrets =
        Secrets { version: Version::Tls13, suite: Suite::Aes128Gcm, key: &[1; 16], iv: *b"twelve bytes" };
    let mut sealer = Sealer::new(&secrets, 0, 3).unwrap();
    for worn in [false, false, false] {
        assert_eq!(sealer.needs_rekey(), worn);
        sealed(&mut sealer, Content::Data, b"x");
    }
    assert!(sealer.needs_rekey() && sealer.can_rekey());
    sealer.rekey(&Secrets { key: &[2; 16], ..secrets }).unwrap();
    assert!(!sealer.needs_rekey());
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for (version, suite) in each_pair() {
            let _ = record_length(&bytes);
            if bytes.len() >= HEADER {
                let _ = pair(version, suite).1.open(&mut bytes.clone());
            }
        }
        bytes.clear();
    }
}
