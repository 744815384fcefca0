//! Smart Paging: restarts without memory for them get through, and nothing else
//! ever pages.

mod world;

use dynmem_core::{
    DemandModel, DeviceFacts, Effect, Engine, Event, Exit, HostConfig, Instant, MemorySettings, NoticeKind, Paged,
    Refusal, VmId, VmState,
};
use dynmem_units::Bytes;
use world::{
    Guest, OVERHEAD, World,
    hand::{Hand, deeds, order},
    mib, settings, world,
};

/// A host that can page, `vm` shrunk below its startup, and a neighbour that
/// needs all the rest.
fn full() -> (World, VmId, VmId) {
    let mut world = world(2048 + 64);
    let engine = std::mem::replace(&mut world.engine, Engine::new(world.config));
    world.engine = engine.with_smart_paging(true);
    let vm = world.running(settings(128, 1024, 2048), 40);
    let busy = world.running(settings(128, 1024, 2048), 40);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(1800);
    world.advance(60_000);
    assert!(world.assigned(vm) < mib(512), "{}", world.assigned(vm));
    (world, vm, busy)
}

fn kinds(world: &World, of: VmId) -> Vec<NoticeKind> {
    let about = |notice: &&dynmem_core::Notice| notice.vm == Some(of) && notice.kind.name().starts_with("smart");
    world.notices.iter().filter(about).map(|notice| notice.kind).collect()
}

#[test]
fn a_restart_without_memory_pages_and_shrinks_out_of_its_file() {
    let (mut world, vm, busy) = full();
    let (had, neighbour) = (world.assigned(vm), world.assigned(busy));
    world.send(vm, Event::Restart { grace_ms: None });
    while world.vm(vm).state == VmState::Starting {
        world.advance(100); // until the neighbour's buffer has been given up
    }
    assert_eq!(world.vm(vm).state, VmState::Booting);
    let paging = world.vm(vm).paging.expect("it pages");
    assert_eq!(paging.file.saturating_add(world.vm(vm).assigned), mib(1024), "a place for every byte");
    assert!(world.vm(vm).assigned >= had);
    assert_eq!(world.guest(vm).devices.balloon_actual, mib(1024), "the guest boots with all of its startup");
    world.advance(30_000);
    assert_eq!((world.vm(vm).state, world.vm(vm).paging), (VmState::Running, None));
    assert!(world.assigned(vm) < mib(512));
    assert!(world.assigned(busy) >= neighbour, "nobody else paid");
    assert_eq!(kinds(&world, vm), [NoticeKind::SmartPagingBegan, NoticeKind::SmartPagingEnded]);
}

#[test]
fn a_host_that_can_not_page_holds_the_restart() {
    let (mut world, vm, _) = full();
    let engine = std::mem::replace(&mut world.engine, Engine::new(world.config));
    world.engine = engine.with_smart_paging(false);
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(30_000);
    assert_eq!((world.vm(vm).state, world.vm(vm).paging), (VmState::Starting, None));
}

#[test]
fn memory_that_can_be_reclaimed_is_reclaimed_before_anything_pages() {
    let (mut world, vm, busy) = full();
    world.guest_mut(busy).used = mib(600);
    world.send(busy, Event::Report(world::report(world.assigned(busy), mib(600))));
    world.advance(30_000);
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(30_000);
    assert_eq!(world.vm(vm).state, VmState::Running);
    assert_eq!(kinds(&world, vm), [], "there was surplus");
}

#[test]
fn the_neighbours_buffer_is_used_before_the_file() {
    let (mut world, vm, busy) = full();
    world.guest_mut(busy).used = mib(1400);
    world.advance(60_000);
    let surplus = world.vm(busy).target.saturating_sub(world.vm(busy).demand);
    assert!(surplus > mib(100), "{surplus}");
    let without = mib(1024).saturating_sub(world.assigned(vm));
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(100);
    world.advance(3_000);
    let began = world.notices.iter().find(|notice| notice.kind == NoticeKind::SmartPagingBegan).expect("it pages");
    let file = Bytes::new(began.numbers.iter().find(|(name, _)| *name == "file_bytes").expect("its size").1);
    assert!(file.saturating_add(mib(100)) < without, "{file} of {without}");
}

