//! Open a record with one leg's key and seal it with the other's: in the same bytes where both have the same geometry,
//! through a copy where they have not.

use criterion::{BatchSize, Criterion, Throughput};
use staunch::tls::record::{Content, Opener, Sealer, Secrets, Suite, Version};
use std::hint::black_box;

const SUITES: [(&str, Suite); 3] =
    [("aes128gcm", Suite::Aes128Gcm), ("aes256gcm", Suite::Aes256Gcm), ("chacha20", Suite::Chacha20Poly1305)];
/// The leg that a record comes from, and the one that it goes to.
const LEGS: [(&str, Version, Version); 4] = [
    ("13-to-13", Version::Tls13, Version::Tls13),
    ("12-to-12", Version::Tls12, Version::Tls12),
    ("12-to-13", Version::Tls12, Version::Tls13),
    ("13-to-12", Version::Tls13, Version::Tls12),
];
const LENGTHS: [usize; 5] = [1, 120, 1_400, 4_096, 16_384];
/// Records made ready at a time: few enough for the second-level cache.
const BATCH: BatchSize = BatchSize::NumIterations(16);

fn secrets(version: Version, suite: Suite) -> Secrets<'static> {
    let key: &[u8] = if suite == Suite::Aes128Gcm { &[1; 16] } else { &[1; 32] };
    Secrets { version, suite, key, iv: [2; 12] }
}

pub(crate) fn reseal(criterion: &mut Criterion) {
    for (legs, from, to) in LEGS {
        for (name, suite) in SUITES {
            let mut group = criterion.benchmark_group(format!("reseal/{legs}/{name}"));
            let (from, to) = (secrets(from, suite), secrets(to, suite));
            for length in LENGTHS {
                group.throughput(Throughput::Bytes(length as u64));
                let mut far = Sealer::new(&to, 0, u64::MAX).unwrap();
                let fits = far.fits(&Opener::new(&from, 0).unwrap());
                // ChaCha20 has no explicit nonce in TLS 1.2, but the type of a record stands elsewhere.
                assert_eq!(fits, from.version == to.version);
                let ready = || {
                    // Sealed as number 0, so that each fresh opener accepts it.
                    let mut record = Vec::new();
                    let mut near = Sealer::new(&from, 0, u64::MAX).unwrap();
                    near.seal(Content::Data, &vec![7; length], &mut record).unwrap();
                    (Opener::new(&from, 0).unwrap(), record)
                };
                let mut copy = Vec::with_capacity(length + 64);
                group.bench_function(length.to_string(), |bencher| {
                    bencher.iter_batched_ref(
                        ready,
                        |(opener, record)| {
                            let opened = opener.open(record).unwrap();
                            if fits {
                                far.reseal(record).unwrap();
                            } else {
                                copy.clear();
                                far.seal(opened.content, &record[opened.start..opened.end], &mut copy)
                                    .unwrap();
                            }
                            black_box((&record, &copy));
                        },
                        BATCH,
                    );
                });
            }
            group.finish();
        }
    }
}
