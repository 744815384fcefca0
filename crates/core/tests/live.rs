//! Settings that change while a VM runs: what is accepted is honoured, and what
//! is refused says what would be possible.

mod world;

use dynmem_core::{
    DeviceFacts, DriverSnapshot, Effect, Event, MemorySettings, MemoryStatus, SettingsError, VmId, VmState,
};
use dynmem_units::Weight;
use world::{
    World,
    hand::{Hand, deeds, order},
    mib, settings, world,
};

/// Changes the settings as the daemon does: checked, then told.
fn change(world: &mut World, vm: VmId, new: MemorySettings) -> Result<(), SettingsError> {
    world.engine.check_settings(vm, &new)?;
    world.guest_mut(vm).settings = new.clone();
    world.send(vm, Event::Configured(new));
    Ok(())
}

fn fixed(startup: u64) -> MemorySettings {
    MemorySettings { dynamic: false, ..settings(64, startup, 4096) }
}

/// A neighbour that has all but `free` MiB, and needs that.
fn fill(world: &mut World, free: u64) -> VmId {
    let available = world.engine.host_snapshot().available.mib() - free - 64;
    let busy = world.running(settings(64, 128, 4096), 40);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(available - 16);
    world.advance(60_000);
    busy
}

/// The same, and a VM that was shrunk to 300 of its 512 MiB.
fn shrunk() -> (World, VmId, VmId) {
    let mut world = world(2048 + 64);
    let vm = world.running(settings(128, 512, 1024), 40);
    let busy = world.running(settings(128, 1024, 2048), 40);
    world.guest_mut(vm).used = mib(220);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(1900);
    world.advance(60_000);
    assert!((mib(200)..mib(400)).contains(&world.assigned(vm)), "{}", world.assigned(vm));
    (world, vm, busy)
}

#[test]
fn a_minimum_is_raised_to_what_the_vm_holds() {
    let (mut world, vm, _) = shrunk();
    let holds = world.assigned(vm).mib() & !1;
    assert_eq!(change(&mut world, vm, settings(holds, 512, 1024)), Ok(()));
    world.guest_mut(vm).used = mib(10);
    world.advance(60_000);
    assert_eq!(world.assigned(vm), mib(holds), "it is guaranteed now");
}

#[test]
fn a_minimum_is_raised_to_what_can_be_given_and_given_at_once() {
    let (mut world, vm, busy) = shrunk();
    world.guest_mut(busy).used = mib(1200);
    world.advance(120_000);
    world.guest_mut(vm).used = mib(10);
    world.advance(120_000);
    assert_eq!(change(&mut world, vm, settings(512, 512, 1024)), Ok(()));
    world.advance(1_000);
    assert_eq!(world.assigned(vm), mib(512), "although it does not need it");
}

#[test]
fn a_minimum_that_others_would_have_to_pay_for_is_refused_with_what_could_be() {
    let (mut world, vm, _) = shrunk();
    let error = change(&mut world, vm, settings(512, 512, 1024)).expect_err("there is no memory");
    let text = error.to_string();
    assert!(text.starts_with("Minimum can't change from 128MiB to 512MiB while the VM runs: it needs "), "{text}");
    assert!(text.contains(" available; ") && text.ends_with(" could be guaranteed now"), "{text}");
    assert_eq!(world.vm(vm).settings.minimum, mib(128));
}

#[test]
fn a_minimum_beyond_what_a_silent_guest_holds_is_refused() {
    let mut world = world(4096);
    let vm = world.running(settings(128, 1024, 2048), 40);
    let other = fill(&mut world, 0);
    let holds = world.assigned(vm).mib();
    assert!(holds < 512, "{holds}");
    world.guest_mut(vm).speaks = false;
    world.guest_mut(other).used = mib(40);
    world.advance(60_000);
    let error = change(&mut world, vm, settings(512, 1024, 2048)).expect_err("it takes nothing");
    assert!(error.to_string().contains("its guest takes no memory now"), "{error}");
    assert_eq!(change(&mut world, vm, settings(holds & !1, 1024, 2048)), Ok(()));
}

