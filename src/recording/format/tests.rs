//! Byte-literal tests, round trips, and arbitrary bytes.

use super::envelope::{Identities, Recipient};
use super::frame::{self, FIRST, FrameHead, Gap, KeyNotice, Kind, Plane, SEALED, Totals};
use super::keys::{self, ENTRY, EntryState, EnvelopeKey, FactPlace, Owner};
use super::segment::{GatewayId, SegmentHead};
use super::traffic::{TrafficSecret, suite_code};
use super::*;
use crate::names::SessionId;
use crate::tls::record::{Content, Opener, Sealer, Suite};
use proptest::prelude::*;

const GATEWAY: GatewayId = GatewayId(*b"gateway-gateway-");
const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head() -> SegmentHead {
    SegmentHead {
        worker: 2,
        class: 3,
        gateway: GATEWAY,
        number: 7,
        opened: 0x0102_0304_0506_0708,
        previous: 5,
        bytes_envelope: b"one".to_vec(),
        facts_envelope: b"second".to_vec(),
    }
}

#[test]
fn a_segment_head_stands_byte_by_byte() {
    let bytes = head().encode();
    let expected = "535441554e534547 0001 0002 00000003 676174657761792d676174657761792d 0000000000000007 \
        0102030405060708 0000000000000005 000000000000000000000000000000000000000000000000 00000003 00000006 \
        00000000 00000000 6f6e65 7365636f6e64";
    let got = hex(&bytes);
    let expected = expected.replace(' ', "");
    // The checksum is held against the library's below.
    assert_eq!(got[..184], expected[..184]);
    assert_eq!(got[192..], expected[192..]);
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "CRC-32C's check value");
    assert_eq!(bytes[92..96], crc32c::crc32c(&bytes[..92]).to_be_bytes());
    assert_eq!(SegmentHead::parse(&bytes), Ok(head()));
}

#[test]
fn segment_heads_that_are_cut_foreign_newer_or_flipped_are_refused() {
    let good = head().encode();
    for end in 0..good.len() {
        assert!(matches!(SegmentHead::parse(&good[..end]), Err(FormatFault::Cut { .. })), "{end}");
    }
    for at in 0..segment::HEAD {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(SegmentHead::parse(&bad).is_err(), "{at}");
    }
    assert_eq!(SegmentHead::parse(&[b'x'; 96]), Err(FormatFault::Foreign("segment")));
    let mut newer = good.clone();
    newer[9] = 2;
    let sum = crc32c::crc32c(&newer[..92]).to_be_bytes();
    newer[92..96].copy_from_slice(&sum);
    assert_eq!(SegmentHead::parse(&newer), Err(FormatFault::Version(2)));
}

#[test]
fn a_frame_head_stands_byte_by_byte() {
    let head = FrameHead {
        length: 0x0001_0203,
        kind: Kind::Up,
        flags: FIRST | SEALED,
        epoch: 0x0405,
        session: SessionId(0x1112_1314_1516_1718),
        time: 0x2122_2324_2526_2728,
        number: 0x3132_3334,
    };
    let bytes = head.encode();
    assert_eq!(
        hex(&bytes[..28]),
        "000102030405040511121314151617182122232425262728 31323334".replace(' ', "")
    );
    assert_eq!(FrameHead::parse(&bytes), Ok(head));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes;
            bad[at] ^= 1 << bit;
            assert_eq!(FrameHead::parse(&bad), Err(FormatFault::Checksum("frame head")), "{at}.{bit}");
        }
    }
}

#[test]
fn payloads_stand_byte_by_byte() {
    let notice = KeyNotice { place: 1, plane: Plane::Up, suite: 2, previous: 9, digest: [0xab; 32] };
    let expected = format!("00000001 04 02 0000 0000000000000009 {}", "ab".repeat(32)).replace(' ', "");
    assert_eq!(hex(&notice.encode()), expected);
    assert_eq!(KeyNotice::parse(&notice.encode()), Ok(notice));
    let totals =
        Totals { bytes: [1, 3], records: [2, 4], lost_bytes: 5, lost_records: 6, facts: 7, segments: 8 };
    let longs: String = (1..=6).map(|n| format!("{n:016x}")).collect();
    assert_eq!(hex(&totals.encode()), longs + "0000000700000008");
    assert_eq!(Totals::parse(&totals.encode()), Ok(totals));
    let gap = Gap { plane: Plane::Down, bytes: 5, records: 6 };
    assert_eq!(hex(&gap.encode()), "030000000000000000000000000000050000000000000006");
    assert_eq!(Gap::parse(&gap.encode()), Ok(gap));
}

fn secret(suite: Suite) -> TrafficSecret {
    TrafficSecret::new(suite, &vec![0x42; TrafficSecret::length(suite)]).unwrap()
}

fn owner() -> Owner {
    Owner { gateway: GATEWAY, number: 7, session: SessionId(9), plane: Plane::Down }
}

#[test]
fn a_key_entry_opens_for_its_owner_alone_and_no_byte_of_it_can_change() {
    let key = EnvelopeKey::random();
    for suite in SUITES {
        let entry = keys::seal(&key, &owner(), &secret(suite), [3; 12]);
        assert_eq!(
            hex(&entry[..24]),
            format!("0000000000000009 03 {:02x} 01 00 {}", suite_code(suite), "03".repeat(12))
                .replace(' ', "")
        );
        let opened = keys::open(&key, &owner(), &entry).unwrap();
        assert_eq!(opened.padded(), secret(suite).padded());
        assert!(opened.suite() == suite);
        for at in 0..ENTRY {
            let mut bad = entry;
            bad[at] ^= 1;
            assert!(keys::open(&key, &owner(), &bad).is_err(), "{at}");
        }
        let others = [
            Owner { number: 8, ..owner() },
            Owner { gateway: GatewayId([0; 16]), ..owner() },
            Owner { session: SessionId(8), ..owner() },
            Owner { plane: Plane::Up, ..owner() },
        ];
        assert!(others.iter().all(|other| keys::open(&key, other, &entry).is_err()));
        assert!(keys::open(&EnvelopeKey::random(), &owner(), &entry).is_err());
    }
    assert_eq!(keys::state(&[0; ENTRY]), Ok(EntryState::Erased));
}

