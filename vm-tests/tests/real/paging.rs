//! Smart Paging: a guest that was shrunk restarts although its neighbour needs
//! the memory; and whatever happens meanwhile, the neighbour loses nothing.

use std::process::Command;

use anyhow::{Result, ensure};
use dynmem_api::{EventsQuery, VmState};
use dynmem_vm_tests::{Binaries, Crowd, Lab, LabOptions};

use crate::{SERVED, finish};

/// None where this host can't page.
async fn crowd() -> Result<Option<Crowd>> {
    let binaries = Binaries::beside_this_program()?;
    let image = binaries.image()?;
    Crowd::gather(LabOptions::with_pool(Crowd::POOL, binaries), &image).await
}

#[tokio::test]
async fn a_guest_reboots_although_its_neighbour_has_the_memory() -> Result<()> {
    let Some(mut crowd) = crowd().await? else { return Ok(()) };
    crowd.reboot().await?;
    let paging = crowd.until_paging().await?;
    ensure!(paging.state == VmState::Booting, "{paging:?}");
    crowd.until_up().await?;
    crowd.ensure_intact().await?;
    let query = EventsQuery { vm: Some("web".to_owned()), ..EventsQuery::default() };
    let events = crowd.lab.client().events(&query).await?;
    for kind in ["smart-paging-began", "smart-paging-ended"] {
        ensure!(events.iter().any(|event| event.kind == kind), "No {kind} in {events:#?}");
    }
    finish(crowd.lab).await
}

#[tokio::test]
async fn a_restart_command_pages_and_shows_it() -> Result<()> {
    let Some(mut crowd) = crowd().await? else { return Ok(()) };
    dynmem(&crowd.lab, &["vm", "restart", "web"])?;
    crowd.until_paging().await?;
    let shown = dynmem(&crowd.lab, &["vm", "show", "web"])?;
    ensure!(shown.contains("/paging/web.swap, in use: "), "{shown}");
    ensure!(dynmem(&crowd.lab, &["vm", "list"])?.contains("in use"));
    crowd.until_up().await?;
    crowd.ensure_intact().await?;
    ensure!(!dynmem(&crowd.lab, &["vm", "show", "web"])?.contains("in use"));
    // And once more: nothing of the first time is in the way.
    crowd.until_full().await?;
    crowd.reboot().await?;
    crowd.until_paging().await?;
    crowd.until_up().await?;
    crowd.ensure_intact().await?;
    finish(crowd.lab).await
}

#[tokio::test]
async fn a_daemon_that_dies_while_a_guest_pages_leaves_it_to_the_next() -> Result<()> {
    let Some(mut crowd) = crowd().await? else { return Ok(()) };
    crowd.reboot().await?;
    let before = crowd.until_paging().await?;
    crowd.lab.kill_daemon()?;
    crowd.lab.start_daemon().await?;
    let after = crowd.lab.client().vm("web").await?;
    ensure!(after.pid == before.pid, "Another machine: {before:?}, {after:?}");
    crowd.until_up().await?;
    crowd.ensure_intact().await?;
    finish(crowd.lab).await
}

#[tokio::test]
async fn a_machine_that_dies_while_it_pages_leaves_nothing() -> Result<()> {
    let Some(mut crowd) = crowd().await? else { return Ok(()) };
    crowd.reboot().await?;
    crowd.until_paging().await?;
    crowd.lab.kill_machine("web").await?;
    crowd.lab.until_vm("web", "failed", SERVED, |vm| vm.state == VmState::Failed).await?;
    crowd.ensure_no_file()?;
    crowd.ensure_neighbour_intact().await?;
    finish(crowd.lab).await
}

/// What the command says.
fn dynmem(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(lab.options().binaries.dynmem()?).arg("--socket").arg(lab.socket()).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}