/// A VM that holds 1600 MiB beside plenty.
fn fat() -> (World, VmId) {
    let mut world = world(8192);
    let vm = world.running(settings(128, 512, 2048), 40);
    world.guest_mut(vm).stalls = false;
    world.guest_mut(vm).used = mib(1400);
    world.advance(30_000);
    assert!(world.assigned(vm) >= mib(1416), "{}", world.assigned(vm));
    (world, vm)
}

#[test]
fn what_is_above_a_lowered_maximum_is_asked_back_although_nobody_needs_it() {
    let (mut world, vm) = fat();
    world.guest_mut(vm).used = mib(400);
    assert_eq!(change(&mut world, vm, settings(128, 512, 1024)), Ok(()));
    assert_eq!(world.vm(vm).promised, mib(1024));
    world.advance(5_000);
    assert_eq!(world.assigned(vm), mib(1024));
    world.guest_mut(vm).used = mib(3000);
    world.advance(30_000);
    assert_eq!(world.assigned(vm), mib(1024), "what it needs beyond is its own problem");
    assert_eq!(world.vm(vm).demand, mib(1024));
}

#[test]
fn a_guest_that_does_not_give_what_is_above_its_maximum_stays_charged_and_is_asked_again() {
    let (mut world, vm) = fat();
    world.guest_mut(vm).stuck = true;
    assert_eq!(change(&mut world, vm, settings(128, 512, 1024)), Ok(()));
    let holds = world.assigned(vm);
    world.advance(30_000);
    assert_eq!((world.assigned(vm), world.vm(vm).charge), (holds, holds.saturating_add(world::OVERHEAD)));
    assert!(matches!(world.vm(vm).driver, DriverSnapshot::Stuck { .. }), "{:?}", world.vm(vm).driver);
    let heavier = MemorySettings { weight: Weight::new(200).expect("in range"), ..settings(128, 512, 1024) };
    assert_eq!(world.engine.check_settings(vm, &heavier), Ok(()), "that needs no memory");
    let error = world.engine.check_settings(vm, &settings(128, 512, 768)).expect_err("it gives nothing");
    assert!(error.to_string().contains("its guest gives no memory back now"), "{error}");
    world.guest_mut(vm).stuck = false;
    world.advance(65_000);
    assert_eq!(world.assigned(vm), mib(1024));
}

#[test]
fn a_static_vm_grows_by_its_balloon_and_then_by_hot_add_and_shrinks_again() {
    let mut world = world(4096);
    let vm = world.running(fixed(512), 100);
    for (startup, balloon, plugged) in [(1024, 512, 512), (768, 512, 256), (256, 256, 0), (512, 512, 0)] {
        assert_eq!(change(&mut world, vm, fixed(startup)), Ok(()));
        world.advance(10_000);
        let devices = world.guest(vm).devices;
        assert_eq!((devices.balloon_actual, devices.plugged), (mib(balloon), mib(plugged)), "{startup}");
        assert_eq!(world.vm(vm).charge, mib(startup).saturating_add(world::OVERHEAD));
    }
}

#[test]
fn a_static_vm_grows_into_others_surplus_and_not_into_their_targets() {
    let mut world = world(2048 + 96);
    let vm = world.running(fixed(512), 100);
    let other = world.running(settings(128, 1500, 2048), 400);
    assert_eq!(world.assigned(other), mib(1500), "nobody needed it");
    assert_eq!(change(&mut world, vm, fixed(1024)), Ok(()));
    world.advance(10_000);
    assert_eq!(world.assigned(vm), mib(1024));
    assert_eq!(world.vm(other).status, Some(MemoryStatus::Ok));
    let error = change(&mut world, vm, fixed(1800)).expect_err("that is the other's");
    let text = error.to_string();
    assert!(text.starts_with("Startup can't change from 1GiB to 1800MiB while the VM runs: it needs 776MiB more, "));
    assert!(text.contains("available; "), "{text}");
}

