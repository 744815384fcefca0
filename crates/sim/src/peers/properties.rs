//! What holds for every peer whatever happens: no order of events makes one
//! panic, and targets stay within bounds where the original keeps them.

use dynmem_core::{
    DeviceFacts, Effect, Event, Exit, GuestReport, HostConfig, HostFacts, Input, Instant, MemorySettings, VmId,
};
use dynmem_units::{Bytes, Percent, Weight};
use proptest::prelude::*;

use super::{
    Peer, VmView,
    sample::{host, mib, report},
};
use crate::policy::Statistics;

/// Any size: mostly plausible, sometimes absurd.
fn size() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => (0..20_000_u64).prop_map(mib),
        2 => any::<u32>().prop_map(|bytes| Bytes::new(u64::from(bytes))),
        1 => Just(Bytes::MAX),
    ]
}

fn any_settings() -> impl Strategy<Value = MemorySettings> {
    (prop::bool::weighted(0.8), [size(), size(), size()], 0..2_000_u32, 1..=10_000_u64).prop_map(
        |(dynamic, [minimum, startup, maximum], buffer, weight)| MemorySettings {
            dynamic,
            minimum,
            startup,
            maximum,
            buffer: Percent::new(buffer),
            weight: Weight::new(weight).expect("1..=10000"),
            ..MemorySettings::default()
        },
    )
}

