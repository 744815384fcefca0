//! Tests that boot real guests. Each has a daemon and a pool of its own, waits
//! for conditions and never for time, and leaves nothing behind.
//!
//! `cargo xtask test --filter 'package(dynmem-vm-tests)'` builds what they
//! need and runs them; `DYNMEM_KEEP=1` keeps their folders.
//!
//! - `life`: starts, stops, reboots, guests that never come up
//! - `moves`: memory on its way between guests
//! - `limits`: a guest that takes what it was not lent, and its neighbour
//! - `paging`: restarts without memory for them
//! - `daemon`: what a daemon's end means to guests, and what the next one finds
//! - `privilege`: guests whose QEMU has no rights
//! - `recovery`: the daemon dies in the middle of anything
//! - `saving`: guests that are saved to files, and go on
//! - `trouble`: one of two guests is in trouble, and the other must not notice

mod daemon;
mod life;
mod limits;
mod moves;
mod paging;
mod privilege;
mod recovery;
mod saving;
mod trouble;

use std::time::Duration;

use anyhow::{Result, ensure};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Image, Lab, LabOptions};

/// Memory follows demand within moments; with every core taken, later.
const SERVED: Duration = Duration::from_mins(1);
/// A workload grows at 64 MiB a second, or as fast as its guest may.
const SETTLED: Duration = Duration::from_secs(90);

/// A daemon with a pool of so many MiB, and the image that its guests boot.
async fn lab(pool_mib: u64) -> Result<(Lab, Image)> {
    let binaries = Binaries::beside_this_program()?;
    let image = binaries.image()?;
    Ok((Lab::start(LabOptions::with_pool(Bytes::from_mib(pool_mib), binaries)).await?, image))
}

/// Ends the lab; nothing may be left.
async fn finish(lab: Lab) -> Result<()> {
    let leftovers = lab.finish().await?;
    ensure!(leftovers.is_empty(), "Left behind: {leftovers:?}");
    Ok(())
}
