//! Save and restore: what is in a file holds no memory, and goes on as it was.

mod world;

use dynmem_core::{
    DeviceFacts, Effect, Event, Exit, MemorySettings, NoticeKind, Paged, Refusal, SettingsError, VmId, VmState,
};
use dynmem_units::{Bytes, Percent};
use world::{
    OVERHEAD, World,
    hand::{Hand, deeds},
    mib, settings, world,
};

fn refused(world: &mut World, vm: VmId, event: Event) -> String {
    let before = world.refusals.len();
    world.send(vm, event);
    assert_eq!(world.refusals.len(), before + 1, "one refusal");
    world.refusals.pop().map(|(_, refusal)| refusal.to_string()).expect("refused")
}

#[test]
fn a_saved_vm_holds_nothing_and_comes_back_with_what_it_held() {
    let mut world = world(4096);
    let vm = world.running(settings(128, 512, 2048), 800);
    world.advance(5_000);
    let before = world.vm(vm);
    assert!(before.plugged > Bytes::ZERO, "it was given more than its startup");
    world.send(vm, Event::Save);
    let saved = world.vm(vm);
    assert_eq!((saved.state, saved.assigned, saved.charge), (VmState::Saved, Bytes::ZERO, Bytes::ZERO));
    assert_eq!(world.engine.host_snapshot().charged, Bytes::ZERO);
    world.send(vm, Event::Start { overhead: OVERHEAD });
    assert_eq!((world.vm(vm).state, world.vm(vm).charge), (VmState::Booting, before.charge));
    world.advance(2_000);
    let after = world.vm(vm);
    assert_eq!((after.state, after.plugged, after.assigned), (VmState::Running, before.plugged, before.assigned));
    for kind in [NoticeKind::Saved, NoticeKind::Restored] {
        assert!(world.notices.iter().any(|notice| notice.kind == kind), "{kind:?}");
    }
}

#[test]
fn its_memory_counts_until_its_machine_is_gone() {
    let mut hand = Hand::new(2048);
    let vm = hand.running(settings(128, 512, 1024), 200);
    let charge = hand.vm(vm).charge;
    assert_eq!(deeds(hand.send(vm, Event::Save)), [Effect::Save(vm)]);
    assert_eq!((hand.state(vm), hand.vm(vm).charge), (VmState::Saving, charge));
    hand.send(vm, Event::Paused);
    hand.after(1_000);
    assert_eq!((hand.state(vm), hand.vm(vm).charge), (VmState::Saving, charge), "standing still is part of it");
    hand.send(vm, Event::Exited(Exit::Saved(hand.devices(vm, mib(512)))));
    assert_eq!((hand.state(vm), hand.vm(vm).charge), (VmState::Saved, Bytes::ZERO));
}

