//! Single decisions on one fixed set of machines, to the block.

mod world;

use dynmem_core::{DemandModel, Effect, Event, Exit, GuestReport, MemorySettings, Refusal, VmId, VmState};
use world::{
    buffered,
    hand::{Hand, deeds, order},
    mib, report,
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
    hand.reports(busy, 968);
    assert_eq!(hand.vm(vm).promised, mib(128));
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
fn a_growth_and_a_start_are_served_from_the_same_memory_once() {
    let mut hand = Hand::new(1536);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let busy = hand.running(settings(128, 512, 912), 412);
    let start = hand.starting(settings(400, 400, 400));
    assert_eq!(hand.vm(fat).promised, mib(624));
    hand.after(50);
    hand.reports(busy, 896);
    hand.after(100);
    assert_eq!(deeds(hand.holds(fat, 624)), [order(busy, 512, 912)], "demand is served before a start");
    hand.after(100);
    let promised = hand.vm(fat).promised.mib();
    assert_eq!(deeds(hand.holds(fat, promised)), [Effect::Launch(start)]);
}

#[test]
fn memory_that_is_not_coming_any_more_is_asked_of_somebody_else_at_once() {
    let mut hand = Hand::new(3072);
    let [first, second] = [0, 1].map(|_| hand.running(settings(128, 1024, 1024), 40));
    let busy = hand.running(settings(128, 1024, 1424), 40);
    hand.after(10);
    hand.reports(busy, 1408);
    assert_eq!([first, second].map(|vm| hand.vm(vm).promised), [mib(824), mib(824)]);
    hand.after(10);
    hand.reports(first, 1008);
    assert_eq!([first, second].map(|vm| hand.vm(vm).promised), [mib(1024), mib(624)], "the first needs its own");
}

#[test]
fn a_start_waits_for_two_minutes_and_the_next_one_behind_it() {
    let mut hand = Hand::new(1324);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let [large, small] = [800, 200].map(|size| hand.define(settings(size, size, size)));
    hand.after(10);
    hand.start(large);
    assert_eq!(hand.vm(fat).promised, mib(524), "300 of its 800 are free");
    let asked = hand.now;
    assert_eq!(deeds(hand.start(small)), [], "it would fit, and waits for its turn");
    while hand.now < asked.plus_millis(119_000) {
        hand.after(1_000);
        hand.reports(fat, 40);
    }
    assert_eq!((hand.state(large), hand.state(small)), (VmState::Starting, VmState::Starting));
    hand.now = asked.plus_millis(119_999);
    hand.reports(fat, 40);
    hand.after(0);
    assert_eq!(hand.state(large), VmState::Starting);
    hand.now = asked.plus_millis(120_000);
    let effects = deeds(hand.after(1_000));
    let refusal = Refusal::NotEnoughMemory { name: "vm1".to_owned(), needs: mib(800), available: mib(300) };
    assert_eq!(effects, [Effect::Refused(large, Box::new(refusal)), Effect::Launch(small)]);
}

#[test]
fn starts_that_fit_go_at_once_and_take_no_byte_twice() {
    let mut hand = Hand::new(1324);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let [first, second, third] = [300, 300, 300].map(|size| hand.define(settings(size, size, size)));
    hand.after(10);
    assert_eq!(deeds(hand.start(first)), [Effect::Launch(first)]);
    assert_eq!(deeds(hand.start(second)), [order(fat, 1024, 724)]);
    assert_eq!(deeds(hand.start(third)), []);
    hand.after(100);
    assert_eq!(deeds(hand.holds(fat, 724)), [Effect::Launch(second), order(fat, 1024, 424)]);
    hand.after(100);
    assert_eq!(deeds(hand.holds(fat, 424)), [Effect::Launch(third)]);
}

#[test]
fn what_is_free_now_goes_to_demand_before_buffers_that_others_will_fill() {
    let mut hand = Hand::new(2324);
    let other = hand.booting(settings(300, 300, 300));
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let needy = hand.running(settings(128, 400, 700), 304);
    let calm = hand.running(buffered(50, settings(128, 600, 900)), 584);
    hand.after(10);
    hand.reports(needy, 684);
    assert_eq!(hand.vm(fat).promised, mib(424), "300 for a buffer and 300 for demand");
    hand.after(10);
    let effects = deeds(hand.send(other, Event::Exited(Exit::Clean)));
    assert_eq!(effects, [order(needy, 400, 700)]);
    hand.after(100);
    assert_eq!(deeds(hand.holds(fat, 424)), [order(calm, 600, 900)]);
}

#[test]
fn in_a_shortage_what_a_guest_has_freed_is_at_once_for_who_needs_it() {
    let mut hand = Hand::new(2048);
    let [freed, needy] = [0, 1].map(|_| hand.booting(settings(128, 960, 2048)));
    for used in [984, 184] {
        hand.after(10);
        hand.reports(freed, used);
    }
    hand.after(10);
    hand.reports(needy, 1584);
    assert!(hand.vm(freed).demand >= mib(980), "what it needed lately");
    assert!(hand.vm(freed).promised <= mib(2048 - 1600), "{} are left to it", hand.vm(freed).promised);
}

#[test]
fn a_short_stall_of_a_large_guest_costs_nobody_a_buffer() {
    let mut hand = Hand::new(7168);
    let large = hand.running(world::settings(128, 4096, 16_384), 3_400);
    let other = hand.running(buffered(50, world::settings(128, 1536, 2048)), 1_008);
    hand.after(10);
    let held = hand.vm(other).promised;
    // It reads files: its programs have allocated what they use.
    let stalls = GuestReport { stall: 9_000, available: mib(100), ..report(mib(4096), mib(3_900)) };
    hand.send(large, Event::Report(GuestReport { committed: Some(mib(3_400)), ..stalls }));
    assert!(hand.vm(large).demand > mib(4096), "it is believed");
    hand.after(10);
    assert_eq!(hand.vm(other).promised, held);
}

#[test]
fn growth_that_a_guest_announces_is_met_before_it_comes() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(world::settings(256, 512, 2048), 300);
    hand.after(1_000);
    hand.after(10);
    let announces = GuestReport { committed: Some(mib(900)), ..report(mib(512), mib(300)) };
    assert_eq!(deeds(hand.send(vm, Event::Report(announces))), [order(vm, 512, 916)], "600 more than the 316 in use");
    assert_eq!(hand.vm(vm).demand, mib(316), "which is not demand yet");
}

