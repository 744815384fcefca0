//! Sizes for people: `1.5 GiB`. JSON has the exact bytes.

use dynmem_units::Bytes;

const SMALLEST: (&str, u64) = ("MiB", 1 << 20);
const UNITS: [(&str, u64); 3] = [("TiB", 1 << 40), ("GiB", 1 << 30), SMALLEST];

/// The size in the largest unit of which it is at least one, with one decimal
/// where it is not whole. Nothing is `0`; what is left below a mebibyte is its
/// tenths.
pub(crate) fn human(size: Bytes) -> String {
    let bytes = size.get();
    if bytes == 0 {
        return "0".to_owned();
    }
    let (unit, unit_bytes) = UNITS.into_iter().find(|(_, unit_bytes)| bytes >= *unit_bytes).unwrap_or(SMALLEST);
    if bytes.is_multiple_of(unit_bytes) {
        return format!("{} {unit}", bytes / unit_bytes);
    }
    let tenths = tenths(bytes, unit_bytes);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Tenths of `unit`, rounded to nearest.
fn tenths(bytes: u64, unit: u64) -> u128 {
    (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_or_have_one_decimal() {
        for (bytes, text) in [
            (0, "0"),
            (1, "0.0 MiB"),
            (100 << 10, "0.1 MiB"),
            (1 << 20, "1 MiB"),
            (512 << 20, "512 MiB"),
            (1000 << 20, "1000 MiB"),
            (900 << 20, "900 MiB"),
            ((512 << 20) + (512 << 10), "512.5 MiB"),
            (1 << 30, "1 GiB"),
            (1536 << 20, "1.5 GiB"),
            ((1 << 30) - 1, "1024.0 MiB"),
            ((1 << 30) + 1, "1.0 GiB"),
            (1 << 40, "1 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(human(Bytes::new(bytes)), text, "{bytes}");
        }
    }
}
