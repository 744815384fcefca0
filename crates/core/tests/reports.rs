//! What the engine makes of what guests say.

mod world;

use dynmem_core::{Event, GuestReport, HostFacts, Input, Instant, MemoryStatus, NoticeKind, ReportSource, VmId};
use dynmem_units::{Bytes, Percent};
use world::{
    KERNEL,
    hand::{Hand, deeds, order, told},
    mib, report, settings,
};

/// What the balloon's statistics say: no commit figure, no reserve.
fn statistics(assigned: u64, used: u64) -> GuestReport {
    let source = ReportSource::Balloon;
    GuestReport { source, committed: None, reserved: None, ..report(mib(assigned), mib(used)) }
}

#[test]
fn statistics_are_believed_where_the_agent_has_not_spoken_for_seven_seconds() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 40);
    let source = |hand: &Hand| hand.vm(vm).report.map(|report| report.source);
    hand.after(6_999);
    hand.send(vm, Event::Report(statistics(512, 100)));
    assert_eq!((source(&hand), hand.vm(vm).demand), (Some(ReportSource::Agent), mib(56)));
    hand.after(1);
    hand.send(vm, Event::Report(statistics(512, 100)));
    assert_eq!((source(&hand), hand.vm(vm).demand), (Some(ReportSource::Balloon), mib(116)));
    hand.after(1);
    hand.send(vm, Event::Report(statistics(512, 200)));
    assert_eq!(hand.vm(vm).demand, mib(216), "statistics follow each other at any pace");
    hand.reports(vm, 300);
    assert_eq!((source(&hand), hand.vm(vm).demand), (Some(ReportSource::Agent), mib(316)));
}

#[test]
fn what_the_kernel_keeps_for_itself_is_learned_while_nothing_moves() {
    let mut hand = Hand::new(4096);
    let vm = hand.booting(settings(128, 512, 2048));
    hand.after(10);
    let effects = hand.send(vm, Event::Report(statistics(512, 484)));
    assert_eq!(deeds(effects), [order(vm, 512, 600)], "484 used and 16 out of sight");
    // Half of what was ordered is there, and the guest's own figure lags: the
    // difference is not the kernel's.
    hand.after(100);
    hand.holds(vm, 540);
    hand.send(vm, Event::Report(statistics(512, 484)));
    assert_eq!(hand.vm(vm).demand, mib(484).saturating_add(KERNEL));
}

#[test]
fn a_stall_while_memory_arrives_asks_for_nothing_more() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 600);
    let promised = hand.vm(vm).promised;
    assert!(promised > mib(512));
    hand.after(100);
    hand.send(vm, Event::Report(GuestReport { stall: 10_000, ..report(mib(512), mib(600)) }));
    assert_eq!((hand.vm(vm).promised, hand.vm(vm).demand), (promised, mib(512)));
    hand.after(100);
    hand.holds(vm, promised.mib());
    hand.send(vm, Event::Report(GuestReport { stall: 10_000, ..report(promised, mib(1000)) }));
    assert!(hand.vm(vm).demand > promised, "when it is there, a stall is one");
}

#[test]
fn pressure_is_remembered_from_the_first_report_on() {
    let mut hand = Hand::new(4096);
    let vm = hand.booting(settings(128, 512, 2048));
    let history = |hand: &Hand| {
        let seen = hand.vm(vm).pressure_history;
        [seen.minimum, seen.average(), seen.maximum].map(Percent::get)
    };
    assert_eq!(history(&hand), [0, 0, 0]);
    hand.reports(vm, 240);
    assert_eq!(history(&hand), [50, 50, 50]);
    hand.reports(vm, 496);
    assert_eq!(history(&hand), [50, 75, 100]);
    hand.after(100_000);
    hand.reports(vm, 0);
    hand.after(100_000);
    hand.reports(vm, 0);
    let [minimum, average, maximum] = history(&hand);
    assert!(minimum < 50 && maximum == 100 && (50..75).contains(&average), "{minimum} {average} {maximum}");
}

#[test]
fn the_most_that_a_guest_has_seen_is_no_more_than_its_machine_could_hold() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 40);
    assert_eq!(hand.vm(vm).high_water, mib(512 - 16));
    hand.send(vm, Event::Report(report(mib(300), mib(40))));
    assert_eq!(hand.vm(vm).high_water, mib(512 - 16));
    hand.send(vm, Event::Report(GuestReport { visible: Bytes::MAX, ..report(mib(512), mib(40)) }));
    assert_eq!(hand.vm(vm).high_water, mib(512 + 65_536), "boot memory and all that could be plugged");
}

#[test]
fn memory_that_is_there_to_the_byte_is_enough() {
    let mut hand = Hand::new(512);
    let vm = hand.running(settings(128, 512, 2048), 496);
    assert_eq!((hand.vm(vm).demand, hand.vm(vm).assigned), (mib(512), mib(512)));
    assert_eq!(hand.vm(vm).status, Some(MemoryStatus::Warning), "demand is met, the buffer is not");
}

#[test]
fn a_quarter_of_the_buffer_may_be_missing_without_a_warning() {
    // Demand 1000 and a buffer of 200: 50 may be missing.
    for (assigned, status) in [(1150, MemoryStatus::Ok), (1148, MemoryStatus::Warning)] {
        let mut hand = Hand::new(assigned);
        let vm = hand.running(settings(128, assigned, 2048), 984);
        assert_eq!(hand.vm(vm).status, Some(status), "{assigned} MiB");
    }
}

#[test]
fn a_buffer_is_refilled_when_a_quarter_of_it_is_missing() {
    for (startup, ordered) in [(1150, false), (1148, true)] {
        let mut hand = Hand::new(4096);
        let vm = hand.booting(settings(128, startup, 2048));
        hand.after(10);
        let effects = hand.reports(vm, 984);
        assert_eq!(deeds(effects) == [order(vm, startup, 1200)], ordered, "{startup} MiB");
    }
}

#[test]
fn a_host_under_pressure_says_so_and_says_when_it_is_over() {
    let mut hand = Hand::new(4096);
    let mut sentences = Vec::new();
    for available in [100, 100, 3000, 3000] {
        hand.after(1_000);
        let facts = HostFacts { available: mib(available), stall: 0, machines: None };
        let effects = hand.engine.handle(hand.now, Input::Host(facts));
        sentences.extend(told(&effects, NoticeKind::HostPressure).into_iter().map(str::to_owned));
        assert_eq!(hand.engine.host_snapshot().under_pressure, available == 100);
    }
    let expected = [
        "The host is under pressure: 100MiB available; VMs give memory back",
        "The host has recovered: 3000MiB available",
    ];
    assert_eq!(sentences, expected);
}

#[test]
fn a_clock_that_jumps_back_stops_nothing() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 40);
    hand.after(3_600_000);
    hand.now = Instant(10_000);
    hand.engine.handle(hand.now, Input::Tick);
    assert_eq!(hand.engine.deadline(), Instant(11_000), "it ticks on from there");
    hand.reports(vm, 40);
    assert_eq!(told(&hand.after(15_000), NoticeKind::Silent).len(), 1, "and clocks are looked at");
}

#[test]
fn reports_of_nobody_are_nobodys() {
    let mut hand = Hand::new(4096);
    assert_eq!(hand.send(VmId(7), Event::Report(report(mib(512), mib(40)))), []);
    assert_eq!(hand.engine.vm_snapshots(hand.now), []);
}
