//! What one event does: its effects, to the letter.

mod world;

use dynmem_core::{DriverSnapshot, Effect, Event, Exit, NoticeKind, Refusal, VmId, VmState};
use dynmem_units::Bytes;
use world::{
    OVERHEAD,
    hand::{Hand, deeds, order, told},
    mib, settings,
};

const STOP: Event = Event::Stop { grace_ms: None };
const STOP_IN_5_S: Event = Event::Stop { grace_ms: Some(5_000) };
const RESTART: Event = Event::Restart { grace_ms: None };
const RESTART_IN_5_S: Event = Event::Restart { grace_ms: Some(5_000) };

fn crash() -> Event {
    Event::Exited(Exit::Failed("signal 11".to_owned()))
}

/// A VM that runs, and has all that it wants.
fn calm(hand: &mut Hand) -> VmId {
    hand.running(settings(128, 512, 2048), 40)
}

fn paused(hand: &mut Hand) -> VmId {
    let vm = calm(hand);
    hand.send(vm, Event::Paused);
    vm
}

/// A VM that waits for memory before its reset: the host is full.
fn held(hand: &mut Hand) -> VmId {
    let vm = hand.running(settings(128, 512, 2048), 40);
    hand.running(settings(128, 512, 4096), 3900);
    hand.holds(vm, 128);
    hand.after(1_000);
    hand.send(vm, Event::ResetHeld);
    assert_eq!(hand.state(vm), VmState::Starting, "{:?}", hand.vm(vm));
    vm
}

#[test]
fn a_request_that_the_state_does_not_take_is_refused_with_the_state() {
    let mut hand = Hand::new(4096);
    let (off, running) = (hand.define(settings(128, 512, 2048)), calm(&mut hand));
    let start = Event::Start { overhead: OVERHEAD };
    let refused = [
        (running, start, "start", VmState::Running),
        (running, Event::Resume, "resume", VmState::Running),
        (off, STOP, "stop", VmState::Off),
        (off, RESTART, "restart", VmState::Off),
        (off, Event::Pause, "pause", VmState::Off),
    ];
    for (vm, event, request, state) in refused {
        let refusal = Refusal::WrongState { request, name: hand.vm(vm).name, state };
        assert_eq!(hand.send(vm, event), [Effect::Refused(vm, Box::new(refusal))]);
        assert_eq!(hand.state(vm), state);
    }
}

#[test]
fn a_vm_is_forgotten_only_without_a_machine() {
    let mut hand = Hand::new(4096);
    let vm = calm(&mut hand);
    hand.send(vm, Event::Forgotten);
    assert_eq!(hand.state(vm), VmState::Running);
    hand.send(vm, crash());
    assert_eq!(hand.state(vm), VmState::Failed);
    hand.send(vm, Event::Forgotten);
    assert_eq!(hand.engine.vm_snapshot(hand.now, vm), None);
    hand.send(vm, Event::Defined { name: "next".to_owned(), settings: settings(128, 512, 512) });
    assert_eq!(hand.vm(vm).name, "next", "its number can be used again");
}

#[test]
fn news_of_a_launch_that_was_not_asked_changes_nothing() {
    let mut hand = Hand::new(1024);
    let running = hand.running(settings(128, 1024, 1024), 40);
    let waiting = hand.starting(settings(128, 512, 2048));
    assert_eq!(hand.state(waiting), VmState::Starting);
    for vm in [running, waiting] {
        let before = hand.vm(vm);
        assert_eq!(hand.launched(vm), []);
        assert_eq!(hand.vm(vm), before);
    }
    assert_eq!(hand.send(running, Event::LaunchFailed("late".to_owned())), []);
    assert_eq!(hand.state(running), VmState::Running);
}

