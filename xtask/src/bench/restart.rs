//! Restarts of a real guest for which there is no memory: does it come up
//! every time, does anybody lose a byte, and how soon is its file gone?
//!
//! ```text
//!  `db` needs all that `web` can spare ▶ web restarts, by turns from inside and by command
//!    ▶ its kernel writes to all of its memory while it boots: part of that is seen in the file
//!    ▶ it is up, and writes a pattern, mostly while the file is there
//!    ▶ the file is emptied into memory and goes ▶ both guests check every page they hold
//! ```
//!
//! A restart is *intact* if the guest was seen with a part of its memory in the
//! file, booted to its end out of memory that came back from there (the kernel,
//! its file system and its programs lie in it), restarted indeed (it holds
//! nothing from before), has every page of the pattern that it wrote, still
//! reports, and nothing of the file is left; and if its neighbour has every page
//! of its own, and no program of it was killed. What a guest held in memory
//! before a restart is gone, as with any restart; disks are not touched by
//! paging.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dynmem_vm_tests::{Binaries, Crowd, LabOptions, Restarted};

use crate::{build, report::Metric, setup};

const ROUNDS: u32 = 200;
const ROUNDS_QUICK: u32 = 3;
const GOAL_SECONDS: f64 = 60.0;

pub(super) fn run(quick: bool, rounds: Option<u32>) -> Result<Vec<Metric>> {
    setup::run()?;
    let binaries = build::measured(quick)?;
    let rounds = rounds.unwrap_or(if quick { ROUNDS_QUICK } else { ROUNDS });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Some(intact) = runtime.block_on(measure(binaries, rounds))? else { return Ok(Vec::new()) };
    ensure!(!intact.is_empty(), "No restart went right");
    let mut gone_after: Vec<Duration> = intact.iter().map(|restart| restart.gone_after).collect();
    gone_after.sort_unstable();
    let wrote_while_paging = intact.iter().filter(|restart| restart.wrote_while_paging).count();
    let seconds = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64);
    let metric = Metric::new;
    Ok(vec![
        metric("restarts", f64::from(rounds), "count"),
        metric("restarts_intact", f64::from(u32::try_from(intact.len())?), "count")
            .with("wrote_while_paging", wrote_while_paging),
        metric("file_gone_p50_seconds", seconds(gone_after.get(gone_after.len() / 2)), "s"),
        metric("file_gone_max_seconds", seconds(gone_after.last()), "s").against_goal(GOAL_SECONDS),
    ])
}

/// The restarts after which everything was as it should be. None where this
/// host can't page.
async fn measure(binaries: Binaries, rounds: u32) -> Result<Option<Vec<Restarted>>> {
    let options = LabOptions::with_pool(Crowd::POOL, binaries);
    let image = build::image()?;
    let Some(mut crowd) = Crowd::gather(options, &image).await? else { return Ok(None) };
    let mut intact = Vec::new();
    for round in 1..=rounds {
        let began = Instant::now();
        match restart(&mut crowd, round).await {
            Ok(restarted) => {
                let (all, gone) = (began.elapsed().as_secs_f64(), restarted.gone_after.as_secs_f64());
                eprintln!("Restart {round}: {all:.1} s in all; the file was gone {gone:.1} s after the guest was up");
                intact.push(restarted);
            }
            Err(error) => {
                eprintln!("Restart {round} went wrong: {error:#}");
                crowd.recover().await.context("It can't go on after that")?;
            }
        }
    }
    let leftovers = crowd.lab.finish().await?;
    ensure!(leftovers.is_empty(), "Left behind: {leftovers:?}");
    Ok(Some(intact))
}

async fn restart(crowd: &mut Crowd, round: u32) -> Result<Restarted> {
    crowd.until_full().await?;
    if round.is_multiple_of(2) {
        crowd.lab.client().restart("web").await?;
    } else {
        crowd.reboot().await?;
    }
    crowd.until_paging().await?;
    let restarted = crowd.until_up().await?;
    crowd.ensure_intact().await?;
    Ok(restarted)
}
