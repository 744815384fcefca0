//! What the simulator's lives full of faults found, each as small as it can be.

mod world;

use dynmem_core::{
    DemandModel, DeviceFacts, DriverSnapshot, Effect, Engine, Event, HostConfig, HostFacts, Input, MemorySettings,
    NoticeKind, Paged, VmId, VmState,
};
use dynmem_units::Bytes;
use world::{
    buffered,
    hand::{Hand, deeds, order, told},
    mib,
};

/// Settings of a VM whose demand is what its guest says, whatever it holds.
fn settings(minimum: u64, startup: u64, maximum: u64) -> MemorySettings {
    MemorySettings { demand_model: DemandModel::Committed, ..world::settings(minimum, startup, maximum) }
}

/// A machine with `boot` MiB that holds so much of it, and of what it plugs.
fn crosswise(boot: u64, balloon_actual: u64, plugged: u64) -> DeviceFacts {
    DeviceFacts {
        boot: mib(boot),
        balloon_actual: mib(balloon_actual),
        plugged: mib(plugged),
        plug_max: mib(65_536),
        plug_block: Bytes::BLOCK,
        overhead: Bytes::ZERO,
    }
}

fn found(hand: &mut Hand, settings: MemorySettings, devices: DeviceFacts, known: bool) -> VmId {
    let vm = hand.define(settings);
    hand.send(vm, Event::Adopted { devices, paused: false, known, paging: None });
    vm
}

#[test]
fn a_static_vm_whose_bounds_lie_crosswise_is_shown_like_any_other() {
    let settings = MemorySettings { dynamic: false, ..settings(512, 512, 256) };
    assert_eq!(settings.check(), Ok(()), "the bounds wait for the day on which it becomes dynamic");
    let mut hand = Hand::new(2048);
    let vm = hand.running(settings, 100);
    assert_eq!((hand.vm(vm).assigned, hand.state(vm)), (mib(512), VmState::Running));
}

#[test]
fn memory_given_and_taken_back_counts_until_the_devices_were_seen() {
    let mut hand = Hand::new(2048);
    let [sinking, rising] = [0, 1].map(|_| hand.running(settings(128, 512, 4096), 40));
    hand.after(10);
    hand.reports(sinking, 1000);
    let given = hand.vm(sinking).promised;
    assert!(given > mib(1000), "{given}");
    for _ in 0..10 {
        hand.after(1_000);
        hand.reports(sinking, 40);
    }
    hand.reports(rising, 1500);
    hand.after(10);
    let left = hand.vm(sinking).promised;
    assert!(left < given, "it was asked back: {left}");
    // Perhaps it holds all of it by now: who was told of 512 MiB can't know.
    assert_eq!(hand.vm(sinking).charge, given);
    hand.after(50);
    hand.holds(sinking, 512);
    assert_eq!(hand.vm(sinking).charge, given, "this was read before the order came");
    assert!(hand.engine.host_snapshot().charged <= mib(2048));
    hand.after(100);
    hand.holds(sinking, 512);
    assert!(hand.vm(sinking).charge < given);
}

#[test]
fn a_guest_that_falls_silent_keeps_what_it_was_asked_for() {
    let mut hand = Hand::new(2048);
    let [silent, busy] = [0, 1].map(|_| hand.running(settings(128, 1024, 2048), 40));
    hand.after(10);
    hand.reports(busy, 1400);
    assert!(hand.vm(silent).promised < mib(700), "it is asked for memory");
    hand.holds(silent, 900);
    let mut effects = Vec::new();
    for _ in 0..16 {
        effects.extend(deeds(hand.after(1_000)));
        effects.extend(deeds(hand.reports(busy, 1400)));
    }
    assert!(matches!(hand.vm(silent).driver, DriverSnapshot::Silent { .. }));
    assert!(effects.contains(&order(silent, 1024, 900)), "{effects:?}");
    let later = deeds(hand.holds(silent, 950));
    assert!(later.contains(&order(silent, 1024, 950)), "more than was known: {later:?}");
}

#[test]
fn a_machine_whose_balloon_is_full_gives_hot_added_memory() {
    let mut hand = Hand::new(2700);
    let crossed = found(&mut hand, settings(128, 512, 4096), crosswise(512, 2, 1500), true);
    let busy = hand.running(settings(128, 512, 4096), 40);
    hand.reports(crossed, 100);
    hand.reports(busy, 1800);
    let effects = deeds(hand.after(10));
    let unplugs =
        |effect: &Effect| matches!(effect, Effect::Order { vm, plugged, .. } if *vm == crossed && *plugged < mib(1500));
    assert!(effects.iter().any(unplugs), "{effects:?}");
}

