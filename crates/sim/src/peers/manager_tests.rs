//! The adapter by itself: starts, stops, restarts, and who waits for what.

use dynmem_core::{DeviceFacts, Effect, Event, Exit, HostConfig, Input, Instant, Refusal, VmId};
use dynmem_units::Bytes;

use super::{
    Peer,
    sample::{mib, report, settings},
};
use crate::policy::{Policy, Statistics};

const A: VmId = VmId(0);
const B: VmId = VmId(1);
const OVERHEAD: Bytes = mib(50);

/// A peer on a host that may lend 4000 MiB, with two VMs of 500–3000 MiB that
/// start with 1000.
struct Host {
    policy: Box<dyn Policy>,
    now: Instant,
}

impl Host {
    fn new(peer: Peer) -> Self {
        let policy = peer.policy(HostConfig { memory: mib(4_500), reserve: mib(500) });
        let mut host = Self { policy, now: Instant(0) };
        for (id, name) in [(A, "a"), (B, "b")] {
            host.send(id, Event::Defined { name: name.to_owned(), settings: settings(500, 1_000, 3_000) });
        }
        host
    }

    fn send(&mut self, id: VmId, event: Event) -> Vec<Effect> {
        self.policy.handle(self.now, Input::Vm(id, event))
    }

    fn start(&mut self, id: VmId) -> Vec<Effect> {
        self.send(id, Event::Start { overhead: OVERHEAD })
    }

    /// Time passes, with a tick whenever one is wanted.
    fn wait(&mut self, millis: u64) -> Vec<Effect> {
        let end = self.now.plus_millis(millis);
        let mut effects = Vec::new();
        while self.policy.deadline() <= end {
            self.now = self.now.max(self.policy.deadline());
            effects.extend(self.policy.handle(self.now, Input::Tick));
        }
        self.now = end;
        effects
    }

    fn devices(&self, held: u64) -> DeviceFacts {
        let shape = self.policy.machine(&settings(500, 1_000, 3_000));
        let balloon_actual = mib(held).min(shape.boot);
        DeviceFacts {
            boot: shape.boot,
            balloon_actual,
            plugged: mib(held).saturating_sub(balloon_actual),
            plug_max: shape.plug_max,
            plug_block: Bytes::BLOCK,
            overhead: OVERHEAD,
        }
    }

    /// A machine that runs, holds `held` and uses `used` of it.
    fn running(&mut self, id: VmId, held: u64, used: u64) -> Vec<Effect> {
        self.send(id, Event::Adopted { devices: self.devices(held), paused: false, known: true, paging: None });
        self.says(id, held, used)
    }

    fn says(&mut self, id: VmId, held: u64, used: u64) -> Vec<Effect> {
        let devices = self.devices(held);
        let mut effects = self.send(id, Event::Devices(devices));
        let free = mib(held - used);
        self.policy.statistics(id, Statistics { free, cached: Bytes::ZERO, active: mib(used) });
        effects.extend(self.send(id, Event::Report(report(mib(held), free))));
        effects
    }
}