#[test]
fn a_start_from_off_never_pages() {
    let (mut world, _, _) = full();
    let third = world.define(settings(128, 512, 1024));
    world.send(third, Event::Start { overhead: OVERHEAD });
    world.advance(1_000);
    assert_eq!(world.vm(third).state, VmState::Off);
    assert!(matches!(world.refusals.pop(), Some((_, Refusal::NotEnoughMemory { .. }))));
    assert!(!world.trace.iter().any(|(_, effect)| matches!(effect, Effect::LaunchPaged(..))));
}

#[test]
fn a_start_after_a_failure_never_pages() {
    let (mut world, vm, _) = full();
    world.guest_mut(vm).on = false;
    world.send(vm, Event::Exited(Exit::Failed("killed by signal 9".to_owned())));
    world.advance(30_000); // the neighbour takes what is free now
    world.send(vm, Event::Start { overhead: OVERHEAD });
    world.advance(1_000);
    assert_eq!(world.vm(vm).state, VmState::Off);
    assert!(matches!(world.refusals.pop(), Some((_, Refusal::NotEnoughMemory { .. }))));
    assert_eq!(kinds(&world, vm), []);
}

#[test]
fn a_saved_vm_goes_on_without_a_file_or_not_at_all() {
    let (mut world, ..) = full();
    let saved = world.define(settings(128, 512, 1024));
    let devices = DeviceFacts {
        boot: mib(512),
        balloon_actual: mib(512),
        plug_max: mib(1024),
        plug_block: Bytes::BLOCK,
        overhead: OVERHEAD,
        ..DeviceFacts::default()
    };
    world.send(saved, Event::FoundSaved(devices));
    world.send(saved, Event::StartAgain { overhead: OVERHEAD });
    world.advance(180_000);
    assert_eq!((world.vm(saved).state, kinds(&world, saved)), (VmState::Saved, vec![]));
    assert!(matches!(world.refusals.pop(), Some((_, Refusal::NotEnoughMemory { .. }))));
}

#[test]
fn vms_that_need_more_than_there_is_do_not_page() {
    let (mut world, vm, busy) = full();
    world.guest_mut(vm).used = mib(900);
    world.guest_mut(busy).used = mib(1900);
    world.advance(120_000);
    assert!(world.engine.host_snapshot().available < mib(8), "everything is lent, and less than they use");
    let paged = |effect: &Effect| matches!(effect, Effect::BeginPaging(..) | Effect::LaunchPaged(..));
    assert!(!world.trace.iter().any(|(_, effect)| paged(effect)));
}

#[test]
fn a_vm_that_ran_when_the_host_went_down_starts_again_and_pages() {
    let (mut world, _, busy) = full();
    let third = world.define(settings(64, 512, 1024));
    world.send(third, Event::StartAgain { overhead: OVERHEAD });
    world.advance(1_000);
    assert_eq!(world.vm(third).state, VmState::Off, "not even its minimum is there");
    // Of the 400 MiB that come free the neighbour keeps its buffer.
    world.guest_mut(busy).used = mib(1400);
    world.advance(60_000);
    world.send(third, Event::StartAgain { overhead: OVERHEAD });
    world.advance(10_000);
    if world.vm(third).state == VmState::Off {
        world.guest_mut(busy).used = mib(1200);
        world.advance(60_000);
        world.send(third, Event::StartAgain { overhead: OVERHEAD });
        world.advance(20_000);
    }
    assert_eq!(world.vm(third).state, VmState::Running);
    assert!(kinds(&world, third).starts_with(&[NoticeKind::SmartPagingBegan]));
    world.advance(30_000);
    assert_eq!(world.vm(third).paging, None);
}

