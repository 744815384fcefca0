//! What a change would come to, told before it is made, and what it then does
//! come to.

mod world;

use dynmem_core::{Event, Foresight, MemorySettings, MemoryStatus, VmId, VmState};
use dynmem_units::Bytes;
use world::{OVERHEAD, World, mib, settings, world};

fn foresee(world: &World, vm: VmId, event: Event) -> Foresight {
    world.engine.clone().foresee(world.now, vm, event)
}

fn start() -> Event {
    Event::Start { overhead: OVERHEAD }
}

/// Name, promise now and then.
fn changes(foresight: &Foresight) -> Vec<(&str, Bytes, Bytes)> {
    foresight.changes.iter().map(|change| (change.name.as_str(), change.now, change.then)).collect()
}

#[test]
fn a_start_for_which_there_is_memory_changes_nobody_else() {
    let mut world = world(2048);
    world.running(settings(256, 512, 1024), 400);
    let second = world.define(settings(512, 512, 512));
    let foresight = foresee(&world, second, start());
    assert_eq!(changes(&foresight), [("vm1", mib(0), mib(512))]);
    assert_eq!((foresight.refusal, foresight.waits, foresight.from_others), (None, false, mib(0)));
    assert_eq!(foresight.before.available.saturating_sub(foresight.after.available), mib(512).saturating_add(OVERHEAD));
}

#[test]
fn a_start_that_takes_others_surplus_says_whose_and_that_it_waits() {
    let mut world = world(1024 + 64);
    let first = world.running(settings(128, 1000, 1024), 84);
    let second = world.define(settings(512, 512, 512));
    let foresight = foresee(&world, second, start());
    assert!(foresight.waits && foresight.refusal.is_none(), "{foresight:#?}");
    let [("vm0", now, then), ("vm1", Bytes::ZERO, started)] = changes(&foresight)[..] else { panic!("{foresight:#?}") };
    assert_eq!((now, started, foresight.from_others), (mib(1000), mib(512), now.saturating_sub(then)));
    assert_eq!(foresight.changes[0].status, Some(MemoryStatus::Ok));
    // And so it comes.
    world.send(second, start());
    world.advance(3_000);
    assert_eq!(world.vm(second).state, VmState::Running);
    assert_eq!(world.vm(first).promised, then);
}

#[test]
fn a_start_that_does_not_fit_is_foreseen_with_its_sentence() {
    let mut world = world(1024);
    world.running(settings(256, 512, 1024), 400);
    let second = world.define(settings(512, 512, 512));
    let foresight = foresee(&world, second, start());
    assert_eq!(changes(&foresight), []);
    let refusal = foresight.refusal.expect("it does not fit").to_string();
    world.send(second, start());
    assert_eq!(world.refusals.pop().map(|(_, refusal)| refusal.to_string()), Some(refusal));
    let foresight = foresee(&world, VmId(0), start());
    assert_eq!(foresight.refusal.map(|refusal| refusal.to_string()), Some("Can't start vm0: it is running".to_owned()));
}

#[test]
fn a_static_vm_that_is_made_larger_says_who_gives_for_it() {
    let fixed = |startup| MemorySettings { dynamic: false, ..settings(64, startup, 4096) };
    let mut world = world(1536 + 64);
    let rich = world.running(settings(128, 1000, 1024), 84);
    let vm = world.running(fixed(512), 40);
    world.advance(2_000);
    assert_eq!(changes(&foresee(&world, vm, Event::Configured(fixed(512)))), [], "nothing is asked");
    let foresight = foresee(&world, vm, Event::Configured(fixed(800)));
    let [("vm0", now, then), ("vm1", had, gets)] = changes(&foresight)[..] else { panic!("{foresight:#?}") };
    assert_eq!((now, had, gets), (mib(1000), mib(512), mib(800)), "{foresight:#?}");
    assert!(foresight.waits && foresight.from_others == now.saturating_sub(then), "{foresight:#?}");
    world.guest_mut(vm).settings = fixed(800);
    world.send(vm, Event::Configured(fixed(800)));
    world.advance(20_000);
    assert_eq!((world.vm(vm).promised, world.vm(rich).promised), (mib(800), then));
}

#[test]
fn a_guest_that_does_not_follow_is_not_taken_to_do_so() {
    let mut world = world(1024 + 64);
    let first = world.running(settings(128, 1000, 1024), 84);
    let second = world.define(settings(512, 512, 512));
    world.guest_mut(first).stuck = true;
    world.send(second, start());
    world.advance(8_000); // long enough that it counts as stuck
    let third = world.define(settings(256, 256, 256));
    let foresight = foresee(&world, third, start());
    assert!(foresight.waits || foresight.refusal.is_some(), "{foresight:#?}");
    assert_eq!(foresight.changes, []);
}

#[test]
fn a_foresight_leaves_the_engine_as_it_was() {
    let mut world = world(1024 + 64);
    world.running(settings(128, 1000, 1024), 84);
    let second = world.define(settings(512, 512, 512));
    let (now, copy) = (world.now, world.engine.clone());
    foresee(&world, second, start());
    let seen = |engine: &dynmem_core::Engine| (engine.vm_snapshots(now), engine.host_snapshot());
    assert_eq!(seen(&world.engine), seen(&copy));
}
