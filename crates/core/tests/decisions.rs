//! Single decisions on one fixed set of machines, to the block.

mod world;

use dynmem_core::{DemandModel, Effect, Event, Exit, MemorySettings, VmId};
use world::{
    buffered,
    hand::{Hand, deeds, order},
    mib,
};

/// Settings with which demand is what programs were promised, and so independent
/// of what the machine holds.
fn settings(minimum: u64, startup: u64, maximum: u64) -> MemorySettings {
    MemorySettings { demand_model: DemandModel::Committed, ..world::settings(minimum, startup, maximum) }
}

/// Lets demand sink: each guest says for a minute what it uses.
fn calm_down(hand: &mut Hand, uses: &[(VmId, u64)]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..20 {
        effects.extend(hand.after(3_000));
        for (vm, used) in uses {
            effects.extend(hand.reports(*vm, *used));
        }
    }
    deeds(effects)
}

/// A host of which a busy VM holds all that the others, then held before their
/// resets, could give.
fn resets(hand: &mut Hand, startups: &[u64], busy: MemorySettings, used: u64) -> (Vec<VmId>, VmId) {
    let vms: Vec<_> = startups.iter().map(|startup| hand.running(settings(128, *startup, *startup), 40)).collect();
    let busy = hand.running(busy, used);
    hand.after(100);
    for vm in &vms {
        hand.holds(*vm, 128);
        hand.after(10);
    }
    let promised = hand.vm(busy).promised;
    hand.after(100);
    hand.holds(busy, promised.mib());
    for vm in &vms {
        hand.after(10);
        assert_eq!(deeds(hand.send(*vm, Event::ResetHeld)), [], "there is no memory for it");
    }
    (vms, busy)
}

#[test]
fn a_reset_and_a_buffer_are_served_from_the_same_memory_once() {
    let mut hand = Hand::new(1728);
    let other = hand.booting(settings(616, 616, 616));
    let [vm, busy] = [settings(128, 512, 512), buffered(50, settings(128, 600, 1600))].map(|s| hand.running(s, 40));
    hand.after(10);
    assert_eq!(deeds(hand.reports(busy, 968)), [order(vm, 512, 128)]);
    hand.after(100);
    assert_eq!(deeds(hand.holds(vm, 128)), [order(busy, 600, 984)]);
    hand.after(100);
    hand.holds(busy, 984);
    assert_eq!(deeds(hand.send(vm, Event::ResetHeld)), [], "what the busy one needs is not taken for it");
    hand.after(10);
    let effects = deeds(hand.send(other, Event::Exited(Exit::Clean)));
    assert_eq!(effects, [order(vm, 512, 512), Effect::ContinueReset(vm), order(busy, 600, 1216)]);
}

#[test]
fn a_reset_that_does_not_fit_beside_a_smaller_one_takes_nobodys_buffer() {
    let mut hand = Hand::new(2048);
    let (vms, busy) = resets(&mut hand, &[428, 528], settings(128, 1092, 1792), 1776);
    assert_eq!(hand.vm(busy).assigned, mib(1792));
    calm_down(&mut hand, &[(busy, 1276)]);
    assert_eq!(hand.vm(busy).demand, mib(1292));
    assert_eq!(hand.vm(busy).promised, mib(1492), "300 for the smaller; 400 more would cut into demand");
    hand.after(100);
    assert_eq!(deeds(hand.holds(busy, 1492)), [order(vms[0], 428, 428), Effect::ContinueReset(vms[0])]);
}

#[test]
fn for_a_reset_only_what_is_missing_is_asked_back() {
    let mut hand = Hand::new(2020);
    let other = hand.booting(settings(100, 100, 100));
    let (vms, busy) = resets(&mut hand, &[428], settings(128, 1092, 1792), 1776);
    assert_eq!(deeds(hand.send(other, Event::Exited(Exit::Clean))), [], "100 are free, 300 are needed");
    calm_down(&mut hand, &[(busy, 1376)]);
    assert_eq!(hand.vm(busy).promised, mib(1592), "200 of its buffer");
    hand.after(100);
    hand.after(10);
    assert_eq!(deeds(hand.holds(busy, 1592)), [order(vms[0], 428, 428), Effect::ContinueReset(vms[0])]);
}

#[test]
fn a_buffer_of_four_blocks_is_not_worth_an_operation() {
    let mut hand = Hand::new(4096);
    let vm = hand.booting(buffered(5, settings(64, 100, 512)));
    hand.after(10);
    assert_eq!(deeds(hand.reports(vm, 84)), [], "demand 100 is met, 6 of buffer are missing");
    assert_eq!(hand.vm(vm).target, mib(106));
}
