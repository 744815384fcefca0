//! A guest that claims more than its due takes no other guest's demand beyond
//! its weight, whatever it says: huge, zero, contradictory, something else each
//! time.
//!
//! The measure is what the honest would have if each liar honestly wanted all
//! of its maximum: their weighted max-min share, and never less than minimum.
//! The invariants are checked by the [`world`] at every single step.

mod world;

use dynmem_core::{Claim, DemandModel, GuestReport, MemorySettings, ReportSource, VmId, VmState, share};
use dynmem_units::{Bytes, Percent, Weight};
use proptest::prelude::*;
use world::{KERNEL, OVERHEAD, World, cases::cases, mib, settings};

/// A guest, and what it says from time to time if it is a liar.
#[derive(Clone, Debug)]
struct Cast {
    settings: MemorySettings,
    /// Memory that its programs use, in the end.
    used: u64,
    /// None for an honest one.
    lies: Vec<GuestReport>,
}

fn amount() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::ZERO),
        2 => (0..8_192_u64).prop_map(mib),
        1 => any::<u64>().prop_map(Bytes::new),
        1 => Just(Bytes::MAX),
    ]
}

fn lie() -> impl Strategy<Value = GuestReport> {
    let sizes = (amount(), amount(), amount(), amount(), amount());
    let unsure = (prop::option::of(amount()), prop::option::of(amount()), prop::option::of(amount()));
    (sizes, unsure, amount(), 0..20_000_u32, prop::bool::weighted(0.9)).prop_map(
        |(
            (visible, available, hot_file, swap_total, swap_used),
            (committed, reserved, ballooned),
            rate,
            stall,
            agent,
        )| {
            GuestReport {
                source: if agent { ReportSource::Agent } else { ReportSource::Balloon },
                visible,
                available,
                committed,
                hot_file,
                reserved,
                ballooned,
                swap_total,
                swap_used,
                swap_in_per_second: rate,
                refault_per_second: rate,
                stall,
            }
        },
    )
}

fn cast(lies: impl Strategy<Value = Vec<GuestReport>>) -> impl Strategy<Value = Cast> {
    let sizes = (32..=128_u64, 0..=256_u64, 0..=2_048_u64);
    (sizes, 1..=10_000_u64, 5..=100_u32, any::<bool>(), 0..3_000_u64, lies).prop_map(
        |((minimum, startup, maximum), weight, buffer, commits, used, lies)| {
            let [minimum, startup, maximum] =
                [minimum, minimum + startup, minimum + startup + maximum].map(|blocks| 2 * blocks);
            let settings = MemorySettings {
                weight: Weight::new(weight).expect("in range"),
                buffer: Percent::new(buffer),
                demand_model: if commits { DemandModel::Committed } else { DemandModel::WorkingSet },
                ..settings(minimum, startup, maximum)
            };
            Cast { settings, used, lies }
        },
    )
}

/// Some honest guests and at least one liar, in any order.
fn company() -> impl Strategy<Value = Vec<Cast>> {
    let honest = prop::collection::vec(cast(Just(Vec::new())), 1..6);
    let liars = prop::collection::vec(cast(prop::collection::vec(lie(), 1..8)), 1..4);
    (honest, liars).prop_map(|(honest, liars)| [honest, liars].concat()).prop_shuffle()
}

/// What each should have of `memory` at least, if each liar wanted everything.
fn due(company: &[Cast], memory: Bytes) -> Vec<Bytes> {
    let blocks = |bytes: Bytes| bytes.get() / Bytes::BLOCK.get();
    let claim = |cast: &Cast| {
        let MemorySettings { minimum, maximum, weight, .. } = cast.settings;
        let needs = mib(cast.used).saturating_add(KERNEL).align_up(Bytes::BLOCK).clamp(minimum, maximum);
        let ceiling = if cast.lies.is_empty() { needs } else { maximum };
        Claim::new(u64::from(weight.get()), blocks(minimum), blocks(ceiling))
    };
    let overheads = OVERHEAD.scale(company.len() as u64, 1);
    let shares = share(blocks(memory.saturating_sub(overheads)), &company.iter().map(claim).collect::<Vec<_>>());
    shares.into_iter().map(|share| Bytes::BLOCK.scale(share, 1)).collect()
}

/// Starts them all on a host that has `spare` MiB besides, lets the liars lie
/// and everybody need what it needs, and lets two minutes pass.
fn play(company: &[Cast], spare: u64) -> (World, Bytes) {
    let starts: Bytes = company.iter().map(|cast| cast.settings.startup.saturating_add(OVERHEAD)).sum();
    let memory = starts.saturating_add(mib(spare)).align_up(Bytes::BLOCK);
    let mut world = World::new(memory, Bytes::ZERO);
    for cast in company {
        let id = world.running(cast.settings.clone(), 10);
        // A stall would claim more than is needed, and all claims are given here.
        world.guest_mut(id).swaps = true;
    }
    for turn in 0..60 {
        for (id, cast) in (0_u32..).map(VmId).zip(company) {
            if turn == 20 {
                world.guest_mut(id).used = mib(cast.used);
            }
            world.guest_mut(id).lies = cast.lies.get(turn % cast.lies.len().max(1)).cloned();
        }
        world.advance(2_000);
    }
    (world, memory)
}

proptest! {
    #![proptest_config(cases("tests/liars.proptest-regressions"))]

    #[test]
    fn whatever_liars_say_the_honest_have_their_share(company in company(), spare in 0..2_048_u64) {
        let (world, memory) = play(&company, spare);
        for ((id, cast), due) in (0_u32..).map(VmId).zip(&company).zip(due(&company, memory)) {
            let vm = world.vm(id);
            prop_assert_eq!(vm.state, VmState::Running, "{}", vm.name);
            prop_assert!(vm.assigned >= cast.settings.minimum, "{} is below its minimum: {}", vm.name, vm.assigned);
            prop_assert!(vm.assigned <= cast.settings.maximum, "{} is above its maximum: {}", vm.name, vm.assigned);
            // Whole blocks are left over to other ones than here.
            let has = vm.assigned.saturating_add(Bytes::BLOCK);
            prop_assert!(
                !cast.lies.is_empty() || has >= due,
                "{} has {} of the {due} that are due to it, with a demand of {}", vm.name, vm.assigned, vm.demand
            );
        }
    }
}
