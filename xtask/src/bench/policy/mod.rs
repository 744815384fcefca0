//! dynmem and the managers that others use, on the same simulated hosts.
//!
//! ```text
//! scenarios × managers × seeds ──▶ scores ──▶ means ──▶ table, or JSON
//! trace ──▶ draws × managers ──▶ smallest hosts ──▶ density
//! ```
//! Everything is virtual time: nothing here depends on the machine it runs on,
//! and the same command always prints the same numbers.

mod density;
mod headline;
mod parallel;
mod table;

use std::{env, fmt, fs, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use dynmem_sim::{
    scenario::{self, Scenario},
    score::Score,
};

use self::{parallel::in_parallel, table::Table};
use super::plot::time_plot;
use crate::{
    report::{self, Metric},
    shell,
    sim::{MEASURES, Manager, Outcome, Remember, live, panels},
};

const SEEDS: u64 = 5;
const SEEDS_QUICK: u64 = 1;

/// Measures, and prints each scenario's table when it is done.
pub(super) fn run(options: &super::Options) -> Result<()> {
    if cfg!(debug_assertions) && !options.quick {
        return run_optimised();
    }
    let seeds = if options.quick { SEEDS_QUICK } else { SEEDS };
    let folder = options.plots.clone().unwrap_or_else(|| shell::target_dir().join("bench/policy"));
    fs::create_dir_all(&folder).with_context(|| format!("Could not create {}", folder.display()))?;
    let trace = options.trace.as_deref().map(density::open).transpose()?;
    let mut scenes = Vec::new();
    for scenario in scenario::ALL {
        let scene = Scene::live(scenario, seeds)?;
        eprintln!("{scene}");
        scene.draw(scenario, &folder, options.quick)?;
        scenes.push(scene);
    }
    eprintln!("What everybody needed and held is drawn in {}\n", folder.display());
    let all = Scene::of_all_that_fit(&scenes);
    eprintln!("{all}");
    let mut metrics = headline::metrics(&scenes, &all);
    eprintln!("What it comes to:");
    report::print(&metrics, false);
    metrics.extend(scenes.iter().chain([&all]).flat_map(Scene::metrics));
    match &trace {
        Some(trace) => metrics.extend(density::run(trace, options.quick)),
        None => eprintln!("Density is measured on a trace: give one by --trace FILE (docs/simulator.md)"),
    }
    if options.json {
        report::print(&metrics, true);
    }
    Ok(())
}

/// Goes on as an optimised build of this program: days of virtual time take
/// minutes then.
fn run_optimised() -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--quiet", "--release", "--package", "xtask"]))?;
    let program = shell::target_dir().join("release/xtask");
    let error = Command::new(&program).args(env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("Could not run {}", program.display()))
}

/// How each manager did in a scenario, or in several together.
struct Scene {
    name: &'static str,
    about: String,
    /// Everybody's needs fit the host.
    fits: bool,
    seeds: u64,
    /// Means, one for each of [`MEASURES`].
    means: Vec<(Manager, Vec<f64>)>,
}

impl Scene {
    fn live(scenario: Scenario, seeds: u64) -> Result<Self> {
        let managers = Manager::all();
        let jobs: Vec<(Manager, u64)> =
            managers.iter().flat_map(|manager| (1..=seeds).map(|seed| (*manager, seed))).collect();
        let outcomes = in_parallel(&jobs, |(manager, seed)| live(scenario.plan(*seed), *manager, Remember::default()));
        if let Some((broken, (_, seed))) = broken(&outcomes, &jobs) {
            bail!("{broken}. See it by `cargo xtask sim --scenario {} --seed {seed} --story`", scenario.name);
        }
        let scores: Vec<Score> = outcomes.into_iter().map(|outcome| outcome.score).collect();
        let means = scores.chunks(jobs.len() / managers.len()).map(|scores| {
            let rows = scores.iter().map(|score| MEASURES.iter().map(|measure| (measure.of)(score)).collect());
            means(&rows.collect::<Vec<_>>())
        });
        let means = managers.into_iter().zip(means).collect();
        Ok(Self { name: scenario.name, about: scenario.about.to_owned(), fits: scenario.fits, seeds, means })
    }

    /// The mean of all scenes that fit: in them, whatever is unmet is a
    /// manager's fault.
    fn of_all_that_fit(scenes: &[Self]) -> Self {
        let fitting: Vec<&Self> = scenes.iter().filter(|scene| scene.fits).collect();
        let mean = |manager: Manager| {
            means(&fitting.iter().filter_map(|scene| scene.of(manager).map(<[f64]>::to_vec)).collect::<Vec<_>>())
        };
        Self {
            name: "all",
            about: format!("the mean of the {} scenarios in which everybody's needs fit", fitting.len()),
            fits: true,
            seeds: fitting.first().map_or(0, |scene| scene.seeds),
            means: Manager::all().into_iter().map(|manager| (manager, mean(manager))).collect(),
        }
    }

    /// The mean of one measure under one manager.
    fn measured(&self, manager: Manager, metric: &str) -> Option<f64> {
        let index = MEASURES.iter().position(|measure| measure.metric == metric)?;
        self.of(manager)?.get(index).copied()
    }

    /// The means of one manager.
    fn of(&self, manager: Manager) -> Option<&[f64]> {
        self.means.iter().find(|(name, _)| *name == manager).map(|(_, means)| means.as_slice())
    }

