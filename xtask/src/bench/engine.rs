//! The engine's decision, measured by criterion in `crates/core/benches`.
//!
//! Criterion leaves its estimates under `target/criterion`, one folder per
//! situation; they are collected here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{report::Metric, shell};

/// What one decision may take, by the number of VMs.
const GOALS_MS: [(&str, f64); 2] = [("1000", 0.2), ("10000", 2.0)];

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    let mut bench = shell::cargo(&["bench", "--quiet", "--package", "dynmem-core", "--bench", "engine", "--"]);
    bench.arg("--noplot");
    if quick {
        bench.args(["--quick", "--warm-up-time", "0.5"]);
    }
    shell::run(&mut bench)?;
    collect(&shell::target_dir().join("criterion").join("decide"), quick)
}

/// A metric for each `<situation>/<number of VMs>` below `folder`.
fn collect(folder: &Path, quick: bool) -> Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for situation in folders(folder)? {
        for count in folders(&situation)?.iter().filter(|count| count.join("new").is_dir()) {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (situation, vms) = (name(&situation), name(count));
            let mut metric = Metric::new(format!("decision_ms_{situation}_{vms}"), mean_ms(count)?, "ms")
                .with("vms", vms.parse::<u64>().ok())
                .with("situation", situation)
                .with("quick", quick);
            if let Some((_, goal)) = GOALS_MS.iter().find(|(count, _)| *count == vms) {
                metric = metric.against_goal(*goal);
            }
            metrics.push(metric);
        }
    }
    ensure!(!metrics.is_empty(), "Criterion left no estimates in {}", folder.display());
    Ok(metrics)
}

fn mean_ms(folder: &Path) -> Result<f64> {
    let path = folder.join("new/estimates.json");
    let text = fs::read(&path).with_context(|| format!("Could not read {}", path.display()))?;
    let estimates: Value = serde_json::from_slice(&text)?;
    let nanoseconds = estimates["mean"]["point_estimate"].as_f64();
    Ok(nanoseconds.with_context(|| format!("{} has no mean", path.display()))? / 1e6)
}

/// The folders in `folder`, but for criterion's own reports.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("Could not read {}", folder.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && !path.ends_with("report")).collect();
    folders.sort();
    Ok(folders)
}