#[test]
fn a_sealed_fact_opens_in_its_place_alone() {
    let key = EnvelopeKey::random();
    let head = [1; frame::HEAD];
    let place = |offset, number| FactPlace { gateway: GATEWAY, number, offset, head: &head };
    let mut payload = b"select 1".to_vec();
    key.seal_fact(&place(500, 7), &mut payload);
    assert_ne!(&payload[..8], b"select 1");
    for wrong in [place(501, 7), place(500, 8)] {
        assert!(key.open_fact(&wrong, &mut payload.clone()).is_err());
    }
    key.open_fact(&place(500, 7), &mut payload).unwrap();
    assert_eq!(payload, b"select 1");
}

#[test]
fn an_envelope_opens_for_each_of_its_recipients_and_nobody_else() {
    let people = [Identities::generate(), Identities::generate(), Identities::generate()];
    let key = EnvelopeKey::random();
    let to: Vec<Recipient> = people[..2].iter().flat_map(Identities::recipients).collect();
    let sealed = envelope::seal(&key, &to).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/v1\n"));
    for one in &people[..2] {
        assert!(envelope::open(&sealed, one).unwrap().unwrap().bytes() == key.bytes());
    }
    assert!(envelope::open(&sealed, &people[2]).unwrap().is_none());
    for at in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        assert!(!matches!(envelope::open(&bad, &people[0]), Ok(Some(_))), "{at}");
    }
}

#[test]
fn identity_files_are_read_as_age_reads_them() {
    let identities = Identities::generate();
    let text = format!(
        "# created: today\n# public key: {}\n\n{}",
        identities.recipients()[0],
        &*identities.expose()
    );
    assert_eq!(Identities::parse(&text).unwrap().recipients(), identities.recipients());
    assert!(Identities::parse("# nothing\n").is_err());
    assert!(Identities::parse("hunter2").is_err_and(|fault| !fault.contains("hunter2")));
    let wrong = identities.expose().trim().parse::<Recipient>().unwrap_err();
    assert!(wrong.contains("public half") && !wrong.contains(identities.expose().trim()));
}

/// RFC 8448 section 3: the server's application traffic secret, key and nonce base.
#[test]
fn keys_are_derived_as_the_rfc_has_it() {
    fn bytes(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
    let secret = bytes("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    let secret = TrafficSecret::new(Suite::Aes128Gcm, &secret).unwrap();
    let key = secret.key();
    assert_eq!(hex(key.secrets().key), "9f02283b6c9c07efc26bb9f2ac92e356");
    assert_eq!(hex(&key.secrets().iv), "cf782b88dd83549aadf1e984");
}

#[test]
fn the_next_epoch_opens_what_the_next_epoch_sealed() {
    for suite in SUITES {
        let next = secret(suite).next();
        let mut sealed = Vec::new();
        let mut sealer = Sealer::new(&next.key().secrets(), 0, 10).unwrap();
        sealer.seal(Content::Data, b"hello", &mut sealed).unwrap();
        let opened =
            Opener::new(&secret(suite).next().key().secrets(), 0).unwrap().open(&mut sealed).unwrap();
        assert_eq!(&sealed[opened.start..opened.end], b"hello");
    }
}

proptest! {
    #[test]
    fn heads_come_back_as_they_went(
        worker: u16, class: u32, gateway: [u8; 16], number in 1u64.., opened: u64,
        one in proptest::collection::vec(any::<u8>(), 0..300), two in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let gateway = GatewayId(gateway);
        let head = SegmentHead {
            worker, class, gateway, number, opened, previous: number - 1, bytes_envelope: one, facts_envelope: two,
        };
        prop_assert_eq!(SegmentHead::parse(&head.encode()), Ok(head));
    }

    #[test]
    fn frame_heads_come_back_as_they_went(
        length in 0..=frame::MAX_PAYLOAD as u32, kind in 1u8..=6, flags in 0u8..8, epoch: u16, session: u64, time: u64,
        number: u32,
    ) {
        let kind = [Kind::Key, Kind::Fact, Kind::Down, Kind::Up, Kind::End, Kind::Gap][usize::from(kind) - 1];
        let head = FrameHead { length, kind, flags, epoch, session: SessionId(session), time, number };
        prop_assert_eq!(FrameHead::parse(&head.encode()), Ok(head));
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), repair: bool) {
        if repair && bytes.len() >= 96 {
            bytes[..10].copy_from_slice(b"STAUNSEG\0\x01");
            let sum = crc32c::crc32c(&bytes[..92]).to_be_bytes();
            bytes[92..96].copy_from_slice(&sum);
        } else if repair && bytes.len() >= 32 {
            let sum = crc32c::crc32c(&bytes[..28]).to_be_bytes();
            bytes[28..32].copy_from_slice(&sum);
        }
        let _ = SegmentHead::parse(&bytes);
        let _ = FrameHead::parse(&bytes);
        let _ = (KeyNotice::parse(&bytes), Totals::parse(&bytes), Gap::parse(&bytes));
        let _ = envelope::open(&bytes, &Identities(vec![]));
        if let Some(entry) = bytes.first_chunk::<ENTRY>() {
            let _ = keys::open(&EnvelopeKey::new(zeroize::Zeroizing::new([1; 32])), &owner(), entry);
        }
    }
}