#[test]
fn a_file_that_can_not_be_made_refuses_the_restart_and_hurts_nobody() {
    let (mut world, vm, busy) = full();
    let neighbour = world.assigned(busy);
    world.files_fail = true;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(5_000);
    let refused = world.refusals.iter().filter(|(_, refusal)| matches!(refusal, Refusal::PagingFailed { .. })).count();
    assert_eq!((world.vm(vm).state, refused), (VmState::Starting, 1), "held, and told once");
    assert!(world.vm(vm).reason.expect("told").contains("the disk is full"));
    assert!(world.assigned(busy) >= neighbour);
    world.files_fail = false;
    world.advance(60_000);
    assert_eq!((world.vm(vm).state, world.vm(vm).paging), (VmState::Running, None), "it was tried again");
}

#[test]
fn memory_that_comes_free_ends_the_paging_of_a_guest_that_needs_it() {
    let (mut world, vm, busy) = full();
    world.guest_mut(vm).stuck = true;
    world.guest_mut(vm).used = mib(900);
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(20_000);
    assert!(world.vm(vm).paging.is_some(), "its balloon does not move");
    world.guest_mut(busy).used = mib(200);
    world.advance(30_000);
    assert_eq!(world.vm(vm).paging, None, "what was free became its own");
    assert_eq!(world.vm(vm).assigned, mib(1024));
}

#[test]
fn a_file_is_overdue_after_ten_minutes_told_once_and_lets_the_next_one_pass() {
    let (mut world, vm, _) = full();
    world.guest_mut(vm).stuck = true;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(599_000);
    assert_eq!(kinds(&world, vm), [NoticeKind::SmartPagingBegan]);
    world.advance(60_000);
    assert_eq!(kinds(&world, vm), [NoticeKind::SmartPagingBegan, NoticeKind::SmartPagingOverdue]);
    assert!(world.vm(vm).paging.expect("it still pages").overdue);
    world.guest_mut(vm).stuck = false;
    world.advance(30_000);
    assert_eq!(world.vm(vm).paging, None, "it went on trying");
}

#[test]
fn restarts_that_wait_for_each_other_page_one_after_the_other() {
    let mut world = world(2048 + 96);
    let engine = std::mem::replace(&mut world.engine, Engine::new(world.config));
    world.engine = engine.with_smart_paging(true);
    let vms = [0, 1].map(|_| world.running(settings(128, 640, 2048), 40));
    let busy = world.running(settings(128, 640, 2048), 40);
    world.guest_mut(busy).stalls = false;
    world.guest_mut(busy).used = mib(1400);
    world.advance(60_000);
    for vm in vms {
        world.send(vm, Event::Restart { grace_ms: None });
    }
    for _ in 0..600 {
        world.advance(100);
        let at_once = vms.iter().filter(|vm| world.vm(**vm).paging.is_some()).count();
        assert!(at_once <= 1, "a file is for one VM alone");
    }
    for vm in vms {
        assert_eq!((world.vm(vm).state, world.vm(vm).paging), (VmState::Running, None));
    }
}

#[test]
fn a_second_restart_while_the_file_is_there_uses_it_again() {
    let (mut world, vm, _) = full();
    world.guest_mut(vm).stuck = true;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(5_000);
    let file = world.vm(vm).paging.expect("it pages").file;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(5_000);
    assert_eq!(world.vm(vm).state, VmState::Running);
    assert_eq!(world.vm(vm).paging.expect("it pages").file, file);
    world.guest_mut(vm).stuck = false;
    world.advance(30_000);
    assert_eq!(world.vm(vm).paging, None);
}

#[test]
fn the_next_engine_goes_on_where_the_last_one_paged() {
    let (mut world, vm, busy) = full();
    world.guest_mut(vm).stuck = true;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(5_000);
    world.engine = Engine::new(world.config).with_smart_paging(true);
    world.recovering = true;
    for id in [vm, busy] {
        let guest = world.guest(id).clone();
        world.send(id, Event::Defined { name: format!("vm{}", id.0), settings: guest.settings.clone() });
        let Guest { devices, file: paging, .. } = guest;
        world.send(id, Event::Adopted { devices, paused: false, known: true, paging });
    }
    world.recovering = false;
    world.guest_mut(vm).stuck = false;
    world.advance(30_000);
    assert_eq!((world.vm(vm).state, world.vm(vm).paging), (VmState::Running, None));
}

