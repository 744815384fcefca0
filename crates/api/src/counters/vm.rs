//! The counters of a VM.

use super::{
    Counter, CounterSet,
    Kind::{self, Cumulative, Gauge},
    Source,
    Unit::{self, Count, Level, Seconds},
    count, flag, percent, size,
};
use crate::{DriverView, Integration, MemoryStatus, VmView};

const BYTES: Unit = Unit::Bytes;
const PERCENT: Unit = Unit::Percent;

type Read = fn(&VmView) -> Option<i64>;

/// What a function reads of a VM that is on; nothing of one that is not.
macro_rules! on {
    ($read:expr) => {
        |vm: &VmView| {
            let read: Read = $read;
            if vm.state.is_on() { read(vm) } else { None }
        }
    };
}

const fn vm(
    name: &'static str,
    unit: Unit,
    kind: Kind,
    prometheus: &'static str,
    help: &'static str,
    read: Read,
) -> Counter {
    Counter { set: CounterSet::Vm, name, unit, kind, prometheus, help, source: Source::Vm(read) }
}

/// *Dynamic Memory VM*: as the host sees it.
#[rustfmt::skip] // a row for each counter, and what it reads below it
pub(super) static COUNTERS: &[Counter] = &[
    // What administrators of Hyper-V know.
    vm("Added Memory", BYTES, Cumulative, "dynmem_vm_added_bytes_total",
        "Memory given to the VM since it was started.",
        on!(|vm| size(vm.counters.added_bytes))),
    vm("Removed Memory", BYTES, Cumulative, "dynmem_vm_removed_bytes_total",
        "Memory taken back from the VM since it was started.",
        on!(|vm| size(vm.counters.removed_bytes))),
    vm("Memory Add Operations", Count, Cumulative, "dynmem_vm_add_operations_total",
        "How often memory was given to the VM since it was started.",
        on!(|vm| count(vm.counters.add_operations))),
    vm("Memory Remove Operations", Count, Cumulative, "dynmem_vm_remove_operations_total",
        "How often memory was taken back from the VM since it was started.",
        on!(|vm| count(vm.counters.remove_operations))),
    vm("Physical Memory", BYTES, Gauge, "dynmem_vm_assigned_bytes",
        "Memory that the host lends to the VM now (assigned memory).",
        |vm| size(vm.assigned_bytes)),
    vm("Guest Visible Physical Memory", BYTES, Gauge, "dynmem_vm_guest_visible_bytes",
        "Memory that the guest's memory manager says it has; with a balloon a high-water mark.",
        on!(|vm| vm.guest_visible_bytes.and_then(size))),
    vm("Guest Available Memory", BYTES, Gauge, "dynmem_vm_guest_available_bytes",
        "Memory that the guest's programs can get without swapping.",
        on!(|vm| vm.guest_available_bytes.and_then(size))),
    vm("Current Pressure", PERCENT, Gauge, "dynmem_vm_pressure_ratio",
        "Demand divided by assigned memory now; above 1 (100 %) the guest is short.",
        on!(|vm| percent(vm.pressure_percent))),
    vm("Average Pressure", PERCENT, Gauge, "dynmem_vm_pressure_average_ratio",
        "Average pressure since the guest first reported.",
        on!(|vm| percent(vm.counters.pressure_average_percent))),
    vm("Minimum Pressure", PERCENT, Gauge, "dynmem_vm_pressure_minimum_ratio",
        "Lowest pressure since the guest first reported.",
        on!(|vm| percent(vm.counters.pressure_minimum_percent))),
    vm("Maximum Pressure", PERCENT, Gauge, "dynmem_vm_pressure_maximum_ratio",
        "Highest pressure since the guest first reported.",
        on!(|vm| percent(vm.counters.pressure_maximum_percent))),
    vm("Smart Paging Working Set Size", BYTES, Gauge, "dynmem_vm_smart_paging_used_bytes",
        "The part of the VM's memory that lies in its smart paging file.",
        on!(|vm| size(vm.smart_paging.used_bytes))),
    // Demand, and how it is met.
    vm("Memory Demand", BYTES, Gauge, "dynmem_vm_demand_bytes",
        "Memory that the guest needs now, buffer excluded.",
        |vm| size(vm.demand_bytes)),
    vm("Memory Target", BYTES, Gauge, "dynmem_vm_target_bytes",
        "Demand and buffer, between minimum and maximum.",
        on!(|vm| vm.pressure_percent.and_then(|_| size(vm.target_bytes)))),
    vm("Memory Available", PERCENT, Gauge, "dynmem_vm_memory_available_ratio",
        "(assigned - demand) / assigned; negative when the guest is short.",
        on!(|vm| vm.memory_available_percent)),
    vm("Available Buffer", PERCENT, Gauge, "dynmem_vm_buffer_held_ratio",
        "Buffer that the VM holds, by the buffer that its settings ask for.",
        on!(|vm| percent(vm.buffer_percent_held))),
    vm("Memory Status", Level, Gauge, "dynmem_vm_memory_status",
        "Whether a dynamic VM has the memory it needs: 0 ok, 1 warning (demand is met, the buffer is not), 2 low (demand is not met).",
        on!(status)),
    vm("Demand Gap", BYTES, Gauge, "dynmem_vm_demand_gap_bytes",
        "Demand that assigned memory does not cover; 0 while demand is met.",
        on!(|vm| size(vm.demand_bytes.saturating_sub(vm.assigned_bytes)))),
    // The machine.
    vm("Running", Level, Gauge, "dynmem_vm_on",
        "Whether the VM is on: 1 if a machine exists or is about to, else 0.",
        |vm| flag(vm.state.is_on())),
    vm("Uptime", Seconds, Gauge, "dynmem_vm_uptime_seconds",
        "Time since the machine was started.",
        on!(|vm| vm.uptime_seconds.and_then(count))),
    vm("Processor Time", PERCENT, Gauge, "dynmem_vm_cpu_ratio",
        "Processor time used lately; 1 (100 %) is one host processor.",
        on!(|vm| percent(vm.cpu_percent))),
    vm("Virtual Processors", Count, Gauge, "dynmem_vm_processors",
        "Virtual processors that the VM is defined with.",
        |vm| count(u64::from(vm.vcpus))),
    // Where the memory is.
    vm("Ballooned Memory", BYTES, Gauge, "dynmem_vm_ballooned_bytes",
        "Memory that the guest's balloon holds for the host.",
        on!(|vm| size(vm.ballooned_bytes))),
    vm("Hot-Added Memory", BYTES, Gauge, "dynmem_vm_plugged_bytes",
        "Memory that was hot-added and is still there.",
        on!(|vm| size(vm.plugged_bytes))),
    vm("Memory Overhead", BYTES, Gauge, "dynmem_vm_overhead_bytes",
        "The hypervisor's own memory for this VM, charged on top of assigned memory.",
        on!(|vm| size(vm.overhead_bytes))),
    vm("Charged Memory", BYTES, Gauge, "dynmem_vm_charged_bytes",
        "What the ledger counts for the VM: what it holds or was promised, and overhead.",
        on!(|vm| size(vm.charged_bytes))),
    vm("Resident Memory", BYTES, Gauge, "dynmem_vm_resident_bytes",
        "Guest memory that the host really backs; the guest has not touched the rest, or has given it back.",
        on!(|vm| vm.resident_bytes.and_then(size))),
    vm("Memory Limit", BYTES, Gauge, "dynmem_vm_memory_limit_bytes",
        "The most that the hypervisor's process may hold before the kernel ends it.",
        on!(|vm| vm.memory_limit_bytes.and_then(size))),
    vm("Guest High-Water Memory", BYTES, Gauge, "dynmem_vm_guest_high_water_bytes",
        "The most memory that the guest has seen since power-on.",
        on!(|vm| size(vm.counters.guest_high_water_bytes))),
    vm("Saved Memory", BYTES, Gauge, "dynmem_vm_saved_bytes",
        "Memory that the VM held when it was saved, and holds again once it is started.",
        |vm| vm.saved_bytes.and_then(size)),
    // What was metered.
    vm("Metered Average Memory", BYTES, Gauge, "dynmem_vm_metered_average_bytes",
        "Assigned memory on average, weighted by time, since metering began.",
        |vm| vm.meter.as_ref()?.average_bytes.and_then(size)),
    vm("Metered Minimum Memory", BYTES, Gauge, "dynmem_vm_metered_minimum_bytes",
        "The least memory that the VM was assigned since metering began.",
        |vm| vm.meter.as_ref()?.minimum_bytes.and_then(size)),
    vm("Metered Maximum Memory", BYTES, Gauge, "dynmem_vm_metered_maximum_bytes",
        "The most memory that the VM was assigned since metering began.",
        |vm| vm.meter.as_ref()?.maximum_bytes.and_then(size)),
    // Smart paging.
    vm("Smart Paging File Size", BYTES, Gauge, "dynmem_vm_smart_paging_file_bytes",
        "Size of the smart paging file; 0 without one.",
        on!(|vm| size(vm.smart_paging.file_bytes.unwrap_or_default()))),
    vm("Smart Paging Duration", Seconds, Gauge, "dynmem_vm_smart_paging_seconds",
        "For how long the VM has been on its smart paging file.",
        on!(|vm| vm.smart_paging.since_seconds.and_then(count))),
    vm("Smart Paging Overdue", Level, Gauge, "dynmem_vm_smart_paging_overdue",
        "Whether the VM has been on its smart paging file for longer than it should: 1 if so, else 0.",
        on!(|vm| flag(vm.smart_paging.overdue))),
    // What is wrong.
    vm("Troubles", Count, Gauge, "dynmem_vm_troubles",
        "How many things are wrong with the guest; the VM's view names them.",
        on!(|vm| count(vm.troubles.len() as u64))),
    vm("Driver Frozen", Level, Gauge, "dynmem_vm_driver_frozen",
        "Whether the guest's memory drivers do not do what they are asked, so that its memory stands still: 1 if so, else 0.",
        on!(|vm| flag(matches!(vm.driver, DriverView::Frozen { .. })))),
    vm("Integration Service", Level, Gauge, "dynmem_vm_integration",
        "Who reports from inside the guest: 2 the agent, 1 the balloon driver alone, 0 nobody.",
        on!(integration)),
    vm("Reports Taken", Count, Cumulative, "dynmem_vm_reports_taken_total",
        "Reports of the guest's agent that were believed, since the host has spoken with it.",
        on!(|vm| count(vm.counters.reports_taken))),
    vm("Reports Refused", Count, Cumulative, "dynmem_vm_reports_refused_total",
        "Messages of the guest's agent that were refused, since the host has spoken with it.",
        on!(|vm| count(vm.counters.reports_refused))),
    // What a person set.
    vm("Dynamic Memory", Level, Gauge, "dynmem_vm_dynamic",
        "Whether the VM's memory moves: 1 if dynamic memory is on, else 0.",
        |vm| flag(vm.settings.dynamic)),
    vm("Startup Memory", BYTES, Gauge, "dynmem_vm_startup_bytes",
        "Memory that the VM boots with, as set.",
        |vm| size(vm.settings.startup_bytes)),
    vm("Minimum Memory", BYTES, Gauge, "dynmem_vm_minimum_bytes",
        "Memory that the VM is always guaranteed once it has booted, as set.",
        |vm| size(vm.settings.minimum_bytes)),
    vm("Maximum Memory", BYTES, Gauge, "dynmem_vm_maximum_bytes",
        "Memory that the VM never exceeds, as set.",
        |vm| size(vm.settings.maximum_bytes)),
    vm("Memory Buffer", PERCENT, Gauge, "dynmem_vm_buffer_ratio",
        "Share of demand that is to be kept on top of demand, as set.",
        |vm| percent(Some(vm.settings.buffer_percent))),
    vm("Memory Weight", Level, Gauge, "dynmem_vm_weight",
        "Relative claim on memory when not everybody can be served, as set: 1 to 10000.",
        |vm| Some(i64::from(vm.settings.weight.get()))),
];

/// *Dynamic Memory Integration Service*: as the guest sees it.
pub(super) static IN_THE_GUEST: &[Counter] = &[Counter {
    set: CounterSet::IntegrationService,
    name: "Maximum Memory",
    unit: BYTES,
    kind: Gauge,
    prometheus: "dynmem_vm_guest_maximum_bytes",
    help: "The most memory that the guest can be given: the maximum of a dynamic VM, the size of a static one.",
    source: Source::Vm(on!(|vm| {
        size(if vm.settings.dynamic { vm.settings.maximum_bytes } else { vm.settings.startup_bytes })
    })),
}];

fn status(vm: &VmView) -> Option<i64> {
    vm.memory_status.map(|status| match status {
        MemoryStatus::Ok => 0,
        MemoryStatus::Warning => 1,
        MemoryStatus::Low => 2,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the rows' functions give options")]
fn integration(vm: &VmView) -> Option<i64> {
    Some(match vm.integration {
        Integration::None => 0,
        Integration::BalloonStatistics => 1,
        Integration::Agent => 2,
    })
}
