//! Many points → fewer: [`fold`]; and the series that answers a question:
//! [`series`].
//!
//! Folding is the only way in which points meet: seconds become minutes and
//! hours by it, and two points of one stretch (a clock was set back, the
//! daemon was restarted) become one. Folding what was folded gives what
//! folding at once would, but for the rounding of averages.

use super::columns::{COLUMNS_MAX, Column, Kept, Point, Reading};

/// Steps that people like, in seconds.
const STEPS: [u64; 21] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 345_600,
    604_800,
];

/// Points of a subject at even steps; steps without a sample are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Seconds from one step to the next. Each begins at a multiple of it.
    pub step_seconds: u64,
    /// In the order of time, one for a step at most.
    pub points: Vec<Point>,
}

/// Points, and how long the stretch of each is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Seconds of each point's stretch, at least one.
    pub period_seconds: u64,
    /// The points.
    pub points: Vec<Point>,
}

/// One point for each stretch of `step_seconds`, in the order of time.
pub fn fold(mut points: Vec<Point>, columns: &[Column], step_seconds: u64) -> Vec<Point> {
    let step = step_seconds.max(1);
    points.sort_by_key(|point| point.at_unix_s); // a stable sort: of one instant, the later told is the last
    let mut folded: Vec<Point> = Vec::new();
    let mut rest = &points[..];
    while let Some(first) = rest.first() {
        let at_unix_s = first.at_unix_s / step * step;
        let same = rest.iter().take_while(|point| point.at_unix_s / step * step == at_unix_s).count();
        let (together, after) = rest.split_at(same);
        folded.push(one(together, columns, at_unix_s));
        rest = after;
    }
    folded
}

/// These points as one.
fn one(points: &[Point], columns: &[Column], at_unix_s: u64) -> Point {
    let samples = points.iter().fold(0_u32, |sum, point| sum.saturating_add(point.samples));
    let mut values = [None; COLUMNS_MAX];
    for (index, (value, column)) in values.iter_mut().zip(columns).enumerate() {
        let readings = points.iter().filter_map(|point| Some((point.samples, point.values[index]?)));
        *value = kept(column.kept, readings);
    }
    Point { at_unix_s, samples, values }
}

fn kept(kept: Kept, readings: impl Iterator<Item = (u32, Reading)>) -> Option<Reading> {
    let (mut weight, mut sum) = (0_u128, 0_u128);
    let mut all: Option<Reading> = None;
    for (samples, reading) in readings {
        weight += u128::from(samples);
        sum += u128::from(samples) * u128::from(reading.average);
        let so_far = all.unwrap_or(reading);
        all = Some(Reading {
            average: reading.average, // the last, until it is known what is kept
            minimum: so_far.minimum.min(reading.minimum),
            maximum: so_far.maximum.max(reading.maximum),
        });
    }
    let all = all?;
    let average = (sum + weight / 2).checked_div(weight).and_then(|average| u32::try_from(average).ok());
    let average = average.unwrap_or(all.average).clamp(all.minimum, all.maximum);
    Some(match kept {
        Kept::Average => Reading::of(average),
        Kept::Spread => Reading { average, ..all },
        Kept::Largest => Reading::of(all.maximum),
        Kept::Last => Reading::of(all.average),
    })
}

/// The points from `from_unix_s` on and before `to_unix_s`, at the step that
/// was asked for or the finest that there is; wider where what is kept of the
/// span is, and where there would be more than `points_max`.
pub fn series(
    pieces: Vec<Piece>,
    columns: &[Column],
    (from_unix_s, to_unix_s): (u64, u64),
    step_seconds: Option<u64>,
    points_max: u64,
) -> Series {
    let mut finest = 1;
    let mut points = Vec::new();
    for Piece { period_seconds, points: more } in pieces {
        let ends_after = |point: &Point| point.at_unix_s.saturating_add(period_seconds) > from_unix_s;
        let before = points.len();
        points.extend(more.into_iter().filter(|point| point.at_unix_s < to_unix_s && ends_after(point)));
        if points.len() > before {
            finest = finest.max(period_seconds);
        }
    }
    let fewest = to_unix_s.saturating_sub(from_unix_s).div_ceil(points_max.max(2) - 1).max(1);
    let wanted = step_seconds.unwrap_or(finest).max(finest).max(fewest);
    // What was folded can't be divided again: a step is a multiple of it.
    let liked = STEPS.into_iter().find(|step| *step >= wanted && step.is_multiple_of(finest));
    let asked = step_seconds.filter(|step| *step >= finest.max(fewest) && step.is_multiple_of(finest));
    let step_seconds = asked.or(liked).unwrap_or_else(|| wanted.next_multiple_of(finest));
    Series { step_seconds, points: fold(points, columns, step_seconds) }
}
