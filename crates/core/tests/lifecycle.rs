//! Lives of VMs: starts, stops, restarts, pauses, new settings, and daemons that
//! find machines running.

mod world;

use dynmem_core::{
    DeviceFacts, Effect, Engine, Event, Exit, HostConfig, HostFacts, Input, Instant, MemoryStatus, Refusal, VmId,
    VmState,
};
use dynmem_units::Bytes;
use world::{OVERHEAD, mib, settings, world};

#[test]
fn a_start_can_be_cancelled_while_it_waits() {
    let mut world = world(1024 + 64);
    let first = world.running(settings(128, 1000, 1024), 84);
    world.guest_mut(first).stuck = true;
    let second = world.define(settings(512, 512, 512));
    world.send(second, Event::Start { overhead: OVERHEAD });
    world.send(second, Event::Stop { grace_ms: None });
    assert_eq!(world.vm(second).state, VmState::Off);
    assert!(matches!(world.refusals.pop(), Some((_, Refusal::Cancelled { .. }))));
}

#[test]
fn a_guest_that_never_boots_harms_nobody() {
    let mut world = world(2048 + 64);
    let dead = world.define(settings(128, 1024, 2048));
    world.guest_mut(dead).speaks = false;
    world.send(dead, Event::Start { overhead: OVERHEAD });
    let other = world.running(settings(128, 512, 2048), 800);
    world.advance(60_000);
    assert_eq!((world.vm(dead).state, world.assigned(dead)), (VmState::Booting, mib(1024)));
    assert_eq!(world.vm(other).status, Some(MemoryStatus::Ok));
}

#[test]
fn a_restart_is_held_until_startup_fits() {
    let mut world = world(2048 + 64);
    let vm = world.running(settings(128, 1024, 2048), 40);
    let busy = world.running(settings(128, 1024, 2048), 1700);
    world.advance(30_000);
    assert!(world.assigned(vm) < mib(512), "{}", world.assigned(vm));
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(1_000);
    assert_eq!(world.vm(vm).state, VmState::Starting, "no memory: {:?}", world.vm(vm).reason);
    world.guest_mut(busy).used = mib(100);
    world.advance(30_000);
    assert_eq!(world.vm(vm).state, VmState::Running);
    assert_eq!(world.vm(vm).plugged, Bytes::ZERO);
}

#[test]
fn a_large_restart_that_does_not_fit_keeps_no_memory_from_a_small_one() {
    let mut world = world(4096 + 96);
    let large = world.running(settings(128, 2048, 3128), 40);
    let small = world.running(settings(128, 512, 3128), 40);
    let busy = world.running(settings(128, 1024, 3328), 40);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(3300);
    world.advance(60_000);
    assert!(world.assigned(large) < mib(1024) && world.assigned(small) < mib(512));
    world.send(large, Event::Restart { grace_ms: None });
    world.send(small, Event::Restart { grace_ms: None });
    world.guest_mut(busy).used = mib(2900);
    world.advance(60_000);
    assert_eq!((world.vm(small).state, world.vm(large).state), (VmState::Running, VmState::Starting));
}

#[test]
fn a_shutdown_told_twice_during_a_restart_is_still_a_restart() {
    let mut world = world(2048 + 64);
    let vm = world.running(settings(128, 1024, 2048), 40);
    let busy = world.running(settings(128, 1024, 2048), 1700);
    world.advance(30_000);
    world.send(vm, Event::Restart { grace_ms: Some(60_000) });
    world.send(vm, Event::PoweredOff);
    assert_eq!(world.vm(vm).state, VmState::Starting);
    world.guest_mut(busy).used = mib(100);
    world.advance(30_000);
    assert_eq!(world.vm(vm).state, VmState::Running);
}

#[test]
fn a_graceful_stop_turns_into_force_when_patience_ends() {
    let mut world = world(2048);
    let vm = world.running(settings(128, 512, 1024), 40);
    world.guest_mut(vm).speaks = false;
    world.send(vm, Event::Stop { grace_ms: Some(5_000) });
    world.advance(4_000);
    assert_eq!(world.vm(vm).state, VmState::Stopping);
    world.advance(2_000);
    assert_eq!((world.vm(vm).state, world.vm(vm).charge), (VmState::Off, Bytes::ZERO));
}

