//! `cargo xtask chaos --daemon-kills N`: see [`dynmem_vm_tests::recovery`].

use std::time::Duration;

use anyhow::{Result, ensure};
use dynmem_units::Bytes;
use dynmem_vm_tests::{
    Binaries, Lab, LabOptions,
    recovery::{Rounds, kill_again_and_again},
};
use serde_json::Map;

use crate::{build::Profile, report::Metric};

/// Four machines of 64 MiB and QEMU's own memory.
const POOL: Bytes = Bytes::from_mib(1024);

/// Kills the daemon `rounds` times; an error is the first thing that was not
/// as it should be.
pub(super) async fn run(rounds: u32, seed: u64) -> Result<Vec<Metric>> {
    let options = LabOptions::with_pool(POOL, Binaries::in_folder(Profile::Dev.folder()));
    let mut lab = Lab::start(LabOptions { accelerator: "tcg", ..options }).await?;
    let tried = kill_again_and_again(&mut lab, Rounds { most: rounds, time: Duration::MAX, seed }).await?;
    let leftovers = lab.finish().await?;
    ensure!(leftovers.is_empty(), "Seed {seed}: left behind: {leftovers:?}");
    let operations: Map<_, _> =
        tried.operations.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
    let kills = Metric::new("daemon_kills", tried.rounds.into(), "count");
    Ok(vec![kills.with("seed", seed).with("answered_before", tried.answered).with("operations", operations)])
}
