//! Lives through a plan, and remembers what a plot shows of it.

use dynmem_sim::{
    check::Broken,
    plan::{HostPlan, VmPlan},
    score::{self, Score},
    world::World,
};
use dynmem_units::Bytes;

use super::Manager;
use crate::bench::plot::{Panel, Series, Style};

/// From one sample of a plot to the next.
const SAMPLE_MS: u64 = 1_000;

/// What came of a plan under one manager.
pub(crate) struct Outcome {
    pub(crate) manager: Manager,
    pub(crate) score: Score,
    pub(crate) broken: Option<Broken>,
    /// The last things that happened, if they were asked for.
    pub(crate) story: Option<String>,
    /// Of each VM, if it was asked for.
    memory: Vec<Memory>,
}

/// A VM's memory at each instant, milliseconds.
#[derive(Clone, Default)]
struct Memory {
    needed: Vec<(u64, Bytes)>,
    held: Vec<(u64, Bytes)>,
}

/// What is remembered beside the score.
#[derive(Clone, Copy, Default)]
pub(crate) struct Remember {
    /// Lines of the story.
    pub(crate) story_lines: Option<usize>,
    /// Memory over time.
    pub(crate) memory: bool,
}

/// Lives through `plan`, with every invariant checked where our engine decides.
pub(crate) fn live(plan: HostPlan, manager: Manager, remember: Remember) -> Outcome {
    let mut memory = vec![Memory::default(); if remember.memory { plan.vms.len() } else { 0 }];
    let policy = manager.policy(plan.host);
    let mut world = World::new(plan, policy).checked();
    if let Some(lines) = remember.story_lines {
        world = world.telling(lines);
    }
    let score = score::run(&mut world, |world| {
        let now_ms = world.now_ms();
        if now_ms.is_multiple_of(SAMPLE_MS) {
            for (memory, vm) in memory.iter_mut().zip(world.vms()) {
                memory.needed.push((now_ms, vm.lived.needed));
                memory.held.push((now_ms, vm.lived.held));
            }
        }
    });
    let (broken, story) = (world.broken().cloned(), world.story().map(ToString::to_string));
    Outcome { manager, score, broken, story, memory }
}

/// A panel for each VM of `plan`: what it needed, and what it held under each
/// manager.
pub(crate) fn panels(plan: &HostPlan, outcomes: &[Outcome]) -> Vec<Panel> {
    let panel = |(index, vm): (usize, &VmPlan)| {
        let remembered = || outcomes.iter().filter_map(move |one| Some((one.manager, one.memory.get(index)?)));
        let needed = remembered().take(1).map(|(_, memory)| ("needed", Style::Area, &memory.needed));
        let held = remembered().map(|(manager, memory)| (manager.name(), Style::Line, &memory.held));
        let series = needed.chain(held).map(|(label, style, samples)| Series::memory(label, style, samples.clone()));
        Panel { title: vm.name.clone(), series: series.collect() }
    };
    plan.vms.iter().enumerate().map(panel).collect()
}
