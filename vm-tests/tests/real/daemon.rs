//! What a daemon's end means to guests, and what the next one finds.

use anyhow::{Result, ensure};
use dynmem_api::{EventsQuery, Integration, VmState, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Guest, Lab, Monitor, Workload, is_served};

use crate::{SERVED, SETTLED, finish, lab};

/// Two guests, one of them grown past startup and the other ballooned.
struct Pair {
    lab: Lab,
    web: Workload,
    db: Workload,
    pids: [Option<u32>; 2],
}

const NAMES: [&str; 2] = ["web", "db"];

async fn pair() -> Result<Pair> {
    let (lab, image) = lab(1024).await?;
    for name in NAMES {
        lab.define(&Guest::new(name, 384, 192, 768), Some(&image)).await?;
    }
    let (mut web, mut db) = (lab.boot("web").await?, lab.boot("db").await?);
    for name in NAMES {
        lab.until_agent_reports(name).await?;
    }
    db.grow(Bytes::from_mib(24), None).await?;
    db.settle(SETTLED).await?;
    web.grow(Bytes::from_mib(350), None).await?;
    web.settle(SETTLED).await?;
    lab.until_vm("web", "served past startup", SERVED, |vm| is_served(vm) && !vm.plugged_bytes.is_zero()).await?;
    let pids = [lab.client().vm("web").await?.pid, lab.client().vm("db").await?.pid];
    Ok(Pair { lab, web, db, pids })
}

/// The new daemon knows every guest with QEMU's own numbers, and their agents
/// have found it.
async fn adopted(pair: &Pair) -> Result<()> {
    for (name, pid) in NAMES.iter().zip(pair.pids) {
        let mut monitor: Monitor = pair.lab.monitor(name).await?;
        let truth = monitor.lent().await?;
        let is_true = |vm: &VmView| {
            vm.state == VmState::Running
                && vm.integration == Integration::Agent
                && vm.pid == pid
                && vm.assigned_bytes == truth.assigned()
                && vm.plugged_bytes == truth.plugged
        };
        pair.lab.until_vm(name, &format!("adopted with {truth:?}"), SERVED, is_true).await?;
    }
    Ok(())
}

/// The new daemon serves: what web no longer needs, db gets.
async fn serves(mut pair: Pair) -> Result<()> {
    ensure!(pair.web.verify().await?.broken == 0 && pair.db.verify().await?.broken == 0);
    pair.web.shrink(Bytes::from_mib(350)).await?;
    pair.db.grow(Bytes::from_mib(350), None).await?;
    let held = pair.db.settle(SETTLED).await?;
    let served = |vm: &VmView| vm.demand_bytes >= held && is_served(vm);
    pair.lab.until_vm("db", "served by the new daemon", SERVED, served).await?;
    ensure!(pair.web.verify().await?.broken == 0 && pair.db.verify().await?.broken == 0);
    finish(pair.lab).await
}

#[tokio::test]
async fn a_killed_daemon_harms_no_guest_and_the_next_one_finds_the_true_sizes() -> Result<()> {
    let mut pair = pair().await?;
    pair.lab.kill_daemon()?;
    // Life goes on without it, within what the guests have.
    ensure!(pair.web.verify().await?.broken == 0);
    pair.lab.start_daemon().await?;
    adopted(&pair).await?;
    let events = pair.lab.client().events(&EventsQuery::default()).await?;
    ensure!(events.iter().filter(|event| event.kind == "daemon-started").count() == 2, "{events:?}");
    serves(pair).await
}

#[tokio::test]
async fn a_daemon_that_is_stopped_leaves_its_guests_to_the_next_one() -> Result<()> {
    let mut pair = pair().await?;
    pair.lab.stop_daemon().await?;
    ensure!(pair.web.verify().await?.broken == 0);
    pair.lab.start_daemon().await?;
    adopted(&pair).await?;
    serves(pair).await
}