#[test]
fn the_last_of_a_buffer_is_filled_once_demand_has_settled() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 1150, 2048), 984);
    let mut filled_after = 0;
    while hand.vm(vm).promised < hand.vm(vm).target && filled_after < 60 {
        filled_after += 1;
        hand.after(1_000);
        hand.reports(vm, 984);
    }
    assert_eq!(hand.vm(vm).promised, mib(1200));
    assert!((29..=31).contains(&filled_after), "a quarter of it was missing for {filled_after} s");
}

#[test]
fn what_guests_needed_lately_is_shared_on_top_of_what_all_need_now() {
    let mut hand = Hand::new(2000);
    let large = hand.running(buffered(5, settings(128, 1100, 2000)), 984);
    let small = hand.running(buffered(5, settings(64, 100, 2000)), 60);
    let middle = hand.running(buffered(5, settings(128, 800, 2000)), 784);
    hand.after(10);
    for (vm, holds) in [(large, 1070), (small, 90), (middle, 840)] {
        hand.holds(vm, holds);
    }
    hand.after(100);
    let promised = |hand: &Hand| [large, middle, small].map(|vm| hand.vm(vm).promised.mib());
    assert_eq!(promised(&hand), [1070, 840, 90]);
    // Each needs 400 of 2000 now. The first two needed 1000 and 800 a moment ago.
    for vm in [large, middle, small] {
        hand.reports(vm, 384);
    }
    hand.after(10);
    assert_eq!(promised(&hand), [800, 800, 90], "400 on top for each, and the third waits for the rest");
}

#[test]
fn announced_growth_is_fetched_from_who_will_not_miss_it_and_given_as_it_comes() {
    let mut hand = Hand::new(1612);
    let idle = hand.running(settings(128, 1000, 1000), 40);
    let vm = hand.running(world::settings(256, 512, 2048), 300);
    hand.after(1_000);
    hand.after(10);
    let announces = GuestReport { committed: Some(mib(900)), ..report(mib(512), mib(300)) };
    let effects = deeds(hand.send(vm, Event::Report(announces)));
    let given = hand.vm(vm).promised.mib();
    assert!((570..612).contains(&given), "of 100 free a quarter of the buffers is kept: {given}");
    let left = 1000 - (916 - given);
    assert_eq!(effects, [order(vm, 512, given), order(idle, 1000, left)]);
    hand.after(20);
    assert_eq!(deeds(hand.holds(idle, left)), [order(vm, 512, 916)]);
}

