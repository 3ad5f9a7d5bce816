use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackFault> {
    let mut fields = Fields::default();
    decoder.decode(block, 16_384, 100, &mut fields)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// RFC 7541 appendix C.3 and C.4: the same three requests on one connection, plain and Huffman-coded.
#[test]
fn requests_of_the_rfc_decode() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let expected = [
        pairs(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]),
        pairs(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
            ("cache-control", "no-cache"),
        ]),
        pairs(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ]),
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        for (block, expected) in blocks.iter().zip(&expected) {
            assert_eq!(decoded(&mut decoder, &bytes(block)).as_ref(), Ok(expected));
        }
    }
}

/// RFC 7541 appendix C.6: responses with a table of 256 bytes, which evicts.
#[test]
fn responses_of_the_rfc_decode_with_eviction() {
    let blocks = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let mut decoder = Decoder::default();
    // A table size update to 256 in front of the first block.
    let first = [bytes("3fe1 01"), bytes(blocks[0])].concat();
    let expected = pairs(&[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ]);
    assert_eq!(decoded(&mut decoder, &first), Ok(expected));
    let second = decoded(&mut decoder, &bytes(blocks[1])).unwrap();
    assert_eq!(second[0], (":status".into(), "307".into()));
    let third = decoded(&mut decoder, &bytes(blocks[2])).unwrap();
    assert_eq!(third[4], ("content-encoding".into(), "gzip".into()));
    assert!(third[5].1.starts_with("foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU;"));
}

#[test]
fn malformed_blocks_are_refused_by_kind() {
    let table: &[(&str, HpackFault)] = &[
        ("80", HpackFault::Index),
        ("be", HpackFault::Index),
        ("ffffffffff0f", HpackFault::Integer),
        ("ff", HpackFault::Truncated),
        ("00", HpackFault::Truncated),
        ("4001", HpackFault::Truncated),
        ("3fe2 1f", HpackFault::TableSize),
        ("82 20", HpackFault::TableSize),
        // Huffman: eight bits of padding, padding of zeros, the end-of-string symbol.
        ("0085 f2b24a84ff 8449509fff", HpackFault::Huffman),
        ("0081 00 00", HpackFault::Huffman),
        ("0084 ffffffff 00", HpackFault::Huffman),
    ];
    for (block, fault) in table {
        assert_eq!(decoded(&mut Decoder::default(), &bytes(block)), Err(*fault), "{block}");
    }
}

#[test]
fn one_byte_fields_count_against_both_limits() {
    let mut decoder = Decoder::default();
    let mut fields = Fields::default();
    assert_eq!(decoder.decode(&[0x82; 101], 16_384, 100, &mut fields), Err(HpackFault::TooMany));
    // An entry of 3,000 bytes, then one byte for each repetition.
    let mut bomb = vec![0x40, 1, b'a'];
    write_integer(3_000, 7, 0, &mut bomb);
    bomb.extend_from_slice(&[b'x'; 3_000]);
    bomb.extend_from_slice(&[0xbe; 90]);
    fields.clear();
    assert_eq!(decoder.decode(&bomb, 16_384, 100, &mut fields), Err(HpackFault::TooLarge));
    assert!(fields.len() < 10);
}

#[test]
fn the_encoder_uses_the_static_table_and_marks_credentials() {
    let encoded = |name: &str, value: &str, never| {
        let mut out = Vec::new();
        encode(name.as_bytes(), value.as_bytes(), never, &mut out);
        out
    };
    assert_eq!(encoded(":method", "POST", false), [0x83]);
    assert_eq!(encoded(":status", "404", false), [0x8d]);
    assert_eq!(encoded("authorization", "k", true), [0x1f, 8, 1, b'k']);
    assert_eq!(encoded("x", "y", false), [0, 1, b'x', 1, b'y']);
}

proptest::proptest! {
    #[test]
    fn what_was_encoded_decodes(list in proptest::collection::vec(("[a-z-]{1,20}", ".{0,300}", proptest::bool::ANY), 0..20)) {
        let mut block = Vec::new();
        for (name, value, never) in &list {
            encode(name.as_bytes(), value.as_bytes(), *never, &mut block);
        }
        let mut fields = Fields::default();
        Decoder::default().decode(&block, 1 << 20, 100, &mut fields).unwrap();
        let got: Vec<_> = fields.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let sent: Vec<_> = list.iter().map(|(n, v, _)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        proptest::prop_assert_eq!(got, sent);
    }

    #[test]
    fn arbitrary_blocks_never_panic(block in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = decoded(&mut Decoder::default(), &block);
    }
}
