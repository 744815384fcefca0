//! Who gets how much, in situations that people know by name, on machines
//! whose memory moves at a finite speed.

mod world;

use dynmem_core::{DemandModel, Event, HostFacts, Input, MemorySettings, MemoryStatus, NoticeKind, VmState};
use world::{OVERHEAD, buffered, mib, settings, weighted, world};

#[test]
fn a_loaded_guest_grows_past_startup_to_demand_and_buffer() {
    let mut world = world(4096);
    let committed = MemorySettings { demand_model: DemandModel::Committed, ..settings(256, 512, 2048) };
    let vm = world.running(committed, 100);
    world.guest_mut(vm).used = mib(984);
    world.guest_mut(vm).stalls = false;
    world.advance(5_000);
    // 984 + 16 of kernel = 1000; the spec's worked example makes it 1200.
    assert_eq!(world.vm(vm).demand, mib(1000));
    assert_eq!(world.assigned(vm), mib(1200));
    assert_eq!(world.vm(vm).status, Some(MemoryStatus::Ok));
}

#[test]
fn an_idle_guest_keeps_its_memory_while_nobody_needs_it() {
    let mut world = world(4096);
    let vm = world.running(settings(256, 1024, 2048), 40);
    world.advance(600_000);
    assert_eq!(world.assigned(vm), mib(1024));
    assert_eq!(world.orders, []);
}

#[test]
fn an_idle_guest_gives_what_another_needs_and_not_below_minimum() {
    let mut world = world(2048 + 64);
    let idle = world.running(settings(256, 1024, 2048), 40);
    let busy = world.running(settings(256, 1024, 2048), 40);
    world.guest_mut(busy).used = mib(1500);
    world.advance(20_000);
    assert_eq!(world.vm(busy).status, Some(MemoryStatus::Ok));
    assert!(world.assigned(idle) >= mib(256) && world.assigned(idle) < mib(300), "{}", world.assigned(idle));
}

#[test]
fn a_starving_guest_beside_three_fat_idle_ones_is_served_in_seconds() {
    let mut world = world(4 * 1024 + 128);
    let idle: Vec<_> = (0..3).map(|_| world.running(settings(128, 1024, 3072), 40)).collect();
    let busy = world.running(settings(128, 1024, 3072), 40);
    world.guest_mut(busy).used = mib(2400);
    world.advance(6_000);
    assert!(world.assigned(busy) >= mib(2416), "{}", world.assigned(busy));
    for vm in idle {
        assert!(world.assigned(vm) >= mib(128));
    }
}

#[test]
fn shortage_is_shared_by_weight() {
    let mut world = world(3000 + 64);
    let light = world.running(weighted(1_000, settings(100, 400, 4000)), 40);
    let heavy = world.running(weighted(3_000, settings(100, 400, 4000)), 40);
    world.guest_mut(light).used = mib(3500);
    world.guest_mut(heavy).used = mib(3500);
    world.advance(60_000);
    assert_eq!((world.assigned(light), world.assigned(heavy)), (mib(750), mib(2250)));
    assert_eq!(world.vm(light).status, Some(MemoryStatus::Low));
}

#[test]
fn buffers_are_given_up_before_anybodys_demand() {
    let mut world = world(2000 + 64);
    let one = world.running(buffered(100, settings(100, 600, 4000)), 484);
    let other = world.running(buffered(100, settings(100, 600, 4000)), 484);
    world.advance(10_000);
    assert_eq!(world.vm(one).status, Some(MemoryStatus::Ok));
    world.guest_mut(other).used = mib(1384);
    world.advance(20_000);
    assert!(world.assigned(one) >= mib(500) && world.assigned(other) >= mib(1400));
    assert_eq!(world.vm(one).status, Some(MemoryStatus::Warning));
    assert_eq!(world.vm(other).status, Some(MemoryStatus::Warning));
}

#[test]
fn a_start_that_does_not_fit_is_refused_with_the_specs_sentence() {
    let mut world = world(1024);
    world.running(settings(256, 512, 1024), 400);
    let second = world.define(settings(512, 512, 512));
    world.send(second, Event::Start { overhead: OVERHEAD });
    let (vm, refusal) = world.refusals.pop().expect("refused at once");
    assert_eq!(vm, second);
    assert_eq!(
        refusal.to_string(),
        "Not enough memory in the system to start the virtual machine vm1: needs 544MiB, 492MiB available"
    );
    assert_eq!(world.vm(second).state, VmState::Off);
    assert!(world.notices.iter().any(|notice| notice.kind == NoticeKind::StartRefused));
}

