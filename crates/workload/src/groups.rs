//! A trial of memory groups on this guest's own kernel: what a host with the
//! unified hierarchy does with the limits that the daemon sets, told to a host
//! that may have the old one.
//!
//! ```text
//!  trial() ── makes two groups ──▶ an eater in each: what one holds is counted, the other is killed
//!                                   └────────────▶ Grouped: what the kernel did
//! ```

use std::{
    fs,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use dynmem_linux::{Cgroups, GroupError, GroupLimit, HostReader, MemoryGroup};
use dynmem_units::Bytes;
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
};

use crate::message::Grouped;

/// Where the hierarchy belongs.
const MOUNT: &str = "/sys/fs/cgroup";
const PARENT: &str = "dynmem-trial";
/// What an eater holds.
const EATEN: Bytes = Bytes::from_mib(32);
/// Not enough for it.
const TOO_LITTLE: Bytes = Bytes::from_mib(16);
const ENOUGH: Bytes = Bytes::from_mib(64);

/// Does it, and leaves no group behind.
pub(crate) fn trial(program: &Path) -> anyhow::Result<Grouped> {
    match mount("none", MOUNT, "cgroup2", MountFlags::empty(), None) {
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(error).with_context(|| format!("No cgroup2 can be mounted at {MOUNT}")),
    }
    let cgroups = HostReader::default().cgroups()?;
    ensure!(matches!(cgroups, Cgroups::V2(_)), "This guest has another hierarchy: {cgroups:?}");
    let mut grouped = Grouped::default();
    in_group(&cgroups, "keep", |group| keep(group, program, &mut grouped))?;
    in_group(&cgroups, "kill", |group| kill(group, program, &mut grouped))?;
    cgroups.remove_parent(PARENT.as_ref())?;
    Ok(grouped)
}

fn in_group(
    cgroups: &Cgroups,
    name: &str,
    trial: impl FnOnce(&MemoryGroup) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let group = cgroups.create_group(PARENT.as_ref(), name)?;
    let outcome = trial(&group);
    let removed = group.remove();
    outcome?;
    Ok(removed?)
}

/// A group that may hold what its process does, and then is to hold less.
fn keep(group: &MemoryGroup, program: &Path, grouped: &mut Grouped) -> anyhow::Result<()> {
    group.set_limit(GroupLimit { soft: ENOUGH, hard: ENOUGH, swap: Bytes::ZERO })?;
    grouped.hard_limit_bytes = group.hard_limit()?;
    let mut eater = Eater::start(program)?;
    group.add_process(eater.0.id())?;
    ensure!(eater.eats()?, "It was killed with {ENOUGH} for its {EATEN}");
    grouped.held_bytes = group.usage()?.held;
    let refused = group.set_limit(GroupLimit { soft: TOO_LITTLE, hard: TOO_LITTLE, swap: Bytes::ZERO });
    grouped.is_shrinking_refused = matches!(refused, Err(GroupError::BelowUsage { .. }));
    grouped.swap_limit = fs::read_to_string(group.path().join("memory.swap.max")).ok();
    eater.end()?;
    Ok(())
}

/// A group with too little for its process.
fn kill(group: &MemoryGroup, program: &Path, grouped: &mut Grouped) -> anyhow::Result<()> {
    group.set_limit(GroupLimit { soft: TOO_LITTLE, hard: TOO_LITTLE, swap: Bytes::ZERO })?;
    let mut eater = Eater::start(program)?;
    group.add_process(eater.0.id())?;
    eater.eats()?;
    grouped.killed_by_signal = eater.end()?;
    let events = group.events()?;
    (grouped.ooms, grouped.oom_kills) = (events.ooms, events.oom_kills);
    grouped.peak_bytes = group.peak();
    Ok(())
}

/// A process that waits for a byte, eats, says so, and ends when nobody listens.
struct Eater(Child);

impl Eater {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("eat").stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().with_context(|| format!("Cannot start {} eat", program.display()))?))
    }

    /// Lets it eat; false if that was its end.
    fn eats(&mut self) -> anyhow::Result<bool> {
        let (Some(input), Some(output)) = (&mut self.0.stdin, &mut self.0.stdout) else {
            anyhow::bail!("It has no pipes");
        };
        input.write_all(b"!")?;
        Ok(output.read(&mut [0])? == 1)
    }

    /// Ends it; the signal that did, if one did.
    fn end(&mut self) -> anyhow::Result<Option<i32>> {
        drop(self.0.stdin.take());
        Ok(self.0.wait()?.signal())
    }
}

impl Drop for Eater {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What the process that a trial starts does.
pub fn eat() -> anyhow::Result<()> {
    // The controller is out of the OOM killer's reach, and so would be its
    // child: a group in which nobody can be killed waits for ever.
    fs::write("/proc/self/oom_score_adj", "1000").context("Cannot offer this process to the OOM killer")?;
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    input.read_exact(&mut [0])?;
    let eaten = vec![1_u8; usize::try_from(EATEN.get())?];
    output.write_all(&eaten[..1])?;
    output.flush()?;
    input.read_to_end(&mut Vec::new())?;
    std::hint::black_box(eaten);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_named() {
        let error = Eater::start("/no/such/program".as_ref()).err().expect("nothing is there");
        assert_eq!(error.to_string(), "Cannot start /no/such/program eat");
    }
}