#[test]
fn a_failed_launch_is_told_and_its_memory_is_free_for_the_next() {
    let mut hand = Hand::new(768);
    let vm = hand.starting(settings(128, 512, 2048));
    assert_eq!(hand.vm(vm).charge, mib(512));
    hand.after(10);
    let effects = hand.send(vm, Event::LaunchFailed("QEMU said no".to_owned()));
    assert_eq!(told(&effects, NoticeKind::Failed), ["Can't start vm0: QEMU said no"]);
    let refusal = Refusal::LaunchFailed { name: "vm0".to_owned(), reason: "QEMU said no".to_owned() };
    assert_eq!(deeds(effects), [Effect::Refused(vm, Box::new(refusal))]);
    assert_eq!((hand.state(vm), hand.vm(vm).charge), (VmState::Failed, Bytes::ZERO));
    let next = hand.starting(settings(128, 512, 2048));
    assert_eq!(hand.vm(next).charge, mib(512));
}

#[test]
fn a_found_machine_says_why_it_waits_and_needs_no_start() {
    let mut hand = Hand::new(1024);
    hand.running(settings(128, 1024, 1024), 40);
    let [found, waiting] = [0, 1].map(|_| hand.starting(settings(128, 256, 256)));
    let paused = hand.define(settings(128, 256, 256));
    for (vm, is_paused) in [(found, false), (paused, true)] {
        let devices = hand.devices(vm, mib(256));
        let effects = hand.send(vm, Event::Adopted { devices, paused: is_paused, known: true, paging: None });
        assert_eq!(deeds(effects)[0], order(vm, 256, 256), "an order of the last daemon ends here");
        assert_eq!(hand.state(vm), if is_paused { VmState::Paused } else { VmState::Booting });
        assert_eq!(hand.vm(vm).reason.is_none(), is_paused);
    }
    let before = hand.vm(found);
    let devices = hand.devices(found, mib(128));
    assert_eq!(
        hand.send(found, Event::Adopted { devices, paused: true, known: true, paging: None }),
        [],
        "it is known"
    );
    assert_eq!(hand.vm(found), before);
    hand.send(VmId(0), Event::Exited(Exit::Clean));
    assert_eq!(deeds(hand.after(10)), [Effect::Launch(waiting)], "and no second machine of the one that was found");
    assert_eq!((hand.vm(found).charge, hand.vm(waiting).charge), (mib(256), mib(256)));
}

#[test]
fn a_stop_presses_the_button_where_a_guest_can_feel_it() {
    type Case = (fn(&mut Hand) -> VmId, Event, fn(VmId) -> Vec<Effect>);
    let starting = |hand: &mut Hand| hand.starting(settings(128, 512, 2048));
    let cases: [Case; 8] = [
        (calm, STOP_IN_5_S, |vm| vec![Effect::PowerDown(vm)]),
        (calm, STOP, |vm| vec![Effect::Kill(vm)]),
        (paused, STOP_IN_5_S, |vm| vec![Effect::Kill(vm)]),
        (paused, STOP, |vm| vec![Effect::Kill(vm)]),
        (held, STOP_IN_5_S, |vm| vec![Effect::Kill(vm)]),
        (held, STOP, |vm| vec![Effect::Kill(vm)]),
        (starting, STOP_IN_5_S, |_| Vec::new()),
        (starting, STOP, |_| Vec::new()),
    ];
    for (number, (situation, stop, expected)) in cases.into_iter().enumerate() {
        let mut hand = Hand::new(4096);
        let vm = situation(&mut hand);
        assert_eq!(deeds(hand.send(vm, stop)), expected(vm), "case {number}");
        assert_eq!(hand.state(vm), VmState::Stopping, "case {number}");
    }
}

#[test]
fn a_machine_that_comes_up_after_its_stop_is_ended_and_again_when_patience_ends() {
    let mut hand = Hand::new(4096);
    let vm = hand.starting(settings(128, 512, 2048));
    hand.send(vm, STOP_IN_5_S);
    assert_eq!(deeds(hand.launched(vm)), [Effect::Kill(vm)]);
    assert_eq!(hand.state(vm), VmState::Stopping);
    assert_eq!(hand.after(4_999), []);
    assert_eq!(hand.after(1_000), [Effect::Kill(vm)]);
    assert_eq!(hand.after(10_000), [], "once");
}

