//! Moves of memory: what sets them off, and what is counted and told of them.

mod world;

use dynmem_core::{DemandModel, Effect, Event, Exit, MemorySettings, NoticeKind, VmId};
use dynmem_units::Bytes;
use world::{
    hand::{Hand, deeds, order, told},
    mib,
};

/// Settings with which demand is what programs were promised, and so independent
/// of what the machine holds.
fn settings(minimum: u64, startup: u64, maximum: u64) -> MemorySettings {
    MemorySettings { demand_model: DemandModel::Committed, ..world::settings(minimum, startup, maximum) }
}

/// A full host of two: a fat VM that was just asked for memory, and a busy one
/// that waits for it. The last decision is no older than the last instant.
fn scarce() -> (Hand, VmId, VmId) {
    let mut hand = Hand::new(2048);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let busy = hand.running(settings(128, 1024, 1820), 40);
    hand.after(10);
    let effects = hand.reports(busy, 1500);
    assert_eq!(deeds(effects), [order(fat, 1024, 228)], "1516 and its buffer: 1820 of 2048");
    (hand, fat, busy)
}

#[test]
fn a_move_is_told_when_it_has_arrived() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(256, 512, 2048), 484);
    assert_eq!(hand.vm(vm).promised, mib(600));
    hand.after(100);
    hand.holds(vm, 540);
    assert_eq!(told(&hand.after(900), NoticeKind::Grew), [""; 0], "it is on its way");
    hand.holds(vm, 600);
    let sentence = "vm0 grew from 512 to 600 MiB in 1000 ms; its demand is 500 MiB";
    let effects = hand.after(1_000);
    assert_eq!(told(&effects, NoticeKind::Grew), [sentence]);
    let numbers = effects.iter().find_map(|effect| match effect {
        Effect::Record(notice) if notice.kind == NoticeKind::Grew => Some(notice.numbers.clone()),
        _ => None,
    });
    let mib = |mib| Bytes::from_mib(mib).get();
    let expected =
        vec![("from_bytes", mib(512)), ("to_bytes", mib(600)), ("demand_bytes", mib(500)), ("took_ms", 1_000)];
    assert_eq!(numbers, Some(expected));
    assert_eq!(told(&hand.after(1_000), NoticeKind::Grew), [""; 0], "once");
}

#[test]
fn a_move_for_others_is_told_as_shrinking() {
    let (mut hand, fat, _) = scarce();
    hand.after(50);
    hand.holds(fat, 228);
    let sentence = "vm0 shrank from 1024 to 228 MiB in 50 ms; its demand is 56 MiB";
    assert_eq!(told(&hand.after(1_000), NoticeKind::Shrank), [sentence]);
}

#[test]
fn moves_below_8_mib_are_not_worth_a_sentence() {
    for (maximum, sentences) in [(518, 0), (520, 1)] {
        let mut hand = Hand::new(4096);
        let vm = hand.running(settings(256, 512, maximum), 600);
        hand.holds(vm, maximum);
        assert_eq!(told(&hand.after(1_000), NoticeKind::Grew).len(), sentences, "{} MiB", maximum - 512);
    }
}

#[test]
fn orders_and_what_arrives_are_counted_for_the_vm_and_the_host() {
    let (mut hand, fat, busy) = scarce();
    hand.after(100);
    hand.holds(fat, 628);
    hand.after(10);
    hand.holds(fat, 228);
    hand.after(10);
    hand.holds(busy, 1820);
    let (fat, busy, host) = (hand.vm(fat).counters, hand.vm(busy).counters, hand.engine.host_snapshot().counters);
    assert_eq!((fat.add_operations, fat.remove_operations), (0, 1));
    assert_eq!((fat.added, fat.removed), (mib(0), mib(796)));
    assert_eq!((busy.add_operations, busy.remove_operations), (2, 0));
    assert_eq!((busy.added, busy.removed), (mib(796), mib(0)));
    assert_eq!((host.add_operations, host.remove_operations), (2, 1));
    assert_eq!((host.added, host.removed), (mib(796), mib(796)));
}

#[test]
fn memory_that_comes_back_goes_at_once_to_who_waits_for_it() {
    let (mut hand, fat, busy) = scarce();
    hand.after(100);
    assert_eq!(deeds(hand.holds(fat, 628)), [order(busy, 1024, 1420)]);
    hand.after(10);
    assert_eq!(deeds(hand.holds(fat, 228)), [order(busy, 1024, 1820)]);
}

#[test]
fn what_was_just_asked_for_is_waited_for() {
    let (mut hand, fat, busy) = scarce();
    hand.after(100);
    hand.holds(fat, 228);
    hand.holds(busy, 1820);
    for _ in 0..12 {
        hand.after(5_000);
        hand.reports(fat, 40);
        hand.reports(busy, 900);
    }
    assert_eq!(hand.vm(busy).target, mib(1100));
    let other = hand.define(settings(600, 600, 600));
    assert_eq!(
        deeds(hand.start(other)),
        [order(fat, 1024, 128), order(busy, 1024, 1100)],
        "all that each can spare, as headroom had been asked for before"
    );
    for _ in 0..4 {
        assert_eq!(deeds(hand.after(1_000)), [], "600 were asked for, and are on their way");
    }
}

