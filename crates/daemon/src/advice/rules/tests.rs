//! Each rule, on both of its sides.

use dynmem_api::{HostPagingView, TroubleView};
use dynmem_units::Percent;
use serde_json::json;

use super::*;

const MIB: u64 = 1 << 20;

/// A dynamic VM of 512 MiB that runs, about which there is nothing to say.
fn vm() -> VmView {
    serde_json::from_value(json!({
        "name": "web01", "state": "running", "assigned_bytes": 512 * MIB, "demand_bytes": 200 * MIB,
        "target_bytes": 256 * MIB, "vcpus": 1, "integration": "agent", "driver": {"state": "ok"},
        "guest_swap_bytes": 1024 * MIB, "counters": {"guest_high_water_bytes": 480 * MIB},
        "settings": {"dynamic": true, "startup_bytes": 512 * MIB, "minimum_bytes": 256 * MIB,
            "maximum_bytes": 2048 * MIB, "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
    }))
    .expect("a view")
}

fn host() -> HostView {
    HostView { memory_bytes: Bytes::from_mib(8192), reserve_bytes: Bytes::from_mib(1024), ..HostView::default() }
}

/// A week of a VM that needed 400 MiB at most.
fn week() -> Usage {
    Usage {
        week_seconds: 7 * 86_400,
        most_needed: Bytes::from_mib(400),
        least_held: Bytes::from_mib(300),
        is_steady: false,
        day_minutes: 1440,
        short_minutes: 0,
    }
}

fn kinds_of(vm: &VmView, usage: &Usage, paging_on_system_disk: bool) -> Vec<String> {
    let facts = Facts { vm, host: &host(), usage, paging_on_system_disk };
    about_vm(&facts).into_iter().map(|candidate| candidate.advice.kind).collect()
}

/// Of this VM, with a week that needed 400 MiB.
fn kinds(change: impl FnOnce(&mut VmView)) -> Vec<String> {
    let mut vm = vm();
    change(&mut vm);
    kinds_of(&vm, &week(), false)
}

#[test]
fn about_a_vm_that_is_set_well_nothing_is_said() {
    assert!(kinds(|_| ()).is_empty());
    assert!(kinds_of(&vm(), &Usage::default(), true).is_empty(), "nor about one of which nothing is known");
}

#[test]
fn a_startup_that_the_host_never_lends_is_told_and_one_that_just_fits_is_not() {
    let off = |startup| {
        kinds(|vm| {
            vm.state = VmState::Off;
            (vm.settings.startup_bytes, vm.settings.maximum_bytes) = (Bytes::from_mib(startup), Bytes::from_mib(8192));
            vm.settings.minimum_bytes = Bytes::from_mib(256);
        })
    };
    assert_eq!(off(7169), ["startup-beyond-host"]);
    assert!(off(7168).is_empty());
}

#[test]
fn a_guest_that_can_not_use_its_startup_is_told_and_its_kernels_part_is_not() {
    let sees = |mib| {
        kinds(|vm| {
            (vm.settings.startup_bytes, vm.settings.maximum_bytes) = (Bytes::from_mib(6144), Bytes::from_mib(6144));
            vm.counters.guest_high_water_bytes = Bytes::from_mib(mib);
        })
    };
    assert_eq!(sees(3300), ["startup-beyond-guest"]);
    assert!(sees(5900).is_empty());
    assert!(sees(0).is_empty(), "it has not spoken yet");
}

#[test]
fn a_minimum_at_the_startup_is_told_where_the_vm_never_needed_it() {
    let at = |minimum, startup| {
        kinds(|vm| {
            (vm.settings.minimum_bytes, vm.settings.startup_bytes) =
                (Bytes::from_mib(minimum), Bytes::from_mib(startup));
            vm.counters.guest_high_water_bytes = Bytes::from_mib(startup);
        })
    };
    assert_eq!(at(1024, 1024), ["minimum-is-startup"]);
    assert!(at(1022, 1024).is_empty(), "somebody chose it");
    assert!(at(640, 640).is_empty(), "it needs most of it");
    let young = Usage { week_seconds: 4 * 86_400, ..week() };
    let mut vm = vm();
    (vm.settings.minimum_bytes, vm.settings.startup_bytes) = (Bytes::from_mib(1024), Bytes::from_mib(1024));
    vm.counters.guest_high_water_bytes = Bytes::from_mib(1024);
    assert!(kinds_of(&vm, &young, false).is_empty(), "it is too early to tell");
}

#[test]
fn a_maximum_far_above_all_that_was_wanted_is_told_and_the_default_is_not() {
    let at = |maximum| kinds(|vm| vm.settings.maximum_bytes = maximum);
    assert_eq!(at(Bytes::from_mib(2052)), ["maximum-unused"]);
    assert!(at(Bytes::from_mib(2048)).is_empty());
    assert!(at(MemorySettings::default().maximum).is_empty());
}

#[test]
fn a_static_vm_that_needs_little_of_its_memory_could_be_dynamic() {
    let at = |startup| {
        kinds(|vm| {
            vm.settings.dynamic = false;
            vm.settings.startup_bytes = Bytes::from_mib(startup);
            vm.counters.guest_high_water_bytes = Bytes::from_mib(startup);
        })
    };
    assert_eq!(at(1024), ["could-be-dynamic"]);
    assert!(at(1000).is_empty());
}

#[test]
fn a_smart_paging_folder_on_the_system_disk_is_told_of_whoever_has_it() {
    let mut vm = vm();
    vm.settings.smart_paging_folder = Some("/var/paging".into());
    assert_eq!(kinds_of(&vm, &week(), true), ["smart-paging-on-system-disk"]);
    assert!(kinds_of(&vm, &week(), false).is_empty());
    vm.settings.dynamic = false;
    assert!(!kinds_of(&vm, &week(), true).contains(&"smart-paging-on-system-disk".to_owned()), "it never pages");

    let folder = |possible| HostPagingView { possible, folder: Some("/p".into()), remark: None };
    let said = |possible, on_system_disk| {
        about_host(&HostView { smart_paging: folder(possible), ..host() }, on_system_disk).len()
    };
    assert_eq!([said(true, true), said(true, false), said(false, true)], [1, 0, 0]);
}

#[test]
fn a_guest_that_gives_nothing_back_for_ten_minutes_may_lock_its_memory() {
    let trouble = |kind: &str, since_seconds| {
        let trouble = TroubleView { kind: kind.to_owned(), since_seconds, detail: String::new() };
        kinds(|vm| vm.troubles.push(trouble))
    };
    assert_eq!(trouble("stuck", 600), ["keeps-its-memory"]);
    assert_eq!(trouble("pinned", 6000), ["keeps-its-memory"]);
    assert!(trouble("stuck", 599).is_empty());
    assert!(trouble("silent", 6000).is_empty());
}

#[test]
fn a_guest_without_swap_is_told_and_one_of_which_that_is_not_known_is_not() {
    assert_eq!(kinds(|vm| vm.guest_swap_bytes = Some(Bytes::ZERO)), ["no-swap"]);
    assert!(kinds(|vm| vm.guest_swap_bytes = None).is_empty());
    assert!(kinds(|vm| vm.guest_swap_bytes = Some(Bytes::from_mib(1))).is_empty());
}

#[test]
fn a_dynamic_vm_without_an_agent_is_told_and_a_static_one_is_not() {
    assert_eq!(kinds(|vm| vm.integration = Integration::BalloonStatistics), ["no-agent"]);
    assert_eq!(kinds(|vm| vm.integration = Integration::None), ["no-agent"]);
    let is_static = |vm: &mut VmView| (vm.integration, vm.settings.dynamic) = (Integration::None, false);
    assert!(kinds(is_static).is_empty());
    assert!(kinds(|vm| (vm.integration, vm.state) = (Integration::None, VmState::Booting)).is_empty());
}

#[test]
fn a_buffer_is_too_small_for_a_guest_that_was_short_beside_free_memory() {
    let short = |minutes| Usage { short_minutes: minutes, ..week() };
    assert_eq!(kinds_of(&vm(), &short(12), false), ["buffer-too-small"]);
    assert!(kinds_of(&vm(), &short(11), false).is_empty());
    let mut full = vm();
    full.assigned_bytes = full.settings.maximum_bytes;
    assert!(kinds_of(&full, &short(500), false).is_empty(), "its maximum is what it is short of");
    let facts = Facts { vm: &vm(), host: &host(), usage: &short(12), paging_on_system_disk: false };
    assert_eq!(about_vm(&facts)[0].advice.remedy, "Raise its buffer, to 30% for instance");
}

#[test]
fn a_buffer_is_too_large_for_a_guest_that_is_steady_for_days() {
    let steady = Usage { is_steady: true, ..week() };
    assert_eq!(kinds_of(&vm(), &steady, false), ["buffer-too-large"]);
    assert!(kinds_of(&vm(), &Usage { week_seconds: 86_400, ..steady }, false).is_empty());
    let mut small = vm();
    small.settings.buffer_percent = Percent::new(10);
    assert!(kinds_of(&small, &steady, false).is_empty());
    assert_eq!(kinds_of(&vm(), &Usage { short_minutes: 99, ..steady }, false), ["buffer-too-small"], "never both");
}