#[test]
fn a_machine_that_was_found_paging_and_silent_keeps_to_its_promise() {
    let (mut world, vm, busy) = full();
    world.guest_mut(vm).stuck = true;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(5_000);
    world.engine = Engine::new(world.config).with_smart_paging(true);
    world.recovering = true;
    for id in [vm, busy] {
        let Guest { devices, file: paging, settings, .. } = world.guest(id).clone();
        world.send(id, Event::Defined { name: format!("vm{}", id.0), settings });
        world.send(id, Event::Adopted { devices, paused: false, known: id != vm, paging });
    }
    world.recovering = false;
    world.advance(1_000);
    assert!(world.vm(vm).assigned < mib(1024), "what is in its file is not in memory");
    world.guest_mut(vm).stuck = false;
    world.advance(30_000);
    assert_eq!((world.vm(vm).state, world.vm(vm).paging), (VmState::Running, None));
}

#[test]
fn a_static_vm_never_pages() {
    let (mut world, _, busy) = full();
    world.guest_mut(busy).used = mib(1300);
    world.advance(60_000);
    let fixed = MemorySettings { dynamic: false, ..settings(64, 1024, 1024) };
    let third = world.define(fixed);
    world.send(third, Event::StartAgain { overhead: OVERHEAD });
    world.advance(150_000);
    assert_eq!((world.vm(third).state, world.vm(third).paging), (VmState::Off, None));
}

#[test]
fn a_machine_that_ends_while_it_pages_leaves_nothing_charged() {
    let (mut world, vm, _) = full();
    world.guest_mut(vm).stuck = true;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(2_000);
    (world.guest_mut(vm).on, world.guest_mut(vm).file, world.guest_mut(vm).limited) = (false, None, false);
    world.send(vm, Event::Exited(Exit::Failed("killed".to_owned())));
    assert_eq!((world.vm(vm).charge, world.vm(vm).paging), (Bytes::ZERO, None));
    for late in [Event::PagingBegan, Event::PagingEnded, Event::PagingUsed(mib(1)), Event::PagingFailed(String::new())]
    {
        world.send(vm, late);
    }
    assert_eq!(world.vm(vm).state, VmState::Failed);
    assert!(world.now > Instant(0));
}

#[test]
fn a_restart_with_memory_while_the_file_is_there_needs_it_no_more() {
    let (mut world, vm, busy) = full();
    world.guest_mut(vm).stuck = true;
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(5_000);
    assert!(world.vm(vm).paging.is_some(), "its balloon does not move");
    world.send(busy, Event::Stop { grace_ms: None });
    world.send(vm, Event::Restart { grace_ms: None });
    world.advance(10_000);
    assert_eq!((world.vm(vm).state, world.vm(vm).paging), (VmState::Running, None));
}

#[test]
fn less_than_a_block_in_the_file_is_enough_to_be_relieved_of() {
    let mut hand = Hand::new(2048);
    hand.engine = Engine::new(HostConfig { memory: mib(2048), reserve: Bytes::ZERO }).with_smart_paging(true);
    let vm = hand.define(settings(128, 1024, 2048));
    let held = Bytes::new(mib(600).get() + 1);
    let paging = Some(Paged { memory: mib(600), file: mib(424) });
    let devices = DeviceFacts { balloon_actual: held, ..hand.devices(vm, mib(1024)) };
    hand.send(vm, Event::Adopted { devices, paused: false, known: true, paging });
    hand.after(10);
    hand.reports(vm, 580);
    let effects: Vec<Effect> = (0..3).flat_map(|_| hand.after(1_000)).collect();
    assert!(effects.contains(&Effect::EndPaging(vm)), "{effects:?}");
}

