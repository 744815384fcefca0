//! One machine and one VM by themselves.

use super::*;

/// Whoever needs a ninth: it costs every decision of a large host time.
/// What is rare can be boxed.
#[test]
fn a_vm_fits_into_eight_cache_lines() {
    assert!(size_of::<Option<Vm>>() <= 8 * 64, "{} bytes", size_of::<Option<Vm>>());
}

const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

fn devices(balloon_actual: u64, plugged: u64) -> DeviceFacts {
    DeviceFacts {
        boot: mib(1000),
        balloon_actual: mib(balloon_actual),
        plugged: mib(plugged),
        plug_max: mib(4000),
        plug_block: mib(2),
        overhead: Bytes::ZERO,
    }
}

fn settings(dynamic: bool) -> MemorySettings {
    let (startup, minimum, maximum) = (mib(1000), mib(100), mib(4000));
    MemorySettings { dynamic, startup, minimum, maximum, ..MemorySettings::default() }
}

/// A guest that needs `needed` MiB of 1000, all of them in sight.
fn report(needed: u64, stall: u32) -> GuestReport {
    let reserved = Some(Bytes::ZERO);
    GuestReport { reserved, stall, ..GuestReport::new(ReportSource::Agent, mib(1000), mib(1000 - needed)) }
}

fn running(dynamic: bool, needed: u64) -> Vm {
    let mut vm = Vm::new("web01".to_owned(), settings(dynamic));
    let mut machine = Machine::new(Instant(0), devices(1000, 0));
    machine.observe(Instant(0), report(needed, 0), &vm.settings);
    (vm.state, vm.machine) = (VmState::Running, Some(machine));
    vm
}

#[test]
fn memory_that_lies_crosswise_is_given_back_by_the_device_that_needs_no_room() {
    let machine = Machine::new(Instant(0), devices(600, 400));
    let plan = |wanted, most| machine.plan_within(Instant(0), mib(wanted), mib(most));
    assert_eq!(plan(900, 1300), Promise { balloon: mib(900), plugged: Bytes::ZERO }, "there is room to trade places");
    assert_eq!(plan(900, 1000), Promise { balloon: mib(500), plugged: mib(400) }, "the balloon gives alone");
    assert_eq!(plan(300, 1000), Promise { balloon: mib(300), plugged: Bytes::ZERO }, "both give");
    let little = Machine::new(Instant(0), devices(2, 400));
    let plan = little.plan_within(Instant(0), mib(302), mib(402));
    assert_eq!(plan, Promise { balloon: mib(2), plugged: mib(300) }, "the balloon has nothing to give");
}

#[test]
fn what_a_guest_needed_when_it_stalled_is_needed_until_memory_has_arrived() {
    let measured_with = |stall| {
        let mut machine = Machine::new(Instant(0), devices(1000, 0));
        machine.observe(Instant(0), report(900, 0), &settings(true));
        machine.promise_instead(Instant(0), Promise { balloon: mib(1000), plugged: mib(200) });
        machine.observe(Instant(1), report(500, stall), &settings(true));
        machine.demand.measured()
    };
    assert_eq!((measured_with(0), measured_with(1)), (mib(500), mib(900)));
}

#[test]
fn a_machine_has_been_reset_when_its_hot_added_memory_is_gone_and_it_is_not_held() {
    let resets = |before, reset_held, plugged| {
        let mut machine = Machine::new(Instant(0), devices(600, 400));
        machine.promise = Promise { balloon: mib(1000), plugged: mib(100) };
        (machine.resets, machine.reset_held) = (before, reset_held);
        machine.move_to(Instant(0), devices(1000, plugged));
        machine.resets
    };
    assert!(resets(true, false, 400) && resets(true, false, 102));
    assert!(!resets(true, false, 100) && !resets(true, false, 0));
    assert!(resets(true, true, 0), "it is still held");
    assert!(!resets(false, true, 400) && !resets(false, false, 400), "it never was");
}

#[test]
fn memory_is_lacked_beyond_a_quarter_of_the_buffer() {
    let lacks = |promised| {
        let mut vm = running(true, 600);
        let machine = vm.machine.as_mut().expect("it runs");
        machine.promise = Promise { balloon: mib(promised), plugged: Bytes::ZERO };
        vm.lacks_memory(Instant(0))
    };
    // 600 MiB and a buffer of 20 %, of which 30 may be missing.
    assert!(lacks(688) && !lacks(690) && !lacks(720) && lacks(100));
}

#[test]
fn a_static_vm_has_no_memory_status() {
    assert_eq!(running(true, 600).memory_status(), Some(MemoryStatus::Ok));
    assert_eq!(running(false, 600).memory_status(), None);
}

#[test]
fn a_stall_counts_once_all_that_was_promised_is_there() {
    let measured_with = |stall| {
        let mut machine = Machine::new(Instant(0), devices(1000, 0));
        machine.observe(Instant(0), report(950, stall), &settings(true));
        machine.demand.measured()
    };
    assert_eq!((measured_with(0), measured_with(5_000)), (mib(950), mib(1500)));
}
