//! [`kill_again_and_again`]: the daemon dies at any instant of anything that it
//! can be asked, and the next one finds the truth.
//!
//! ```text
//!  operation ──▶ daemon ──▶ QEMU      each round: what each VM may be now (expectation)
//!      ⚡ SIGKILL, at a random moment   against what there is (truth): the daemon's
//!  next daemon ──▶ settles             word, QEMU's word, processes, files, groups
//! ```
//!
//! Machines without a guest: what is tried here is the daemon, and such a
//! machine starts in a moment. What was answered with "done" must hold; what
//! was not may have happened or not, but nothing in between.

mod expectation;
mod operation;
mod truth;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use tokio::time::sleep;

use self::{
    expectation::{Expectation, Fate},
    operation::Operation,
};
use crate::{
    Lab,
    wait::{Seen, until},
};

/// VMs that are operated on.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// How long a new daemon may take until everything is in order again.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// The most rounds.
    pub most: u32,
    /// No round begins after this.
    pub time: Duration,
    /// Chooses operations and moments.
    pub seed: u64,
}

/// What was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Daemons that were killed.
    pub rounds: u32,
    /// How often each operation was under way, by its name.
    pub operations: BTreeMap<&'static str, u32>,
    /// How many of them had been answered by then.
    pub answered: u32,
}

/// Kills the daemon of `lab` in the middle of one operation after another. An
/// error tells the first thing that was not as it should be, and its round.
pub async fn kill_again_and_again(lab: &mut Lab, rounds: Rounds) -> Result<Tried> {
    let mut rng = Rng::with_seed(rounds.seed);
    let mut expected: BTreeMap<&'static str, Expectation> = NAMES.map(|name| (name, Expectation::default())).into();
    let mut tried = Tried::default();
    let began = Instant::now();
    while tried.rounds < rounds.most && began.elapsed() < rounds.time {
        let name = NAMES[rng.usize(..NAMES.len())];
        let operation = Operation::choose(&expected[name], &mut rng);
        let moment = moment(operation, &mut rng);
        tried.rounds += 1;
        *tried.operations.entry(operation.name()).or_default() += 1;
        let fate = round(lab, name, operation, moment, &mut expected).await.with_context(|| {
            format!(
                "Round {} of seed {}: the daemon was killed {moment:?} into `{}` of {name}",
                tried.rounds,
                rounds.seed,
                operation.name()
            )
        })?;
        tried.answered += u32::from(fate == Fate::Done);
    }
    Ok(tried)
}

/// When the daemon dies: soon, because most is over soon; or within the time
/// that the operation takes.
fn moment(operation: Operation, rng: &mut Rng) -> Duration {
    let longest = if rng.bool() { Duration::from_millis(20) } else { operation.takes() };
    Duration::from_micros(rng.u64(..=u64::try_from(longest.as_micros()).unwrap_or(u64::MAX)))
}

async fn round(
    lab: &mut Lab,
    name: &'static str,
    operation: Operation,
    moment: Duration,
    expected: &mut BTreeMap<&'static str, Expectation>,
) -> Result<Fate> {
    let asked = tokio::spawn(operation.perform(lab, name));
    sleep(moment).await;
    lab.kill_daemon()?;
    let fate = Fate::of(asked.await?)?;
    if let Some(its) = expected.get_mut(name) {
        its.after(operation, fate);
    }
    lab.start_daemon().await?;
    let found = until("everything in order", SETTLED_WITHIN, async || {
        let truth = truth::look(lab).await?;
        let wrong = truth.against(expected);
        Ok(if wrong.is_empty() { Seen::Ready(truth) } else { Seen::NotYet(wrong.join("; ")) })
    });
    let found = found.await?;
    for (name, its) in expected.iter_mut() {
        its.settle(found.vms.get(*name));
    }
    Ok(fate)
}
