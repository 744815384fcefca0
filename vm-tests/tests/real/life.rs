//! Starts, stops, reboots, and guests that never come up.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{ClientError, DriverView, EventsQuery, Integration, StopMode, StopRequest, VmState};
use dynmem_units::Bytes;
use dynmem_vm_tests::{BOOT_LIMIT, Guest, WorkloadRequest, is_served};

use crate::{SERVED, SETTLED, finish, lab};

#[tokio::test]
async fn a_guest_boots_reports_and_stops_when_asked() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    lab.boot("web").await?;
    let vm = lab.until_agent_reports("web").await?;
    ensure!(vm.guest_visible_bytes.is_some_and(|visible| visible <= vm.assigned_bytes), "{vm:?}");
    ensure!(vm.driver == DriverView::Ok, "{vm:?}");
    let seen = lab.monitor("web").await?.lent().await?;
    ensure!(seen.assigned() == vm.assigned_bytes, "QEMU says {seen:?}, the daemon {vm:?}");

    let request = StopRequest { mode: StopMode::Graceful, timeout_seconds: 60 };
    let stopped = lab.client().stop("web", &request).await?;
    ensure!(stopped.state == VmState::Off, "{stopped:?}");
    ensure!(stopped.assigned_bytes.is_zero() && stopped.demand_bytes.is_zero(), "{stopped:?}");
    let host = lab.client().host().await?;
    ensure!(host.charged_bytes.is_zero(), "Memory is still charged: {host:?}");
    ensure!(dynmem_vm_tests::processes(lab.root()).iter().all(|(_, name)| name == "dynmemd"), "QEMU still runs");
    finish(lab).await
}

#[tokio::test]
async fn a_guest_that_powers_itself_off_is_off() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    let mut workload = lab.boot("web").await?;
    lab.until_agent_reports("web").await?;
    workload.leave(WorkloadRequest::Poweroff).await?;
    lab.until_vm("web", "off", SERVED, |vm| vm.state == VmState::Off && vm.assigned_bytes.is_zero()).await?;
    finish(lab).await
}

#[tokio::test]
async fn a_guests_own_reboot_is_held_and_goes_on_with_startup_memory() -> Result<()> {
    let (lab, image) = lab(2048).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    let mut workload = lab.boot("web").await?;
    let first = lab.until_agent_reports("web").await?;
    workload.grow(Bytes::from_mib(350), None).await?;
    workload.settle(SETTLED).await?;
    lab.until_vm("web", "grown past startup", SERVED, |vm| !vm.plugged_bytes.is_zero()).await?;

    workload.leave(WorkloadRequest::Reboot).await?;
    drop(workload); // its answers would be the old guest's
    lab.until_vm("web", "booting again", SERVED, |vm| vm.state != VmState::Running).await?;
    let mut workload = lab.workload("web").await?;
    let again = lab.until_agent_reports("web").await?;
    ensure!(workload.status().await?.held_bytes.is_zero(), "The guest did not restart");
    ensure!(again.pid == first.pid, "Another machine: {first:?}, {again:?}");
    let lent = lab.monitor("web").await?.lent().await?;
    ensure!(lent.assigned() == Bytes::from_mib(384), "A rebooted guest has its startup memory: {lent:?}");

    // And it is served as before.
    workload.grow(Bytes::from_mib(350), None).await?;
    workload.settle(SETTLED).await?;
    lab.until_vm("web", "grown again", SERVED, |vm| is_served(vm) && !vm.plugged_bytes.is_zero()).await?;
    ensure!(workload.verify().await?.broken == 0);
    finish(lab).await
}

#[tokio::test]
async fn a_guest_that_never_boots_keeps_what_it_has_and_harms_nobody() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("dead", 256, 64, 1024), None).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    lab.client().start("dead").await?;
    let mut workload = lab.boot("web").await?;
    lab.until_agent_reports("web").await?;

    // More than there is: everything that can move has moved then, and no
    // OOM, as the guest's need stays below what it gets.
    workload.grow(Bytes::from_mib(280), None).await?;
    workload.settle(SETTLED).await?;
    lab.until_vm("web", "served", SERVED, is_served).await?;
    let dead = lab.client().vm("dead").await?;
    ensure!(dead.state == VmState::Booting && dead.integration == Integration::None, "{dead:?}");
    let lent = lab.monitor("dead").await?.lent().await?;
    ensure!(lent.assigned() == Bytes::from_mib(256), "It was asked for memory: {lent:?}");
    ensure!(dead.assigned_bytes == lent.assigned(), "{dead:?}");

    let force = StopRequest { mode: StopMode::Force, ..StopRequest::default() };
    ensure!(lab.client().stop("dead", &force).await?.state == VmState::Off);
    ensure!(workload.verify().await?.broken == 0);
    finish(lab).await
}

#[tokio::test]
async fn a_start_that_does_not_fit_is_refused_with_the_numbers_and_changes_nothing() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("big", 2048, 512, 4096), Some(&image)).await?;
    let error = lab.client().start("big").await.expect_err("it needs twice the pool");
    let ClientError::Refused(problem) = error else { anyhow::bail!("{error}") };
    ensure!(problem.status == 409, "{problem:?}");
    let numbers = problem
        .detail
        .strip_prefix("Not enough memory in the system to start the virtual machine big: needs ")
        .and_then(|rest| rest.strip_suffix(" available")?.split_once(", "))
        .with_context(|| format!("Another sentence: {}", problem.detail))?;
    let (needs, available): (Bytes, Bytes) = (numbers.0.parse()?, numbers.1.parse()?);
    ensure!(needs > Bytes::from_mib(2048) && needs < Bytes::from_mib(2048 + 256), "{needs} with overhead");
    ensure!(available == Bytes::from_mib(1024), "{available} of an empty pool");

    let vm = lab.client().vm("big").await?;
    ensure!(vm.state == VmState::Off && vm.assigned_bytes.is_zero(), "{vm:?}");
    ensure!(lab.client().host().await?.charged_bytes.is_zero());
    let events = lab.client().events(&EventsQuery { vm: Some("big".to_owned()), ..EventsQuery::default() }).await?;
    let refused = events.iter().find(|event| event.kind == "start-refused").context("No event tells of it")?;
    ensure!(refused.message == problem.detail, "{refused:?}");
    finish(lab).await
}

#[tokio::test]
async fn a_guest_whose_kernel_crashes_restarts_and_is_served_again() -> Result<()> {
    let (lab, image) = lab(1024).await?;
    lab.define(&Guest::new("web", 384, 192, 1024), Some(&image)).await?;
    let mut workload = lab.boot("web").await?;
    lab.until_agent_reports("web").await?;
    workload.grow(Bytes::from_mib(32), None).await?;
    // The answer may die with the kernel.
    let crashed = tokio::time::timeout(Duration::from_secs(10), workload.leave(WorkloadRequest::Crash)).await;
    drop((crashed, workload));
    lab.until_vm("web", "booting again", BOOT_LIMIT, |vm| vm.state != VmState::Running).await?;
    let mut workload = lab.workload("web").await?;
    lab.until_agent_reports("web").await?;
    ensure!(workload.status().await?.held_bytes == Bytes::ZERO, "A new kernel holds nothing yet");
    let events = lab.client().events(&EventsQuery { vm: Some("web".to_owned()), ..EventsQuery::default() }).await?;
    ensure!(events.iter().any(|event| event.kind == "restarting"), "No event tells of the restart: {events:?}");
    finish(lab).await
}