#[test]
fn a_static_vm_gets_what_has_become_scarce_as_soon_as_it_is_there() {
    let mut world = world(2048 + 96);
    let vm = world.running(fixed(512), 100);
    let other = world.running(settings(128, 1024, 2048), 400);
    world.engine.check_settings(vm, &fixed(1024)).expect("there is memory");
    world.guest_mut(other).stalls = false;
    world.guest_mut(other).used = mib(1480);
    world.advance(20_000);
    world.guest_mut(vm).settings = fixed(1024);
    world.send(vm, Event::Configured(fixed(1024)));
    world.advance(10_000);
    assert!(world.assigned(vm) < mib(600), "{}", world.assigned(vm));
    assert_eq!(world.vm(vm).settings.startup, mib(1024), "what was written holds");
    assert!(world.assigned(other) >= mib(1496), "nobody's demand pays for it");
    world.guest_mut(other).used = mib(400);
    world.advance(60_000);
    assert_eq!(world.assigned(vm), mib(1024));
}

#[test]
fn a_static_vm_shrinks_as_far_as_its_guest_gives_and_further_when_it_gives_more() {
    let mut world = world(4096);
    let vm = world.running(fixed(1024), 100);
    world.guest_mut(vm).stuck = true;
    assert_eq!(change(&mut world, vm, fixed(512)), Ok(()));
    world.advance(30_000);
    assert_eq!((world.assigned(vm), world.vm(vm).charge), (mib(1024), mib(1024).saturating_add(world::OVERHEAD)));
    assert_eq!(world.vm(vm).counters.remove_operations, 2, "asked at first, and with its hot-added memory");
    world.guest_mut(vm).stuck = false;
    world.advance(65_000);
    assert_eq!((world.assigned(vm), world.vm(vm).driver), (mib(512), DriverSnapshot::Working));
}

#[test]
fn a_static_vm_has_its_startup_again_after_a_restart_and_nobody_took_it_meanwhile() {
    for startup in [1024, 256] {
        let mut world = world(2048 + 96);
        let vm = world.running(fixed(512), 100);
        change(&mut world, vm, fixed(startup)).expect("there is memory");
        world.advance(10_000);
        let busy = fill(&mut world, 0);
        world.guest_mut(busy).used = mib(3000);
        world.advance(20_000);
        if startup < 512 {
            world.guest_mut(busy).used = mib(900); // its boot memory is needed for the restart
            world.advance(20_000);
        }
        world.send(vm, Event::Restart { grace_ms: None });
        world.advance(30_000);
        assert_eq!((world.vm(vm).state, world.assigned(vm)), (VmState::Running, mib(startup)));
    }
}

#[test]
fn a_static_vm_whose_guest_is_not_up_grows_by_nothing() {
    let mut world = world(4096);
    let vm = world.running(fixed(512), 100);
    world.guest_mut(vm).speaks = false;
    world.advance(20_000);
    let error = change(&mut world, vm, fixed(1024)).expect_err("it takes nothing");
    assert!(error.to_string().contains("its guest takes no memory now; 512MiB can be guaranteed"), "{error}");
}

#[test]
fn what_a_guest_holds_can_be_made_its_maximum_although_it_is_silent() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 40);
    hand.after(20_000);
    assert_eq!(hand.engine.check_settings(vm, &settings(128, 512, 512)), Ok(()));
}

#[test]
fn a_vm_that_is_off_can_become_anything_and_one_that_waits_for_its_start_as_little_as_a_running_one() {
    let mut hand = Hand::new(1024);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let waiting = hand.starting(settings(400, 400, 800));
    assert!(hand.vm(fat).promised < mib(1024) && hand.state(waiting) == VmState::Starting, "it waits for that");
    let off = hand.define(settings(400, 400, 800));
    for (vm, can) in [(off, true), (waiting, false)] {
        assert_eq!(hand.engine.check_settings(vm, &settings(100, 300, 900)).is_ok(), can, "another startup");
        assert_eq!(hand.engine.check_settings(vm, &fixed(400)).is_ok(), can, "static");
    }
}

#[test]
fn all_that_is_free_can_be_had_and_no_more() {
    let mut hand = Hand::new(1024);
    let vm = hand.running(fixed(512), 40);
    assert_eq!(hand.engine.check_settings(vm, &fixed(1024)), Ok(()));
    assert!(hand.engine.check_settings(vm, &fixed(1026)).is_err());
}