#[test]
fn who_has_given_memory_away_does_not_wait_for_it_any_more() {
    let mut hand = Hand::new(2072);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let vm = hand.running(settings(128, 1024, 2048), 1500);
    assert_eq!(hand.vm(vm).promised, mib(1048), "it waits for 1820");
    hand.after(100);
    hand.holds(vm, 1048);
    for _ in 0..12 {
        hand.after(5_000);
        hand.reports(vm, 484);
        hand.reports(fat, 40);
    }
    let other = hand.define(settings(400, 400, 400));
    hand.start(other);
    let promised = hand.vm(vm).promised.mib();
    assert!(promised < 1048, "it gives to a start");
    hand.after(100);
    hand.holds(fat, 128);
    hand.holds(vm, promised);
    hand.send(other, Event::LaunchFailed("no".to_owned()));
    hand.after(1_000);
    hand.reports(vm, (promised + 20) * 10 / 12 - 16);
    let missing = hand.vm(vm).target.mib() - promised;
    assert!((10..24).contains(&missing), "{missing} of a buffer of more than 100");
    assert_eq!(deeds(hand.after(1_000)), [], "that is no reason to move memory");
}

#[test]
fn devices_that_have_not_moved_call_for_no_decision() {
    let (mut hand, fat, busy) = scarce();
    hand.after(95);
    hand.reports(busy, 1500);
    hand.after(5);
    let deadline = hand.engine.deadline();
    hand.holds(fat, 1024);
    assert_eq!(hand.engine.deadline(), deadline);
    hand.holds(fat, 828);
    assert!(hand.engine.deadline() < deadline, "what has moved does, as soon as one may be taken");
}

#[test]
fn memory_that_comes_back_while_nobody_waits_calls_for_no_decision() {
    let (mut hand, fat, busy) = scarce();
    hand.after(100);
    hand.send(busy, Event::Exited(Exit::Clean));
    hand.after(5);
    let deadline = hand.engine.deadline();
    hand.holds(fat, 828);
    assert_eq!(hand.vm(fat).charge, mib(828));
    assert_eq!(hand.engine.deadline(), deadline);
}

#[test]
fn whoever_begins_to_take_part_gives_at_once() {
    // The first report of a guest makes its memory movable.
    let mut hand = Hand::new(2048);
    let fat = hand.booting(settings(128, 1024, 2048));
    let busy = hand.running(settings(128, 1024, 1820), 1500);
    assert_eq!(hand.vm(busy).promised, mib(1024));
    hand.after(10);
    assert_eq!(deeds(hand.reports(fat, 40)), [order(fat, 1024, 228)]);

    // So do the first one after a silence, and the end of a pause.
    let mut silent = scarce_but_for(None, 16_000);
    assert_eq!(deeds(silent.reports(VmId(0), 40)), [order(VmId(0), 1024, 228)]);
    let mut stood = scarce_but_for(Some(Event::Paused), 1_000);
    assert_eq!(deeds(stood.send(VmId(0), Event::Resumed)), [order(VmId(0), 1024, 228)]);
}

/// Two VMs, of which the first is left alone for a while, before the second
/// comes to need its memory.
fn scarce_but_for(event: Option<Event>, millis: u64) -> Hand {
    let mut hand = Hand::new(2048);
    let [fat, busy] = [0, 1].map(|_| hand.running(settings(128, 1024, 1820), 40));
    if let Some(event) = event {
        hand.send(fat, event);
    }
    hand.after(millis);
    hand.after(10);
    assert_eq!(deeds(hand.reports(busy, 1500)), []);
    hand.after(10);
    hand
}

#[test]
fn a_machine_that_ends_leaves_its_memory_to_who_waits_at_once() {
    let (mut hand, fat, busy) = scarce();
    hand.after(10);
    assert_eq!(deeds(hand.send(fat, Event::Exited(Exit::Clean))), [order(busy, 1024, 1820)]);
}

#[test]
fn a_machine_that_stands_still_is_not_called_stuck() {
    let (mut hand, fat, _) = scarce();
    hand.send(fat, Event::Paused);
    let mut effects = Vec::new();
    for _ in 0..60 {
        effects.extend(hand.after(1_000));
        effects.extend(hand.holds(fat, 1024));
    }
    assert_eq!(told(&effects, NoticeKind::Stuck), [""; 0]);
    let sentence = "vm1 has stopped reporting; it keeps what it holds, 1GiB, until it reports again";
    assert_eq!(told(&effects, NoticeKind::Silent), [sentence], "it does not stand still");
}

#[test]
fn the_memory_status_is_told_when_it_changes() {
    let (mut hand, fat, busy) = scarce();
    let status = |effects: &[Effect]| told(effects, NoticeKind::StatusChanged).join("; ");
    let sentences = "Memory status of vm0 is OK: demand 56 MiB, assigned 1024 MiB; \
                     Memory status of vm1 is Low: demand 1516 MiB, assigned 1024 MiB";
    assert_eq!(status(&hand.after(1_000)), sentences);
    assert_eq!(status(&hand.after(1_000)), "");
    hand.holds(fat, 228);
    hand.holds(busy, 1600);
    assert_eq!(status(&hand.after(1_000)), "Memory status of vm1 is Warning: demand 1516 MiB, assigned 1600 MiB");
    hand.after(10);
    hand.holds(busy, 1820);
    assert_eq!(status(&hand.after(1_000)), "Memory status of vm1 is OK: demand 1516 MiB, assigned 1820 MiB");
}
