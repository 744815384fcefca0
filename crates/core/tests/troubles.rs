//! What is wrong with a guest is named with its reason and since when, is an
//! event when it begins and one when it is over, and is over by itself once
//! the guest behaves.

mod world;

use dynmem_core::{
    DriverWord, Effect, Event, GuestReport, MemorySettings, NoticeKind, ReportSource, TroubleKind, VmId, VmState,
};
use dynmem_units::Bytes;
use world::{
    World,
    hand::{Hand, deeds, told},
    mib, report, settings, world,
};

/// All that is wrong with it: what, for how many milliseconds, and in words.
fn troubles(hand: &Hand, vm: VmId) -> Vec<(TroubleKind, u64, String)> {
    hand.vm(vm).troubles.into_iter().map(|trouble| (trouble.kind, trouble.for_ms, trouble.detail)).collect()
}

fn kinds(hand: &Hand, vm: VmId) -> Vec<TroubleKind> {
    troubles(hand, vm).into_iter().map(|(kind, ..)| kind).collect()
}

/// An idle guest with a gibibyte, and one that needs what it has; nothing is
/// free. In this order.
fn scarce() -> (Hand, VmId, VmId) {
    let mut hand = Hand::new(2048);
    let idle = hand.running(settings(128, 1024, 2048), 40);
    let busy = hand.running(settings(128, 1024, 2048), 40);
    hand.reports(busy, 1400);
    hand.after(10);
    hand.reports(busy, 1400);
    assert!(hand.vm(idle).promised < mib(1024), "it is asked for memory");
    (hand, idle, busy)
}

/// So many seconds in which both report and the idle one's devices hold `held`.
fn seconds(hand: &mut Hand, (idle, busy): (VmId, VmId), seconds: u32, held: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..seconds {
        effects.extend(hand.after(1_000));
        effects.extend(hand.holds(idle, held));
        effects.extend(hand.reports(idle, 40));
        effects.extend(hand.reports(busy, 1400));
    }
    effects
}

#[test]
fn a_stuck_balloon_is_one_event_however_often_it_is_tried_again_and_one_when_it_moves() {
    let (mut hand, idle, busy) = scarce();
    let effects = seconds(&mut hand, (idle, busy), 90, 1024);
    let [sentence] = told(&effects, NoticeKind::Stuck)[..] else { panic!("{effects:?}") };
    assert!(sentence.starts_with("vm0 does not move its memory: asked for "), "{sentence}");
    assert!(sentence.ends_with(", it stays at 1GiB"), "{sentence}");
    let [(TroubleKind::Stuck, for_ms, detail)] = &troubles(&hand, idle)[..] else { panic!("{:?}", hand.vm(idle)) };
    assert!((80_000..90_000).contains(for_ms), "since it was stuck first: {for_ms} ms");
    assert!(detail.starts_with("does not move its memory: "), "{detail}");
    assert_eq!(kinds(&hand, busy), [], "nobody else is");

    let effects = seconds(&mut hand, (idle, busy), 60, 600);
    assert_eq!(told(&effects, NoticeKind::Recovered)[0], "vm0 moves its memory again, now at 600MiB");
}

#[test]
fn memory_that_can_not_be_unplugged_is_named_until_it_is_given_or_needed_again() {
    for needed in [false, true] {
        let mut world = world(2048 + 64);
        let fat = world.running(settings(128, 512, 2048), 40);
        let busy = world.running(settings(128, 512, 2048), 40);
        (world.guest_mut(fat).stalls, world.guest_mut(busy).stalls) = (false, false);
        world.guest_mut(fat).used = mib(1000);
        world.advance(10_000);
        (world.guest_mut(fat).used, world.guest_mut(fat).unplugs) = (mib(40), false);
        world.guest_mut(busy).used = mib(1000);
        world.advance(40_000);
        let told = |world: &World, kind| {
            let notices = world.notices.iter().filter(|notice| notice.kind == kind && notice.vm == Some(fat));
            notices.map(|notice| notice.message.clone()).collect::<Vec<_>>()
        };
        let [sentence] = &told(&world, NoticeKind::Pinned)[..] else { panic!("{:?}", world.notices) };
        assert!(sentence.starts_with("vm0 gives back no more hot-added memory: asked for all but "), "{sentence}");
        let [trouble] = &world.vm(fat).troubles[..] else { panic!("{:?}", world.vm(fat)) };
        assert_eq!(trouble.kind, TroubleKind::Pinned, "its balloon gives instead");
        assert_eq!(world.vm(busy).troubles, []);

        if needed {
            world.guest_mut(busy).used = mib(40);
            world.guest_mut(fat).used = mib(1100);
        } else {
            world.guest_mut(fat).unplugs = true;
            world.guest_mut(busy).used = mib(1200);
        }
        world.advance(90_000);
        assert_eq!(told(&world, NoticeKind::Recovered), ["vm0 gives back hot-added memory again"], "needed: {needed}");
        assert_eq!(world.vm(fat).troubles, []);
    }
}