#[test]
fn a_start_needs_what_was_saved_and_not_startup() {
    let mut world = world(3 * 1024 + 128);
    let large = world.running(settings(128, 512, 2048), 1_500);
    world.advance(10_000);
    let held = world.assigned(large);
    assert!(held > mib(1_600), "{held}");
    world.send(large, Event::Save);
    let other = world.running(MemorySettings { dynamic: false, ..settings(2048, 2048, 2048) }, 100);
    world.send(large, Event::Start { overhead: OVERHEAD });
    world.advance(1_000);
    let (_, refusal) = world.refusals.pop().expect("no room for both");
    let Refusal::NotEnoughMemory { needs, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(needs, held.saturating_add(OVERHEAD));
    assert_eq!(world.vm(large).state, VmState::Saved, "it is still there");
    world.send(other, Event::Stop { grace_ms: None });
    world.send(large, Event::Start { overhead: OVERHEAD });
    world.advance(1_000);
    assert_eq!((world.vm(large).state, world.assigned(large)), (VmState::Running, held));
}

#[test]
fn a_save_that_fails_leaves_the_vm_as_it_was() {
    let mut world = world(4096);
    let vm = world.running(settings(128, 512, 1024), 200);
    world.files_fail = true;
    let told = refused(&mut world, vm, Event::Save);
    assert_eq!(told, "Can't save vm0: the disk is full");
    assert_eq!(world.vm(vm).state, VmState::Paused, "until its driver has let it go on");
    world.send(vm, Event::Resumed);
    assert_eq!(world.vm(vm).state, VmState::Running);
    world.files_fail = false;
    world.send(vm, Event::Save);
    assert_eq!(world.vm(vm).state, VmState::Saved);
}

#[test]
fn a_restore_that_fails_keeps_what_was_saved() {
    let mut world = world(4096);
    let vm = world.running(settings(128, 512, 1024), 200);
    world.send(vm, Event::Save);
    world.launches_fail = true;
    let told = refused(&mut world, vm, Event::Start { overhead: OVERHEAD });
    assert!(told.contains("QEMU said no"), "{told}");
    assert_eq!((world.vm(vm).state, world.vm(vm).charge), (VmState::Saved, Bytes::ZERO));
    world.launches_fail = false;
    world.send(vm, Event::Start { overhead: OVERHEAD });
    assert_eq!(world.vm(vm).state, VmState::Booting);
}

#[test]
fn a_start_that_is_cancelled_leaves_it_saved() {
    let mut world = world(2048 + 64);
    let vm = world.running(settings(128, 1024, 1024), 200);
    world.send(vm, Event::Save);
    let other = world.running(settings(128, 1000, 2048), 84);
    world.guest_mut(other).used = mib(1_600);
    world.advance(10_000);
    world.guest_mut(other).used = mib(84);
    world.guest_mut(other).gives = Bytes::BLOCK;
    world.advance(30_000);
    world.send(vm, Event::Start { overhead: OVERHEAD });
    assert_eq!(world.vm(vm).state, VmState::Starting);
    world.send(vm, Event::Stop { grace_ms: None });
    assert_eq!(world.vm(vm).state, VmState::Saved);
}

#[test]
fn what_was_saved_can_be_discarded_and_then_the_vm_is_off() {
    let mut world = world(4096);
    let vm = world.running(settings(128, 512, 1024), 800);
    world.send(vm, Event::Discarded);
    assert_eq!(world.vm(vm).state, VmState::Running, "there is nothing to discard");
    world.send(vm, Event::Save);
    world.send(vm, Event::Discarded);
    assert_eq!(world.vm(vm).state, VmState::Off);
    world.send(vm, Event::Start { overhead: OVERHEAD });
    assert_eq!(world.vm(vm).assigned, mib(512), "it boots anew");
}

#[test]
fn only_a_machine_that_is_whole_and_answers_is_saved() {
    let mut world = world(4096);
    let vm = world.define(settings(128, 512, 1024));
    assert_eq!(refused(&mut world, vm, Event::Save), "Can't save vm0: it is off");
    world.send(vm, Event::Start { overhead: OVERHEAD });
    world.advance(1_000);
    world.guest_mut(vm).speaks = false;
    world.send(vm, Event::Restart { grace_ms: Some(60_000) });
    assert_eq!(refused(&mut world, vm, Event::Save), "Can't save vm0: it is about to restart");

    let found = world.define(settings(128, 512, 1024));
    let devices =
        DeviceFacts { boot: mib(512), balloon_actual: mib(512), plug_block: Bytes::BLOCK, ..DeviceFacts::default() };
    let adopt = |known, paging| Event::Adopted { devices, paused: false, known, paging };
    world.recovering = true;
    world.send(found, adopt(false, None));
    assert_eq!(refused(&mut world, found, Event::Save), "Can't save vm1: its machine does not answer");
    let pages = world.define(settings(128, 512, 1024));
    world.send(pages, adopt(true, Some(Paged { memory: mib(256), file: mib(256) })));
    let told = refused(&mut world, pages, Event::Save);
    assert!(told.contains("smart paging file"), "{told}");
}

#[test]
fn a_vm_is_found_saved_and_its_settings_change_as_far_as_a_running_ones() {
    let mut world = world(4096);
    let vm = world.define(settings(128, 512, 1024));
    let devices = DeviceFacts {
        boot: mib(512),
        balloon_actual: mib(300),
        plug_max: mib(1024),
        plug_block: Bytes::BLOCK,
        overhead: OVERHEAD,
        ..DeviceFacts::default()
    };
    world.send(vm, Event::FoundSaved(devices));
    assert_eq!(world.vm(vm).state, VmState::Saved);
    let check = |new: &MemorySettings| world.engine.check_settings(vm, new);
    assert_eq!(check(&MemorySettings { buffer: Percent::new(50), ..settings(64, 512, 1536) }), Ok(()));
    assert_eq!(check(&settings(300, 512, 512)), Ok(()), "that is what it holds");
    for new in [settings(128, 514, 1024), settings(302, 512, 1024), settings(128, 512, 1538)] {
        assert!(matches!(check(&new), Err(SettingsError::Running { .. } | SettingsError::Now { .. })), "{new:?}");
    }
    world.guest_mut(vm).devices = devices;
    world.guest_mut(vm).ordered = (mib(300), Bytes::ZERO);
    world.send(vm, Event::StartAgain { overhead: OVERHEAD });
    assert_eq!((world.vm(vm).state, world.vm(vm).assigned), (VmState::Booting, mib(300)));
}

#[test]
fn a_stop_ends_a_save_and_what_was_saved_all_the_same_is_there() {
    let mut hand = Hand::new(2048);
    let vm = hand.running(settings(128, 512, 1024), 200);
    hand.send(vm, Event::Save);
    let effects = deeds(hand.send(vm, Event::Stop { grace_ms: Some(60_000) }));
    assert_eq!(effects, [Effect::Kill(vm)], "a guest that stands still can't answer its button");
    hand.send(vm, Event::Exited(Exit::Saved(hand.devices(vm, mib(512)))));
    assert_eq!(hand.state(vm), VmState::Saved);
}
