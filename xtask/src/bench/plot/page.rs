//! The page: size, palette, fonts, title and legend, and the way to the file.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, anyhow};
use plotters::{coord::Shift, prelude::*, style::text_anchor};

use super::{Series, Style};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The backend knows whole pixels only; finer ones make smooth lines.
pub(super) const FINE: i32 = 4;
/// A page's width, px.
const WIDTH: i32 = 1200;
const HEADER: i32 = 78;
const MARGIN: i32 = 20;

pub(super) const INK: RGBColor = RGBColor(0x22, 0x26, 0x2d);
pub(super) const MUTED: RGBColor = RGBColor(0x6b, 0x72, 0x80);
pub(super) const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
const AREA: RGBColor = RGBColor(0xd3, 0xd8, 0xe0);
/// Okabe and Ito's colours, which everybody can tell apart, without those that
/// are hard to see on white.
const LINES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
];

/// What is written above the panels.
pub(super) struct Header<'a> {
    pub(super) title: &'a str,
    pub(super) subtitle: String,
    pub(super) legend: Legend,
}

/// The look of each series, by its label, in order of appearance.
pub(super) struct Legend(Vec<(String, Style, RGBColor)>);

impl Legend {
    pub(super) fn of<'a>(series: impl IntoIterator<Item = &'a Series>) -> Self {
        let mut entries: Vec<(String, Style, RGBColor)> = Vec::new();
        let mut lines = LINES.iter().cycle();
        for one in series {
            if entries.iter().any(|(label, ..)| *label == one.label) {
                continue;
            }
            let color = match one.style {
                Style::Area => AREA,
                Style::Line => *lines.next().unwrap_or(&INK),
                Style::Dashed => MUTED,
            };
            entries.push((one.label.clone(), one.style, color));
        }
        Self(entries)
    }

    pub(super) fn color(&self, label: &str) -> RGBColor {
        self.0.iter().find(|(known, ..)| known == label).map_or(INK, |(.., color)| *color)
    }

    /// Draws it so that it ends at `right`, centred on `middle`, fine px.
    fn draw(&self, area: &Area<'_>, right: i32, middle: i32) -> Result<()> {
        let mut x = right;
        for (label, style, color) in self.0.iter().rev() {
            x -= text_width(label, 13);
            area.draw(&Text::new(label.as_str(), (x, middle), font(13, MUTED, FontStyle::Normal).pos(LEFT)))
                .map_err(told)?;
            let (from, to) = (x - 30 * FINE, x - 6 * FINE);
            let stroke = color.stroke_width(pixels(2));
            match style {
                Style::Area => {
                    let half = 5 * FINE;
                    area.draw(&Rectangle::new([(from, middle - half), (to, middle + half)], color.filled()))
                }
                Style::Line => area.draw(&PathElement::new([(from, middle), (to, middle)], stroke)),
                Style::Dashed => dashes(from, to)
                    .try_for_each(|(from, to)| area.draw(&PathElement::new([(from, middle), (to, middle)], stroke))),
            }
            .map_err(told)?;
            x = from - 22 * FINE;
        }
        Ok(())
    }
}

fn dashes(from: i32, to: i32) -> impl Iterator<Item = (i32, i32)> {
    (from..to).step_by(pixels(9) as usize).map(move |start| (start, (start + 5 * FINE).min(to)))
}

pub(super) const LEFT: text_anchor::Pos =
    text_anchor::Pos { h_pos: text_anchor::HPos::Left, v_pos: text_anchor::VPos::Center };

/// Writes a page of `height` px below its header; `draw` fills it.
pub(super) fn write(
    path: &Path,
    header: &Header<'_>,
    height: i32,
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<()> {
    let (width, height) = (WIDTH * FINE, (HEADER + height + MARGIN) * FINE);
    let mut svg = String::new();
    {
        let page = SVGBackend::with_string(&mut svg, (width.unsigned_abs(), height.unsigned_abs())).into_drawing_area();
        page.fill(&WHITE).map_err(told)?;
        let left = (MARGIN + 4) * FINE;
        let title = font(19, INK, FontStyle::Bold).pos(LEFT);
        page.draw(&Text::new(header.title, (left, 28 * FINE), title)).map_err(told)?;
        let subtitle = font(13, MUTED, FontStyle::Normal).pos(LEFT);
        page.draw(&Text::new(header.subtitle.as_str(), (left, 54 * FINE), subtitle)).map_err(told)?;
        header.legend.draw(&page, width - (MARGIN + 14) * FINE, 54 * FINE)?;
        let (_, body) = page.split_vertically(HEADER * FINE);
        draw(&body.margin(0, MARGIN * FINE, MARGIN * FINE, MARGIN * FINE))?;
        page.present().map_err(told)?;
    }
    let shown = format!("width=\"{}\" height=\"{}\"", width / FINE, height / FINE);
    let svg = svg
        .replacen(&format!("width=\"{width}\" height=\"{height}\""), &shown, 1)
        .replace("<polyline ", "<polyline stroke-linejoin=\"round\" ");
    fs::write(path, svg).with_context(|| format!("Could not write the plot {}", path.display()))
}

/// A font of `size` px.
pub(super) fn font(size: i32, color: RGBColor, style: FontStyle) -> TextStyle<'static> {
    // The backend takes a line's height and writes the size of its letters.
    ("sans-serif", f64::from(size * FINE) * 1.24, style).into_font().color(&color)
}

/// About what a text of `size` px takes, fine px.
fn text_width(text: &str, size: i32) -> i32 {
    let hundredths = |letter: char| match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | '\'' | '|' => 30,
        'f' | 'r' | 't' | ' ' | '(' | ')' | '-' => 40,
        'm' | 'w' | 'M' | 'W' => 92,
        _ => 63,
    };
    text.chars().map(hundredths).fold(0i32, i32::saturating_add).saturating_mul(size * FINE) / 100
}

/// Whole px in fine ones, as the backend wants widths.
pub(super) const fn pixels(px: i32) -> u32 {
    (px * FINE).unsigned_abs()
}

/// A number with as many digits as it needs.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose: 0.30000000000000004 is shown as 0.3")]
pub(super) fn number(value: f64) -> String {
    (value as f32).to_string()
}

/// The plotting library's errors, which are of no thread's.
pub(super) fn told(error: impl std::error::Error) -> anyhow::Error {
    anyhow!("The plot can't be drawn: {error}")
}