#[test]
fn what_can_not_be_unplugged_is_not_counted_on() {
    let mut hand = Hand::new(2350);
    let pinned = found(&mut hand, settings(128, 512, 4096), crosswise(512, 512, 1000), true);
    let buffer = hand.running(buffered(100, settings(128, 400, 4096)), 200);
    let busy = hand.running(buffered(5, settings(128, 400, 4096)), 40);
    for second in 0..8 {
        hand.after(1_000);
        hand.reports(pinned, 100);
        hand.reports(buffer, 200);
        hand.reports(busy, 1040);
        let devices = if second < 5 { crosswise(512, 512, 1000) } else { crosswise(512, 2, 1000) };
        hand.send(pinned, Event::Devices(devices));
    }
    hand.after(1_000);
    assert_eq!(hand.vm(pinned).assigned, mib(1002));
    let snapshot = hand.vm(buffer);
    let left = mib(2350 - 1002).saturating_sub(hand.vm(busy).demand);
    assert!(snapshot.promised <= left, "its buffer is for the other's demand: {}", snapshot.promised);
}

#[test]
fn a_machine_that_is_not_known_is_not_reset() {
    let mut hand = Hand::new(2048);
    let vm = found(&mut hand, settings(128, 512, 4096), crosswise(512, 512, 0), false);
    hand.send(vm, Event::ResetHeld);
    assert_eq!(deeds(hand.after(1_000)), []);
    hand.send(vm, Event::Devices(crosswise(512, 300, 0)));
    let mut effects = deeds(hand.after(10));
    effects.extend(deeds(hand.after(1_000)));
    assert!(effects.contains(&Effect::ContinueReset(vm)), "{effects:?}");
}

#[test]
fn a_stop_ends_the_claim_of_a_held_restart() {
    let mut hand = Hand::new(1600);
    let other = hand.running(settings(128, 1024, 2048), 40);
    let vm = found(&mut hand, settings(128, 512, 2048), crosswise(512, 130, 0), true);
    hand.reports(vm, 40);
    hand.reports(other, 1000);
    hand.after(1_000);
    hand.send(vm, Event::ResetHeld);
    assert_eq!(deeds(hand.send(vm, Event::Stop { grace_ms: None })), [Effect::Kill(vm)]);
    hand.reports(other, 100);
    assert_eq!(deeds(hand.after(1_000)), [], "nothing is asked back for it, and it is not let go");
    assert_eq!(hand.state(vm), VmState::Stopping);
}

#[test]
fn memory_that_is_on_its_way_to_a_guest_is_not_lent_twice() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 4096), 40);
    hand.after(10);
    hand.reports(vm, 1000);
    let promised = hand.vm(vm).promised;
    assert!(promised > mib(1000), "and it holds 512 MiB still");
    hand.engine.handle(hand.now, Input::Host(HostFacts { available: mib(1000), stall: 0, machines: None }));
    // 512 MiB are held, 1000 are available, of which the host keeps 128.
    assert_eq!(hand.engine.host_snapshot().available, mib(512 + 1000 - 128).saturating_sub(promised));
}

#[test]
fn what_a_machine_loses_by_its_reset_is_there_for_its_boot() {
    let mut hand = Hand::new(1000);
    let vm = found(&mut hand, settings(400, 780, 2000), crosswise(780, 462, 482), true);
    hand.after(10);
    hand.reports(vm, 800);
    hand.after(10);
    let effects = deeds(hand.send(vm, Event::ResetHeld));
    let effects = if effects.is_empty() { deeds(hand.after(10)) } else { effects };
    assert_eq!(effects, [order(vm, 780, 780), Effect::ContinueReset(vm)]);
    assert_eq!(hand.vm(vm).charge, mib(944), "its devices have not been seen since");
    hand.holds(vm, 780);
    assert_eq!(hand.vm(vm).charge, mib(780));
}

#[test]
fn what_a_machine_loses_by_its_reset_counts_once_while_it_pages() {
    let mut hand = Hand::new(1000);
    hand.engine = Engine::new(HostConfig { memory: mib(1000), reserve: Bytes::ZERO }).with_smart_paging(true);
    let vm = found(&mut hand, settings(400, 1080, 2000), crosswise(1080, 462, 482), true);
    hand.after(10);
    hand.reports(vm, 800);
    hand.after(10);
    hand.send(vm, Event::ResetHeld);
    hand.after(10);
    assert_eq!(hand.vm(vm).paging.map(|paging| paging.file), Some(mib(80)), "of 1080, 1000 are for it");
    hand.send(vm, Event::PagingBegan);
    assert_eq!((hand.state(vm), hand.vm(vm).charge), (VmState::Booting, mib(1000)));
    hand.send(vm, Event::Devices(crosswise(1080, 1080, 0)));
    assert_eq!(hand.vm(vm).charge, mib(1000), "the rest is in its file");
}

