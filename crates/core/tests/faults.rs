//! Devices and guests that do not do as they should, and what it costs others:
//! nothing.

mod world;

use dynmem_core::{DemandModel, DriverSnapshot, MemorySettings, MemoryStatus, NoticeKind};
use dynmem_units::Bytes;
use world::{buffered, mib, settings, world};

#[test]
fn a_stuck_balloon_is_named_and_others_give_instead() {
    let mut world = world(3 * 1024 + 96);
    let stuck = world.running(settings(128, 1024, 2048), 40);
    let idle = world.running(settings(128, 1024, 2048), 40);
    let busy = world.running(settings(128, 1024, 2048), 40);
    world.guest_mut(stuck).stuck = true;
    world.guest_mut(busy).used = mib(1500);
    world.advance(30_000);
    assert_eq!(world.assigned(stuck), mib(1024));
    assert!(world.assigned(busy) >= mib(1516), "{}", world.assigned(busy));
    assert!(world.assigned(idle) >= mib(128));
    assert!(world.notices.iter().any(|notice| notice.kind == NoticeKind::Stuck));
    let driver = world.vm(stuck).driver;
    assert!(matches!(driver, DriverSnapshot::Stuck { for_ms: 10_000..30_000 }), "{driver:?}");

    world.guest_mut(stuck).stuck = false;
    world.guest_mut(busy).used = mib(2000);
    world.advance(120_000);
    assert!(world.assigned(stuck) < mib(1024), "it recovered");
    assert!(world.notices.iter().any(|notice| notice.kind == NoticeKind::Recovered));
    assert_eq!(world.vm(stuck).driver, DriverSnapshot::Working);
}

#[test]
fn an_unfinished_reclaim_delays_no_relief_that_fits() {
    let mut world = world(2048 + 400);
    let stuck = world.running(settings(128, 1024, 2048), 40);
    let [large, small] = [0, 1].map(|_| world.running(settings(128, 448, 2048), 40));
    world.guest_mut(stuck).stuck = true;
    world.guest_mut(large).used = mib(1400);
    world.guest_mut(small).used = mib(440);
    world.advance(1_000);
    assert!(world.assigned(small) >= mib(456), "{} while {} is awaited", world.assigned(small), world.assigned(stuck));
}

#[test]
fn memory_that_can_not_be_unplugged_is_ballooned() {
    let mut world = world(2048 + 64);
    let fat = world.running(settings(128, 512, 2048), 40);
    let busy = world.running(settings(128, 512, 2048), 40);
    world.guest_mut(fat).stalls = false;
    world.guest_mut(fat).used = mib(1000);
    world.advance(10_000);
    assert!(!world.guest(fat).devices.plugged.is_zero());
    world.guest_mut(fat).used = mib(40);
    world.guest_mut(fat).unplugs = false;
    world.guest_mut(busy).used = mib(1000);
    world.advance(40_000);
    assert!(world.assigned(busy) >= mib(1016), "{}", world.assigned(busy));
    assert!(world.guest(fat).devices.balloon_actual < mib(512));
}

#[test]
fn memory_that_lies_crosswise_still_moves() {
    let mut world = world(1400 + 64);
    let crossed = world.running(settings(128, 512, 4096), 40);
    world.guest_mut(crossed).used = mib(650);
    world.advance(5_000);
    (world.guest_mut(crossed).unplugs, world.guest_mut(crossed).used) = (false, mib(560));
    world.advance(30_000);
    let other = world.running(buffered(5, settings(128, 512, 4096)), 400);
    world.guest_mut(crossed).used = mib(400);
    world.guest_mut(other).stalls = false;
    world.guest_mut(other).used = mib(650);
    world.advance(200_000);
    let devices = world.guest(crossed).devices;
    assert!(devices.balloon_actual < devices.boot && !devices.plugged.is_zero(), "crosswise: {devices:?}");
    world.guest_mut(crossed).unplugs = true;
    world.guest_mut(other).used = mib(730);
    world.advance(120_000);
    assert!(world.assigned(other) >= mib(746), "{}", world.assigned(other));
}

#[test]
fn a_guest_that_can_not_plug_keeps_no_memory_from_others() {
    let mut world = world(4096 + 96);
    let committed = |startup| MemorySettings { demand_model: DemandModel::Committed, ..settings(128, startup, 3000) };
    let plain = world.running(committed(512), 40);
    let busy = world.running(committed(512), 40);
    world.running(committed(2048), 40);
    world.guest_mut(plain).plugs = false;
    world.guest_mut(plain).used = mib(2000);
    world.guest_mut(busy).used = mib(2000);
    let (mut idle_promises, mut short) = (0, 0);
    world.advance(20_000);
    for _ in 0..6_000 {
        world.advance(100);
        idle_promises += u32::from(world.vm(plain).promised > world.assigned(plain));
        short += u32::from(world.vm(busy).status == Some(MemoryStatus::Low));
    }
    assert!(idle_promises < 900, "{idle_promises} of 6000 steps with memory promised to who can't take it");
    assert!(short < 900, "{short} of 6000 steps in which another went short for it");
}

#[test]
fn a_guest_that_gives_back_a_page_at_a_time_keeps_nobody_waiting() {
    let mut world = world(5000 + 96);
    let dripping = world.running(settings(128, 2000, 3000), 40);
    let fat = world.running(settings(128, 2000, 3000), 40);
    let busy = world.running(settings(128, 1000, 3000), 40);
    world.guest_mut(dripping).gives = Bytes::new(4096);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(1900);
    world.advance(60_000);
    assert_eq!(world.vm(busy).status, Some(MemoryStatus::Ok), "beside {} of fat", world.assigned(fat));
}

#[test]
fn a_silent_guest_is_left_alone_until_it_speaks() {
    let mut world = world(2048 + 64);
    let silent = world.running(settings(128, 1024, 2048), 40);
    let busy = world.running(settings(128, 1024, 2048), 40);
    world.guest_mut(silent).speaks = false;
    world.advance(20_000);
    world.guest_mut(busy).used = mib(1500);
    world.advance(30_000);
    assert_eq!(world.assigned(silent), mib(1024));
    assert_eq!(world.vm(busy).status, Some(MemoryStatus::Low));
    world.guest_mut(silent).speaks = true;
    world.advance(10_000);
    assert_eq!(world.vm(busy).status, Some(MemoryStatus::Ok));
}

#[test]
fn a_liar_gets_its_weight_and_its_maximum_at_most() {
    let mut world = world(3000 + 96);
    let honest = world.running(settings(100, 400, 4000), 1000);
    let liar = world.running(settings(100, 400, 4000), 40);
    let idle = world.running(settings(100, 400, 4000), 40);
    world.guest_mut(liar).used = Bytes::MAX;
    world.advance(60_000);
    assert!(world.assigned(honest) >= mib(1016), "{}", world.assigned(honest));
    assert!(world.assigned(idle) >= mib(100));
    assert!(world.assigned(liar) <= mib(3000 - 1016 - 56));
}
