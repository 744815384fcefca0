//! What the guests lived through, in numbers.
//!
//! Everything is taken from the world's truth (what programs needed, what the
//! machine held), never from what a policy believes.

use dynmem_core::{Claim, share};
use dynmem_units::Bytes;
use serde::Serialize;

use crate::world::{SimVm, World};

/// The score of one policy in one plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Memory needed and not held, over all VMs. GiB·s.
    pub unmet_gib_seconds: f64,
    /// The same of the VM that had it worst.
    pub worst_vm_gib_seconds: f64,
    /// Longest time in which one VM needed more than it held. Seconds.
    pub surge_seconds: f64,
    /// Time lost by guests waiting for memory. Seconds.
    pub stall_seconds: f64,
    /// Programs killed for want of memory.
    pub oom_kills: u64,
    /// Memory moved, both ways, for each VM and hour. GiB.
    pub moved_gib_per_vm_hour: f64,
    /// Orders that changed something, for each VM and hour.
    pub operations_per_vm_hour: f64,
    /// Orders that changed something, in all.
    pub operations: u64,
    /// Orders that turned a VM's direction within a minute.
    pub reversals: u64,
    /// At the end: the largest distance from exact weighted max-min between
    /// minimum and need, in blocks, where not everybody can have what they need.
    pub fairness_error_blocks: u64,
    /// The least memory of the host that no machine held. GiB.
    pub lowest_free_gib: f64,
    /// Memory moved in a minute, in per cent of what VMs hold.
    pub moved_percent_per_minute: f64,
}

/// Collects a score, step by step.
#[derive(Debug, Default)]
pub struct Scorer {
    /// Bytes × milliseconds of each VM.
    unmet: Vec<u128>,
    /// For how long each VM has been short, in milliseconds.
    short_ms: Vec<u64>,
    longest_short_ms: u64,
    stalled_ms: u64,
    oom_kills: u64,
    running_ms: u64,
    held_byte_ms: u128,
    lowest_free: Option<Bytes>,
    /// Orders, reversals and moved memory when counting began.
    before: Option<(u64, u64, u64)>,
    length_ms: u64,
}

impl Scorer {
    /// Looks at the step of `millis` that the world has just done.
    pub fn observe(&mut self, world: &World, millis: u64) {
        let vms = world.vms();
        self.unmet.resize(vms.len(), 0);
        self.short_ms.resize(vms.len(), 0);
        self.before.get_or_insert_with(|| tallies(vms));
        self.length_ms += millis;
        for (index, vm) in vms.iter().enumerate() {
            let lived = vm.lived;
            let short = if lived.running { lived.needed.saturating_sub(lived.held) } else { Bytes::ZERO };
            self.unmet[index] += u128::from(short.get()) * u128::from(millis);
            self.short_ms[index] = if short.is_zero() { 0 } else { self.short_ms[index] + millis };
            self.longest_short_ms = self.longest_short_ms.max(self.short_ms[index]);
            self.stalled_ms += lived.stalled_ms;
            self.oom_kills += u64::from(lived.oom);
            self.running_ms += if lived.running { millis } else { 0 };
            self.held_byte_ms += u128::from(lived.held.get()) * u128::from(millis);
        }
        let free = world.free();
        self.lowest_free = Some(self.lowest_free.map_or(free, |lowest| lowest.min(free)));
    }

    /// True while nobody has lacked a byte.
    pub fn all_met(&self) -> bool {
        self.unmet.iter().all(|unmet| *unmet == 0)
    }

    /// The score so far; `world` is the one that was observed.
    #[expect(clippy::cast_precision_loss, reason = "figures for people, of sizes far below 2^52")]
    pub fn score(&self, world: &World) -> Score {
        let gib_seconds = |byte_ms: u128| byte_ms as f64 / Bytes::GIB.get() as f64 / 1000.0;
        let vm_hours = (self.running_ms as f64 / 3_600_000.0).max(f64::MIN_POSITIVE);
        let (operations, reversals, moved) = tallies(world.vms());
        let before = self.before.unwrap_or_default();
        let (operations, reversals, moved) = (operations - before.0, reversals - before.1, moved - before.2);
        let minutes = self.length_ms as f64 / 60_000.0;
        let held = self.held_byte_ms as f64 / self.length_ms.max(1) as f64;
        Score {
            unmet_gib_seconds: gib_seconds(self.unmet.iter().sum()),
            worst_vm_gib_seconds: gib_seconds(self.unmet.iter().copied().max().unwrap_or(0)),
            surge_seconds: self.longest_short_ms as f64 / 1000.0,
            stall_seconds: self.stalled_ms as f64 / 1000.0,
            oom_kills: self.oom_kills,
            moved_gib_per_vm_hour: moved as f64 / Bytes::GIB.get() as f64 / vm_hours,
            operations_per_vm_hour: operations as f64 / vm_hours,
            operations,
            reversals,
            fairness_error_blocks: fairness_error_blocks(world),
            lowest_free_gib: self.lowest_free.unwrap_or_default().get() as f64 / Bytes::GIB.get() as f64,
            moved_percent_per_minute: if held > 0.0 && minutes > 0.0 {
                100.0 * moved as f64 / held / minutes
            } else {
                0.0
            },
        }
    }
}

/// Orders, reversals and bytes moved, of all VMs.
fn tallies(vms: &[SimVm]) -> (u64, u64, u64) {
    vms.iter().fold((0, 0, 0), |(operations, reversals, moved), vm| {
        (operations + vm.tally.operations, reversals + vm.tally.reversals, moved + vm.tally.moved.get())
    })
}

/// How far the running VMs are from exact weighted max-min between minimum and
/// need, in blocks; zero if all needs fit.
pub fn fairness_error_blocks(world: &World) -> u64 {
    let running: Vec<&SimVm> = world.vms().iter().filter(|vm| vm.lived.running).collect();
    let blocks = |bytes: Bytes| bytes.get() / Bytes::BLOCK.get();
    let others: Bytes = world.vms().iter().filter(|vm| !vm.lived.running).map(SimVm::charge).sum();
    let overhead: Bytes = running.iter().map(|vm| vm.plan.overhead).sum();
    let room = blocks(world.lendable().saturating_sub(others).saturating_sub(overhead));
    let needed = |vm: &SimVm| blocks(vm.lived.needed.align_up(Bytes::BLOCK).max(vm.plan.settings.minimum));
    if running.iter().map(|vm| needed(vm)).sum::<u64>() <= room {
        return 0;
    }
    let claim = |vm: &&SimVm| {
        let settings = &vm.plan.settings;
        Claim::new(u64::from(settings.weight.get()), blocks(settings.minimum), needed(vm))
    };
    let claims: Vec<Claim> = running.iter().map(claim).collect();
    let shares = share(room, &claims);
    running.iter().zip(shares).map(|(vm, share)| blocks(vm.lived.held).abs_diff(share)).max().unwrap_or(0)
}

/// Lives through the plan of `world` to its end and says how it was; `watch` is
/// called after each step that counts.
pub fn run(world: &mut World, mut watch: impl FnMut(&World)) -> Score {
    let (step_ms, warm_up_ms, length_ms) = (world.plan().step_ms, world.plan().warm_up_ms, world.plan().length_ms);
    let mut scorer = Scorer::default();
    while world.now_ms() < length_ms && world.broken().is_none() {
        world.step(step_ms);
        if world.now_ms() > warm_up_ms {
            scorer.observe(world, step_ms);
            watch(world);
        }
    }
    scorer.score(world)
}
