//! One of two guests is in trouble; the other must not notice, and the trouble
//! must end when its reason does.

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{EventsQuery, Integration, VmState, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{AgentFate, Guest, Lab, Signal, Workload, WorkloadRequest, is_served};

use crate::{SERVED, SETTLED, finish, lab};

/// `web` gets into trouble, `db` is its neighbour.
struct Pair {
    lab: Lab,
    web: Workload,
    db: Workload,
}

impl Pair {
    /// Both with a load of 24 MiB, on a pool with room for one of them to grow.
    async fn boot() -> Result<Self> {
        let (lab, image) = lab(1280).await?;
        for name in ["web", "db"] {
            lab.define(&Guest::new(name, 320, 160, 768), Some(&image)).await?;
            lab.client().start(name).await?;
        }
        let (mut web, mut db) = (lab.workload("web").await?, lab.workload("db").await?);
        for (name, workload) in [("web", &mut web), ("db", &mut db)] {
            lab.until_agent_reports(name).await?;
            workload.grow(Bytes::from_mib(24), None).await?;
            workload.settle(SETTLED).await?;
        }
        Ok(Self { lab, web, db })
    }

    /// The neighbour gets what it needs and has lost nothing.
    async fn db_is_served(&mut self) -> Result<()> {
        self.db.grow(Bytes::from_mib(250), None).await?;
        let held = self.db.settle(SETTLED).await?;
        let served = |vm: &VmView| vm.demand_bytes >= held && is_served(vm);
        self.lab.until_vm("db", "served beside a neighbour in trouble", SERVED, served).await?;
        ensure!(self.db.verify().await?.broken == 0);
        Ok(())
    }

    /// The trouble is over, and web is served like anybody.
    async fn web_is_served(&mut self) -> Result<()> {
        self.db.shrink(Bytes::from_mib(250)).await?;
        self.web.grow(Bytes::from_mib(250), None).await?;
        let held = self.web.settle(SETTLED).await?;
        let served = |vm: &VmView| vm.demand_bytes >= held && is_served(vm) && vm.integration == Integration::Agent;
        self.lab.until_vm("web", "served after its trouble", SERVED, served).await?;
        ensure!(self.web.verify().await?.broken == 0 && self.db.verify().await?.broken == 0);
        Ok(())
    }
}

#[tokio::test]
async fn a_qemu_that_stands_still_is_told_and_keeps_nobody_else_waiting() -> Result<()> {
    let mut pair = Pair::boot().await?;
    pair.lab.signal_machine("web", Signal::STOP)?;
    let told = |vm: &VmView| !vm.warnings.is_empty();
    let web = pair.lab.until_vm("web", "known to stand still", SERVED, told).await?;
    ensure!(web.state == VmState::Running && web.assigned_bytes == Bytes::from_mib(320), "{web:?}");
    pair.db_is_served().await?;
    pair.lab.signal_machine("web", Signal::CONT)?;
    pair.lab.until_vm("web", "well again", SERVED, |vm| vm.warnings.is_empty()).await?;
    pair.web_is_served().await?;
    finish(pair.lab).await
}

#[tokio::test]
async fn an_agent_that_stands_still_is_replaced_by_statistics_until_it_speaks_again() -> Result<()> {
    let mut pair = Pair::boot().await?;
    pair.web.mischief(WorkloadRequest::Agent { fate: AgentFate::Stopped }).await?;
    let silent = |vm: &VmView| vm.integration != Integration::Agent;
    pair.lab.until_vm("web", "without an agent", SERVED, silent).await?;
    pair.db_is_served().await?;
    pair.web.mischief(WorkloadRequest::Agent { fate: AgentFate::Continued }).await?;
    pair.lab.until_agent_reports("web").await?;
    pair.web_is_served().await?;
    // Init starts another in place of one that was killed.
    pair.web.mischief(WorkloadRequest::Agent { fate: AgentFate::Killed }).await?;
    pair.lab.until_agent_reports("web").await?;
    finish(pair.lab).await
}

#[tokio::test]
async fn a_killed_qemu_has_failed_and_its_memory_is_everybodys() -> Result<()> {
    let mut pair = Pair::boot().await?;
    pair.lab.signal_machine("web", Signal::KILL)?;
    let web = pair.lab.until_vm("web", "known to be gone", SERVED, |vm| vm.state == VmState::Failed).await?;
    let reason = web.state_reason.as_deref().context("No reason is told")?;
    ensure!(reason.contains("signal 9"), "{reason}");
    ensure!(web.assigned_bytes.is_zero(), "{web:?}");
    pair.db_is_served().await?;
    let query = EventsQuery { vm: Some("web".to_owned()), ..EventsQuery::default() };
    let events = pair.lab.client().events(&query).await?;
    ensure!(events.iter().any(|event| event.kind == "failed" && event.message.contains("signal 9")), "{events:?}");
    pair.web = pair.lab.boot("web").await?;
    pair.lab.until_agent_reports("web").await?;
    pair.web_is_served().await?;
    finish(pair.lab).await
}

#[tokio::test]
async fn a_balloon_without_a_driver_gives_nothing_and_others_are_served_all_the_same() -> Result<()> {
    let mut pair = Pair::boot().await?;
    pair.web.mischief(WorkloadRequest::Balloon { bound: false }).await?;
    pair.db_is_served().await?;
    pair.web.mischief(WorkloadRequest::Balloon { bound: true }).await?;
    pair.web_is_served().await?;
    finish(pair.lab).await
}

#[tokio::test]
async fn a_guest_without_a_driver_is_named_as_that_until_it_has_one_again() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    for (name, maximum) in [("web", 320), ("db", 1024)] {
        lab.define(&Guest::new(name, 320, 128, maximum), Some(&image)).await?;
        lab.client().start(name).await?;
    }
    let (mut web, mut db) = (lab.workload("web").await?, lab.workload("db").await?);
    for name in ["web", "db"] {
        lab.until_agent_reports(name).await?;
    }
    web.mischief(WorkloadRequest::Balloon { bound: false }).await?;
    // More than there is beside what web holds: it is asked, and can't hear.
    db.grow(Bytes::from_mib(560), None).await?;
    let no_driver = |vm: &VmView| vm.troubles.iter().any(|trouble| trouble.kind == "no-driver");
    let named = lab.until_vm("web", "it has no driver", SERVED, no_driver).await?;
    ensure!(named.assigned_bytes == Bytes::from_mib(320), "It keeps what it holds: {named:?}");
    let explained = lab.client().explain("web").await?;
    ensure!(explained.why == "held" && !explained.remedies.is_empty(), "{explained:?}");

    web.mischief(WorkloadRequest::Balloon { bound: true }).await?;
    let gives = |vm: &VmView| vm.troubles.is_empty() && vm.assigned_bytes < Bytes::from_mib(320);
    lab.until_vm("web", "it gives, and nothing is wrong any more", SERVED, gives).await?;
    let query = EventsQuery { vm: Some("web".to_owned()), ..EventsQuery::default() };
    let kinds: Vec<String> = lab.client().events(&query).await?.into_iter().map(|event| event.kind).collect();
    ensure!(kinds.iter().any(|kind| kind == "no-driver"), "{kinds:?}");
    finish(lab).await
}
