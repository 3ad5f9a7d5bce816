//! The record layer's hot function: open a record with one key and seal it with another, in the same bytes.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use staunch::tls::record::{Content, Opener, Sealer, Secrets, Suite, Version};
use std::hint::black_box;

const SUITES: [(&str, Suite); 3] =
    [("aes128gcm", Suite::Aes128Gcm), ("aes256gcm", Suite::Aes256Gcm), ("chacha20", Suite::Chacha20Poly1305)];

fn secrets(suite: Suite) -> Secrets<'static> {
    let key: &[u8] = if suite == Suite::Aes128Gcm { &[1; 16] } else { &[1; 32] };
    Secrets { version: Version::Tls13, suite, key, iv: [2; 12] }
}

fn reseal(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        let mut group = criterion.benchmark_group(format!("reseal/{name}"));
        for length in [1, 120, 1_400, 4_096, 16_384] {
            group.throughput(Throughput::Bytes(length as u64));
            let mut far = Sealer::new(&secrets(suite), 0, u64::MAX).unwrap();
            group.bench_function(length.to_string(), |bencher| {
                bencher.iter_batched_ref(
                    || {
                        // Sealed as number 0, so that each fresh opener accepts it.
                        let mut record = Vec::new();
                        let mut near = Sealer::new(&secrets(suite), 0, u64::MAX).unwrap();
                        near.seal(Content::Data, &vec![7; length], &mut record).unwrap();
                        (Opener::new(&secrets(suite), 0).unwrap(), record)
                    },
                    |(opener, record)| {
                        black_box(opener.open(record).unwrap());
                        far.reseal(record).unwrap();
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, reseal);
criterion_main!(benches);