#[test]
fn what_a_stuck_neighbour_holds_is_not_available() {
    let (mut world, stuck) = fat();
    let vm = world.running(fixed(512), 100);
    let free = world.engine.host_snapshot().available;
    let large = fixed(512 + free.mib() + 100);
    world.guest_mut(stuck).used = mib(400);
    world.advance(60_000);
    assert_eq!(world.engine.check_settings(vm, &large), Ok(()), "it has surplus");
    world.guest_mut(stuck).stuck = true;
    change(&mut world, stuck, settings(128, 512, 1024)).expect("it moves, as far as is known");
    world.advance(30_000);
    assert!(matches!(world.vm(stuck).driver, DriverSnapshot::Stuck { .. }), "{:?}", world.vm(stuck).driver);
    assert!(world.engine.check_settings(vm, &large).is_err());
}

/// Asks for a static VM's new size and a start, which one decision answers.
fn resize_and_start(hand: &mut Hand, vm: VmId, startup: u64, start: VmId) -> Vec<Effect> {
    // The last decision was at this instant, and a start is decided at once.
    assert_eq!(deeds(hand.send(vm, Event::Configured(fixed(startup)))), []);
    deeds(hand.start(start))
}

#[test]
fn a_resize_and_a_start_are_served_from_the_same_memory_once() {
    for (wanted, fits) in [(400, true), (402, false)] {
        let mut hand = Hand::new(1000);
        let vm = hand.running(fixed(300), 40);
        let start = hand.define(settings(wanted, wanted, wanted));
        let effects = resize_and_start(&mut hand, vm, 600, start);
        assert_eq!(effects[0], order(vm, 300, 600));
        assert_eq!(effects[1..] == [Effect::Launch(start)], fits, "{effects:?}");
    }
}

#[test]
fn a_start_does_not_take_what_is_missing_from_a_buffer_beside_a_resize() {
    let mut hand = Hand::new(2000);
    let elastic = hand.running(settings(128, 690, 2000), 584);
    assert_eq!((hand.vm(elastic).promised, hand.vm(elastic).target), (mib(690), mib(720)), "30 may be missing");
    let vm = hand.running(fixed(300), 40);
    let start = hand.define(settings(700, 700, 700));
    let effects = resize_and_start(&mut hand, vm, 600, start);
    assert_eq!(effects[0], order(vm, 300, 600));
    assert!(matches!(effects[1..], [Effect::Refused(..)]), "710 are free, and 30 of them are not for it: {effects:?}");
}

#[test]
fn what_a_resize_waits_for_is_no_start_s() {
    let mut hand = Hand::new(1400);
    let fat = hand.running(settings(128, 1000, 1000), 400);
    let vm = hand.running(fixed(300), 40);
    let start = hand.define(settings(350, 350, 350));
    let effects = resize_and_start(&mut hand, vm, 700, start);
    assert_eq!(effects[0], order(vm, 300, 400), "what is free");
    assert!(matches!(effects[1], Effect::Refused(..)), "it is to have 300 of the other's 500: {effects:?}");
    hand.after(300);
    let promised = hand.vm(fat).promised.mib();
    assert_eq!(promised, 700);
    assert_eq!(deeds(hand.holds(fat, promised)), [order(vm, 300, 700)], "as soon as it is there");
}

#[test]
fn a_static_vm_whose_memory_lies_crosswise_grows_without_room_to_trade_places() {
    let mut hand = Hand::new(1100);
    let vm = hand.define(fixed(900));
    let devices =
        DeviceFacts { boot: mib(1000), balloon_actual: mib(500), plugged: mib(400), ..hand.devices(vm, mib(0)) };
    hand.send(vm, Event::Adopted { devices, paused: false, known: true, paging: None });
    hand.after(10);
    hand.reports(vm, 40);
    hand.after(10);
    let mut effects = hand.send(vm, Event::Configured(fixed(1000)));
    effects.extend(hand.after(10));
    assert_eq!(deeds(effects), [Effect::Order { vm, balloon: mib(600), plugged: mib(400) }]);
}
