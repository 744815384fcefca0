//! What was metered of VMs.

use dynmem_api::{MeterPool, MeterView, VmView};
use dynmem_units::Bytes;
use serde::Serialize;

use super::{
    Items, Show, Style,
    size::human,
    table::{Align, Cell, Column, Table, Tone},
    time::{duration, utc},
};

/// VMs and what was metered of them, one by one and together.
#[derive(Serialize)]
pub(crate) struct MeterList<'v> {
    vms: Vec<MeteredVm<'v>>,
    pool: MeterPool,
}

#[derive(Serialize)]
struct MeteredVm<'v> {
    name: &'v str,
    /// None if it is not metered.
    meter: Option<&'v MeterView>,
}

impl<'v> MeterList<'v> {
    pub(crate) fn new(vms: &'v [VmView]) -> Self {
        let metered = |vm: &'v VmView| MeteredVm { name: &vm.name, meter: vm.meter.as_ref() };
        Self { vms: vms.iter().map(metered).collect(), pool: MeterPool::of(vms) }
    }
}

impl Show for MeterList<'_> {
    const ITEMS: Items = Items::In { field: "vms", with: &[] };

    fn text(&self, style: &Style) -> String {
        if self.vms.is_empty() {
            return "No VM is metered: `dynmem meter enable` begins".to_owned();
        }
        let column = |title, align, rank| Column { title, align, rank };
        let mut table = Table::new([
            column("NAME", Align::Left, 0),
            column("AVERAGE", Align::Right, 0),
            column("MINIMUM", Align::Right, 0),
            column("MAXIMUM", Align::Right, 0),
            column("MEASURED", Align::Right, 1),
            column("SINCE", Align::Left, 2),
        ]);
        let size = |size: Option<Bytes>| Cell::from(size.map(human).unwrap_or_default());
        for MeteredVm { name, meter } in &self.vms {
            let Some(meter) = meter else {
                let empty = || Cell::from("");
                let why = Cell::new("not metered", Tone::Quiet);
                table.row(vec![name.into(), empty(), empty(), empty(), empty(), why]);
                continue;
            };
            table.row(vec![
                name.into(),
                size(meter.average_bytes),
                size(meter.minimum_bytes),
                size(meter.maximum_bytes),
                duration(meter.measured_seconds).into(),
                format!("{}Z", utc(meter.since_unix_ms)).into(),
            ]);
        }
        let pool = format!("Pool of {}: {} on average", self.pool.vms, human(self.pool.average_bytes));
        format!("{}\n\n{pool}", table.text(style))
    }
}

/// What the metering of a VM is after a change of it.
pub(crate) fn meter_sentence(vm: &VmView) -> String {
    match &vm.meter {
        Some(meter) => format!("metered since {}Z", utc(meter.since_unix_ms)),
        None => "not metered".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_pool_is_the_sum_of_the_averages_of_those_that_are_metered() {
        let meter = |average, minimum, maximum| MeterView {
            since_unix_ms: 1_767_225_600_000,
            period_seconds: 7_200,
            measured_seconds: 3_600,
            average_bytes: Some(Bytes::from_mib(average)),
            minimum_bytes: Some(Bytes::from_mib(minimum)),
            maximum_bytes: Some(Bytes::from_mib(maximum)),
        };
        let mut vms = vec![samples::running(), samples::off(), samples::off(), samples::off()];
        (vms[1].name, vms[2].name) = ("mail".to_owned(), "new".to_owned());
        vms[0].meter = Some(meter(700, 512, 1024));
        vms[1].meter = Some(meter(2048, 2048, 2048));
        vms[2].meter = Some(MeterView { since_unix_ms: 1_767_225_600_000, ..MeterView::default() });
        assert_eq!(
            MeterList::new(&vms).text(&Style::default()),
            "\
NAME   AVERAGE  MINIMUM  MAXIMUM  MEASURED  SINCE
web01  700 MiB  512 MiB    1 GiB  01:00:00  2026-01-01 00:00:00Z
mail     2 GiB    2 GiB    2 GiB  01:00:00  2026-01-01 00:00:00Z
new                               00:00:00  2026-01-01 00:00:00Z
db                                          not metered

Pool of 2: 2.7 GiB on average"
        );
        let json = serde_json::to_value(MeterList::new(&vms)).expect("plain data");
        assert_eq!(json["pool"]["average_bytes"], 2748_u64 << 20);
        assert_eq!(json["vms"][3]["meter"], serde_json::Value::Null);
        assert_eq!(meter_sentence(&vms[0]), "metered since 2026-01-01 00:00:00Z");
    }
}
