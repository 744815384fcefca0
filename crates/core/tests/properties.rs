//! The design's invariants over random histories: starts, stops, crashes,
//! restarts, changing demand, stuck balloons, silent guests, a short host.
//!
//! Invariants 1–3 are checked by the [`world`] at every single step. Here
//! stand those that speak of what a history leads to. A failure prints the
//! shortest history that still fails, and `proptest-regressions/` replays it.

mod world;

use dynmem_core::{Event, Exit, MemoryStatus, VmId, VmState};
use dynmem_units::Bytes;
use proptest::prelude::*;
use world::{KERNEL, OVERHEAD, World, buffered, cases::cases, mib, settings, weighted};

const VMS: u32 = 6;
const MEMORY: Bytes = mib(4096);
const RESERVE: Bytes = mib(256);

/// Something that happens to one of the VMs, or to all.
#[derive(Clone, Debug)]
enum Happening {
    Start,
    Stop { grace: bool },
    Restart { grace: bool },
    Crash,
    Pause,
    Resume,
    Use(u64),
    Stick(bool),
    Pin(bool),
    Speak(bool),
    Weigh(u64),
    HostHas(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => Just(Happening::Start),
        1 => any::<bool>().prop_map(|grace| Happening::Stop { grace }),
        1 => any::<bool>().prop_map(|grace| Happening::Restart { grace }),
        1 => Just(Happening::Crash),
        1 => Just(Happening::Pause),
        2 => Just(Happening::Resume),
        8 => (0..2_000_u64).prop_map(Happening::Use),
        1 => any::<bool>().prop_map(Happening::Stick),
        1 => any::<bool>().prop_map(Happening::Pin),
        1 => any::<bool>().prop_map(Happening::Speak),
        1 => (1..=10_000_u64).prop_map(Happening::Weigh),
        1 => (0..4_000_u64).prop_map(Happening::HostHas),
    ]
}

/// VM, what happens to it, and the time until the next.
fn history() -> impl Strategy<Value = Vec<(u32, Happening, u64)>> {
    let pause = prop_oneof![Just(0_u64), 1..2_000_u64, 5_000..20_000_u64];
    prop::collection::vec((0..VMS, happening(), pause), 1..60)
}

fn new_world() -> World {
    let mut world = World::new(MEMORY, RESERVE);
    for (vm, buffer) in (0..u64::from(VMS)).zip([5, 20, 50].into_iter().cycle()) {
        let sizes = settings(64 + 32 * vm, 256 + 128 * (vm % 3), 1024 + 512 * (vm % 4));
        world.define(weighted(1_000 + 1_500 * vm, buffered(buffer, sizes)));
    }
    world
}

fn happen(world: &mut World, vm: u32, what: &Happening) {
    let id = VmId(vm);
    let grace_ms = |grace: bool| grace.then_some(5_000);
    match *what {
        Happening::Start => {
            let guest = world.guest_mut(id);
            (guest.stuck, guest.unplugs) = (false, true);
            world.send(id, Event::Start { overhead: OVERHEAD });
        }
        Happening::Stop { grace } => world.send(id, Event::Stop { grace_ms: grace_ms(grace) }),
        Happening::Restart { grace } => world.send(id, Event::Restart { grace_ms: grace_ms(grace) }),
        Happening::Crash if world.guest(id).on => {
            world.guest_mut(id).on = false;
            world.send(id, Event::Exited(Exit::Failed("signal 11".to_owned())));
        }
        Happening::Crash => {}
        Happening::Pause => world.send(id, Event::Pause),
        Happening::Resume => world.send(id, Event::Resume),
        Happening::Use(used) => world.guest_mut(id).used = mib(used),
        Happening::Stick(stuck) => world.guest_mut(id).stuck = stuck,
        Happening::Pin(pinned) => world.guest_mut(id).unplugs = !pinned,
        Happening::Speak(speaks) => world.guest_mut(id).speaks = speaks,
        Happening::Weigh(weight) => {
            let settings = weighted(weight, world.guest(id).settings.clone());
            world.send(id, Event::Configured(settings));
        }
        Happening::HostHas(available) => world.host_available = Some(mib(available)),
    }
}

fn live_through(history: &[(u32, Happening, u64)]) -> World {
    let mut world = new_world();
    for (vm, what, pause) in history {
        happen(&mut world, *vm, what);
        world.advance(*pause);
    }
    world
}

