//! The dashboard in Chromium: how long a frame takes with five hundred VMs that
//! change each second, what its first load weighs, and whether a page that is
//! left open grows.
//!
//! ```text
//!  dynmemd, imitated guests ──/v1/live, TLS──▶ page      frames
//!  what it told, with other figures ─────────▶ page      frames, and its heap
//! ```
//! The measuring itself is `ui/bench`: it needs the browser's own clock.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    build::{self, Profile},
    report::Metric,
    setup, ui,
};

const GOAL_FRAME_MS: f64 = 100.0;
const GOAL_FIRST_LOAD_BYTES: f64 = 100_000.0;
const MIB: f64 = 1_048_576.0;

/// What `ui/bench` says.
#[derive(Deserialize)]
struct Figures {
    first_load_bytes: f64,
    /// Of a page with nothing on it: what the machine makes of frames by itself.
    empty: Frames,
    live: Frames,
    changing: Frames,
    /// Bytes after some updates, and after all of them.
    heap_list: (f64, f64),
    heap_vm: (f64, f64),
    params: Params,
}

#[derive(Deserialize)]
struct Frames {
    longest_ms: f64,
    /// Frames that were longer than the goal.
    late: u64,
    count: u64,
    long_tasks: u64,
    longest_task_ms: f64,
}

#[derive(Deserialize)]
struct Params {
    vms: u64,
    seconds: u64,
    replayed_vms: u64,
    updates: (u64, u64),
}

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    build::programs(Profile::Release)?;
    ui::prepare()?;
    setup::browser()?;
    let mut bench = ui::script(&["run", "--silent", "bench"]);
    bench.env("DYNMEM_PROGRAMS", Profile::Release.folder()).env("QUICK", if quick { "1" } else { "0" });
    let output = bench.stderr(Stdio::inherit()).output().context("Could not run npm")?;
    ensure!(output.status.success(), "The page could not be measured: npm run bench failed: {}", output.status);
    let figures = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("Not understood: {}", String::from_utf8_lossy(&output.stdout)))?;
    Ok(metrics(&figures))
}

fn metrics(figures: &Figures) -> Vec<Metric> {
    let Figures { first_load_bytes, empty, live, changing, heap_list, heap_vm, params } = figures;
    let frames = |name: &str, frames: &Frames| {
        Metric::new(name, frames.longest_ms, "ms")
            .against_goal(GOAL_FRAME_MS)
            .with("vms", params.vms)
            .with("seconds", params.seconds)
            .with("frames", frames.count)
            .with("late", frames.late)
            .with("long_tasks", frames.long_tasks)
            .with("longest_task_ms", frames.longest_task_ms)
            .with("empty_page_longest_ms", empty.longest_ms)
    };
    // Flat: once all that is kept is there, it is no more later.
    let heap = |name: &str, (before, after): (f64, f64)| {
        Metric::new(name, after / MIB, "MiB")
            .against("after the first updates", before / MIB)
            .with("vms", params.replayed_vms)
            .with("updates", vec![params.updates.0, params.updates.1])
    };
    vec![
        Metric::new("first_load_bytes", *first_load_bytes, "bytes").against_goal(GOAL_FIRST_LOAD_BYTES),
        frames("longest_frame_live_ms", live),
        frames("longest_frame_changing_ms", changing),
        heap("heap_list_mib", *heap_list),
        heap("heap_vm_mib", *heap_vm),
    ]
}
