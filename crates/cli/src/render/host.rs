//! The host in full.

use dynmem_api::{AdviceView, HostPagingView, HostView, MemoryLimits, ReserveBy};
use serde::Serialize;

use super::{Show, Style, pairs, size::human, vm::moved};

/// The host in full.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Host<'h>(pub(crate) &'h HostView);

impl Show for Host<'_> {
    fn text(&self, _: &Style) -> String {
        let host = self.0;
        let mut blocks = vec![
            pairs(&[
                ("Memory", human(host.memory_bytes)),
                ("Reserve", reserve(host)),
                ("Lendable now", human(host.lendable_bytes)),
                ("Charged to VMs", human(host.charged_bytes)),
                ("Available", human(host.available_bytes)),
                ("Available for balancing", human(host.available_for_balancing_bytes)),
                ("Assigned", human(host.assigned_bytes)),
                ("Overhead", human(host.overhead_bytes)),
            ]),
            pairs(&[
                ("VMs", format!("{} on, {} defined", host.vms_running, host.vms_total)),
                ("Average pressure", host.average_pressure_percent.to_string()),
                ("System pressure", host.system_pressure_percent.to_string()),
                ("Added", moved(host.counters.added_bytes, host.counters.add_operations)),
                ("Removed", moved(host.counters.removed_bytes, host.counters.remove_operations)),
            ]),
            pairs(&[
                ("Host available", human(host.host_available_bytes)),
                ("Host keeps", human(host.floor_bytes)),
                ("Machines hold", host.machines_hold_bytes.map(human).unwrap_or_default()),
                ("Host stall", host.stall_percent.to_string()),
                ("Host health", if host.under_pressure { "short of memory" } else { "ok" }.to_owned()),
                ("Memory limits", limits(&host.memory_limits)),
                ("Accelerator", host.accelerator.clone()),
                ("QEMU", host.qemu_version.clone()),
                ("Smart paging", smart_paging(&host.smart_paging)),
            ]),
        ];
        let damaged: Vec<_> = host
            .damaged_definitions
            .iter()
            .map(|damaged| ("Damaged definition", format!("{}: {}", damaged.path.display(), damaged.error)))
            .collect();
        blocks.push(pairs(&damaged));
        let advice = |advice: &AdviceView| ("Advice", format!("{}. {}", advice.sentence, advice.remedy));
        blocks.push(pairs(&host.advice.iter().map(advice).collect::<Vec<_>>()));
        blocks.push(pairs(&[("Host protection", host.protection.clone().unwrap_or_default())]));
        blocks.retain(|block| !block.is_empty());
        blocks.join("\n\n")
    }
}

/// `624 MiB (by formula)`.
fn reserve(host: &HostView) -> String {
    let by = match host.reserve_by {
        ReserveBy::Formula => "by formula",
        ReserveBy::Setting => "as set",
    };
    let lost = host.out_of_reach_bytes;
    let lost = if lost.is_zero() { String::new() } else { format!(", {} of it held by lost machines", human(lost)) };
    format!("{} ({by}{lost})", human(host.reserve_bytes))
}

fn limits(limits: &MemoryLimits) -> String {
    match limits {
        MemoryLimits::Off => "off".to_owned(),
        MemoryLimits::On { folder } => format!("in {}", folder.display()),
        MemoryLimits::Unavailable { reason } => format!("none: {reason}"),
    }
}

fn smart_paging(paging: &HostPagingView) -> String {
    let word = if paging.possible { "possible" } else { "not possible" };
    paging.remark.as_ref().map_or_else(|| word.to_owned(), |remark| format!("{word}: {remark}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn the_host_in_full() {
        assert_eq!(
            Host(&samples::host()).text(&Style::default()),
            "\
Memory                   8 GiB
Reserve                  624 MiB (by formula)
Lendable now             4.7 GiB
Charged to VMs           1.6 GiB
Available                3.1 GiB
Available for balancing  5.8 GiB
Assigned                 1.5 GiB
Overhead                 70 MiB

VMs               1 on, 2 defined
Average pressure  91%
System pressure   91%
Added             1 GiB in 3 operations
Removed           0 in 0 operations

Host available  3.4 GiB
Host keeps      164 MiB
Machines hold   1.5 GiB
Host stall      3%
Host health     short of memory
Memory limits   in /sys/fs/cgroup/dynmem/0123456789abcdef
Accelerator     kvm
QEMU            7.2.0
Smart paging    possible: its files are on the system disk

Damaged definition  /var/lib/dynmem/vms/x.toml: Line 3: what is this

Host protection  2798 MiB less than usual can be lent"
        );
    }
}
