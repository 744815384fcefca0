//! Why a VM has what it has: each reason once, as it comes about.

mod world;

use dynmem_core::{DemandModel, Event, Explanation, MemorySettings, Rank, Remedy, Sharer, VmId, VmState, Why};
use dynmem_units::{Bytes, Weight};
use world::{World, hand::Hand, mib, settings, weighted, world};

fn explained(world: &World, vm: VmId) -> Explanation {
    world.engine.explain(world.now, vm).expect("it is defined")
}

fn explained_by(hand: &Hand, vm: VmId) -> Explanation {
    hand.engine.explain(hand.now, vm).expect("it is defined")
}

/// A VM whose demand is what its guest says, whatever it holds.
fn claims(settings: MemorySettings) -> MemorySettings {
    MemorySettings { demand_model: DemandModel::Committed, ..settings }
}

#[test]
fn a_vm_that_has_what_it_wants_is_told_so() {
    let mut world = world(8192);
    let vm = world.running(settings(128, 512, 4096), 600);
    world.advance(60_000);
    let explanation = explained(&world, vm);
    let has = explanation.assigned.mib();
    assert!(matches!(explanation.why, Why::Satisfied | Why::Surplus), "{explanation:?}");
    let sentence = explanation.to_string();
    assert!(sentence.starts_with(&format!("vm0 has {has} MiB, ")) && sentence.contains("its demand is "), "{sentence}");
    assert_eq!(explanation.remedies, []);
    assert!(explanation.due >= explanation.demand && explanation.due == explanation.target);
}

#[test]
fn maximum_and_minimum_are_named_with_what_would_change_them() {
    let mut world = world(8192);
    let (large, small) = (world.running(settings(128, 512, 1024), 1500), world.running(settings(512, 512, 1024), 20));
    world.advance(60_000);
    let capped = explained(&world, large);
    assert_eq!(capped.why, Why::Maximum, "{capped}");
    assert!(capped.wanted > mib(1024) && capped.target == mib(1024));
    assert_eq!(capped.remedies, [Remedy::Maximum { at_least: capped.wanted }]);
    assert!(capped.to_string().ends_with("and its maximum is 1024 MiB"), "{capped}");
    let idle = explained(&world, small);
    assert_eq!((&idle.why, idle.remedies.as_slice()), (&Why::Minimum, [Remedy::Minimum].as_slice()), "{idle}");
}

#[test]
fn a_share_names_the_shortage_the_weight_and_who_shares() {
    let mut hand = Hand::new(2048);
    let vms = [3000, 1000].map(|weight| hand.booting(weighted(weight, claims(settings(128, 512, 4096)))));
    for _ in 0..4 {
        for vm in vms {
            hand.after(1_000);
            hand.send(vm, Event::Report(world::report(hand.vm(vm).assigned, mib(3000))));
            let promised = hand.vm(vm).promised;
            hand.holds(vm, promised.mib());
        }
    }
    let explanation = explained_by(&hand, vms[1]);
    let Why::Shares(shortage) = explanation.why else { panic!("{explanation}") };
    assert_eq!((shortage.rank, shortage.room), (Rank::Need, mib(2048)));
    assert!(shortage.wanted >= mib(4096), "{shortage:?}");
    assert_eq!((explanation.due, explanation.assigned), (mib(512), mib(512)), "a quarter");
    let [Sharer { name, due, .. }] = explanation.sharers.as_slice() else { panic!("{:?}", explanation.sharers) };
    assert_eq!((name.as_str(), *due, explanation.sharers_total), ("vm0", mib(1536), 1));
    let missing = shortage.wanted.saturating_sub(shortage.room);
    let weight = Weight::new(1000).expect("a weight");
    assert_eq!(explanation.remedies, [Remedy::Weight(weight), Remedy::Memory { missing }]);
    let sentence = explanation.to_string();
    assert!(
        sentence.contains("2 VMs want ") && sentence.ends_with("with weight 1000 its due is 512 MiB"),
        "{sentence}"
    );
}

#[test]
fn memory_that_others_owe_is_named_with_the_names() {
    let mut hand = Hand::new(2048);
    let fat = hand.running(settings(128, 1024, 2048), 100);
    let vm = hand.running(settings(128, 1024, 2048), 1200);
    let (grows, gives) = (explained_by(&hand, vm), explained_by(&hand, fat));
    assert_eq!((&grows.why, &gives.why), (&Why::WaitsForOthers, &Why::Gives), "{grows}; {gives}");
    assert_eq!((grows.owed.len(), grows.owed[0].name.as_str()), (1, "vm0"));
    assert_eq!(grows.owed_bytes, gives.assigned.saturating_sub(gives.promised));
    let mib = grows.owed_bytes.mib();
    assert!(grows.to_string().ends_with(&format!("; {mib} MiB are on their way back from vm0")), "{grows}");
    assert_eq!(grows.remedies, [Remedy::Owed]);
    hand.holds(fat, gives.promised.mib());
    hand.after(10);
    assert_eq!(explained_by(&hand, vm).why, Why::Grows, "it came, and is promised");
}

#[test]
fn a_guest_that_does_not_move_is_left_what_it_holds() {
    let mut world = world(2200);
    let (stuck, vm) = (world.running(settings(128, 1024, 2048), 100), world.running(settings(128, 512, 2048), 100));
    world.guest_mut(stuck).stuck = true;
    world.guest_mut(vm).used = mib(1400);
    world.advance(9_000);
    let held = explained(&world, stuck);
    let (Why::Held { trouble: Some((kind, _)) }, [Remedy::Guest(of)]) = (&held.why, held.remedies.as_slice()) else {
        panic!("{held:?}")
    };
    assert_eq!(kind, of);
    assert!(held.to_string().contains("vm0 keeps its 1024 MiB: its guest "), "{held}");
    assert!(matches!(explained(&world, vm).why, Why::Shares(_)), "what is stuck is not to be had");
}

#[test]
fn who_is_not_running_is_told_why_not() {
    let mut hand = Hand::new(1024);
    let off = hand.define(settings(128, 512, 512));
    assert_eq!(explained_by(&hand, off).why, Why::Off(VmState::Off));
    assert_eq!(explained_by(&hand, off).to_string(), "vm0 has no memory: it is off");
    let boots = hand.booting(settings(128, 512, 512));
    assert_eq!(explained_by(&hand, boots).why, Why::Boots);
    let mut hand = Hand::new(1024);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let waits = hand.starting(settings(128, 512, 512));
    hand.after(10);
    let explanation = explained_by(&hand, waits);
    assert_eq!(explanation.why, Why::WaitsToStart { needs: mib(512), available: Bytes::ZERO });
    assert_eq!(explanation.owed[0].name, hand.vm(fat).name);
    assert_eq!(explanation.remedies, [Remedy::Owed, Remedy::Memory { missing: mib(512) }]);
    hand.send(fat, Event::Pause);
    hand.send(fat, Event::Paused);
    assert_eq!(explained_by(&hand, fat).why, Why::Paused);
    assert!(hand.engine.explain(hand.now, VmId(7)).is_none());
}

#[test]
fn to_explain_changes_nothing() {
    let mut world = world(3000);
    let vms = [0; 3].map(|_| world.running(settings(128, 512, 4096), 100));
    for vm in vms {
        world.guest_mut(vm).used = mib(1200);
    }
    world.advance(1_000);
    let before = format!("{:?}", world.engine.vm_snapshots(world.now));
    for vm in vms {
        let _ = explained(&world, vm);
    }
    assert_eq!(format!("{:?}", world.engine.vm_snapshots(world.now)), before);
}
