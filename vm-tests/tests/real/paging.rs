//! Smart Paging: a guest that was shrunk restarts although its neighbour needs
//! the memory; and whatever happens meanwhile, the neighbour loses nothing.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{EventsQuery, VmState, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Guest, Image, Lab, Workload, WorkloadRequest, swap_files};

use crate::{SERVED, SETTLED, finish, lab};

const STARTUP: Bytes = Bytes::from_mib(512);

/// `web` was shrunk below its startup, because `db` needs all the rest.
struct Full {
    lab: Lab,
    /// While its guest is up.
    web: Option<Workload>,
    db: Workload,
}

/// None where this host can't page.
async fn full() -> Result<Option<Full>> {
    let (lab, image) = lab(1024).await?;
    let paging = lab.client().host().await?.smart_paging;
    if !paging.possible {
        eprintln!("SKIPPED: {:?}", paging.remark);
        finish(lab).await?;
        return Ok(None);
    }
    let (web, mut db) = boot(&lab, &image).await?;
    db.grow(Bytes::from_mib(560), None).await?;
    db.settle(SETTLED).await?;
    lab.until_vm("db", "its demand is met", SERVED, |vm| vm.assigned_bytes >= Bytes::from_mib(560)).await?;
    lab.until_vm("web", "shrunk", SERVED, |vm| vm.assigned_bytes < Bytes::from_mib(300)).await?;
    Ok(Some(Full { lab, web: Some(web), db }))
}

async fn boot(lab: &Lab, image: &Image) -> Result<(Workload, Workload)> {
    let web = Guest { touches_all: true, ..Guest::new("web", STARTUP.mib(), 96, 512) };
    lab.define(&web, Some(image)).await?;
    lab.define(&Guest::new("db", 256, 192, 1024), Some(image)).await?;
    let workloads = (lab.boot("web").await?, lab.boot("db").await?);
    for name in ["web", "db"] {
        lab.until_agent_reports(name).await?;
    }
    Ok(workloads)
}

impl Full {
    /// The guest of `web` restarts by itself.
    async fn reboot(&mut self) -> Result<()> {
        // Who speaks to it next must not wait behind who spoke to it last.
        let mut web = self.web.take().context("It is down")?;
        web.leave(WorkloadRequest::Reboot).await
    }

    /// `web` has begun to boot again, and a part of it is in its file.
    async fn until_paging(&self) -> Result<VmView> {
        let in_file = |vm: &VmView| vm.smart_paging.in_use && !vm.smart_paging.used_bytes.is_zero();
        let vm = self.lab.until_vm("web", "a part of it is in a file", SERVED, in_file).await?;
        let file = vm.smart_paging.path.clone().context("It has no place")?;
        ensure!(file == self.lab.state_dir().join("paging/web.swap"), "{}", file.display());
        let areas = swap_files(self.lab.root());
        ensure!(areas.iter().any(|area| area.path == file), "{areas:?}");
        let size = vm.smart_paging.file_bytes.context("It has no size")?;
        ensure!(size < STARTUP && vm.smart_paging.used_bytes <= size, "{:?}", vm.smart_paging);
        Ok(vm)
    }

    /// `web` has come up, its file is gone, and everybody's memory is right.
    async fn comes_up(&mut self) -> Result<()> {
        self.web = None;
        let mut web = self.lab.workload("web").await?;
        self.lab.until_agent_reports("web").await?;
        self.lab.until_vm("web", "its file is gone", SERVED, |vm| !vm.smart_paging.in_use).await?;
        let left = swap_files(self.lab.root());
        ensure!(left.is_empty() && is_empty(&self.lab.state_dir().join("paging"))?, "{left:?}");
        ensure!(web.status().await?.held_bytes.is_zero(), "The guest did not restart");
        web.grow(Bytes::from_mib(64), None).await?;
        web.settle(SETTLED).await?;
        ensure!(web.verify().await?.broken == 0, "The restarted guest's memory is not what it wrote");
        self.web = Some(web);
        let kept = self.db.verify().await?;
        ensure!(kept.broken == 0, "The neighbour's memory is not what it was: {kept:?}");
        ensure!(self.db.status().await?.oom_kills == 0, "The neighbour ran out of memory");
        let host = self.lab.client().host().await?;
        ensure!(host.charged_bytes <= host.memory_bytes, "{host:?}");
        Ok(())
    }

    async fn has_event(&self, kind: &str) -> Result<()> {
        let query = EventsQuery { vm: Some("web".to_owned()), ..EventsQuery::default() };
        let events = self.lab.client().events(&query).await?;
        ensure!(events.iter().any(|event| event.kind == kind), "No {kind} in {events:#?}");
        Ok(())
    }
}

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

#[tokio::test]
async fn a_guest_reboots_although_its_neighbour_has_the_memory() -> Result<()> {
    let Some(mut full) = full().await? else { return Ok(()) };
    let before = full.lab.client().vm("db").await?;
    full.reboot().await?;
    let paging = full.until_paging().await?;
    ensure!(paging.state == VmState::Booting, "{paging:?}");
    full.comes_up().await?;
    let after = full.lab.client().vm("db").await?;
    ensure!(after.demand_bytes <= after.assigned_bytes, "{before:?}, {after:?}");
    full.has_event("smart-paging-began").await?;
    full.has_event("smart-paging-ended").await?;
    finish(full.lab).await
}

#[tokio::test]
async fn a_restart_command_pages_and_shows_it() -> Result<()> {
    let Some(mut full) = full().await? else { return Ok(()) };
    dynmem(&full.lab, &["vm", "restart", "web"])?;
    full.until_paging().await?;
    let shown = dynmem(&full.lab, &["vm", "show", "web"])?;
    ensure!(shown.contains("/paging/web.swap, in use: "), "{shown}");
    ensure!(dynmem(&full.lab, &["vm", "list"])?.contains("in use"));
    full.comes_up().await?;
    ensure!(!dynmem(&full.lab, &["vm", "show", "web"])?.contains("in use"));
    // And once more: nothing of the first time is in the way.
    full.lab.until_vm("web", "shrunk again", SERVED, |vm| vm.assigned_bytes < Bytes::from_mib(300)).await?;
    full.reboot().await?;
    full.until_paging().await?;
    full.comes_up().await?;
    finish(full.lab).await
}

#[tokio::test]
async fn a_daemon_that_dies_while_a_guest_pages_leaves_it_to_the_next() -> Result<()> {
    let Some(mut full) = full().await? else { return Ok(()) };
    full.reboot().await?;
    let before = full.until_paging().await?;
    full.lab.kill_daemon()?;
    full.lab.start_daemon().await?;
    let after = full.lab.client().vm("web").await?;
    ensure!(after.pid == before.pid, "Another machine: {before:?}, {after:?}");
    full.comes_up().await?;
    finish(full.lab).await
}

#[tokio::test]
async fn a_machine_that_dies_while_it_pages_leaves_nothing() -> Result<()> {
    let Some(mut full) = full().await? else { return Ok(()) };
    full.reboot().await?;
    full.until_paging().await?;
    full.lab.kill_machine("web").await?;
    full.lab.until_vm("web", "failed", SERVED, |vm| vm.state == VmState::Failed).await?;
    ensure!(swap_files(full.lab.root()).is_empty() && is_empty(&full.lab.state_dir().join("paging"))?);
    ensure!(full.db.verify().await?.broken == 0);
    finish(full.lab).await
}

/// What the command says.
fn dynmem(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let output = Command::new(lab.options().binaries.dynmem()?)
        .arg("--socket")
        .arg(lab.client().socket())
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}
