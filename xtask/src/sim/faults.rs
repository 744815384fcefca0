//! Lives in which everything goes wrong that may, with every invariant looked
//! at in every step; and one of them again, to see how it came to its end.

use anyhow::{Result, bail};
use dynmem_sim::fault::{self, Report};

use crate::report::{self, Metric};

/// Lives of `seed` until at least `vm_steps` steps of VMs are done.
pub(super) fn many(seed: u64, vm_steps: u64, json: bool) -> Result<()> {
    let Report { vm_steps, lives, broken } = fault::live_many(seed, vm_steps);
    for (life, broken) in &broken {
        eprintln!("{broken}. See it by `cargo xtask sim --life {life}`");
    }
    #[expect(clippy::cast_precision_loss, reason = "2^53 steps would take a thousand years")]
    let metric = |name, value| Metric::new(name, value as f64, "count").with("seed", seed).with("lives", lives);
    let count = broken.len() as u64;
    report::print(&[metric("vm_steps", vm_steps), metric("invariants_broken", count).against_goal(0.0)], json);
    if count > 0 {
        bail!("{count} of {lives} lives broke an invariant");
    }
    Ok(())
}

/// The life of `seed`, and the last things that happened in it.
pub(super) fn one(seed: u64) -> Result<()> {
    let (outcome, story) = fault::replay(seed);
    eprintln!("{story}");
    if let Some(broken) = outcome.broken {
        return Err(broken.into());
    }
    eprintln!("All invariants held for {} steps of VMs", outcome.vm_steps);
    Ok(())
}
