//! Bars and curves made of characters. They say the same without colour.

use dynmem_units::Bytes;

/// A VM's memory, scaled so that `whole` is `width` cells: what it needs (`█`),
/// what it has beyond that (`▒`), what it lacks (`!`), and where it is to go
/// (`|`).
pub(super) fn vm(assigned: Bytes, demand: Bytes, target: Bytes, whole: Bytes, width: usize) -> String {
    let cells = |bytes| cells(bytes, whole, width);
    let (assigned, demand, target) = (cells(assigned), cells(demand), cells(target));
    let cell = |at: usize| match at {
        _ if at + 1 == target && target > assigned.max(demand) => '|',
        _ if at < assigned.min(demand) => '█',
        _ if at < assigned => '▒',
        _ if at < demand => '!',
        _ => ' ',
    };
    (0..width).map(cell).collect()
}

/// The host's memory: what is kept for it (`░`), what VMs have (`█`), and what
/// there is to give (`·`).
pub(super) fn host(reserve: Bytes, charged: Bytes, whole: Bytes, width: usize) -> [String; 3] {
    let kept = cells(reserve, whole, width);
    let lent = cells(reserve.saturating_add(charged), whole, width).saturating_sub(kept);
    ["░".repeat(kept), "█".repeat(lent), "·".repeat(width.saturating_sub(kept + lent))]
}

/// The last values, one a cell, the newest at the right; the largest fills its
/// cell, and nothing is empty.
pub(super) fn curve<'a>(values: impl DoubleEndedIterator<Item = &'a Bytes>, width: usize) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut last: Vec<u64> = values.rev().take(width).map(|bytes| bytes.get()).collect();
    last.reverse();
    let most = last.iter().copied().max().unwrap_or(0).max(1);
    let step = |value: &u64| {
        if *value == 0 {
            return ' ';
        }
        let at = (u128::from(*value) * 8).div_ceil(u128::from(most)).clamp(1, 8) - 1;
        STEPS.get(usize::try_from(at).unwrap_or(7)).copied().unwrap_or(' ')
    };
    format!("{:>width$}", last.iter().map(step).collect::<String>())
}

/// So many of `width` cells, rounded to the nearest, and never none for
/// something.
fn cells(bytes: Bytes, whole: Bytes, width: usize) -> usize {
    if bytes.is_zero() || whole.is_zero() {
        return 0;
    }
    let (width_wide, whole) = (width as u128, u128::from(whole.get()));
    let cells = (u128::from(bytes.get()) * width_wide + whole / 2) / whole;
    usize::try_from(cells).unwrap_or(width).clamp(1, width.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    #[test]
    fn a_bar_tells_need_surplus_lack_and_where_it_goes() {
        let bar = |assigned, demand, target| vm(mib(assigned), mib(demand), mib(target), mib(1000), 10);
        assert_eq!(bar(600, 400, 480), "████▒▒    ");
        assert_eq!(bar(400, 600, 720), "████!!|   ");
        assert_eq!(bar(400, 300, 800), "███▒   |  ");
        assert_eq!(bar(0, 0, 0), "          ");
        assert_eq!(bar(5000, 1, 1), "█▒▒▒▒▒▒▒▒▒", "never wider, and something is never nothing");
        assert_eq!(vm(mib(1), mib(1), mib(1), mib(0), 3), "   ");
        assert_eq!(vm(mib(1), mib(1), mib(1), mib(1), 0), "");
    }

    #[test]
    fn the_hosts_bar_is_as_wide_as_the_screen() {
        let bar = |reserve, charged| host(mib(reserve), mib(charged), mib(1000), 10).concat();
        assert_eq!(bar(100, 600), "░██████···");
        assert_eq!(bar(100, 2000), "░█████████", "more than there is");
        assert_eq!(bar(0, 0), "··········");
    }

    #[test]
    fn a_curve_shows_the_newest_and_is_scaled_to_the_largest() {
        let values = [9, 100, 50, 0].map(mib);
        assert_eq!(curve(values.iter(), 6), "  ▁█▄ ");
        assert_eq!(curve(values.iter(), 2), "█ ");
        assert_eq!(curve([].iter(), 3), "   ");
    }
}
