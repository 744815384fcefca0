//! Pictures of what was measured, as SVG: small multiples over time, and curves
//! over a size.
//!
//! ```text
//! series ──▶ thinned ──▶ panels ──▶ page (title, legend, palette) ──▶ file
//! ```

mod curve;
mod page;
mod thin;
mod time;

use dynmem_units::Bytes;

pub(crate) use self::curve::{Axis, curve_plot};
pub(crate) use self::time::time_plot;

/// One line, or one filled area, of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What it is. Series of one name have one colour and one line in the legend.
    pub(crate) label: String,
    pub(crate) style: Style,
    /// In rising order of x. Over time: seconds and GiB.
    pub(crate) points: Vec<(f64, f64)>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Filled, light, behind the lines: what is asked for.
    Area,
    /// What is compared.
    Line,
    /// A limit or a goal.
    Dashed,
}

/// A titled field with series in it: one VM, for example.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) series: Vec<Series>,
}

impl Series {
    /// Memory over time, from milliseconds and sizes.
    #[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than an f64")]
    pub(crate) fn memory(
        label: impl Into<String>,
        style: Style,
        samples: impl IntoIterator<Item = (u64, Bytes)>,
    ) -> Self {
        let point = |(ms, size): (u64, Bytes)| (ms as f64 / 1000.0, size.get() as f64 / Bytes::GIB.get() as f64);
        Self { label: label.into(), style, points: samples.into_iter().map(point).collect() }
    }
}

#[cfg(test)]
mod tests;