    /// The peer that left the least unmet.
    fn strongest_peer(&self) -> Option<Manager> {
        let peers = self.means.iter().filter(|(manager, _)| matches!(manager, Manager::Peer(_)));
        peers.min_by(|a, b| a.1[0].total_cmp(&b.1[0])).map(|(manager, _)| *manager)
    }

    /// Every number; ours beside that of the strongest peer.
    fn metrics(&self) -> Vec<Metric> {
        let strongest = self.strongest_peer();
        let mut metrics = Vec::new();
        for (manager, means) in &self.means {
            for ((index, measure), mean) in MEASURES.iter().enumerate().zip(means) {
                let metric = Metric::new(measure.metric, *mean, measure.unit)
                    .with("scenario", self.name)
                    .with("fits", self.fits)
                    .with("policy", manager.name())
                    .with("seeds", self.seeds);
                let peer = strongest.filter(|_| *manager == Manager::Dynmem);
                let peer = peer.and_then(|peer| Some((peer.name(), self.of(peer)?[index])));
                metrics.push(match peer {
                    Some((name, value)) => metric.against(name, value),
                    None => metric,
                });
            }
        }
        metrics
    }

    /// Draws what everybody needed and held, a file for each manager; for us
    /// alone if `quick`.
    fn draw(&self, scenario: Scenario, folder: &Path, quick: bool) -> Result<()> {
        let plan = scenario.plan(1);
        let managers = if quick { vec![Manager::Dynmem] } else { Manager::all() };
        let remember = Remember { memory: true, ..Remember::default() };
        let outcomes = in_parallel(&managers, |manager| live(plan.clone(), *manager, remember));
        for outcome in outcomes {
            let policy = outcome.manager.name();
            let path = folder.join(format!("{}-{policy}.svg", self.name));
            let title = format!("{} under {policy}: {}", self.name, self.about);
            time_plot(&path, &title, &panels(&plan, &[outcome]))?;
        }
        Ok(())
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["policy"].into_iter().chain(MEASURES.iter().map(|measure| measure.heading)));
        for (manager, means) in &self.means {
            let cells = MEASURES.iter().zip(means).map(|(measure, mean)| format!("{mean:.*}", measure.digits));
            table.row(std::iter::once(manager.name().to_owned()).chain(cells));
        }
        write!(f, "{}: {}\n{table}", self.name, self.about)
    }
}

/// The first invariant that was found broken, and by which job.
fn broken<'a, T>(outcomes: &'a [Outcome], jobs: &'a [T]) -> Option<(String, &'a T)> {
    let mut found = outcomes.iter().zip(jobs);
    found.find_map(|(outcome, job)| Some((outcome.broken.as_ref()?.to_string(), job)))
}

/// The mean of each column.
fn means(rows: &[Vec<f64>]) -> Vec<f64> {
    let count = rows.iter().fold(0.0, |count, _| count + 1.0);
    let column = |index: usize| rows.iter().filter_map(|row| row.get(index)).sum::<f64>();
    (0..MEASURES.len()).map(|index| column(index) / f64::max(count, 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use dynmem_sim::peers::Peer;
    use serde_json::Value;

    use super::*;

    /// A scene in which each of these left so much unmet, and nothing else.
    fn scene(name: &'static str, fits: bool, unmet: [(Manager, f64); 3]) -> Scene {
        let row = |unmet| std::iter::once(unmet).chain([0.0; MEASURES.len() - 1]).collect();
        let means = unmet.into_iter().map(|(manager, unmet)| (manager, row(unmet))).collect();
        Scene { name, about: String::new(), fits, seeds: 1, means }
    }

    const OURS: Manager = Manager::Dynmem;
    const MOM: Manager = Manager::Peer(Peer::Mom);
    const ESX: Manager = Manager::Peer(Peer::Esx);

    #[test]
    fn our_numbers_stand_beside_the_strongest_peers() {
        let scene = scene("spikes", true, [(OURS, 1.0), (MOM, 8.0), (ESX, 4.0)]);
        let lines: Vec<Value> =
            scene.metrics().iter().map(|metric| serde_json::to_value(metric).expect("plain data")).collect();
        assert_eq!(lines.len(), 3 * MEASURES.len());
        let unmet = |policy: &str| {
            let of = |line: &&Value| line["params"]["policy"] == policy && line["metric"] == "unmet_gib_seconds";
            lines.iter().find(of).expect(policy)
        };
        let ours = unmet("dynmem");
        assert_eq!(
            (&ours["baseline"], &ours["baseline_value"], &ours["ratio"]),
            (&"esx".into(), &4.into(), &0.25.into())
        );
        assert_eq!(unmet("mom")["baseline"], Value::Null);
    }

    #[test]
    fn together_count_the_scenes_that_fit() {
        let scenes = [
            scene("spikes", true, [(OURS, 1.0), (MOM, 8.0), (ESX, 4.0)]),
            scene("heaps", true, [(OURS, 3.0), (MOM, 2.0), (ESX, 0.0)]),
            scene("shortage", false, [(OURS, 100.0), (MOM, 100.0), (ESX, 100.0)]),
        ];
        let all = Scene::of_all_that_fit(&scenes);
        let unmet = |manager| all.of(manager).map(|means| means[0]);
        assert_eq!([unmet(OURS), unmet(MOM), unmet(ESX)], [Some(2.0), Some(5.0), Some(2.0)]);
    }
}