#[test]
fn who_takes_its_own_memory_back_is_replaced_by_as_much_of_another_s() {
    let mut hand = Hand::new(4096);
    let first = hand.running(settings(128, 1024, 1024), 40);
    let second = hand.running(settings(128, 2048, 2048), 40);
    let busy = hand.running(settings(128, 1024, 1424), 40);
    hand.after(10);
    hand.reports(busy, 1408);
    let asked = |hand: &Hand, vm, had| had - hand.vm(vm).promised.mib();
    let (of_first, of_second) = (asked(&hand, first, 1024), asked(&hand, second, 2048));
    assert_eq!(of_first + of_second, 400);
    hand.after(10);
    hand.reports(first, 1008);
    assert_eq!((asked(&hand, first, 1024), asked(&hand, second, 2048)), (0, of_second + of_first));
}

#[test]
fn starts_that_go_together_leave_what_is_missing_from_a_buffer() {
    let mut hand = Hand::new(2120);
    let elastic = hand.running(settings(128, 690, 2000), 584);
    assert_eq!((hand.vm(elastic).promised, hand.vm(elastic).target), (mib(690), mib(720)), "30 may be missing");
    let fat = hand.running(settings(128, 1400, 1400), 40);
    let first = hand.starting(settings(600, 600, 600));
    let second = hand.define(settings(820, 820, 820));
    hand.start(second);
    hand.after(100);
    let effects = deeds(hand.send(fat, Event::Exited(Exit::Failed("it crashed".to_owned()))));
    assert_eq!(effects[0], Effect::Launch(first));
    assert!(matches!(effects[1..], [Effect::Refused(..)]), "830 are free, and 30 of them not for it: {effects:?}");
}

#[test]
fn what_is_asked_back_is_what_is_missing_to_the_block() {
    let mut hand = Hand::new(4 * 1024);
    let givers = [0, 1, 2].map(|_| hand.running(settings(128, 1024, 1024), 40));
    let busy = hand.running(settings(128, 1024, 1032), 40);
    hand.after(10);
    hand.reports(busy, 1016);
    assert_eq!(givers.map(|vm| hand.vm(vm).promised.mib()), [1020, 1020, 1024], "8 MiB, two blocks at a time");
}

#[test]
fn who_still_owes_is_not_asked_for_what_is_only_hoped() {
    let mut hand = Hand::new(1612);
    let idle = hand.running(settings(128, 1000, 1000), 40);
    let vm = hand.running(world::settings(256, 512, 2048), 300);
    hand.after(1_000);
    hand.after(10);
    let announces = |committed| GuestReport { committed: Some(mib(committed)), ..report(mib(512), mib(300)) };
    hand.send(vm, Event::Report(announces(900)));
    let asked = hand.vm(idle).promised;
    assert!(asked < mib(800));
    hand.after(20);
    assert_eq!(deeds(hand.send(vm, Event::Report(announces(1000)))), []);
    assert_eq!(hand.vm(idle).promised, asked);
}

#[test]
fn where_buffers_are_short_a_quarter_is_one_of_what_there_is() {
    let mut hand = Hand::new(1280);
    hand.running(MemorySettings { dynamic: false, ..settings(640, 640, 640) }, 40);
    let vm = hand.booting(settings(128, 614, 2000));
    hand.after(10);
    assert_eq!(deeds(hand.reports(vm, 584)), [order(vm, 614, 640)], "26 are less than a quarter of 120");
}

#[test]
fn the_last_eight_mib_of_a_buffer_are_not_worth_an_operation() {
    let fills = |startup| {
        let mut hand = Hand::new(4096);
        let vm = hand.running(settings(128, startup, 2048), 984);
        calm_down(&mut hand, &[(vm, 984)]);
        hand.vm(vm).promised
    };
    assert_eq!((fills(1192), fills(1190)), (mib(1192), mib(1200)));
}

#[test]
fn the_pool_is_what_the_largest_growth_would_lack() {
    let mut hand = Hand::new(2048);
    let idle = hand.running(world::settings(128, 1000, 1000), 40);
    let grew = hand.running(world::settings(128, 512, 2048), 100);
    hand.after(1_000);
    hand.reports(grew, 400); // 300 more than before: anybody may grow so
    let small = hand.running(world::settings(32, 100, 2048), 40);
    let filler = hand.running(MemorySettings { dynamic: false, ..settings(336, 336, 336) }, 40);
    hand.after(20_000);
    for vm in [idle, grew, small, filler] {
        hand.reports(vm, 40);
    }
    hand.after(1_000);
    let host = hand.engine.host_snapshot();
    assert_eq!(
        (host.available, host.headroom),
        (mib(100), mib(154)),
        "56 and 300, a block of it forgotten, less the 100 that it has and 100 that are free"
    );
}
