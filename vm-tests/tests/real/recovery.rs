//! The daemon dies in the middle of anything.

use std::time::Duration;

use anyhow::{Result, ensure};
use dynmem_units::Bytes;
use dynmem_vm_tests::{
    Binaries, Lab, LabOptions,
    recovery::{Rounds, kill_again_and_again},
};

use crate::finish;

/// Rounds of one test, and the time for them on a busy machine. `cargo xtask
/// chaos --daemon-kills 500` does more of them.
const ROUNDS: u32 = 30;
const TIME: Duration = Duration::from_secs(45);

#[tokio::test]
async fn a_daemon_that_dies_in_the_middle_of_anything_leaves_nothing_half_done() -> Result<()> {
    let options = LabOptions::with_pool(Bytes::from_mib(1024), Binaries::beside_this_program()?);
    let mut lab = Lab::start(LabOptions { accelerator: "tcg", ..options }).await?;
    let seed =
        std::env::var("DYNMEM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("DYNMEM_SEED={seed}");
    let tried = kill_again_and_again(&mut lab, Rounds { most: ROUNDS, time: TIME, seed }).await?;
    eprintln!("{tried:?}");
    ensure!(tried.rounds >= 5, "Hardly anything was tried: {tried:?}");
    finish(lab).await
}