#[test]
fn a_paging_machine_that_was_found_deaf_is_promised_no_more_when_it_hears() {
    let mut hand = Hand::new(4000);
    hand.engine = Engine::new(HostConfig { memory: mib(4000), reserve: Bytes::ZERO }).with_smart_paging(true);
    let vm = hand.define(settings(400, 1080, 4000));
    let paging = Some(Paged { memory: mib(1000), file: mib(80) });
    let devices = crosswise(1080, 1080, 2920);
    hand.send(vm, Event::Adopted { devices, paused: false, known: false, paging });
    hand.after(10);
    assert_eq!(deeds(hand.reports(vm, 500)), [], "what its devices hold is not known");
    let effects = deeds(hand.send(vm, Event::Devices(crosswise(1080, 1080, 0))));
    assert_eq!(effects.first(), Some(&order(vm, 1080, 1000)));
}

#[test]
fn a_file_that_fails_leaves_no_order_behind() {
    let mut hand = Hand::new(1000);
    hand.engine = Engine::new(HostConfig { memory: mib(1000), reserve: Bytes::ZERO }).with_smart_paging(true);
    let vm = found(&mut hand, settings(400, 1080, 2000), crosswise(1080, 600, 0), true);
    hand.after(10);
    hand.reports(vm, 800);
    hand.after(10);
    assert!(hand.vm(vm).promised > mib(600), "an order to grow is outstanding");
    hand.send(vm, Event::ResetHeld);
    hand.after(200);
    hand.holds(vm, 600);
    let effects = deeds(hand.send(vm, Event::PagingFailed("the disk is full".to_owned())));
    assert_eq!(effects.first(), Some(&order(vm, 1080, 600)), "it may hold what it holds");
    assert_eq!(hand.vm(vm).charge, mib(600), "and what its boot was to bring is void");
}

#[test]
fn nothing_is_ordered_of_a_machine_that_pages_before_its_devices_are_known() {
    let mut hand = Hand::new(4096);
    let vm = hand.define(settings(64, 700, 2000));
    let paging = Some(Paged { memory: mib(250), file: mib(450) });
    let worst = DeviceFacts { plugged: mib(1300), ..hand.devices(vm, mib(700)) };
    hand.send(vm, Event::Adopted { devices: worst, paused: false, known: false, paging });
    for second in 0..70 {
        let mut effects = hand.send(vm, Event::Report(world::report(mib(700), mib(600))));
        effects.extend(hand.after(1_000));
        let ordered: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Order { .. })).collect();
        assert!(ordered.is_empty(), "what may be plugged is a guess, in second {second}: {ordered:?}");
    }
}

#[test]
fn a_static_machine_that_can_not_be_asked_may_hold_its_startup_whatever_its_maximum() {
    let fixed = MemorySettings { dynamic: false, ..settings(128, 768, 342) };
    let worst = crosswise(480, 480, 0).at_worst(fixed.most());
    let mut hand = Hand::new(2048);
    let vm = found(&mut hand, fixed, worst, false);
    assert_eq!(hand.vm(vm).charge, mib(768), "it was made larger while it ran");
}

/// What is ordered in ten seconds of a machine whose devices hold what `holds` says
/// of each second, and whose guest uses so much of it.
fn ordered(hand: &mut Hand, vm: VmId, used: u64, holds: impl Fn(u64) -> DeviceFacts) -> Vec<Effect> {
    let mut effects = Vec::new();
    for second in 0..10 {
        effects.extend(hand.reports(vm, used));
        effects.extend(hand.after(1_000));
        effects.extend(hand.send(vm, Event::Devices(holds(second))));
    }
    assert!(!told(&effects, NoticeKind::Stuck).is_empty(), "its balloon has not moved");
    deeds(effects)
}

#[test]
fn a_static_machine_that_is_stuck_keeps_its_startup_whatever_its_maximum() {
    let mut hand = Hand::new(2048);
    let fixed = MemorySettings { dynamic: false, ..settings(64, 240, 222) };
    let devices = crosswise(148, 100, 92);
    let vm = found(&mut hand, fixed, devices, true);
    let orders = ordered(&mut hand, vm, 100, |_| devices);
    assert!(orders.iter().all(|effect| *effect == order(vm, 148, 240)), "nothing is asked back: {orders:?}");
}

#[test]
fn what_a_stuck_balloon_was_given_stays_promised_and_no_more_than_maximum_with_it() {
    let mut hand = Hand::new(8000);
    let vm = found(&mut hand, settings(400, 1000, 1500), crosswise(1000, 400, 900), true);
    let orders = ordered(&mut hand, vm, 1500, |second| crosswise(1000, 400, 900 - 10 * second));
    assert!(orders.iter().all(|effect| *effect == order(vm, 1000, 1500)), "its figure may be stale: {orders:?}");
}