#[test]
fn a_guest_that_never_reports_is_named_after_a_minute_until_it_does() {
    let mut hand = Hand::new(4096);
    let mute = hand.booting(settings(128, 512, 2048));
    let fixed = hand.booting(MemorySettings { dynamic: false, ..settings(512, 512, 512) });
    let mut effects = hand.after(59_000);
    assert_eq!(told(&effects, NoticeKind::Silent), [""; 0]);
    effects = (0..3).flat_map(|_| hand.after(1_000)).collect();
    let sentence = "vm0 has not reported since its start; it keeps what it holds, 512MiB";
    assert_eq!(told(&effects, NoticeKind::Silent), [sentence]);
    let [(TroubleKind::Silent, 60_000..63_000, _)] = troubles(&hand, mute)[..] else { panic!("{:?}", hand.vm(mute)) };
    assert_eq!(kinds(&hand, fixed), [], "in a static VM there may be nobody who could");
    assert_eq!(told(&hand.reports(mute, 40), NoticeKind::Recovered), ["vm0 reports again"]);
    assert_eq!((hand.state(mute), kinds(&hand, mute)), (VmState::Running, vec![]));
}

#[test]
fn a_driver_that_is_gone_is_named_at_once_and_its_guest_asked_again_once_it_is_back() {
    let (mut hand, idle, busy) = scarce();
    let effects = hand.send(idle, Event::Driver(DriverWord::Gone));
    let sentence = "vm0 has no balloon driver any more: it answered before, and does not now";
    assert_eq!(told(&effects, NoticeKind::NoDriver), [sentence]);
    seconds(&mut hand, (idle, busy), 40, 1024);
    assert_eq!(kinds(&hand, idle), [TroubleKind::NoDriver, TroubleKind::Stuck]);
    assert_eq!(hand.vm(idle).promised, mib(1024), "nothing more is asked of it for a while");

    let mut effects = hand.send(idle, Event::Driver(DriverWord::Answers));
    effects.extend(hand.after(10));
    let over = ["vm0 has a balloon driver that answers again", "vm0 moves its memory again, now at 1GiB"];
    assert_eq!((told(&effects, NoticeKind::Recovered), kinds(&hand, idle)), (over.to_vec(), vec![]));
    assert!(hand.vm(idle).promised < mib(1024), "it is asked at once: {:?}", deeds(effects));
}

#[test]
fn a_driver_that_never_spoke_is_missed_only_where_the_balloon_does_not_move() {
    let (mut hand, idle, busy) = scarce();
    assert_eq!(hand.send(idle, Event::Driver(DriverWord::Mute)), []);
    seconds(&mut hand, (idle, busy), 4, 1000);
    assert_eq!(kinds(&hand, idle), [], "it moves");
    let effects = seconds(&mut hand, (idle, busy), 6, 1000);
    assert_eq!(
        told(&effects, NoticeKind::NoDriver),
        ["vm0 has no balloon driver that answers: is it loaded?"],
        "{effects:?}"
    );
    assert_eq!(kinds(&hand, idle), [TroubleKind::Stuck, TroubleKind::NoDriver]);
    while hand.vm(idle).promised == mib(1000) {
        seconds(&mut hand, (idle, busy), 1, 1000);
    }
    seconds(&mut hand, (idle, busy), 1, 900);
    assert_eq!(kinds(&hand, idle), [], "it is there after all");

    let mut hand = Hand::new(4096);
    let fixed = hand.booting(MemorySettings { dynamic: false, ..settings(64, 64, 64) });
    assert_eq!(hand.send(fixed, Event::Driver(DriverWord::Gone)), [], "nothing is asked of a static VM");
}

