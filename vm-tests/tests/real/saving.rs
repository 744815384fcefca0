//! Guests that are saved to a file and go on: their memory is whole, and at no
//! instant is there neither the guest nor all that it was.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use dynmem_api::{VmState, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Guest, Lab, Seen, Workload, is_served, processes, until};

use crate::{SERVED, SETTLED, finish, lab};

/// What a guest holds in these tests: more than its startup.
const HELD: Bytes = Bytes::from_mib(350);

/// What a process has in memory.
fn resident(pid: u32) -> Result<Bytes> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(Bytes::new(kib * 1024))
}

async fn running(lab: &Lab, name: &str) -> Result<VmView> {
    lab.until_vm(name, "running", SERVED, |vm| vm.state == VmState::Running).await
}

/// A guest that holds memory with a pattern in it, more than its startup.
async fn filled(lab: &Lab, name: &str) -> Result<Workload> {
    let mut workload = lab.boot(name).await?;
    lab.until_agent_reports(name).await?;
    workload.grow(HELD, None).await?;
    workload.settle(SETTLED).await?;
    lab.until_vm(name, "grown past startup", SERVED, |vm| is_served(vm) && !vm.plugged_bytes.is_zero()).await?;
    Ok(workload)
}

/// The guest holds what it held, to the byte, and lives.
async fn is_whole(lab: &Lab, name: &str) -> Result<()> {
    running(lab, name).await?;
    let mut workload = lab.workload(name).await?;
    let status = workload.status().await?;
    ensure!(status.held_bytes == HELD, "It holds something else: {status:?}");
    ensure!(workload.verify().await?.broken == 0, "Its memory is not what it was");
    lab.until_agent_reports(name).await.map(drop)
}

#[tokio::test]
async fn a_guest_is_saved_and_goes_on_with_its_memory_whole() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    let workload = filled(&lab, "web").await?;
    let before = lab.client().vm("web").await?;
    drop(workload);

    let saved = lab.client().save("web").await?;
    ensure!((saved.state, saved.assigned_bytes) == (VmState::Saved, Bytes::ZERO), "{saved:?}");
    ensure!(lab.client().host().await?.charged_bytes.is_zero(), "Memory is still charged");
    let left = processes(lab.root());
    ensure!(left.iter().all(|(_, name)| name == "dynmemd"), "QEMU still runs: {left:?}");
    let file = fs::metadata(lab.state_dir().join("saved/web/memory"))?.len();
    ensure!(file >= HELD.get(), "A pattern can't be written in {file} bytes");

    let started = lab.client().start("web").await?;
    ensure!(started.assigned_bytes == before.assigned_bytes, "{before:?}, {started:?}");
    ensure!(started.plugged_bytes == before.plugged_bytes, "{before:?}, {started:?}");
    is_whole(&lab, "web").await?;
    // And it is served as before.
    let mut workload = lab.workload("web").await?;
    workload.grow(Bytes::from_mib(100), None).await?;
    workload.settle(SETTLED).await?;
    lab.until_vm("web", "grown again", SERVED, |vm| is_served(vm) && vm.plugged_bytes > before.plugged_bytes).await?;
    ensure!(workload.verify().await?.broken == 0);
    finish(lab).await
}

#[tokio::test]
async fn what_the_balloon_holds_is_not_in_memory_after_a_restore() -> Result<()> {
    let (lab, image) = lab(850).await?;
    lab.define(&Guest::new("web", 512, 128, 512), Some(&image)).await?;
    let mut workload = lab.boot("web").await?;
    lab.until_agent_reports("web").await?;
    // All of its memory has been touched once: nothing is missing by chance.
    workload.grow(Bytes::from_mib(380), None).await?;
    workload.settle(SETTLED).await?;
    workload.shrink(Bytes::from_mib(340)).await?;
    workload.settle(SETTLED).await?;
    lab.define(&Guest::new("other", 384, 384, 384), Some(&image)).await?;
    lab.until_vm("web", "idle", SERVED, |vm| vm.demand_bytes < Bytes::from_mib(200)).await?;
    lab.client().start("other").await?;
    let small = |vm: &VmView| vm.ballooned_bytes > Bytes::from_mib(100);
    let before = lab.until_vm("web", "shrunk", SERVED, small).await?;
    let held_before = resident(before.pid.context("it runs")?)?;

    let saved = lab.client().save("web").await?;
    let file = Bytes::new(fs::metadata(lab.state_dir().join("saved/web/memory"))?.len());
    let started = lab.client().start("web").await?;
    ensure!(
        started.saved_bytes.is_none() && saved.saved_bytes == Some(started.assigned_bytes),
        "{saved:?}, {started:?}"
    );
    ensure!(started.ballooned_bytes > Bytes::from_mib(90), "{started:?}");
    let held = resident(started.pid.context("it runs")?)?;
    eprintln!("in memory before {held_before}, after {held}; the file {file}; assigned {}", started.assigned_bytes);
    let most = started.assigned_bytes.saturating_add(started.overhead_bytes);
    ensure!(held <= most, "{held} are in memory, and {most} were lent");
    running(&lab, "web").await?;
    let mut workload = lab.workload("web").await?;
    ensure!(workload.verify().await?.broken == 0);
    finish(lab).await
}

/// Waits for a file to be there, or for `over`.
async fn there(path: &Path, over: impl Fn() -> bool) -> Result<()> {
    until(&format!("{}", path.display()), Duration::from_secs(30), async || {
        Ok(if path.exists() || over() { Seen::Ready(()) } else { Seen::NotYet("not there".to_owned()) })
    })
    .await
}

/// `web` is to be saved, or restored; the daemon is killed when a file appears,
/// and the next one finds out how far that came.
async fn dies_at(lab: &mut Lab, file: &Path, saves: bool) -> Result<VmState> {
    let client = lab.client().clone();
    let asked = tokio::spawn(async move { if saves { client.save("web").await } else { client.start("web").await } });
    there(file, || asked.is_finished()).await?;
    lab.kill_daemon()?;
    let _ = asked.await; // nobody is there who could answer, or it was done before
    lab.start_daemon().await?;
    Ok(lab.client().vm("web").await?.state)
}

#[tokio::test]
async fn a_daemon_that_dies_while_a_guest_is_saved_or_restored_costs_the_guest_nothing() -> Result<()> {
    let (mut lab, image) = lab(1024).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    drop(filled(&lab, "web").await?);
    let (saved, run) = (lab.state_dir().join("saved/web"), lab.run_dir("web"));
    let saving = ["memory.partial", "memory", "saved.json"].map(|name| (saved.join(name), true));
    let restoring = ["qemu.pid", "machine.json"].map(|name| (run.join(name), false));
    let resumed = (saved.join("resumed.json"), false);
    for (file, saves) in saving.into_iter().chain(restoring).chain([resumed]) {
        if !saves {
            lab.client().save("web").await?;
        }
        let found = dies_at(&mut lab, &file, saves).await?;
        eprintln!("Killed at {}: the next daemon finds it {found}", file.display());
        match found {
            VmState::Saved => drop(lab.client().start("web").await?),
            VmState::Booting | VmState::Running | VmState::Paused => {}
            other => bail!("It is {other}, after a kill at {}", file.display()),
        }
        is_whole(&lab, "web").await.with_context(|| format!("after a kill at {}", file.display()))?;
    }
    finish(lab).await
}
