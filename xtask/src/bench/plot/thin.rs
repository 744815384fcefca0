//! Fewer points, the same picture.

/// The most points that a line keeps: more than the page has pixels for it.
pub(super) const POINTS_MAX: usize = 2_000;

/// Keeps the first and the last point and, of each of even pieces between them,
/// the lowest and the highest: no peak gets lost.
pub(super) fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let [first, between @ .., last] = points else { return points.to_vec() };
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let piece = between.len().div_ceil(POINTS_MAX / 2 - 1);
    let mut kept = vec![*first];
    for piece in between.chunks(piece) {
        let by_height = |a: &(usize, &(f64, f64)), b: &(usize, &(f64, f64))| a.1.1.total_cmp(&b.1.1);
        let low = piece.iter().enumerate().min_by(by_height);
        let high = piece.iter().enumerate().max_by(by_height);
        if let Some(((low, _), (high, _))) = low.zip(high) {
            kept.push(piece[low.min(high)]);
            if low != high {
                kept.push(piece[low.max(high)]);
            }
        }
    }
    kept.push(*last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: u32, height: impl Fn(u32) -> f64) -> Vec<(f64, f64)> {
        (0..count).map(|x| (f64::from(x), height(x))).collect()
    }

    #[test]
    fn short_lines_stay_as_they_are() {
        let limit = u32::try_from(POINTS_MAX).expect("small");
        for count in [0, 1, 2, limit] {
            let points = line(count, f64::from);
            assert_eq!(thin(&points), points);
        }
    }

    #[test]
    fn a_long_line_keeps_its_ends_its_order_and_every_peak() {
        for count in [2_001, 5_000, 100_003] {
            let peaks = [count / 7, count / 2, count - 2];
            let points = line(count, |x| if peaks.contains(&x) { 100.0 } else { f64::from(x % 10) });
            let thinned = thin(&points);
            assert!(thinned.len() <= POINTS_MAX, "{} of {count} points are left", thinned.len());
            assert_eq!((thinned.first(), thinned.last()), (points.first(), points.last()));
            assert!(thinned.is_sorted_by(|a, b| a.0 < b.0), "time goes forward");
            assert_eq!(thinned.iter().filter(|point| point.1 > 99.0).count(), peaks.len());
            assert!(thinned.iter().filter(|point| point.1 < 0.5).count() > 100, "valleys stay as well");
        }
    }
}
