//! The engine's decision, measured by criterion in `crates/core/benches`.
//!
//! ```text
//! cargo bench ──▶ target/criterion ──▶ decisions ──▶ metrics
//!                                                └─▶ target/bench/decide.svg
//! ```
//! Criterion leaves its estimates in one folder per situation and number of
//! VMs; they are collected here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::plot::{Axis, Series, Style, curve_plot};
use crate::{report::Metric, shell};

/// What one decision may take, ms, by the number of VMs.
const GOALS_MS: [(u32, f64); 3] = [(1_000, 0.2), (10_000, 1.0), (100_000, 15.0)];
/// The harder situation, which the goals are about.
const HARDER: &str = "shortage";
/// The exponent of growth is taken between these.
const GROWTH_FROM_TO: (u32, u32) = (1_000, 100_000);

/// What criterion measured: one decision for so many VMs.
#[derive(Clone, Debug, PartialEq)]
struct Decision {
    situation: String,
    vms: u32,
    /// The median of all samples: what else ran on the machine meanwhile
    /// moves it less than the mean.
    ms: f64,
}

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    let mut bench = shell::cargo(&["bench", "--quiet", "--package", "dynmem-core", "--bench", "engine", "--"]);
    bench.arg("--noplot");
    if quick {
        bench.args(["--quick", "--warm-up-time", "0.5"]);
    }
    shell::run(&mut bench)?;
    let decisions = collect(&shell::target_dir().join("criterion").join("decide"))?;
    draw(&decisions)?;
    Ok(metrics(&decisions).into_iter().map(|metric| metric.with("quick", quick)).collect())
}

/// A figure for each decision, the two that the goals name, and the growth.
fn metrics(decisions: &[Decision]) -> Vec<Metric> {
    let metric = |name: String, decision: &Decision| {
        let metric = Metric::new(name, decision.ms, "ms")
            .with("vms", decision.vms)
            .with("situation", decision.situation.as_str());
        match goal_ms(decision.vms) {
            Some(goal) => metric.against_goal(goal),
            None => metric,
        }
    };
    let each = decisions
        .iter()
        .map(|decision| metric(format!("decision_ms_{}_{}", decision.situation, decision.vms), decision));
    let named = [10_000, 100_000]
        .into_iter()
        .filter_map(|vms| Some(metric(format!("decide_{vms}_ms"), find(decisions, HARDER, vms)?)));
    each.chain(named).chain(growth(decisions)).collect()
}

/// The exponent k of time ~ nᵏ, beside that of n·log n.
fn growth(decisions: &[Decision]) -> Option<Metric> {
    let (from, to) = GROWTH_FROM_TO;
    let (few, many) = (find(decisions, HARDER, from)?, find(decisions, HARDER, to)?);
    let exponent = |time: fn(&Decision) -> f64| (time(many) / time(few)).ln() / (f64::from(to) / f64::from(from)).ln();
    let n_log_n = exponent(|decision| f64::from(decision.vms) * f64::from(decision.vms).ln());
    let metric = Metric::new("decide_growth_exponent", exponent(|decision| decision.ms), "exponent of n");
    Some(metric.with("from_vms", from).with("to_vms", to).with("situation", HARDER).against("n log n", n_log_n))
}

fn goal_ms(vms: u32) -> Option<f64> {
    GOALS_MS.iter().find(|(count, _)| *count == vms).map(|(_, goal)| *goal)
}

fn find<'a>(decisions: &'a [Decision], situation: &str, vms: u32) -> Option<&'a Decision> {
    decisions.iter().find(|decision| decision.situation == situation && decision.vms == vms)
}

/// Draws time over VMs, a curve for each situation, to `target/bench/decide.svg`.
fn draw(decisions: &[Decision]) -> Result<()> {
    let mut situations: Vec<&str> = decisions.iter().map(|decision| decision.situation.as_str()).collect();
    situations.dedup();
    let curve = |situation: &str| Series {
        label: situation.to_owned(),
        style: Style::Line,
        points: decisions
            .iter()
            .filter(|decision| decision.situation == situation)
            .map(|decision| (f64::from(decision.vms), decision.ms))
            .collect(),
    };
    let goal = Series {
        label: "goal".to_owned(),
        style: Style::Dashed,
        points: GOALS_MS.iter().map(|(vms, goal)| (f64::from(*vms), *goal)).collect(),
    };
    let curves: Vec<Series> = situations.into_iter().map(curve).chain([goal]).collect();
    let folder = shell::target_dir().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("Could not create {}", folder.display()))?;
    let path = folder.join("decide.svg");
    curve_plot(&path, "One decision", &Axis { x: "VMs", y: "milliseconds" }, &curves)?;
    eprintln!("The plot is in {}", path.display());
    Ok(())
}