/// A restart that needs 250 MiB more, of which `free` are, and a neighbour that
/// has been asked for the others.
fn waits_for_another(free: u64) -> (Hand, VmId, VmId) {
    let mut hand = Hand::new(1150 + free);
    hand.engine = Engine::new(HostConfig { memory: mib(1150 + free), reserve: Bytes::ZERO }).with_smart_paging(true);
    let fat = hand.running(settings(128, 1000, 1000), 40);
    let vm = hand.define(settings(64, 400, 400));
    let devices = DeviceFacts { balloon_actual: mib(150), ..hand.devices(vm, mib(400)) };
    hand.send(vm, Event::Adopted { devices, paused: false, known: true, paging: None });
    hand.after(10);
    hand.reports(vm, 40);
    hand.after(10);
    let mut effects = hand.send(vm, Event::ResetHeld);
    effects.extend(hand.after(10));
    assert_eq!(deeds(effects), [order(fat, 1000, 750 + free)], "asked back");
    (hand, fat, vm)
}

#[test]
fn nothing_pages_while_memory_is_asked_back_or_on_its_way() {
    for free in [0, 50] {
        let (mut hand, fat, vm) = waits_for_another(free);
        assert_eq!((deeds(hand.after(1_000)), deeds(hand.after(20))), (vec![], vec![]), "on its way");
        assert_eq!(deeds(hand.holds(fat, 750 + free)), [order(vm, 400, 400), Effect::ContinueReset(vm)]);
    }
}

#[test]
fn a_restart_whose_memory_does_not_come_pages_with_what_has_come() {
    let (mut hand, fat, vm) = waits_for_another(0);
    hand.after(500);
    hand.holds(fat, 950);
    let mut paged = None;
    for _ in 0..20 {
        hand.reports(fat, 40);
        for effect in hand.after(1_000) {
            if let Effect::BeginPaging(of, Paged { memory, file }) = effect {
                paged = paged.or(Some((of, memory, file)));
            }
        }
        hand.holds(fat, 950);
    }
    assert_eq!(paged, Some((vm, mib(200), mib(200))));
}

#[test]
fn a_balloon_that_still_says_what_it_held_before_the_reset_does_not_end_the_paging() {
    let mut hand = Hand::new(1150);
    hand.engine = Engine::new(HostConfig { memory: mib(1150), reserve: Bytes::ZERO }).with_smart_paging(true);
    hand.running(settings(1000, 1000, 1000), 900);
    let vm = hand.define(settings(64, 400, 400));
    let stale = DeviceFacts { balloon_actual: mib(150), ..hand.devices(vm, mib(400)) };
    hand.send(vm, Event::Adopted { devices: stale, paused: false, known: true, paging: None });
    hand.after(10);
    hand.reports(vm, 40);
    hand.after(10);
    let mut effects = hand.send(vm, Event::ResetHeld);
    effects.extend(hand.after(10));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::BeginPaging(..))), "{effects:?}");
    hand.send(vm, Event::PagingBegan);
    let ends = |effects: &[Effect]| effects.contains(&Effect::EndPaging(vm));
    hand.send(vm, Event::Devices(stale)); // QEMU's figure, until the driver writes another
    hand.send(vm, Event::Report(world::report(mib(400), mib(40))));
    assert_eq!(hand.state(vm), VmState::Running);
    for _ in 0..5 {
        assert!(!ends(&hand.after(1_000)) && !ends(&hand.send(vm, Event::Devices(stale))), "it has 400 MiB");
    }
    hand.send(vm, Event::Devices(DeviceFacts { balloon_actual: mib(300), ..stale }));
    hand.send(vm, Event::Devices(stale));
    hand.send(vm, Event::Report(world::report(mib(150), mib(40))));
    assert!(ends(&hand.after(1_000)), "it has given back what is in the file");
}

