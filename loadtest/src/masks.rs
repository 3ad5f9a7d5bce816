//! What masks add to events that hold no value: the same streams without rules and with them, in turn.

use crate::compare::median;
use crate::meter::Quantiles;
use crate::options::{Common, MaskedText, Peer, Shape};
use crate::{Outcome, order, run};
use std::process::ExitCode;

/// One of several quantiles, in µs.
type Pick = fn(&Quantiles) -> f64;

/// Quantiles that are shown.
const SHOWN: [(&str, Pick); 4] =
    [("p50", |q| q.p50), ("p90", |q| q.p90), ("p99", |q| q.p99), ("p99.9", |q| q.p999)];

/// Runs rounds, each without and with rules, and prints the quantiles of latency from the moment at which an event was meant to
/// be sent: of the calm seconds where there were some, medians of all rounds.
pub(crate) async fn masks(common: &Common, rounds: u32, shape: &Shape) -> Outcome<ExitCode> {
    // Both have the same text.
    order::fill_with(MaskedText::Sparse);
    let (mut found, mut failures): ([Vec<Quantiles>; 2], u64) = Default::default();
    for round in 0..rounds {
        // Neither is always the first.
        for masked in [round % 2 == 1, round % 2 == 0] {
            let mask = masked.then_some(MaskedText::Sparse);
            let report = run::run(&Common { mask, ..common.clone() }, Peer::Staunch, shape, false).await?;
            failures += report.errors;
            if let Some(error) = &report.first_error {
                eprintln!("round {round}: {} errors: {error}", report.errors);
            }
            if report.interrupted {
                return Ok(ExitCode::from(crate::INTERRUPTED));
            }
            let quantiles = report.calm_us.or(report.latency_us).ok_or("a run had no event")?;
            println!("{}", line(if masked { "with rules" } else { "without" }, |of| of(&quantiles)));
            found[usize::from(masked)].push(quantiles);
        }
    }
    let [without, with] =
        found.map(|all| SHOWN.map(|(_, of)| median(&mut all.iter().map(of).collect::<Vec<_>>())));
    let names = SHOWN.map(|(name, _)| format!("{name:>9}")).concat();
    println!("\nmedians, µs{names}");
    for (name, values) in [("without", without), ("with rules", with)] {
        println!("{name:<11}{}", values.map(|value| format!("{value:>9.0}")).concat());
    }
    let added: String =
        without.iter().zip(with).map(|(without, with)| format!("{:>9.0}", with - without)).collect();
    println!("{:<11}{added}", "added");
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(name: &str, value: impl Fn(Pick) -> f64) -> String {
    let values = SHOWN.map(|(quantile, of)| format!("  {quantile} {:.0} µs", value(of)));
    format!("{name:<11}{}", values.concat())
}
