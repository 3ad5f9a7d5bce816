//! Masks over bodies: text without values, text full of them, and an event stream of a model's.

use criterion::{Criterion, Throughput};
use staunch::mask::{Detector, Format, HoldAction, HoldLimit, Kind, Mode, Rule, Rules, Stream};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// What a relay reads at a time.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 16;

const SPARSE: &str = "The quick brown fox jumps over the lazy dog, and nobody asks what for; it is what foxes do in such a text. ";
const DENSE: &str = "Pay 4111 1111 1111 1111 to DE89 3704 0044 0532 0130 00, mail jane.doe@example.com or call +49 30 901820. ";

/// The throughput of each kind of body.
pub(crate) fn mask(criterion: &mut Criterion) {
    let hold = HoldLimit { events: 64, time: Duration::from_secs(5), action: HoldAction::Mask };
    let rules = Arc::new(Rules::new(Detector::all().map(Rule::Known).collect(), Mode::Mask, hold).unwrap());
    let event = |text: &str| {
        let text: Vec<String> = text
            .as_bytes()
            .chunks(4)
            .map(|token| {
                let token = String::from_utf8_lossy(token);
                format!("data: {{\"id\":\"chatcmpl-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{token}\"}}}}]}}\n\n")
            })
            .collect();
        text.concat()
    };
    let bodies = [
        ("sparse text", Format::Text, SPARSE.to_owned(), false),
        ("dense text", Format::Text, DENSE.to_owned(), true),
        ("sparse JSON", Format::Json, format!("{{\"text\":{SPARSE:?},\"n\":17}}\n"), false),
        ("sparse events", Format::Events, event(SPARSE), false),
        ("dense events", Format::Events, event(DENSE), true),
    ];
    let mut group = criterion.benchmark_group("mask");
    for (name, format, unit, has_values) in bodies {
        let body = unit.repeat(PIECE * PIECES / unit.len() + 1);
        let body = &body.as_bytes()[..PIECE * PIECES];
        let masked = through(&rules, format, body);
        assert_eq!(masked.len(), body.len());
        assert_eq!(masked != body, has_values, "{name}");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(through(&rules, format, black_box(body))))
        });
    }
}

/// What comes of a body.
fn through(rules: &Arc<Rules>, format: Format, body: &[u8]) -> Vec<u8> {
    let (mut stream, mut out, mut piece) =
        (Stream::new(rules.clone(), format), Vec::with_capacity(body.len()), [0; PIECE]);
    for part in body.chunks(PIECE) {
        let piece = &mut piece[..part.len()];
        piece.copy_from_slice(part);
        let passed = stream.take(piece, Kind::Payload).unwrap();
        stream.release(passed.held, |bytes| out.extend_from_slice(bytes));
        out.extend_from_slice(&piece[..passed.at_hand]);
    }
    let held = stream.finish();
    stream.release(held, |bytes| out.extend_from_slice(bytes));
    out
}
