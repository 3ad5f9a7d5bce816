//! Records: arbitrary bytes never open, and a sealed record that was changed anywhere never opens.

use staunch::tls::record::{Content, Opener, Sealer, Secrets, Suite, Version, record_length};

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

/// One input.
pub fn run(data: &[u8]) {
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
    passed_on(&secrets, &wire[..first], &rest[..opened.end - opened.start]);
    if *change != 0 {
        let mut changed = wire[..first].to_vec();
        // The header counts: it is the additional data of the seal (RFC 8446 section 5.2). A length that grew or shrank
        // makes another record of it, if one at all.
        let at = usize::from(*place) * 7 % first;
        changed[at] ^= change;
        if let Ok(Some(length)) = record_length(&changed) {
            changed.resize(length, *change);
            assert!(opener().open(&mut changed).is_err());
        }
    }
}

/// Opened with one key and sealed again where it lies with another, a record holds the same; and so after new keys.
fn passed_on(secrets: &Secrets<'_>, sealed: &[u8], plaintext: &[u8]) {
    let key = &[5; 32][..secrets.key.len()];
    let other = Secrets { key, iv: [1; 12], ..*secrets };
    let mut source = Opener::new(secrets, 0).unwrap();
    let mut sink = Sealer::new(&other, 7, u64::MAX).unwrap();
    let mut target = Opener::new(&other, 7).unwrap();
    let mut record = sealed.to_vec();
    source.open(&mut record).unwrap();
    if !sink.fits(&source) {
        return;
    }
    sink.reseal(&mut record).unwrap();
    let opened = target.open(&mut record).unwrap();
    assert_eq!(&record[opened.start..opened.end], plaintext);
    sink.rekey(secrets).unwrap();
    target.rekey(secrets).unwrap();
    let mut wire = Vec::new();
    sink.seal(Content::Data, plaintext, &mut wire).unwrap();
    let opened = target.open(&mut wire).unwrap();
    assert_eq!(&wire[opened.start..opened.end], plaintext);
}