/// Ends every fault and lets the world settle at constant demand.
fn settle(world: &mut World) {
    world.host_available = Some(MEMORY);
    for vm in 0..VMS {
        let guest = world.guest_mut(VmId(vm));
        (guest.stuck, guest.unplugs, guest.speaks) = (false, true, true);
        // Stalled guests would ask for more and more: demand is to be constant.
        guest.stalls = false;
        world.send(VmId(vm), Event::Resume);
    }
    world.advance(300_000);
}

proptest! {
    #![proptest_config(cases("tests/properties.proptest-regressions"))]

    /// Invariant 5: nobody is short while memory is free or another is fat; and
    /// 4: nobody holds a buffer that somebody else's demand could use.
    #[test]
    fn unmet_demand_ends_where_memory_exists(history in history()) {
        let mut world = live_through(&history);
        settle(&mut world);
        let vms = world.engine.vm_snapshots(world.now);
        let running = || vms.iter().filter(|vm| vm.state == VmState::Running);
        for short in running().filter(|vm| vm.status == Some(MemoryStatus::Low) && vm.assigned < vm.settings.maximum) {
            let available = world.engine.host_snapshot().available;
            prop_assert!(available < Bytes::BLOCK, "{} starves beside {available} of free memory", short.name);
            for fat in running().filter(|fat| fat.assigned > fat.settings.minimum) {
                let spare = fat.assigned.saturating_sub(fat.demand.align_up(Bytes::BLOCK));
                prop_assert!(spare <= Bytes::BLOCK, "{} starves while {} holds {spare} beyond its demand", short.name, fat.name);
            }
        }
    }

    /// Invariant 6: at constant demand the number of operations goes to zero.
    #[test]
    fn constant_demand_means_no_operations(history in history()) {
        let mut world = live_through(&history);
        settle(&mut world);
        world.orders.clear();
        world.advance(600_000);
        prop_assert_eq!(&world.orders, &[]);
    }

    /// Everybody who speaks and may move ends between minimum and maximum, with
    /// minimum guaranteed (invariant 2 at rest).
    #[test]
    fn a_booted_vm_ends_between_minimum_and_maximum(history in history()) {
        let mut world = live_through(&history);
        settle(&mut world);
        for vm in world.engine.vm_snapshots(world.now).iter().filter(|vm| vm.state == VmState::Running) {
            let held = vm.assigned;
            prop_assert!(held >= vm.settings.minimum && held <= vm.settings.maximum, "{} holds {held}", vm.name);
            prop_assert!(vm.demand >= KERNEL);
        }
    }

    /// Invariant 8: whatever is wrong with one VM, the others are served as if
    /// it were a static one of the size it holds.
    #[test]
    fn one_bad_vm_harms_no_other(history in history(), bad in 0..VMS, silent: bool) {
        let mut world = live_through(&history);
        settle(&mut world);
        let guest = world.guest_mut(VmId(bad));
        if silent { guest.speaks = false } else { guest.stuck = true }
        world.advance(60_000);
        for vm in (0..VMS).filter(|vm| *vm != bad) {
            world.guest_mut(VmId(vm)).used = mib(64);
        }
        world.advance(120_000);
        let others = world.engine.vm_snapshots(world.now);
        for vm in others.iter().filter(|vm| vm.id != VmId(bad) && vm.state == VmState::Running) {
            prop_assert_eq!(vm.status, Some(MemoryStatus::Ok), "{}", vm.name);
        }
    }

    /// Invariant 9: the same inputs give the same effects.
    #[test]
    fn the_same_history_gives_the_same_effects(history in history()) {
        prop_assert_eq!(live_through(&history).trace, live_through(&history).trace);
    }

    /// Invariant 10, the engine's part: a new engine that is told what runs
    /// charges what the old one did, and disturbs nobody at constant demand.
    #[test]
    fn a_new_engine_rebuilds_the_truth(history in history()) {
        let mut world = live_through(&history);
        settle(&mut world);
        let charged = world.engine.host_snapshot().charged;
        let paused = world.engine.vm_snapshots(world.now).iter().any(|vm| vm.state == VmState::Starting);
        prop_assume!(!paused);
        world.engine = dynmem_core::Engine::new(world.config);
        world.recovering = true;
        for (id, guest) in (0..VMS).map(VmId).zip(world.guests.clone()) {
            let guest = guest.expect("defined");
            world.send(id, Event::Defined { name: format!("vm{}", id.0), settings: guest.settings });
            if guest.on {
                world.send(id, Event::Adopted { devices: guest.devices, paused: guest.paused, known: true, paging: None });
            }
        }
        world.recovering = false;
        prop_assert_eq!(world.engine.host_snapshot().charged, charged);
    }
}