#[test]
fn the_stop_of_one_waiting_start_leaves_the_others_in_line() {
    let mut hand = Hand::new(1024);
    let fat = hand.running(settings(128, 1024, 1024), 40);
    let [first, second] = [0, 1].map(|_| hand.starting(settings(128, 256, 512)));
    let effects = hand.send(first, STOP);
    assert_eq!(effects, [Effect::Refused(first, Box::new(Refusal::Cancelled { name: "vm1".to_owned() }))]);
    hand.after(100);
    assert_eq!(deeds(hand.holds(fat, 600)), [Effect::Launch(second)]);
}

#[test]
fn a_restart_asks_the_guest_first_if_it_may_take_its_time() {
    let mut hand = Hand::new(4096);
    let [vm, other] = [0, 1].map(|_| calm(&mut hand));
    let paused = paused(&mut hand);
    assert_eq!(hand.send(vm, RESTART_IN_5_S), [Effect::PowerDown(vm)]);
    assert_eq!(hand.send(other, RESTART), [Effect::HoldForReset(other)]);
    assert_eq!(hand.send(paused, RESTART_IN_5_S), [Effect::HoldForReset(paused)]);
    assert_eq!(deeds(hand.after(4_999)), []);
    assert_eq!(deeds(hand.after(1_000)), [Effect::HoldForReset(vm)], "patience has ended");
    assert_eq!(deeds(hand.after(10_000)), [], "once");
}

#[test]
fn a_reset_is_told_and_keeps_what_was_counted() {
    let mut hand = Hand::new(4096);
    let vm = hand.running(settings(128, 512, 2048), 600);
    hand.holds(vm, 740);
    hand.after(1_000);
    hand.after(10);
    let before = hand.vm(vm);
    let effects = hand.send(vm, Event::ResetHeld);
    assert_eq!(told(&effects, NoticeKind::Restarting), ["vm0 restarts: it needs 512MiB to boot"]);
    assert_eq!(deeds(effects), [order(vm, 512, 512), Effect::ContinueReset(vm)]);
    let after = hand.vm(vm);
    assert_eq!((after.state, after.report, after.demand), (VmState::Booting, None, Bytes::ZERO));
    assert_eq!((after.counters, after.high_water), (before.counters, before.high_water));
    assert!(!after.counters.added.is_zero() && !after.high_water.is_zero());
}

#[test]
fn a_reset_told_again_while_it_waits_is_the_same() {
    let mut hand = Hand::new(4096);
    let vm = held(&mut hand);
    assert_eq!(hand.send(vm, Event::ResetHeld), []);
    assert_eq!(hand.send(vm, Event::PoweredOff), []);
    assert_eq!(hand.state(vm), VmState::Starting);
}

#[test]
fn a_guest_that_shuts_down_is_ended_or_reset_as_was_asked() {
    let mut hand = Hand::new(4096);
    let [vm, restarting, stopping] = [0, 1, 2].map(|_| calm(&mut hand));
    assert_eq!(hand.send(vm, Event::PoweredOff), [Effect::Kill(vm)]);
    assert_eq!(hand.state(vm), VmState::Stopping);
    hand.send(restarting, RESTART_IN_5_S);
    let effects = hand.send(restarting, Event::PoweredOff);
    assert_eq!(told(&effects, NoticeKind::Restarting).len(), 1);
    hand.send(stopping, STOP_IN_5_S);
    assert_eq!(hand.send(stopping, Event::ResetHeld), [Effect::Kill(stopping)], "it is not to come back");
}

