//! HPACK: no block makes the decoder panic or pass its limits, and what it decodes encodes and decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use staunch::protocol::Fields;
use staunch::protocol::hpack::{Decoder, encode};

fuzz_target!(|data: &[u8]| {
    let (mut decoder, mut fields) = (Decoder::default(), Fields::default());
    for block in data.chunks(64) {
        fields.clear();
        if decoder.decode(block, 4_096, 20, &mut fields).is_err() {
            return;
        }
        assert!(fields.len() <= 20);
        let mut again = Vec::new();
        fields.iter().for_each(|(name, value)| encode(name, value, false, &mut again));
        let mut same = Fields::default();
        Decoder::default().decode(&again, 1 << 20, 100, &mut same).unwrap();
        assert!(fields.iter().eq(same.iter()));
    }
});
