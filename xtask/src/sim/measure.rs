//! What is measured of a simulated world: one list for tables and JSON.

use dynmem_sim::score::Score;

use crate::report::Metric;

/// One number of a score. Less is better in all of them but the last.
pub(crate) struct Measure {
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    /// Its column in a table.
    pub(crate) heading: &'static str,
    /// After the point.
    pub(crate) digits: usize,
    pub(crate) of: fn(&Score) -> f64,
}

/// What counts, what matters most first.
pub(crate) const MEASURES: [Measure; 11] = [
    measure("unmet_gib_seconds", "GiB·s", "unmet GiB·s", 2, |score| score.unmet_gib_seconds),
    measure("worst_vm_gib_seconds", "GiB·s", "worst VM", 2, |score| score.worst_vm_gib_seconds),
    measure("surge_seconds", "s", "longest s", 1, |score| score.surge_seconds),
    measure("stall_seconds", "s", "stalled s", 1, |score| score.stall_seconds),
    measure("oom_kills", "count", "killed", 0, |score| count(score.oom_kills)),
    measure("moved_gib_per_vm_hour", "GiB/VM·h", "GiB/VM·h", 2, |score| score.moved_gib_per_vm_hour),
    measure("operations_per_vm_hour", "1/VM·h", "orders/VM·h", 1, |score| score.operations_per_vm_hour),
    measure("reversals", "count", "reversals", 0, |score| count(score.reversals)),
    measure("moved_percent_per_minute", "%/min", "%/min", 2, |score| score.moved_percent_per_minute),
    measure("fairness_error_blocks", "blocks", "unfair", 0, |score| count(score.fairness_error_blocks)),
    measure("lowest_free_gib", "GiB", "free GiB", 2, |score| score.lowest_free_gib),
];

const fn measure(
    metric: &'static str,
    unit: &'static str,
    heading: &'static str,
    digits: usize,
    of: fn(&Score) -> f64,
) -> Measure {
    Measure { metric, unit, heading, digits, of }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

impl Measure {
    /// The number of this score.
    pub(crate) fn metric(&self, score: &Score) -> Metric {
        Metric::new(self.metric, (self.of)(score), self.unit)
    }
}