#[test]
fn a_guest_that_reports_more_than_its_machine_has_is_named() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 40);
    let lie = || Event::Report(GuestReport { ballooned: Some(mib(300)), ..report(mib(512), mib(40)) });
    let mut effects = Vec::new();
    for _ in 0..7 {
        hand.after(1_000);
        effects.extend(hand.send(vm, lie()));
    }
    let sentence = "vm0 reports 812 MiB of memory, and its machine has 512 MiB";
    assert_eq!(
        (told(&effects, NoticeKind::Implausible), kinds(&hand, vm)),
        (vec![sentence], vec![TroubleKind::Implausible])
    );
    let honest: Vec<_> = (0..7).flat_map(|_| [hand.after(1_000), hand.reports(vm, 40)].concat()).collect();
    assert_eq!(told(&honest, NoticeKind::Recovered), ["vm0 reports what can be true again"]);
    assert_eq!(kinds(&hand, vm), []);
}

#[test]
fn an_agent_that_contradicts_its_guests_kernel_is_named() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 400);
    let kernel = |used| {
        let source = ReportSource::Balloon;
        Event::Report(GuestReport { source, committed: None, reserved: None, ..report(mib(512), mib(used)) })
    };
    let minute = |hand: &mut Hand, used| {
        let mut effects = Vec::new();
        for second in 0..71 {
            effects.extend(hand.after(1_000));
            effects.extend(hand.reports(vm, 400));
            if second % 10 == 0 {
                effects.extend(hand.send(vm, kernel(used)));
            }
        }
        effects
    };
    let effects = minute(&mut hand, 40);
    let sentence = "vm0 contradicts itself: its agent says that much less memory is available than its kernel does";
    assert_eq!(told(&effects, NoticeKind::Implausible), [sentence]);
    assert_eq!(hand.vm(vm).demand, mib(416), "it is served by its word all the same, and by its weight");
    let effects = minute(&mut hand, 390);
    assert_eq!(told(&effects, NoticeKind::Recovered), ["vm0 reports what can be true again"]);
}

#[test]
fn what_others_find_out_is_named_until_they_say_that_it_is_over() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 40);
    let detail = || Some("sends what is refused: nonsense".to_owned());
    let effects = hand.send(vm, Event::Trouble(TroubleKind::AgentRefused, detail()));
    assert_eq!(told(&effects, NoticeKind::AgentRefused), ["vm0 sends what is refused: nonsense"]);
    assert_eq!(hand.send(vm, Event::Trouble(TroubleKind::AgentRefused, detail())), [], "once");
    hand.after(3_000);
    let named = [(TroubleKind::AgentRefused, 3_000, "sends what is refused: nonsense".to_owned())];
    assert_eq!(troubles(&hand, vm), named);
    let effects = hand.send(vm, Event::Trouble(TroubleKind::AgentRefused, None));
    assert_eq!(told(&effects, NoticeKind::Recovered), ["vm0 sends nothing that is refused any more"]);
    assert_eq!(hand.send(vm, Event::Trouble(TroubleKind::AgentRefused, None)), []);
}

#[test]
fn a_guest_that_starts_anew_begins_with_a_clean_record() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 40);
    hand.send(vm, Event::Driver(DriverWord::Gone));
    hand.send(vm, Event::Trouble(TroubleKind::AtMemoryLimit, Some("is held".to_owned())));
    let mut effects = hand.send(vm, Event::ResetHeld);
    effects.extend(hand.after(10));
    assert_eq!(hand.state(vm), VmState::Booting, "{effects:?}");
    let sentence = "vm0 starts anew, and what was wrong with it (no-driver) is over";
    assert_eq!(told(&effects, NoticeKind::Recovered), [sentence]);
    assert_eq!(kinds(&hand, vm), [TroubleKind::AtMemoryLimit], "who told of it tells when that is over");
    hand.send(vm, Event::Exited(dynmem_core::Exit::Clean));
    assert_eq!((kinds(&hand, vm), hand.vm(vm).assigned), (vec![], Bytes::ZERO));
}
