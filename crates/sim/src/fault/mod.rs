//! Lives: small hosts to which everything happens that may go wrong, at once.
//!
//! ```text
//! master seed + number ──▶ seed of a life
//! seed ──▶ a host (host) ──▶ storm: faults and requests, one after the other (storm)
//!                                   every invariant is looked at, at every step
//!                       ──▶ calm:  all is healed and demand stands still (calm)
//!                                   what is short is served; then nothing moves
//! ```
//! A life is a function of its seed: [`replay`] tells how one came to its end.
//! Each life has its own choice of things that happen in it ("swarm testing",
//! Groce et al. 2012): a fault that would mask another is absent in half of them.

mod calm;
mod host;
mod storm;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use self::storm::Storm;
use crate::{check::Broken, plan::HostPlan, policy::Dynmem, policy::Policy, world::World};

/// Lives that are lived side by side, and counted together: whatever the
/// number of cores, the same lives are lived.
const BATCH: u64 = 16;
/// What breaks at once in every life would never come to its steps.
const BROKEN_MAX: usize = 100;
/// One life in so many is lived twice, for invariant 9.
const TWICE: u64 = 16;
/// Lines of story that a replay tells.
const STORY_LINES: usize = 200;

/// How one life went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Steps in which a VM had a machine, over all of its VMs.
    pub vm_steps: u64,
    /// Of all that the engine did.
    pub digest: u64,
    /// The first invariant that did not hold.
    pub broken: Option<Broken>,
}

/// How many lives went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Over all lives.
    pub vm_steps: u64,
    /// How many there were.
    pub lives: u64,
    /// Those that broke an invariant: their seeds, for [`replay`].
    pub broken: Vec<(u64, Broken)>,
}

/// Lives the life of `seed` to its end, or to the first broken invariant.
pub fn live(seed: u64) -> Outcome {
    Life::new(seed, World::checked).end()
}

/// The same with another policy in the engine's place: `make` gets the plan
/// of the life. For tests of the checks.
pub fn live_under(seed: u64, make: impl FnOnce(&HostPlan) -> Box<dyn Policy>) -> Outcome {
    Life::under(seed, World::checked, make).end()
}

/// The same life again, and the last things that happened in it.
pub fn replay(seed: u64) -> (Outcome, String) {
    let mut life = Life::new(seed, |world| world.checked().telling(STORY_LINES));
    let outcome = life.end();
    let story = life.world.story().map(ToString::to_string).unwrap_or_default();
    (outcome, format!("{}{story}", host::tell(life.world.plan())))
}

/// The seed of the life of this number: the finalizer of `SplitMix64` (Steele,
/// Lea, Flood 2014).
pub fn seed_of_life(seed: u64, number: u64) -> u64 {
    let mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Lives one life after the other, on all cores, until at least `vm_steps` are
/// done, or a hundred lives have broken; one life in 16 twice, to see that it
/// goes the same way (these second lives are not counted).
pub fn live_many(seed: u64, vm_steps: u64) -> Report {
    let mut report = Report::default();
    while report.vm_steps < vm_steps && report.broken.len() < BROKEN_MAX {
        for outcome in batch(seed, report.lives) {
            report.lives += 1;
            report.vm_steps += outcome.vm_steps;
            report.broken.extend(outcome.broken.map(|broken| (outcome.seed, broken)));
        }
    }
    report
}

/// The lives numbered `first` to `first + BATCH`, in their order.
fn batch(seed: u64, first: u64) -> Vec<Outcome> {
    let seeds: Vec<u64> = (first..first + BATCH).map(|number| seed_of_life(seed, number)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut lived = Vec::new();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            lived.push(live_and_compare(*seed));
        }
        lived
    };
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut outcomes: Vec<Outcome> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a life catches its panics")).collect()
    });
    outcomes.sort_by_key(|outcome| seeds.iter().position(|seed| *seed == outcome.seed));
    outcomes
}

fn live_and_compare(seed: u64) -> Outcome {
    let outcome = live(seed);
    if outcome.broken.is_none() && seed.is_multiple_of(TWICE) { compared(outcome, &live(seed)) } else { outcome }
}

/// 9: the same inputs, the same effects.
fn compared(outcome: Outcome, again: &Outcome) -> Outcome {
    if outcome == *again {
        return outcome;
    }
    let what = format!("two lives of one seed differ: {outcome:?}, {again:?}");
    Outcome { broken: Some(Broken { invariant: 9, now_ms: 0, what }), ..outcome }
}

/// A life that is being lived.
#[derive(Debug)]
struct Life {
    seed: u64,
    rng: fastrand::Rng,
    world: World,
    storm: Storm,
    vm_steps: u64,
    /// Some demand was not constant, though it should have been.
    wavers: bool,
    /// What was found wrong by a look at all of the life.
    broken: Option<Broken>,
}

impl Life {
    fn new(seed: u64, equip: impl FnOnce(World) -> World) -> Self {
        Self::under(seed, equip, |plan| Box::new(Dynmem::new(plan.host).with_smart_paging(plan.smart_paging)))
    }

    fn under(seed: u64, equip: impl FnOnce(World) -> World, make: impl FnOnce(&HostPlan) -> Box<dyn Policy>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = host::plan(&mut rng);
        let policy = make(&plan);
        let storm = Storm::new(&mut rng);
        Self { seed, rng, world: equip(World::new(plan, policy)), storm, vm_steps: 0, wavers: false, broken: None }
    }

    fn end(&mut self) -> Outcome {
        // A panic is the engine's own assertion: as good a find as any other.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.go_on())) {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            self.fail(0, format!("panic: {said}"));
        }
        Outcome {
            seed: self.seed,
            vm_steps: self.vm_steps,
            digest: self.world.digest(),
            broken: self.broken.clone().or_else(|| self.world.broken().cloned()),
        }
    }

    fn go_on(&mut self) {
        self.storm();
        self.calm();
    }

    /// One step of the world; false if something is broken.
    fn step(&mut self, millis: u64) -> bool {
        self.world.step(millis);
        self.vm_steps += self.world.vms().iter().filter(|vm| vm.machine.is_some()).count() as u64;
        self.world.broken().is_none()
    }

    fn fail(&mut self, invariant: u8, what: String) {
        let now_ms = self.world.now_ms();
        self.broken.get_or_insert(Broken { invariant, now_ms, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_one_seed_that_differ_are_caught() {
        let outcome = Outcome { seed: 1, vm_steps: 2, digest: 3, broken: None };
        assert_eq!(compared(outcome.clone(), &outcome).broken, None);
        let other = Outcome { digest: 4, ..outcome.clone() };
        assert_eq!(compared(outcome, &other).broken.map(|broken| broken.invariant), Some(9));
    }
}
