//! [`Meter`]: a VM's memory over a period, on average, at least and at most.
//! Pure: whoever owns it says what the VM holds, and when.

use dynmem_api::MeterView;
use dynmem_core::Instant;
use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a VM held since the period began. Memory that it held counts for as long
/// as it held it; time in which it held none counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    kept: Kept,
    /// What it holds since when, as last seen.
    holds: Option<(Instant, Bytes)>,
}

/// The part that outlives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    since_unix_ms: u64,
    /// The sum of bytes × milliseconds, as text: it may be more than a number in
    /// JSON can be.
    #[serde(with = "as_text")]
    byte_ms: u128,
    measured_ms: u64,
    #[serde(default)]
    minimum_bytes: Option<Bytes>,
    #[serde(default)]
    maximum_bytes: Option<Bytes>,
}

impl Meter {
    /// A period that begins now.
    pub(crate) fn begin(now_unix_ms: u64) -> Self {
        Self { kept: Kept { since_unix_ms: now_unix_ms, ..Kept::default() }, holds: None }
    }

    /// A period that began under an earlier daemon; none if `row` is not one.
    pub(crate) fn from_row(row: Value) -> Option<Self> {
        Some(Self { kept: serde_json::from_value(row).ok()?, holds: None })
    }

    /// What to keep.
    pub(crate) fn row(&self) -> Option<Value> {
        serde_json::to_value(&self.kept).ok()
    }

    /// The VM holds so much from now on; zero while it is off.
    pub(crate) fn observe(&mut self, now: Instant, holds: Bytes) {
        let kept = &mut self.kept;
        if let Some((since, held)) = self.holds.filter(|(_, held)| !held.is_zero()) {
            let ms = now.millis_since(since);
            kept.byte_ms = kept.byte_ms.saturating_add(u128::from(held.get()) * u128::from(ms));
            kept.measured_ms = kept.measured_ms.saturating_add(ms);
        }
        if !holds.is_zero() {
            kept.minimum_bytes = Some(kept.minimum_bytes.map_or(holds, |least| least.min(holds)));
            kept.maximum_bytes = Some(kept.maximum_bytes.map_or(holds, |most| most.max(holds)));
        }
        self.holds = Some((now, holds));
    }

    /// What people see.
    pub(crate) fn view(&self, now_unix_ms: u64) -> MeterView {
        let Kept { since_unix_ms, byte_ms, measured_ms, minimum_bytes, maximum_bytes } = self.kept;
        // Before any time has passed, what it holds is its average.
        let average = byte_ms.checked_div(u128::from(measured_ms));
        let average = average.map(|bytes| Bytes::new(u64::try_from(bytes).unwrap_or(u64::MAX)));
        MeterView {
            since_unix_ms,
            period_seconds: now_unix_ms.saturating_sub(since_unix_ms) / 1000,
            measured_seconds: measured_ms / 1000,
            average_bytes: average.or(maximum_bytes),
            minimum_bytes,
            maximum_bytes,
        }
    }
}

/// A `u128` as decimal digits.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    /// A meter that saw these sizes, each at its second.
    fn metered(seen: &[(u64, u64)]) -> Meter {
        let mut meter = Meter::begin(5_000);
        for (second, holds) in seen {
            meter.observe(Instant(second * 1000), mib(*holds));
        }
        meter
    }

    #[test]
    fn memory_counts_for_as_long_as_it_was_held() {
        let view = metered(&[(0, 1000), (30, 400), (40, 400)]).view(65_000);
        assert_eq!(view.average_bytes, Some(mib(850)), "1000 for three quarters of the time");
        assert_eq!((view.minimum_bytes, view.maximum_bytes), (Some(mib(400)), Some(mib(1000))));
        assert_eq!((view.since_unix_ms, view.period_seconds, view.measured_seconds), (5_000, 60, 40));
    }

    #[test]
    fn a_vm_of_one_size_has_that_size_from_the_first_moment_on() {
        for seen in [&[(0, 2048)][..], &[(0, 2048), (3600, 2048)]] {
            let view = metered(seen).view(0);
            assert_eq!(
                (view.average_bytes, view.minimum_bytes, view.maximum_bytes),
                (Some(mib(2048)), Some(mib(2048)), Some(mib(2048)))
            );
        }
    }

    #[test]
    fn time_in_which_it_is_off_counts_for_nothing() {
        let view = metered(&[(0, 0), (100, 512), (110, 0), (500, 1024), (510, 0), (900, 0)]).view(905_000);
        assert_eq!((view.average_bytes, view.measured_seconds), (Some(mib(768)), 20));
        assert_eq!(view.minimum_bytes, Some(mib(512)), "off is not a size");
        let never = metered(&[(0, 0), (100, 0)]).view(105_000);
        assert_eq!((never.average_bytes, never.minimum_bytes, never.maximum_bytes), (None, None, None));
        assert_eq!(never.period_seconds, 100);
    }

    #[test]
    fn a_period_goes_on_under_the_next_daemon_without_the_time_between() {
        let row = metered(&[(0, 1000), (30, 1000)]).row().expect("plain data");
        let mut next = Meter::from_row(row).expect("a row of ours");
        next.observe(Instant(0), mib(400)); // its clock begins anew
        next.observe(Instant(10_000), mib(400));
        let view = next.view(1_000_000);
        assert_eq!((view.average_bytes, view.measured_seconds, view.since_unix_ms), (Some(mib(850)), 40, 5_000));
        assert_eq!(Meter::from_row(serde_json::json!({"ran": true})), None);
    }

    #[test]
    fn no_length_and_no_size_is_too_much() {
        let mut meter = Meter::begin(0);
        meter.observe(Instant(0), Bytes::MAX);
        meter.observe(Instant(u64::MAX), Bytes::MAX);
        meter.observe(Instant(0), Bytes::MAX);
        meter.observe(Instant(u64::MAX), Bytes::MAX);
        let row = meter.row().expect("plain data");
        assert!(Meter::from_row(row).expect("a row of ours").view(u64::MAX).average_bytes.is_some());
    }
}