#[test]
fn a_start_takes_the_surplus_of_others_and_nothing_else() {
    let mut world = world(1024 + 64);
    let first = world.running(settings(128, 1000, 1024), 84);
    let second = world.define(settings(512, 512, 512));
    world.send(second, Event::Start { overhead: OVERHEAD });
    assert_eq!(world.vm(second).state, VmState::Starting);
    world.advance(5_000);
    assert_eq!(world.vm(second).state, VmState::Running);
    assert!(world.assigned(first) >= world.vm(first).target);
}

#[test]
fn a_static_vm_holds_startup_always() {
    let mut world = world(2048 + 64);
    let fixed = world.running(MemorySettings { dynamic: false, ..settings(128, 1024, 2048) }, 40);
    let busy = world.running(settings(128, 1024, 2048), 1900);
    world.advance(60_000);
    assert_eq!(world.assigned(fixed), mib(1024));
    assert_eq!(world.vm(fixed).status, None);
    assert_eq!(world.assigned(busy), mib(1024));
}

#[test]
fn when_the_host_is_short_vms_give_memory_back() {
    let mut world = world(8192);
    let vm = world.running(settings(256, 4096, 8192), 400);
    world.host_available = Some(mib(64));
    world.advance(2_000);
    assert!(world.assigned(vm) < mib(4096), "{}", world.assigned(vm));
    assert!(world.notices.iter().any(|notice| notice.kind == NoticeKind::HostPressure));
}

#[test]
fn no_more_is_asked_back_than_is_needed() {
    let mut world = world(3 * 1024 + 96);
    let idle = [0, 1].map(|_| world.running(settings(128, 1024, 2048), 40));
    let busy = world.running(settings(128, 1024, 2048), 40);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(1200);
    world.advance(5_000); // and after a while headroom, should another grow like this
    let given: u64 = idle.iter().map(|vm| 1024 - world.assigned(*vm).mib()).sum();
    let taken = world.assigned(busy).mib() - 1024;
    assert!(taken >= 192 && given - taken <= 2 * idle.len() as u64, "{given} MiB given, {taken} MiB taken");
}

#[test]
fn noise_within_the_buffer_costs_no_operation() {
    let mut world = world(4096);
    let vm = world.running(settings(128, 512, 2048), 40);
    world.guest_mut(vm).stalls = false;
    world.guest_mut(vm).used = mib(784);
    world.advance(60_000);
    assert!(world.assigned(vm) < mib(980), "nothing beyond the buffer hides the noise");
    world.orders.clear();
    for second in 0..600_u64 {
        world.guest_mut(vm).used = mib(784 + second * 7919 % 33 - 16);
        world.advance(1_000);
    }
    assert_eq!(world.orders, []);
}

#[test]
fn one_reading_of_the_host_is_lent_once() {
    let mut world = world(65_536);
    world.input(Input::Host(HostFacts { available: mib(4096), stall: 0, machines: None }));
    let vms: Vec<_> = (0..20).map(|_| world.define(settings(256, 1024, 2048))).collect();
    for vm in &vms {
        world.now = world.now.plus_millis(1);
        world.send(*vm, Event::Start { overhead: OVERHEAD });
    }
    let launched = vms.iter().filter(|vm| world.guest(**vm).on).count();
    assert_eq!(launched, 2, "4096 MiB, 1310 of them for the host itself, are there for two");
}

#[test]
fn one_reading_of_the_host_is_asked_back_once() {
    let mut world = world(16_384);
    let vms: Vec<_> = (0..4).map(|_| world.running(settings(256, 3000, 8192), 2000)).collect();
    world.advance(30_000);
    world.input(Input::Host(HostFacts { available: mib(207), stall: 0, machines: None }));
    world.advance(900);
    let given: u64 = vms.iter().map(|vm| 3000 - world.assigned(*vm).mib()).sum();
    assert!((120..=136).contains(&given), "the host lacks 120 MiB; {given} MiB came back");
}
