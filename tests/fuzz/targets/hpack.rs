//! HPACK: no block makes the decoder panic or pass its limits, what it decodes encodes and decodes to the same, and a limit
//! that was passed does not change what it knows.

use staunch::protocol::Fields;
use staunch::protocol::hpack::{Decoder, HpackFault, encode};

/// One input.
pub fn run(data: &[u8]) {
    let (mut decoder, mut fields) = (Decoder::default(), Fields::default());
    let mut generous = Decoder::default();
    for block in data.chunks(64) {
        fields.clear();
        let decoded = decoder.decode(block, 4_096, 20, &mut fields);
        let mut everything = Fields::default();
        let unlimited = generous.decode(block, 1 << 24, 1 << 16, &mut everything);
        match decoded {
            Err(HpackFault::TooLarge | HpackFault::TooMany) => {
                assert!(fields.iter().eq(everything.iter().take(fields.len())));
                continue;
            }
            Err(_) => return,
            // The generous one finds the same, now and in all that refers to the table later.
            Ok(()) => assert!(unlimited.is_ok() && fields.iter().eq(everything.iter())),
        }
        // Crumbs of cookies are bounded by their bytes.
        assert!(fields.iter().filter(|(name, _)| *name != b"cookie").count() <= 20);
        let mut again = Vec::new();
        // What must never be indexed comes out the same.
        let never = |name: &[u8]| name.len() % 2 == 1;
        fields.iter().for_each(|(name, value)| encode(name, value, never(name), &mut again));
        let mut same = Fields::default();
        Decoder::default().decode(&again, 1 << 20, 100, &mut same).unwrap();
        assert!(fields.iter().eq(same.iter()));
    }
}
