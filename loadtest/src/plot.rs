//! SVG plots.

use crate::Outcome;
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (800, 450);

/// A line of a plot.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a plot's axes are.
pub(crate) struct Axes<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Each step of the x axis doubles or tenfolds.
    pub(crate) log_x: bool,
}

/// Draws lines into a file. Nothing is drawn without points.
pub(crate) fn lines(file: &Path, axes: &Axes<'_>, lines: &[Line]) -> Outcome<()> {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let most = all().map(|(_, y)| y).fold(0.0_f64, f64::max) * 1.1;
    let (left, right) = all().map(|(x, _)| x).fold((f64::MAX, f64::MIN), |(l, r), x| (l.min(x), r.max(x)));
    if most <= 0.0 || left >= right {
        return Ok(());
    }
    // Both kinds of axis are drawn on a straight one; labels say what stands there.
    let place = |x: f64| if axes.log_x { x.max(1e-9).log10() } else { x };
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(axes.title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(75)
        .build_cartesian_2d(place(left)..place(right), 0.0..most)?;
    let label = |x: &f64| if axes.log_x { short(10_f64.powf(*x)) } else { short(*x) };
    chart.configure_mesh().x_desc(axes.x).y_desc(axes.y).x_label_formatter(&label).draw()?;
    for (n, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(n).to_rgba();
        let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (place(*x), *y)).collect();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}

/// Draws one bar for each name.
pub(crate) fn bars(file: &Path, title: &str, unit: &str, bars: &[(String, f64)]) -> Outcome<()> {
    let most = bars.iter().map(|(_, value)| *value).fold(0.0_f64, f64::max) * 1.1;
    if most <= 0.0 {
        return Ok(());
    }
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(75)
        .build_cartesian_2d(-0.5..count - 0.5, 0.0..most)?;
    let name = |x: &f64| {
        let near = (x - x.round()).abs() < 0.01 && *x >= 0.0;
        if near {
            bars.get(x.round() as usize).map_or_else(String::new, |(name, _)| name.clone())
        } else {
            String::new()
        }
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(bars.len() * 2 + 1)
        .x_label_formatter(&name)
        .y_desc(unit)
        .draw()?;
    chart.draw_series(bars.iter().enumerate().map(|(n, (_, value))| {
        let colour = if n == 0 { RGBColor(0, 104, 139) } else { RGBColor(150, 150, 150) };
        Rectangle::new([(n as f64 - 0.35, 0.0), (n as f64 + 0.35, *value)], colour.filled())
    }))?;
    chart.draw_series(bars.iter().enumerate().map(|(n, (_, value))| {
        Text::new(short(*value), (n as f64 - 0.2, *value + most * 0.03), ("sans-serif", 14))
    }))?;
    root.present()?;
    Ok(())
}

fn short(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}