#[test]
fn a_restart_that_was_turned_into_a_stop_does_not_reset() {
    let mut hand = Hand::new(4096);
    let vm = calm(&mut hand);
    hand.send(vm, RESTART_IN_5_S);
    hand.send(vm, STOP_IN_5_S);
    assert_eq!(hand.send(vm, Event::PoweredOff), [Effect::Kill(vm)]);
}

#[test]
fn pause_and_resume_are_asked_and_believed_when_told() {
    let mut hand = Hand::new(4096);
    let (spoken, booting) = (calm(&mut hand), hand.booting(settings(128, 512, 2048)));
    for (vm, state) in [(spoken, VmState::Running), (booting, VmState::Booting)] {
        assert_eq!(hand.send(vm, Event::Resumed), [], "it never stood still");
        assert_eq!(hand.send(vm, Event::Pause), [Effect::Pause(vm)]);
        assert_eq!(hand.state(vm), state);
        hand.send(vm, Event::Paused);
        assert_eq!(hand.state(vm), VmState::Paused);
        assert_eq!(hand.send(vm, Event::Resume), [Effect::Resume(vm)]);
        assert_eq!(hand.state(vm), VmState::Paused);
        hand.send(vm, Event::Resumed);
        assert_eq!(hand.state(vm), state);
    }
}

#[test]
fn a_machine_that_ends_is_failed_only_if_nobody_asked() {
    let ends: [(Option<Event>, Event, VmState, NoticeKind, &str); 3] = [
        (None, crash(), VmState::Failed, NoticeKind::Failed, "vm0 failed: signal 11"),
        (None, Event::Exited(Exit::Clean), VmState::Off, NoticeKind::Stopped, "vm0 stopped"),
        (Some(STOP), crash(), VmState::Off, NoticeKind::Stopped, "vm0 stopped"),
    ];
    for (asked, exit, state, kind, sentence) in ends {
        let mut hand = Hand::new(4096);
        let vm = calm(&mut hand);
        if let Some(event) = asked {
            hand.send(vm, event);
        }
        let effects = hand.send(vm, exit);
        assert_eq!((told(&effects, kind), hand.state(vm)), (vec![sentence], state));
        assert_eq!(hand.vm(vm).reason.as_deref(), (state == VmState::Failed).then_some(sentence));
        assert_eq!(hand.send(vm, crash()), [], "once");
    }
}

#[test]
fn a_guest_is_silent_after_15_seconds_and_that_is_told_once() {
    let mut hand = Hand::new(4096);
    let (paused, vm) = (paused(&mut hand), calm(&mut hand));
    assert_eq!(told(&hand.after(14_000), NoticeKind::Silent), [""; 0]);
    assert_eq!(told(&hand.after(999), NoticeKind::Silent), [""; 0]);
    assert_eq!(hand.vm(vm).driver, DriverSnapshot::Working);
    let sentence = "vm1 has stopped reporting; it keeps what it holds, 512MiB, until it reports again";
    assert_eq!(told(&hand.after(1), NoticeKind::Silent), [sentence]);
    assert_eq!(hand.vm(vm).driver, DriverSnapshot::Silent { for_ms: 15_000 });
    assert_eq!(told(&hand.after(60_000), NoticeKind::Silent), [""; 0]);
    hand.send(paused, Event::Resumed);
    assert_eq!(told(&hand.after(14_000), NoticeKind::Silent), [""; 0], "it could not speak while it stood still");
    assert_eq!(told(&hand.reports(vm, 40), NoticeKind::Recovered), ["vm1 reports again"]);
    assert_eq!(told(&hand.reports(vm, 40), NoticeKind::Recovered), [""; 0]);
}

#[test]
fn a_report_before_the_launch_is_over_is_not_believed() {
    let mut hand = Hand::new(4096);
    let vm = hand.starting(settings(128, 512, 2048));
    assert_eq!(hand.reports(vm, 40), []);
    assert_eq!((hand.vm(vm).report, hand.state(vm)), (None, VmState::Starting));
}