/// What criterion left in `<situation>/<number of VMs>` below `folder`, in the
/// order of situations and numbers.
fn collect(folder: &Path) -> Result<Vec<Decision>> {
    let mut decisions = Vec::new();
    for situation in folders(folder)? {
        for count in folders(&situation)? {
            let estimates = count.join("new/estimates.json");
            let Ok(vms) = name(&count).parse() else { continue };
            if estimates.is_file() {
                decisions.push(Decision { situation: name(&situation), vms, ms: median_ms(&estimates)? });
            }
        }
    }
    ensure!(!decisions.is_empty(), "Criterion left no estimates in {}", folder.display());
    decisions.sort_by(|a, b| (&a.situation, a.vms).cmp(&(&b.situation, b.vms)));
    Ok(decisions)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn median_ms(path: &Path) -> Result<f64> {
    let text = fs::read(path).with_context(|| format!("Could not read {}", path.display()))?;
    let estimates: Value = serde_json::from_slice(&text)?;
    let nanoseconds = estimates["median"]["point_estimate"].as_f64();
    Ok(nanoseconds.with_context(|| format!("{} has no median", path.display()))? / 1e6)
}

/// The folders in `folder`.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("Could not read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(situation: &str, vms: u32, ms: f64) -> Decision {
        Decision { situation: situation.to_owned(), vms, ms }
    }

    fn lines(decisions: &[Decision]) -> Vec<Value> {
        metrics(decisions).iter().map(|metric| serde_json::to_value(metric).expect("plain data")).collect()
    }

    #[test]
    fn the_goals_name_the_harder_situation() {
        let decisions = [
            decision("plenty", 10_000, 0.4),
            decision("shortage", 1_000, 0.1),
            decision("shortage", 10_000, 0.9),
            decision("shortage", 100_000, 12.0),
        ];
        let lines = lines(&decisions);
        let line = |name: &str| lines.iter().find(|line| line["metric"] == name).expect(name);
        assert_eq!(line("decision_ms_plenty_10000")["value"], 0.4);
        let named = line("decide_10000_ms");
        assert_eq!(
            (&named["value"], &named["baseline_value"], &named["baseline"]),
            (&0.9.into(), &1.into(), &"goal".into())
        );
        assert_eq!(line("decide_100000_ms")["ratio"], 0.8);
        assert_eq!(line("decide_growth_exponent")["value"], 1.04, "ln 120 / ln 100");
    }

    #[test]
    fn n_log_n_is_what_growth_is_compared_with() {
        let lines = lines(&[decision("shortage", 1_000, 1.0), decision("shortage", 100_000, 500.0 / 3.0)]);
        let growth = lines.last().expect("three lines");
        assert_eq!((&growth["value"], &growth["baseline_value"]), (&1.111.into(), &1.111.into()));
    }

    #[test]
    fn what_criterion_left_is_collected_in_order() {
        let folder = shell::target_dir().join("tmp").join("engine-bench-collects");
        for (place, median) in [("shortage/10000", 1.5e6), ("shortage/1000", 1e5), ("plenty/1000", 5e4)] {
            let place = folder.join(place).join("new");
            fs::create_dir_all(&place).expect("target is writable");
            let estimates = format!(r#"{{"median":{{"point_estimate":{median}}}}}"#);
            fs::write(place.join("estimates.json"), estimates).expect("target is writable");
        }
        fs::create_dir_all(folder.join("report/1000")).expect("target is writable");
        let collected = collect(&folder).expect("estimates are there");
        fs::remove_dir_all(&folder).expect("just made");
        let expected = [("plenty", 1_000, 0.05), ("shortage", 1_000, 0.1), ("shortage", 10_000, 1.5)];
        assert_eq!(collected, expected.map(|(situation, vms, ms)| decision(situation, vms, ms)));
        assert!(collect(&folder).is_err(), "nothing is there now");
    }
}