fn orders(effects: &[Effect]) -> Vec<(VmId, u64, u64)> {
    let order = |effect: &Effect| match effect {
        Effect::Order { vm, balloon, plugged } => Some((*vm, balloon.mib(), plugged.mib())),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}

#[test]
fn a_start_that_fits_is_launched_at_once_by_everybody() {
    for peer in Peer::ALL {
        let mut host = Host::new(peer);
        assert_eq!(host.start(A), [Effect::Launch(A)], "{}", peer.name());
        let devices = host.devices(1_000);
        assert!(matches!(host.send(B, Event::Launched(devices))[..], []), "{}: b was not asked for", peer.name());
    }
}

/// 4000 to lend; a holds 2900 and 50. For b 1050 are needed and 1050 are
/// there; with a at 2902 they are not.
#[test]
fn a_start_needs_its_startup_memory_and_overhead() {
    for (held, fits) in [(2_900, true), (2_902, false)] {
        let mut host = Host::new(Peer::Mom);
        host.running(A, held, 100);
        assert_eq!(host.start(B).contains(&Effect::Launch(B)), fits);
    }
}

/// What is launched counts although no machine has been seen yet.
#[test]
fn two_starts_are_not_let_in_on_the_same_memory() {
    let mut host = Host::new(Peer::Mom);
    for id in [2, 3] {
        let settings = settings(500, 2_000, 3_000);
        host.send(VmId(id), Event::Defined { name: "large".to_owned(), settings });
    }
    assert_eq!(host.start(VmId(2)), [Effect::Launch(VmId(2))]);
    assert_eq!(host.start(VmId(3)), []);
}

/// a holds 2850 and has been ordered to grow to 3000: of 4000 only 950 are
/// nobody's, although 1100 are held by nobody.
#[test]
fn memory_that_was_given_and_has_not_arrived_is_taken() {
    let mut host = Host::new(Peer::Mom);
    host.running(A, 2_850, 2_700);
    assert_eq!(orders(&host.wait(10_000)).last(), Some(&(A, 3_000, 0)));
    assert_eq!(host.start(B), []);
}

#[test]
fn a_start_that_does_not_fit_is_tried_again_each_period_and_refused_after_two_minutes() {
    let mut host = Host::new(Peer::Proxmox);
    host.running(A, 3_000, 2_900);
    assert_eq!(host.start(B), []);
    host.wait(50_000);
    host.send(A, Event::Exited(Exit::Clean));
    assert!(host.wait(10_000).contains(&Effect::Launch(B)), "the memory came back");

    let mut host = Host::new(Peer::Proxmox);
    host.running(A, 3_000, 2_900);
    host.start(B);
    let refused = |effects: &[Effect]| {
        let no_memory = |effect: &Effect| matches!(effect, Effect::Refused(B, refusal) if matches!(**refusal, Refusal::NotEnoughMemory { .. }));
        effects.iter().any(no_memory)
    };
    assert!(!refused(&host.wait(119_000)));
    assert!(refused(&host.wait(11_000)));
    assert!(host.start(B).is_empty(), "it may be asked again");
}

#[test]
fn a_start_that_waits_can_be_cancelled() {
    let mut host = Host::new(Peer::Mom);
    host.running(A, 3_000, 100);
    host.start(B);
    let cancelled = Effect::Refused(B, Box::new(Refusal::Cancelled { name: "b".to_owned() }));
    assert_eq!(host.send(B, Event::Stop { grace_ms: None }), [cancelled]);
    host.send(A, Event::Exited(Exit::Clean));
    assert!(!host.wait(20_000).contains(&Effect::Launch(B)));
}

/// a holds 3000 and needs little; 950 are left, and b needs 1050: those who
/// make room take it from a, and start b when it is there.
#[test]
fn those_who_make_room_do_and_the_others_do_not() {
    for peer in [Peer::Squeezed, Peer::Qmemman, Peer::HyperV] {
        let mut host = Host::new(peer);
        host.running(A, 3_000, 100);
        let mut effects = host.start(B);
        effects.extend(host.wait(1_000));
        let (id, balloon, plugged) = *orders(&effects).last().expect("an order");
        assert!(id == A && balloon + plugged < 2_901, "{}: {balloon} + {plugged}", peer.name());
        assert!(!effects.contains(&Effect::Launch(B)), "{}: nothing is there yet", peer.name());
        effects = host.says(A, balloon + plugged, 100);
        effects.extend(host.wait(2_000));
        assert!(effects.contains(&Effect::Launch(B)), "{}: {effects:?}", peer.name());
    }
    for peer in [Peer::Static, Peer::Mom, Peer::Proxmox] {
        let mut host = Host::new(peer);
        host.running(A, 3_000, 100);
        host.start(B);
        let effects = host.wait(30_000);
        assert!(!effects.contains(&Effect::Launch(B)), "{}", peer.name());
    }
}

/// 4000 − 2 × 50 = 3900 for maximums of 3000 each: 1950.
#[test]
fn static_vms_get_their_size_once() {
    let mut host = Host::new(Peer::Static);
    host.start(A);
    let devices = host.devices(1_000);
    assert_eq!(orders(&host.send(A, Event::Launched(devices))), [(A, 1_950, 0)]);
    host.says(A, 1_950, 1_900);
    assert_eq!(orders(&host.wait(60_000)), []);
    assert!(host.start(B).contains(&Effect::Launch(B)), "and both fit");
}

/// 1400 are committed, and the driver's floor for 1500 is 104 + 187.5: demand
/// 1691.5, and 2029.8 with the buffer; in whole blocks 2030. Boot memory is
/// 1000, the rest is hot-added.
#[test]
fn hyper_v_hot_adds_above_startup() {
    let mut host = Host::new(Peer::HyperV);
    host.running(A, 1_000, 900);
    let devices = host.devices(1_000);
    let busy = dynmem_core::GuestReport { committed: Some(mib(1_400)), ..report(mib(1_500), mib(100)) };
    host.send(A, Event::Devices(devices));
    host.send(A, Event::Report(busy));
    assert_eq!(orders(&host.wait(1_000)), [(A, 1_000, 1_030)]);
}

#[test]
fn a_shutdown_ends_the_machine_and_one_for_a_restart_resets_it() {
    let mut host = Host::new(Peer::Mom);
    host.running(A, 1_000, 900);
    assert_eq!(host.send(A, Event::Stop { grace_ms: Some(5_000) }), [Effect::PowerDown(A)]);
    assert_eq!(host.send(A, Event::PoweredOff), [Effect::Kill(A)]);

    let mut host = Host::new(Peer::Mom);
    host.running(A, 1_200, 900);
    assert_eq!(host.send(A, Event::Restart { grace_ms: Some(5_000) }), [Effect::PowerDown(A)]);
    let boots = Effect::Order { vm: A, balloon: mib(1_000), plugged: Bytes::ZERO };
    assert_eq!(host.send(A, Event::PoweredOff), [Effect::ContinueReset(A), boots]);
}

#[test]
fn a_guest_that_does_not_answer_is_forced() {
    let mut host = Host::new(Peer::Proxmox);
    host.running(A, 1_000, 900);
    host.send(A, Event::Stop { grace_ms: Some(5_000) });
    assert!(!host.wait(4_999).contains(&Effect::Kill(A)));
    assert!(host.wait(1).contains(&Effect::Kill(A)));
}

/// a holds 600 and boots with 1000: on a host that is full, squeezed takes the
/// 400 from b first. MOM, which knows of no resets, lets it go on at once.
#[test]
fn a_reset_waits_for_its_memory_where_a_start_would() {
    let mut host = Host::new(Peer::Squeezed);
    host.running(A, 600, 500);
    host.running(B, 3_000, 100);
    let mut effects = host.send(A, Event::ResetHeld);
    effects.extend(host.wait(1_000));
    assert!(!effects.contains(&Effect::ContinueReset(A)));
    host.says(B, 2_700, 100);
    assert!(host.wait(1_000).contains(&Effect::ContinueReset(A)));

    let mut host = Host::new(Peer::Mom);
    host.running(A, 600, 500);
    host.running(B, 3_000, 100);
    assert!(host.send(A, Event::ResetHeld).contains(&Effect::ContinueReset(A)));
}

#[test]
fn a_paused_guest_is_left_alone() {
    let mut host = Host::new(Peer::Mom);
    host.running(A, 1_000, 900);
    assert_eq!(host.send(A, Event::Pause), [Effect::Pause(A)]);
    host.send(A, Event::Paused);
    assert_eq!(orders(&host.wait(60_000)), []);
    assert_eq!(host.send(A, Event::Resume), [Effect::Resume(A)]);
    host.send(A, Event::Resumed);
    assert_eq!(orders(&host.wait(10_000)), [(A, 1_100, 0)], "20 % of its 1000 beside the 900 that it uses");
}

#[test]
fn a_restarted_manager_knows_nothing_and_learns_it_again() {
    let mut host = Host::new(Peer::Mom);
    host.running(A, 1_000, 900);
    host.policy.restart();
    assert_eq!(orders(&host.wait(60_000)), []);
    host.send(A, Event::Defined { name: "a".to_owned(), settings: settings(500, 1_000, 3_000) });
    host.running(A, 1_000, 900);
    assert_eq!(orders(&host.wait(10_000)).first(), Some(&(A, 1_100, 0)));
}
