//! Memory on its way between guests, in QEMU's own numbers.

use anyhow::{Result, ensure};
use dynmem_api::{Integration, MemoryStatus, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Guest, Lab, Workload, is_served};

use crate::{SERVED, SETTLED, finish, lab};

/// Lets the guest need `mib` more, and waits until it has demand and buffer.
async fn load(lab: &Lab, name: &str, workload: &mut Workload, mib: u64) -> Result<VmView> {
    load_at(lab, name, workload, mib, 64).await
}

/// The same, at so many MiB per second.
async fn load_at(lab: &Lab, name: &str, workload: &mut Workload, mib: u64, per_second: u64) -> Result<VmView> {
    workload.grow(Bytes::from_mib(mib), Some(Bytes::from_mib(per_second))).await?;
    let held = workload.settle(SETTLED).await?;
    let served = |vm: &VmView| vm.demand_bytes >= held && is_served(vm);
    lab.until_vm(name, "demand and buffer are met", SERVED, served).await
}

#[tokio::test]
async fn a_loaded_guest_grows_past_startup_and_keeps_what_nobody_needs() -> Result<()> {
    let (lab, image) = lab(2048).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    let mut workload = lab.boot("web").await?;
    let before = lab.until_agent_reports("web").await?;
    ensure!(before.assigned_bytes == Bytes::from_mib(384), "A calm guest has its startup memory: {before:?}");

    let loaded = load(&lab, "web", &mut workload, 400).await?;
    let lent = lab.monitor("web").await?.lent().await?;
    ensure!(lent.balloon_actual == Bytes::from_mib(384), "Nothing is ballooned: {lent:?}");
    ensure!(!lent.plugged.is_zero(), "The rest is hot-added: {lent:?}");
    ensure!(loaded.memory_status == Some(MemoryStatus::Ok), "{loaded:?}");
    ensure!(workload.verify().await?.broken == 0);

    workload.shrink(Bytes::from_mib(400)).await?;
    let target_is_low = |vm: &VmView| vm.target_bytes < before.assigned_bytes;
    let calm = lab.until_vm("web", "demand has sunk", SERVED, target_is_low).await?;
    ensure!(calm.assigned_bytes >= loaded.assigned_bytes, "Memory was taken though nobody needs it: {calm:?}");
    finish(lab).await
}

#[tokio::test]
async fn an_idle_guest_gives_what_another_needs_and_gets_it_back_by_balloon_first() -> Result<()> {
    // Two guests of 384 MiB and QEMU's own 80 fit; what one needs beyond, the
    // other has to give.
    let (lab, image) = lab(1024).await?;
    for name in ["web", "db"] {
        lab.define(&Guest::new(name, 384, 192, 768), Some(&image)).await?;
    }
    let (mut web, mut db) = (lab.boot("web").await?, lab.boot("db").await?);
    for (name, workload) in [("web", &mut web), ("db", &mut db)] {
        lab.until_agent_reports(name).await?;
        load(&lab, name, workload, 24).await?;
    }

    load(&lab, "web", &mut web, 350).await?;
    let mut monitor = lab.monitor("db").await?;
    let db_gave = monitor.lent().await?;
    ensure!(db_gave.assigned() < Bytes::from_mib(384), "The idle guest gave nothing: {db_gave:?}");
    ensure!(db_gave.assigned() >= Bytes::from_mib(192), "The idle guest is below its minimum: {db_gave:?}");
    ensure!(web.verify().await?.broken == 0);

    web.shrink(Bytes::from_mib(350)).await?;
    load(&lab, "db", &mut db, 350).await?;
    let db_got = monitor.lent().await?;
    ensure!(db_got.balloon_actual == Bytes::from_mib(384), "The balloon is to be empty before hot-add: {db_got:?}");
    ensure!(!db_got.plugged.is_zero(), "The rest is hot-added: {db_got:?}");
    for workload in [&mut web, &mut db] {
        ensure!(workload.verify().await?.broken == 0);
    }
    finish(lab).await
}

#[tokio::test]
async fn a_start_takes_the_surplus_of_calm_guests() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("fat", 768, 192, 1024), Some(&image)).await?;
    lab.define(&Guest::new("new", 384, 192, 512), Some(&image)).await?;
    lab.boot("fat").await?;
    lab.until_agent_reports("fat").await?;

    lab.boot("new").await?;
    let mut monitor = lab.monitor("fat").await?;
    let gave = monitor.lent().await?;
    ensure!(gave.assigned() < Bytes::from_mib(768), "{gave:?}");
    let host = lab.client().host().await?;
    ensure!(host.charged_bytes <= host.memory_bytes, "{host:?}");
    finish(lab).await
}

#[tokio::test]
async fn a_guest_without_agent_works_from_balloon_statistics_and_says_so() -> Result<()> {
    let (lab, image) = lab(1536).await?;
    let guest = Guest { agent: false, ..Guest::new("plain", 256, 192, 1024) };
    lab.define(&guest, Some(&image)).await?;
    let mut workload = lab.boot("plain").await?;
    let degraded = |vm: &VmView| vm.integration == Integration::BalloonStatistics && !vm.demand_bytes.is_zero();
    lab.until_vm("plain", "balloon statistics arrive", SERVED, degraded).await?;

    // Statistics are seconds old when they come: the buffer has to last until
    // then.
    let loaded = load_at(&lab, "plain", &mut workload, 180, 5).await?;
    ensure!(loaded.assigned_bytes > Bytes::from_mib(256), "{loaded:?}");
    ensure!(loaded.integration == Integration::BalloonStatistics, "{loaded:?}");
    ensure!(workload.verify().await?.broken == 0);
    finish(lab).await
}

#[tokio::test]
async fn memory_that_a_guest_frees_is_the_hosts_again_and_that_is_shown() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("web", 512, 128, 512), Some(&image)).await?;
    let mut workload = lab.boot("web").await?;
    lab.until_agent_reports("web").await?;
    workload.grow(Bytes::from_mib(256), None).await?;
    workload.settle(SETTLED).await?;
    let resident = |vm: &VmView| vm.resident_bytes.unwrap_or_default();
    let is_there = |vm: &VmView| vm.resident_bytes.is_none_or(|resident| resident > Bytes::from_mib(256));
    let full = lab.until_vm("web", "what it uses is in memory", SERVED, is_there).await?;
    if full.resident_bytes.is_none() {
        eprintln!("skipped: no memory group tells what a machine holds here");
        return finish(lab).await;
    }
    workload.shrink(Bytes::from_mib(256)).await?;
    let returned = |vm: &VmView| resident(vm).saturating_add(Bytes::from_mib(128)) < resident(&full);
    let freed = lab.until_vm("web", "its free pages are the host's again", SERVED, returned).await?;
    ensure!(freed.assigned_bytes == full.assigned_bytes, "It is lent as much as before: {freed:?}");
    finish(lab).await
}