fn any_devices() -> impl Strategy<Value = DeviceFacts> {
    [size(), size(), size(), size(), size()].prop_map(|[boot, balloon_actual, plugged, plug_max, overhead]| {
        DeviceFacts { boot, balloon_actual, plugged, plug_max, plug_block: Bytes::BLOCK, overhead }
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let grace = || prop::option::of(0..20_000_u64);
    let life = prop_oneof![
        any_settings().prop_map(|settings| Event::Defined { name: "vm".to_owned(), settings }),
        any_settings().prop_map(Event::Configured),
        grace().prop_map(|grace_ms| Event::Stop { grace_ms }),
        grace().prop_map(|grace_ms| Event::Restart { grace_ms }),
        (any_devices(), any::<bool>(), any::<bool>()).prop_map(|(devices, paused, known)| Event::Adopted {
            devices,
            paused,
            known,
            paging: None,
        }),
    ];
    let plain = prop::sample::select(vec![
        Event::Forgotten,
        Event::LaunchFailed("no".to_owned()),
        Event::ResetHeld,
        Event::PoweredOff,
        Event::Pause,
        Event::Resume,
        Event::Paused,
        Event::Resumed,
        Event::Exited(Exit::Clean),
        Event::Exited(Exit::Failed("gone".to_owned())),
    ]);
    prop_oneof![
        4 => life,
        5 => plain,
        3 => size().prop_map(|overhead| Event::Start { overhead }),
        3 => any_devices().prop_map(Event::Launched),
        4 => any_devices().prop_map(Event::Devices),
        6 => (size(), size(), size()).prop_map(|(visible, available, swap_used)| {
            Event::Report(GuestReport { swap_used, ..report(visible, available) })
        }),
    ]
}

/// An input, the milliseconds before it, and statistics that come with it.
fn any_step() -> impl Strategy<Value = (u64, Input, Statistics)> {
    let input = prop_oneof![
        12 => (0..4_u32, any_event()).prop_map(|(id, event)| Input::Vm(VmId(id), event)),
        2 => (size(), 0..10_000_u32).prop_map(|(available, stall)| Input::Host(HostFacts { available, stall, machines: None })),
        4 => Just(Input::Tick),
    ];
    let statistics = (size(), size(), size()).prop_map(|(free, cached, active)| Statistics { free, cached, active });
    (0..15_000_u64, input, statistics)
}

/// A running VM with ordered bounds, holding anything.
fn any_vm() -> impl Strategy<Value = VmView> {
    ([1..8_000_u64, 1..8_000, 0..9_000, 0..9_000, 0..9_000], 1..=10_000_u64, 0..300_u64).prop_map(
        |([a, b, held, used, committed], weight, active)| {
            let mut vm = super::sample::vm(0, a.min(b), a.max(b), held, used.min(held));
            vm.weight = weight;
            vm.report.committed = Some(mib(committed));
            vm.statistics.active = mib(active);
            vm
        },
    )
}

proptest! {
    #[test]
    fn no_order_of_events_makes_a_peer_panic(
        steps in prop::collection::vec(any_step(), 1..60),
        found in prop::collection::vec((any_settings(), any_devices(), size(), size()), 4),
    ) {
        for peer in Peer::ALL {
            let config = HostConfig { memory: mib(16_384), reserve: mib(864) };
            let mut policy = peer.policy(config);
            let mut now = Instant(0);
            for (id, (settings, devices, visible, available)) in (0..).zip(&found) {
                let defined = Event::Defined { name: format!("vm{id}"), settings: settings.clone() };
                let adopted = Event::Adopted { devices: *devices, paused: false, known: true, paging: None };
                for event in [defined, adopted, Event::Report(report(*visible, *available))] {
                    policy.handle(now, Input::Vm(VmId(id), event));
                }
            }
            for (wait, input, statistics) in &steps {
                now = now.plus_millis(*wait);
                if let Input::Vm(id, _) = input {
                    policy.statistics(*id, *statistics);
                }
                let effects = policy.handle(now, input.clone());
                let ordered = effects.iter().filter(|effect| matches!(effect, Effect::Order { .. })).count();
                prop_assert!(ordered <= 8, "{}: {ordered} orders for four VMs", peer.name());
                if *input == Input::Tick {
                    prop_assert!(policy.deadline() > now, "{}: a tick leads to the next at once", peer.name());
                }
            }
        }
    }

    /// All but Static, which has no bounds to keep, and qmemman, which has no
    /// minimum.
    #[test]
    fn targets_keep_the_bounds_that_their_originals_keep(
        mut vms in prop::collection::vec(any_vm(), 1..6),
        free in 0..9_000_u64,
        steps in 1..8_u64,
    ) {
        for (id, vm) in (0..).zip(&mut vms) {
            vm.id = VmId(id);
        }
        for peer in [Peer::Mom, Peer::Proxmox, Peer::Squeezed, Peer::HyperV, Peer::Esx] {
            let mut balancer = peer.balancer();
            let mut vms = vms.clone();
            for step in 0..steps {
                let before: Vec<_> = vms.iter().map(|vm| vm.held.max(vm.target)).collect();
                balancer.balance(Instant(step * 10_000), &host(16_384, free), &mut vms);
                for (vm, before) in vms.iter().zip(before) {
                    let grown = vm.target > before;
                    prop_assert!(!grown || vm.target <= vm.maximum, "{}: above maximum: {vm:?}", peer.name());
                    let shrunk = vm.target < before.min(vm.held);
                    prop_assert!(!shrunk || vm.target >= vm.minimum, "{}: below minimum: {vm:?}", peer.name());
                }
            }
        }
    }

    /// Those with a guard never promise more than is free.
    #[test]
    fn those_with_a_guard_never_promise_more_than_is_free(
        mut vms in prop::collection::vec(any_vm(), 1..6),
        free in 0..9_000_u64,
    ) {
        for (id, vm) in (0..).zip(&mut vms) {
            vm.id = VmId(id);
            vm.held = vm.held.max(vm.minimum);
            vm.target = vm.held;
        }
        for peer in [Peer::Squeezed, Peer::Qmemman, Peer::HyperV, Peer::Esx] {
            let mut balancer = peer.balancer();
            let mut vms = vms.clone();
            for step in 0..4 {
                balancer.balance(Instant(step * 1_000), &host(16_384, free), &mut vms);
                let promised: Bytes = vms.iter().map(|vm| vm.target.saturating_sub(vm.held)).sum();
                prop_assert!(promised <= mib(free), "{}: {promised} of {free} MiB", peer.name());
            }
        }
    }
}
