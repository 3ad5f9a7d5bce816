//! Charts as inline SVG: no script, no font from elsewhere, the same on paper.

use crate::audit::printable;
use serde_json::Value;
use std::fmt::Write;

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Colours by what they say; also told apart in grey.
pub(super) fn colour(name: &str) -> &'static str {
    match name {
        "post-quantum hybrid" => "#0b6e4f",
        "classical" => "#7fb7d6",
        "none" => "#c0392b",
        _ => "#c9ced6",
    }
}

const WIDTH: u64 = 720;
/// Where labels of bars end, and bars begin.
const LABEL_END: u64 = 272;
const BAR_START: u64 = 280;
const BAR_WIDTH: u64 = 340;
/// The longest name of a cipher suite has 39.
const LABEL_CHARACTERS: usize = 42;
const LABEL_CHARACTERS_THAT_FIT: usize = 32;

/// Bars from left to right, the largest first; at most `most`, the others together.
pub(super) fn bars(counts: &[(&str, u64)], most: usize) -> String {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let (shown, rest) = counts.split_at(counts.len().min(most));
    let others: u64 = rest.iter().map(|(_, count)| count).sum();
    let label = format!("{} others", rest.len());
    let mut rows = shown.to_vec();
    if others > 0 {
        rows.push((label.as_str(), others));
    }
    let largest = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let height = rows.len() * 24 + 4;
    let mut svg = format!("<svg class=\"bars\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for (place, (name, count)) in rows.iter().enumerate() {
        let (y, width) = (place * 24 + 3, (count * BAR_WIDTH / largest).max(2));
        let share = *count as f64 * 100.0 / total.max(1) as f64;
        let fill = match *name {
            "TLSv1.3" | "X25519MLKEM768" => colour("post-quantum hybrid"),
            name if name.starts_with("none") => colour("none"),
            "unknown" => colour(""),
            name => match colour(name) {
                "#c9ced6" => "#2f6f9f",
                known => known,
            },
        };
        let name = shorten(name, LABEL_CHARACTERS);
        // Whatever font there is, the label has its place.
        let fit = match name.chars().count() > LABEL_CHARACTERS_THAT_FIT {
            true => format!(" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\"", LABEL_END - 4),
            false => String::new(),
        };
        let _ = write!(
            svg,
            "<text x=\"{LABEL_END}\" y=\"{}\" text-anchor=\"end\"{fit}>{}</text><rect x=\"{BAR_START}\" y=\"{y}\" width=\"{width}\" \
             height=\"17\" rx=\"2\" fill=\"{fill}\"/><text x=\"{}\" y=\"{}\">{count} <tspan class=\"share\">{share:.1} %</tspan></text>",
            y + 13,
            escape(&name),
            BAR_START + width + 7,
            y + 13,
        );
    }
    svg.push_str("</svg>");
    svg
}

fn shorten(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => format!("{}…", text.chars().take(most - 1).collect::<String>()),
        false => text.to_owned(),
    }
}

const CLASSES: [&str; 4] = ["post-quantum hybrid", "classical", "unknown", "none"];

/// Sessions over time, stacked by class of key exchange.
pub(super) fn timeline(timeline: &Value) -> String {
    const HEIGHT: u64 = 190;
    const BASE: u64 = 160;
    let points: Vec<&Value> = timeline["points"].as_array().into_iter().flatten().collect();
    let count = |point: &Value, class: &str| point["counts"][class].as_u64().unwrap_or(0);
    let sum = |point: &Value| CLASSES.iter().map(|class| count(point, class)).sum::<u64>();
    let largest = points.iter().map(|point| sum(point)).max().unwrap_or(0).max(1);
    let step = 660.0 / points.len().max(1) as f64;
    let mut svg = format!("<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for (part, y) in [(0, BASE), (1, BASE / 2 + 5), (2, 10)] {
        let _ = write!(
            svg,
            "<line x1=\"46\" x2=\"710\" y1=\"{y}\" y2=\"{y}\" class=\"grid\"/><text x=\"40\" y=\"{}\" text-anchor=\"end\">{}</text>",
            y + 4,
            largest * part / 2
        );
    }
    for (place, point) in points.iter().enumerate() {
        let (x, mut y) = (48.0 + place as f64 * step, BASE as f64);
        for class in CLASSES {
            let height = count(point, class) as f64 * 150.0 / largest as f64;
            if height > 0.0 {
                y -= height;
                let width = (step - 1.5).clamp(1.0, 60.0);
                let fill = colour(class);
                let _ = write!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
                );
            }
        }
    }
    let label = |point: &Value| {
        point["from"].as_str().unwrap_or_default().get(..16).unwrap_or_default().replace('T', " ")
    };
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let _ = write!(svg, "<text x=\"48\" y=\"182\">{}</text>", escape(&label(first)));
        if points.len() > 1 {
            let _ =
                write!(svg, "<text x=\"710\" y=\"182\" text-anchor=\"end\">{}</text>", escape(&label(last)));
        }
    }
    svg.push_str("</svg><p class=\"legend\">");
    for class in CLASSES {
        if points.iter().any(|point| count(point, class) > 0) {
            let _ = write!(svg, "<span><i style=\"background:{}\"></i>{class}</span>", colour(class));
        }
    }
    svg.push_str("</p>");
    svg
}