#[test]
fn pause_keeps_memory_and_an_exit_releases_it() {
    let mut world = world(2048 + 64);
    let paused = world.running(settings(128, 1024, 2048), 40);
    let busy = world.running(settings(128, 1024, 2048), 40);
    world.send(paused, Event::Pause);
    world.guest_mut(busy).used = mib(1700);
    world.advance(60_000);
    assert_eq!((world.vm(paused).state, world.assigned(paused)), (VmState::Paused, mib(1024)));
    world.guest_mut(paused).on = false;
    world.send(paused, Event::Exited(Exit::Failed("killed by signal 9".to_owned())));
    assert_eq!(world.vm(paused).state, VmState::Failed);
    world.advance(5_000);
    assert_eq!(world.vm(busy).status, Some(MemoryStatus::Ok));
}

#[test]
fn settings_of_a_running_vm_change_within_the_rules() {
    let mut world = world(4096);
    let vm = world.running(settings(256, 512, 1024), 100);
    world.guest_mut(vm).stalls = false;
    world.guest_mut(vm).used = mib(900);
    world.advance(60_000);
    assert_eq!(world.assigned(vm), mib(1024), "once demand has settled, the last of the buffer");
    let raised = settings(256, 512, 2048);
    assert_eq!(world.engine.check_settings(vm, &raised), Ok(()));
    world.guest_mut(vm).settings = raised.clone();
    world.send(vm, Event::Configured(raised));
    world.advance(60_000);
    assert_eq!(world.assigned(vm), mib(1100), "916 and its buffer, in whole blocks");
    let refused = settings(256, 514, 2048);
    assert!(world.engine.check_settings(vm, &refused).is_err());
    world.send(vm, Event::Configured(refused));
    assert_eq!(world.vm(vm).settings.startup, mib(512), "and the engine holds to it");
}

#[test]
fn the_next_daemon_finds_the_truth() {
    let mut world = world(2048 + 64);
    let busy = world.running(settings(128, 1024, 2048), 40);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(1200);
    let idle = world.running(settings(128, 512, 2048), 40);
    world.advance(20_000);
    let held = [world.assigned(busy), world.assigned(idle)];

    world.engine = Engine::new(world.config);
    world.recovering = true;
    for (index, guest) in world.guests.clone().into_iter().enumerate() {
        let guest = guest.expect("defined");
        let id = VmId(u32::try_from(index).expect("few"));
        world.send(id, Event::Defined { name: format!("vm{index}"), settings: guest.settings });
        world.send(id, Event::Adopted { devices: guest.devices, paused: false, known: true, paging: None });
    }
    world.recovering = false;
    assert_eq!([world.vm(busy).assigned, world.vm(idle).assigned], held);
    world.advance(30_000);
    assert_eq!(world.vm(busy).state, VmState::Running);
    assert_eq!([world.assigned(busy), world.assigned(idle)], held, "nothing moved without cause");
}

#[test]
fn a_machine_found_silent_is_charged_at_worst_and_ordered_nothing() {
    let mut engine = Engine::new(HostConfig { memory: mib(4096), reserve: mib(0) });
    let (id, at) = (VmId(0), Instant);
    let truth = DeviceFacts { boot: mib(512), balloon_actual: mib(300), plug_max: mib(3584), ..DeviceFacts::default() };
    let worst = DeviceFacts { balloon_actual: mib(512), plugged: mib(3584), ..truth };
    let name = "silent".to_owned();
    engine.handle(at(0), Input::Vm(id, Event::Defined { name, settings: settings(256, 512, 4096) }));
    let effects = engine
        .handle(at(0), Input::Vm(id, Event::Adopted { devices: worst, paused: false, known: false, paging: None }));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Order { .. })), "{effects:?}");
    assert_eq!(engine.host_snapshot().available, Bytes::ZERO);
    let effects = engine.handle(at(5_000), Input::Vm(id, Event::Devices(truth)));
    assert!(effects.contains(&Effect::Order { vm: id, balloon: mib(300), plugged: Bytes::ZERO }), "{effects:?}");
    assert_eq!(engine.host_snapshot().charged, mib(300));
}

#[test]
fn late_news_of_unknown_vms_are_ignored() {
    let mut world = world(2048);
    let ghost = VmId(77);
    world.engine.handle(world.now, Input::Vm(ghost, Event::Devices(DeviceFacts::default())));
    world.engine.handle(world.now, Input::Vm(ghost, Event::Start { overhead: OVERHEAD }));
    world.engine.handle(
        world.now,
        Input::Vm(VmId(u32::MAX), Event::Defined { name: String::new(), settings: settings(128, 128, 128) }),
    );
    assert_eq!(world.engine.vm_snapshots(world.now), []);
    let available = mib(100);
    world.engine.handle(world.now, Input::Host(HostFacts { available, stall: 0, machines: None }));
    assert_eq!(world.engine.host_snapshot().host_available, Some(available));
}
