//! A guest that takes what it was not lent, and its neighbour.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{EventsQuery, MemoryLimits, VmState, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Guest, Lab, Seen, WorkloadRequest, groups, until};

use crate::{SERVED, finish, lab};

fn names(root: &Path) -> Vec<String> {
    let name = |group: &Path| group.file_name()?.to_str()?.strip_prefix("vm-").map(str::to_owned);
    groups(root).iter().filter_map(|group| name(group)).collect()
}

/// Two guests on a pool that they fill: what `calm` is guaranteed, `rogue` has
/// had to give. `None` where nobody may make memory groups.
async fn pair() -> Result<Option<Lab>> {
    let (lab, image) = lab(1536).await?;
    if let MemoryLimits::Unavailable { reason } = lab.client().host().await?.memory_limits {
        eprintln!("SKIPPED: {reason}");
        return Ok(None);
    }
    lab.define(&Guest::new("rogue", 1024, 128, 1024), Some(&image)).await?;
    lab.define(&Guest::new("calm", 768, 768, 768), Some(&image)).await?;
    lab.boot("rogue").await?;
    lab.until_agent_reports("rogue").await?;
    lab.boot("calm").await?;
    lab.until_agent_reports("calm").await?;
    lab.until_vm("rogue", "ballooned", SERVED, |vm| vm.ballooned_bytes >= Bytes::from_mib(384)).await?;
    Ok(Some(lab))
}

#[tokio::test]
async fn a_guest_that_takes_back_what_it_gave_is_killed_alone() -> Result<()> {
    let Some(lab) = pair().await? else { return Ok(()) };
    let mut calm = lab.workload("calm").await?;
    calm.grow(Bytes::from_mib(200), None).await?;
    calm.settle(SERVED).await?;
    let gave = lab.client().vm("rogue").await?;
    let limit = gave.memory_limit_bytes.context("It has no limit")?;
    let least = gave.assigned_bytes.saturating_add(gave.overhead_bytes);
    ensure!(limit >= least && limit < least.saturating_add(Bytes::from_mib(64)), "{gave:?}");

    // The driver of its balloon goes, and with it what the balloon held.
    let mut rogue = lab.workload("rogue").await?;
    rogue.mischief(WorkloadRequest::Balloon { bound: false }).await?;
    let mut monitor = lab.monitor("rogue").await?;
    until("the balloon is empty", SERVED, async || {
        let lent = monitor.lent().await?;
        Ok(if lent.assigned() == Bytes::from_mib(1024) { Seen::Ready(()) } else { Seen::NotYet(format!("{lent:?}")) })
    })
    .await?;
    let told = |vm: &VmView| vm.troubles.iter().any(|trouble| trouble.kind == "balloon-emptied");
    let took = lab.until_vm("rogue", "seen with it", SERVED, told).await?;
    let lent = took.assigned_bytes.saturating_add(Bytes::from_mib(256));
    ensure!(took.memory_limit_bytes.is_some_and(|limit| limit < lent), "It has widened its own limit: {took:?}");

    // Nothing has happened yet: only what is used counts.
    let grown = rogue.grow(Bytes::from_mib(860), None).await;
    let failed = lab.until_vm("rogue", "ended", SERVED, |vm| vm.state == VmState::Failed).await?;
    drop((grown, rogue));
    let reason = failed.state_reason.context("It has failed without a reason")?;
    ensure!(reason.contains(": QEMU was killed by its memory limit (it held "), "{reason}");
    let events = lab.client().events(&EventsQuery { vm: Some("rogue".to_owned()), ..EventsQuery::default() }).await?;
    ensure!(events.iter().any(|event| event.message.contains(&reason)), "No event tells of it: {events:?}");

    // And that is all that has happened.
    let neighbour = lab.client().vm("calm").await?;
    ensure!(neighbour.state == VmState::Running && neighbour.assigned_bytes == Bytes::from_mib(768), "{neighbour:?}");
    ensure!(calm.verify().await?.broken == 0);
    ensure!(names(lab.root()) == ["calm"], "{:?}", groups(lab.root()));
    finish(lab).await
}

#[tokio::test]
async fn what_qemu_holds_for_itself_is_measured_and_outlives_no_machine() -> Result<()> {
    let Some(mut lab) = pair().await? else { return Ok(()) };
    let estimated = lab.client().vm("calm").await?;
    ensure!(!estimated.overhead_measured, "A young QEMU still grows: {estimated:?}");
    let measured = lab.until_vm("calm", "measured", SERVED * 2, |vm| vm.overhead_measured).await?;
    let bounds = Bytes::from_mib(32)..=estimated.overhead_bytes.saturating_add(Bytes::from_mib(16));
    ensure!(bounds.contains(&measured.overhead_bytes), "{measured:?}");
    let host = lab.client().host().await?;
    ensure!(host.charged_bytes <= host.memory_bytes, "{host:?}");

    // A daemon that comes later keeps the limits, and clears up after those
    // that ended meanwhile.
    let before = lab.client().vm("calm").await?;
    let rogue = lab.client().vm("rogue").await?.pid.context("It runs")?;
    lab.kill_daemon()?;
    let rogue = i32::try_from(rogue).ok().and_then(rustix::process::Pid::from_raw).context("A process id")?;
    rustix::process::kill_process(rogue, rustix::process::Signal::KILL)?;
    lab.start_daemon().await?;
    let limited = |vm: &VmView| vm.memory_limit_bytes.is_some();
    let after = lab.until_vm("calm", "limited again", SERVED, limited).await?;
    ensure!(after.pid == before.pid, "{after:?}");
    ensure!(names(lab.root()) == ["calm"], "{:?}", groups(lab.root()));
    finish(lab).await
}

#[tokio::test]
async fn the_unified_hierarchy_counts_refuses_and_kills_as_a_host_needs_it() -> Result<()> {
    let (lab, image) = lab(512).await?;
    lab.define(&Guest::new("modern", 384, 384, 384), Some(&image)).await?;
    lab.boot("modern").await?;
    let grouped = lab.workload("modern").await?.groups().await?;
    ensure!(grouped.hard_limit_bytes == Bytes::from_mib(64), "{grouped:?}");
    ensure!((Bytes::from_mib(32)..Bytes::from_mib(40)).contains(&grouped.held_bytes), "{grouped:?}");
    ensure!(grouped.is_shrinking_refused, "The kernel would have killed for it: {grouped:?}");
    ensure!(grouped.swap_limit.as_deref().is_none_or(|most| most.trim() == "0"), "{grouped:?}");
    ensure!(grouped.killed_by_signal == Some(9) && grouped.oom_kills == 1 && grouped.ooms >= 1, "{grouped:?}");
    let most = Bytes::from_mib(16);
    ensure!(grouped.peak_bytes.is_none_or(|peak| peak > Bytes::from_mib(15) && peak <= most), "{grouped:?}");
    finish(lab).await
}
