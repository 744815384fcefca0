//! A quantity over a size, both in powers of ten.

use std::path::Path;

use anyhow::{Result, ensure};
use plotters::prelude::*;

use super::{
    Series, Style,
    page::{self, FINE, GRID, Header, Legend, MUTED, font, number, pixels, told},
};

/// What an axis shows: "VMs", "ms".
pub(crate) struct Axis<'a> {
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
}

/// Writes the curves to an SVG file. Points that have no logarithm are left out.
pub(crate) fn curve_plot(path: &Path, title: &str, axis: &Axis<'_>, curves: &[Series]) -> Result<()> {
    let points = |curve: &Series| -> Vec<(f64, f64)> {
        curve.points.iter().copied().filter(|(x, y)| x.is_normal() && *x > 0.0 && y.is_normal() && *y > 0.0).collect()
    };
    let all: Vec<(f64, f64)> = curves.iter().flat_map(points).collect();
    ensure!(!all.is_empty(), "The plot {} would be empty", path.display());
    let (xs, ys) = (decades(all.iter().map(|point| point.0)), decades(all.iter().map(|point| point.1)));
    let header = Header { title, subtitle: format!("{} over {}", axis.y, axis.x), legend: Legend::of(curves) };
    page::write(path, &header, 520, |body| {
        let mut chart = ChartBuilder::on(body)
            .margin_top(10 * FINE)
            .margin_right(24 * FINE)
            .x_label_area_size(28 * FINE)
            .y_label_area_size(56 * FINE)
            .build_cartesian_2d(xs.log_scale(), ys.log_scale())
            .map_err(told)?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GRID.stroke_width(pixels(1)))
            .axis_style(GRID.stroke_width(pixels(1)))
            .label_style(font(12, MUTED, FontStyle::Normal))
            .set_all_tick_mark_size(5 * FINE)
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .draw()
            .map_err(told)?;
        for curve in curves {
            let (color, points) = (header.legend.color(&curve.label), points(curve));
            if curve.style == Style::Dashed {
                let dashed = DashedLineSeries::new(points, pixels(6), pixels(5), color.stroke_width(6));
                chart.draw_series(dashed).map_err(told)?;
                continue;
            }
            let dots: Vec<_> = points.iter().map(|point| Circle::new(*point, 4 * FINE, color.filled())).collect();
            chart.draw_series(LineSeries::new(points, color.stroke_width(pixels(2)))).map_err(told)?;
            chart.draw_series(dots).map_err(told)?;
        }
        Ok(())
    })
}

/// The whole powers of ten that hold all values.
fn decades(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    // A little more, so that rounding doesn't lose the lowest and highest lines.
    10f64.powf(low) * 0.999..10f64.powf(high.max(low + 1.0)) * 1.001
}
