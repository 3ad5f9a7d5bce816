//! Plots of the last minutes as SVG, which needs no script.

use super::{bytes, seconds};
use crate::admin::live::Point;
use crate::metrics::{Quantiles, Totals};
use maud::{Markup, html};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

pub(super) fn traffic(points: &[Point], totals: &Totals, sessions: usize) -> Markup {
    let rate = |value: f64| format!("{}/s", bytes(value));
    let count = |value: f64| format!("{value:.0}");
    let all = |get: fn(&Point) -> f64| points.iter().map(|point| Some(get(point))).collect::<Vec<_>>();
    let first_bytes: Vec<_> = points.iter().map(|point| point.first_byte_p99_seconds).collect();
    html! {
        p {
            strong { (sessions) } " live sessions, " strong { (totals.requests_in_flight) } " requests under way, "
            strong { (totals.permitted) } " permits since the start."
        }
        div.plots {
            (plot("Sessions", &all(|point| point.sessions as f64), count))
            (plot("Down", &all(|point| point.down_rate), rate))
            (plot("Up", &all(|point| point.up_rate), rate))
            (plot("First byte, 99 of 100 within", &first_bytes, seconds))
        }
        h2 { "Since the start" }
        div.scroll.narrow tabindex="0" role="region" aria-label="Latencies" {
            table {
                caption { "Latency" }
                thead { tr { th scope="col" { "What" } th.number scope="col" { "Count" } th.number scope="col" { "Half within" } th.number scope="col" { "99 of 100 within" } } }
                tbody {
                    (latency("Client handshake", &totals.handshake_seconds))
                    (latency("Dial", &totals.dial_seconds))
                    (latency("First byte", &totals.first_byte_seconds))
                }
            }
        }
        h2 { "Refused requests" }
        (words(&totals.refused))
        h2 { "Ended sessions" }
        (words(&totals.closed))
    }
}

fn words(counts: &std::collections::BTreeMap<&'static str, u64>) -> Markup {
    html! {
        @if counts.is_empty() { p { "none" } } @else {
            dl.counts { @for (word, count) in counts { div { dt { code { (word) } } dd { (count) } } } }
        }
    }
}

fn latency(name: &str, of: &Quantiles) -> Markup {
    let show = |value: Option<f64>| value.map_or("–".to_owned(), seconds);
    html! {
        tr {
            th scope="row" { (name) }
            td.number { (of.count) }
            td.number { (show(of.p50)) }
            td.number { (show(of.p99)) }
        }
    }
}

/// One line over time. The last point stands at the right. `None`: there was nothing to measure, and the line stands still.
fn plot(name: &str, values: &[Option<f64>], show: impl Fn(f64) -> String) -> Markup {
    let mut known = values.iter().flatten().copied();
    let (highest, latest) = (known.clone().reduce(f64::max), known.next_back());
    let mut before = 0.0;
    let mut stand = |value: &Option<f64>| {
        before = value.unwrap_or(before);
        before
    };
    let values: Vec<f64> = values.iter().map(&mut stand).collect();
    let most = highest.unwrap_or(0.0);
    let step = WIDTH / super::super::live::POINTS as f64;
    let at = |(n, value): (usize, &f64)| {
        let x = WIDTH - (values.len() - 1 - n) as f64 * step;
        let y = HEIGHT - if most > 0.0 { value / most * (HEIGHT - 4.0) } else { 0.0 } - 2.0;
        format!("{x:.1},{y:.1}")
    };
    let line = values.iter().enumerate().map(at).collect::<Vec<_>>().join(" ");
    let told = |value: Option<f64>| value.map_or("nothing yet".to_owned(), &show);
    let (most, last) = (told(highest), told(latest));
    html! {
        figure {
            figcaption { (name) ": " strong { (last) } @if highest.is_some() { ", at most " (most) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (name) " over the last minutes: " (last) ", at most " (most) } {
                line.grid x1="0" x2=(WIDTH) y1="1" y2="1" {}
                line.grid x1="0" x2=(WIDTH) y1=(HEIGHT / 2.0) y2=(HEIGHT / 2.0) {}
                line.grid x1="0" x2=(WIDTH) y1=(HEIGHT - 1.0) y2=(HEIGHT - 1.0) {}
                polyline.line points=(line) {}
            }
            div.axis aria-hidden="true" { span { (super::super::live::POINTS / 60) " min ago" } span { "now" } }
        }
    }
}
