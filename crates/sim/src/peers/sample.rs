//! Views for the worked examples in the peers' tests.

use dynmem_core::{GuestReport, Instant, MemorySettings, ReportSource, VmId};
use dynmem_units::{Bytes, Percent};

use super::{Balancer, HostView, VmView};
use crate::policy::Statistics;

pub(crate) const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

pub(crate) fn settings(minimum: u64, startup: u64, maximum: u64) -> MemorySettings {
    MemorySettings {
        dynamic: true,
        minimum: mib(minimum),
        startup: mib(startup),
        maximum: mib(maximum),
        ..MemorySettings::default()
    }
}

/// A guest's report: what it sees, what of it is available.
pub(crate) fn report(visible: Bytes, available: Bytes) -> GuestReport {
    let committed = Some(visible.saturating_sub(available));
    GuestReport { committed, ..GuestReport::new(ReportSource::Agent, visible, available) }
}

/// A VM between `minimum` and `maximum` that holds `held` and of that uses
/// `used`, all in MiB. Weight 1000.
pub(crate) fn vm(id: u32, minimum: u64, maximum: u64, held: u64, used: u64) -> VmView {
    let free = mib(held.saturating_sub(used));
    VmView {
        id: VmId(id),
        minimum: mib(minimum),
        maximum: mib(maximum),
        weight: 1_000,
        buffer: Percent::new(20),
        held: mib(held),
        target: mib(held),
        report: report(mib(held), free),
        statistics: Statistics { free, cached: Bytes::ZERO, active: mib(used) },
    }
}

/// A host of `memory` MiB, `free` of it free.
pub(crate) fn host(memory: u64, free: u64) -> HostView {
    HostView { memory: mib(memory), available: mib(free), free: mib(free), asked: Bytes::ZERO }
}

/// Balances once and gives the targets, in MiB rounded down.
pub(crate) fn targets(balancer: &mut dyn Balancer, at_ms: u64, host: &HostView, vms: &mut [VmView]) -> Vec<u64> {
    balancer.balance(Instant(at_ms), host, vms);
    vms.iter().map(|vm| vm.target.mib()).collect()
}
