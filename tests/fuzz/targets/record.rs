//! Records: arbitrary bytes never open, and a sealed record that was changed anywhere never opens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use staunch::tls::record::{Content, Opener, Sealer, Secrets, Suite, Version, record_length};

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

fuzz_target!(|data: &[u8]| {
    let [choice, place, change, rest @ ..] = data else { return };
    let suite = SUITES[usize::from(*choice) % 3];
    let version = if choice & 0x80 == 0 { Version::Tls13 } else { Version::Tls12 };
    let key: &[u8] = if suite == Suite::Aes128Gcm { &[3; 16] } else { &[3; 32] };
    let secrets = Secrets { version, suite, key, iv: [9; 12] };
    let opener = || Opener::new(&secrets, 0).unwrap();

    // What a stranger makes up does not verify.
    if let Ok(Some(length)) = record_length(rest)
        && length <= rest.len()
    {
        assert!(opener().open(&mut rest[..length].to_vec()).is_err());
    }
    if rest.is_empty() {
        return;
    }
    let mut wire = Vec::new();
    Sealer::new(&secrets, 0, u64::MAX).unwrap().seal(Content::Data, rest, &mut wire).unwrap();
    let first = record_length(&wire).unwrap().unwrap();
    let mut record = wire[..first].to_vec();
    let opened = opener().open(&mut record).unwrap();
    assert!(rest.starts_with(&record[opened.start..opened.end]));
    if *change != 0 {
        let mut changed = wire[..first].to_vec();
        let at = 5 + usize::from(*place) * 7 % (first - 5);
        changed[at] ^= change;
        assert!(opener().open(&mut changed).is_err());
    }
});