/// Lets a machine give 256 KiB a second for a while: it is not stuck, and not
/// to be waited for. Says what is paged, and after how many seconds.
fn trickle(hand: &mut Hand, fat: VmId, seconds: u64) -> Option<(u64, Paged)> {
    let devices = hand.devices(fat, hand.vm(fat).assigned);
    for second in 1..=seconds {
        for effect in hand.after(1_000) {
            if let Effect::BeginPaging(_, paged) | Effect::LaunchPaged(_, paged) = effect {
                return Some((second, paged));
            }
        }
        let given = Bytes::new(second * 256 * 1024);
        let balloon_actual = devices.balloon_actual.saturating_sub(given);
        hand.send(fat, Event::Devices(DeviceFacts { balloon_actual, ..devices }));
        hand.reports(fat, 40);
    }
    None
}

#[test]
fn a_restart_does_not_wait_for_a_trickle() {
    let (mut hand, fat, _) = waits_for_another(0);
    let (second, paged) = trickle(&mut hand, fat, 60).expect("it pages");
    assert!((5..30).contains(&second), "{second}");
    assert!(paged.memory < mib(160) && paged.memory.saturating_add(paged.file) == mib(400), "{paged:?}");
}

#[test]
fn a_start_after_the_host_s_does_not_wait_for_a_trickle_either() {
    let mut hand = Hand::new(1150);
    hand.engine = Engine::new(HostConfig { memory: mib(1150), reserve: Bytes::ZERO }).with_smart_paging(true);
    let fat = hand.running(settings(128, 1000, 1000), 40);
    let vm = hand.define(settings(64, 400, 400));
    hand.after(10);
    let effects = hand.send(vm, Event::StartAgain { overhead: Bytes::ZERO });
    assert_eq!(deeds(effects), [order(fat, 1000, 750)], "asked back first");
    let (second, paged) = trickle(&mut hand, fat, 120).expect("it pages");
    assert!((5..100).contains(&second), "{second}");
    assert!(paged.memory < mib(180) && paged.memory.saturating_add(paged.file) == mib(400), "{paged:?}");
}

#[test]
fn a_balloon_that_did_not_hear_what_it_may_hold_is_told_again() {
    let (mut hand, fat, vm) = waits_for_another(0);
    trickle(&mut hand, fat, 60).expect("it pages");
    hand.send(vm, Event::PagingBegan);
    hand.send(vm, Event::Devices(hand.devices(vm, mib(400))));
    let promised = hand.vm(vm).promised.mib();
    let mut told = Vec::new();
    for second in 0..70 {
        let mut effects = hand.send(vm, Event::Report(world::report(mib(400), mib(40))));
        effects.extend(hand.after(1_000));
        if effects.contains(&order(vm, 400, promised)) {
            told.push(second);
        }
    }
    assert!(told.len() >= 3 && told[0] == 0, "at first, and every half minute: {told:?}");
}

#[test]
fn the_last_part_of_a_block_of_a_file_is_taken_from_who_can_spare_it() {
    let mut hand = Hand::new(2048);
    hand.engine = Engine::new(HostConfig { memory: mib(2048), reserve: Bytes::ZERO }).with_smart_paging(true);
    let fat = hand.running(settings(128, 1448, 1448), 40);
    let claims = MemorySettings { demand_model: DemandModel::Committed, ..settings(64, 1024, 1024) };
    let vm = hand.define(claims);
    let paging = Some(Paged { memory: mib(600), file: mib(424) });
    let devices = DeviceFacts { balloon_actual: Bytes::new(mib(600).get() + 1), ..hand.devices(vm, mib(1024)) };
    hand.send(vm, Event::Adopted { devices, paused: false, known: true, paging });
    hand.after(10);
    let mut effects = hand.reports(vm, 700);
    effects.extend(hand.after(1_000));
    let asked =
        |effect: &Effect| matches!(effect, Effect::Order { vm, balloon, .. } if *vm == fat && *balloon < mib(1448));
    assert!(effects.iter().any(asked), "one byte more would let the file go: {effects:?}");
}
