//! The counters of the host: *Dynamic Memory Balancer*.

use super::{
    Counter, CounterSet,
    Kind::{self, Cumulative, Gauge},
    Source,
    Unit::{self, Count, Level},
    count, flag, percent, size,
};
use crate::HostView;

const BYTES: Unit = Unit::Bytes;
const PERCENT: Unit = Unit::Percent;

const fn host(
    name: &'static str,
    unit: Unit,
    kind: Kind,
    prometheus: &'static str,
    help: &'static str,
    read: fn(&HostView) -> Option<i64>,
) -> Counter {
    Counter { set: CounterSet::Balancer, name, unit, kind, prometheus, help, source: Source::Host(read) }
}

#[rustfmt::skip] // a row for each counter, and what it reads below it
pub(super) static COUNTERS: &[Counter] = &[
    // What administrators of Hyper-V know.
    host("Available Memory", BYTES, Gauge, "dynmem_host_available_bytes",
        "Memory that can still be lent: lendable memory less what is charged.",
        |host| size(host.available_bytes)),
    host("Available Memory For Balancing", BYTES, Gauge, "dynmem_host_available_for_balancing_bytes",
        "Available memory, and what VMs hold beyond their targets.",
        |host| size(host.available_for_balancing_bytes)),
    host("Average Pressure", PERCENT, Gauge, "dynmem_host_pressure_average_ratio",
        "Demand of all dynamic VMs by what they are assigned.",
        |host| percent(Some(host.average_pressure_percent))),
    host("System Current Pressure", PERCENT, Gauge, "dynmem_host_pressure_ratio",
        "Demand and overhead of all VMs by what can be lent.",
        |host| percent(Some(host.system_pressure_percent))),
    host("Added Memory", BYTES, Cumulative, "dynmem_host_added_bytes_total",
        "Memory given to all VMs since the daemon was started.",
        |host| size(host.counters.added_bytes)),
    host("Removed Memory", BYTES, Cumulative, "dynmem_host_removed_bytes_total",
        "Memory taken back from all VMs since the daemon was started.",
        |host| size(host.counters.removed_bytes)),
    host("Memory Add Operations", Count, Cumulative, "dynmem_host_add_operations_total",
        "How often memory was given to a VM since the daemon was started.",
        |host| count(host.counters.add_operations)),
    host("Memory Remove Operations", Count, Cumulative, "dynmem_host_remove_operations_total",
        "How often memory was taken back from a VM since the daemon was started.",
        |host| count(host.counters.remove_operations)),
    // The pool.
    host("Total Memory", BYTES, Gauge, "dynmem_host_memory_bytes",
        "Memory that the host and all VMs share, the reserve included.",
        |host| size(host.memory_bytes)),
    host("Host Reserve", BYTES, Gauge, "dynmem_host_reserve_bytes",
        "Memory that is kept for the host itself and never lent.",
        |host| size(host.reserve_bytes)),
    host("Lendable Memory", BYTES, Gauge, "dynmem_host_lendable_bytes",
        "The most that may be lent now: memory less reserve, or less while others use the host's memory.",
        |host| size(host.lendable_bytes)),
    host("Charged Memory", BYTES, Gauge, "dynmem_host_charged_bytes",
        "Everything that is charged to VMs: held or promised, and overhead.",
        |host| size(host.charged_bytes)),
    host("Assigned Memory", BYTES, Gauge, "dynmem_host_assigned_bytes",
        "Sum of the memory that is lent to VMs now.",
        |host| size(host.assigned_bytes)),
    host("Memory Overhead", BYTES, Gauge, "dynmem_host_overhead_bytes",
        "Sum of the hypervisor's own memory for all VMs.",
        |host| size(host.overhead_bytes)),
    // The host itself.
    host("Host Available Memory", BYTES, Gauge, "dynmem_host_kernel_available_bytes",
        "Memory that the host's kernel says is available to programs.",
        |host| size(host.host_available_bytes)),
    host("Host Floor", BYTES, Gauge, "dynmem_host_floor_bytes",
        "Available memory that the host keeps while others use its memory.",
        |host| size(host.floor_bytes)),
    host("Machines Hold", BYTES, Gauge, "dynmem_host_machines_hold_bytes",
        "Memory that all machines' processes really hold.",
        |host| host.machines_hold_bytes.and_then(size)),
    host("Host Stall", PERCENT, Gauge, "dynmem_host_stall_ratio",
        "Share of the last ten seconds in which some task of the host waited for memory.",
        |host| percent(Some(host.stall_percent))),
    host("Host Under Pressure", Level, Gauge, "dynmem_host_under_pressure",
        "Whether the host is short of memory and takes some back: 1 if so, else 0.",
        |host| flag(host.under_pressure)),
    host("Smart Paging Possible", Level, Gauge, "dynmem_host_smart_paging_possible",
        "Whether a restart without memory gets through on a file: 1 if so, else 0.",
        |host| flag(host.smart_paging.possible)),
    host("Running VMs", Count, Gauge, "dynmem_host_vms_on",
        "VMs that are on.",
        |host| count(host.vms_running)),
    host("Defined VMs", Count, Gauge, "dynmem_host_vms_defined",
        "VMs that are defined.",
        |host| count(host.vms_total)),
    host("Damaged Definitions", Count, Gauge, "dynmem_host_definitions_damaged",
        "Definitions of VMs that could not be read.",
        |host| count(host.damaged_definitions.len() as u64)),
];
