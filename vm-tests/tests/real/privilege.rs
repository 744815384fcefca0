//! Guests whose QEMU is a user of its own, with no rights on this host.

use std::fs;

use anyhow::{Result, ensure};
use dynmem_api::{VmState, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Guest, Image, Lab, LabOptions, is_served};

use crate::{SERVED, SETTLED, finish};

/// A user that every host has, and that owns nothing there.
const NOBODY: &str = "nobody";

/// The image where nobody can read it: the build's folder may be root's alone.
fn readable(lab: &Lab, image: &Image) -> Result<Image> {
    let mut copy = image.clone();
    for (from, to) in [(&image.kernel, &mut copy.kernel), (&image.initrd, &mut copy.initrd)] {
        *to = lab.root().join(from.file_name().unwrap_or_default());
        fs::copy(from, &*to)?;
        lab.hand_over(to)?;
    }
    Ok(copy)
}

/// The identity and rights of a process: what `/proc/PID/status` says.
fn status(vm: &VmView, key: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", vm.pid.unwrap_or_default()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn a_guest_whose_qemu_has_no_rights_boots_grows_gives_back_and_is_found_again() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("Only root can start QEMU as another user: nothing is tested here");
        return Ok(());
    }
    let binaries = Binaries::beside_this_program()?;
    let image = binaries.image()?;
    let options = LabOptions { qemu_user: NOBODY, ..LabOptions::with_pool(Bytes::from_mib(1024), binaries) };
    let mut lab = Lab::start(options).await?;
    let image = readable(&lab, &image)?;
    for name in ["web", "db"] {
        lab.define(&Guest::new(name, 384, 192, 768), Some(&image)).await?;
    }
    let (mut web, mut db) = (lab.boot("web").await?, lab.boot("db").await?);
    for name in ["web", "db"] {
        let vm = lab.until_agent_reports(name).await?;
        ensure!(status(&vm, "Uid")? != "0 0 0 0", "{name} runs as root");
        ensure!(status(&vm, "CapEff")? == "0000000000000000", "{name} has capabilities");
        ensure!(status(&vm, "Seccomp")? == "2", "{name} is not sandboxed");
    }

    // Both mechanisms: hot-added for one, ballooned for the other.
    web.grow(Bytes::from_mib(350), None).await?;
    let held = web.settle(SETTLED).await?;
    let served = |vm: &VmView| vm.demand_bytes >= held && is_served(vm) && !vm.plugged_bytes.is_zero();
    let before = lab.until_vm("web", "served past startup", SERVED, served).await?;

    lab.kill_daemon()?;
    lab.start_daemon().await?;
    let found = |vm: &VmView| vm.state == VmState::Running && vm.pid == before.pid;
    lab.until_vm("web", "found again", SERVED, found).await?;
    web.shrink(Bytes::from_mib(350)).await?;
    db.grow(Bytes::from_mib(350), None).await?;
    let held = db.settle(SETTLED).await?;
    lab.until_vm("db", "served by the new daemon", SERVED, |vm| vm.demand_bytes >= held && is_served(vm)).await?;
    ensure!(web.verify().await?.broken == 0 && db.verify().await?.broken == 0);
    finish(lab).await
}
