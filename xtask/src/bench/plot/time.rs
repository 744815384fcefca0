//! Memory over time: one panel for each VM, all with the same time below.

use std::{ops::Range, path::Path};

use anyhow::Result;
use plotters::prelude::*;

use super::{
    Panel, Series, Style,
    page::{self, Area, FINE, GRID, Header, INK, Legend, MUTED, font, number, pixels, told},
    thin::thin,
};

/// The most panels that a page shows.
pub(crate) const PANELS_MAX: usize = 12;

/// Writes the panels to an SVG file, at most [`PANELS_MAX`] of them; the page
/// says where it leaves out some.
pub(crate) fn time_plot(path: &Path, title: &str, panels: &[Panel]) -> Result<()> {
    let shown = &panels[..panels.len().min(PANELS_MAX)];
    let times = || shown.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points).map(|point| point.0);
    let (from, to) = times().fold((f64::MAX, 0.0), |(from, to): (f64, f64), time| (from.min(time), to.max(time)));
    let (from, to) = (from.min(to), to.max(from.min(to) + 1e-3));
    let (seconds, unit) = unit_of(to - from);
    let mut subtitle = format!("GiB over {unit}");
    if shown.len() < panels.len() {
        subtitle = format!("{subtitle}, {} of {} VMs", shown.len(), panels.len());
    }
    let header = Header { title, subtitle, legend: Legend::of(shown.iter().flat_map(|panel| &panel.series)) };
    let columns = match shown.len() {
        0 | 1 => 1,
        2..=4 => 2,
        _ => 3,
    };
    let rows = shown.len().div_ceil(columns).max(1);
    let height = [380, 280, 210][columns - 1] * i32::try_from(rows)?;
    page::write(path, &header, height, |body| {
        for (area, panel) in body.split_evenly((rows, columns)).iter().zip(shown) {
            draw(area, panel, &header.legend, from..to, seconds)?;
        }
        Ok(())
    })
}

/// Seconds in the unit that a span is best told in, and its name.
fn unit_of(span_s: f64) -> (f64, &'static str) {
    match span_s {
        ..=300.0 => (1.0, "seconds"),
        ..=10_800.0 => (60.0, "minutes"),
        ..=259_200.0 => (3600.0, "hours"),
        _ => (86_400.0, "days"),
    }
}

/// One panel; its x is shown in units of `seconds`.
fn draw(area: &Area<'_>, panel: &Panel, legend: &Legend, times: Range<f64>, seconds: f64) -> Result<()> {
    let title = font(14, INK, FontStyle::Bold).pos(page::LEFT);
    area.draw(&Text::new(panel.title.as_str(), (4 * FINE, 12 * FINE), title)).map_err(told)?;
    let top = panel.series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin_top(28 * FINE)
        .margin_right(14 * FINE)
        .x_label_area_size(26 * FINE)
        .y_label_area_size(38 * FINE)
        .build_cartesian_2d(times.start / seconds..times.end / seconds, 0.0..(top * 1.06).max(1e-3))
        .map_err(told)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .bold_line_style(GRID.stroke_width(pixels(1)))
        .axis_style(GRID.stroke_width(pixels(1)))
        .label_style(font(11, MUTED, FontStyle::Normal))
        .set_all_tick_mark_size(5 * FINE)
        .x_labels(7)
        .y_labels(5)
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .draw()
        .map_err(told)?;
    for style in [Style::Area, Style::Dashed, Style::Line] {
        for series in panel.series.iter().rev().filter(|series| series.style == style) {
            let color = legend.color(&series.label);
            let points = scaled(series, seconds);
            match style {
                Style::Area => chart.draw_series([Polygon::new(closed(points), color.filled())]).map(drop),
                Style::Line => chart.draw_series(LineSeries::new(points, color.stroke_width(7))).map(drop),
                Style::Dashed => {
                    let dashed = DashedLineSeries::new(points, pixels(5), pixels(4), color.stroke_width(5));
                    chart.draw_series(dashed).map(drop)
                }
            }
            .map_err(told)?;
        }
    }
    Ok(())
}

fn scaled(series: &Series, seconds: f64) -> Vec<(f64, f64)> {
    thin(&series.points).into_iter().map(|(x, y)| (x / seconds, y)).collect()
}

/// The outline of what lies below a line.
fn closed(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if let (Some((first, _)), Some((last, _))) = (points.first().copied(), points.last().copied()) {
        points.extend([(last, 0.0), (first, 0.0)]);
    }
    points
}
