//! `cargo xtask package --check`: what lintian says of the packages, and how they do in
//! a clean Debian, from installing to purging, with a real guest meanwhile.
//!
//! What a user can rely on: installing starts the service; upgrading harms no
//! machine; removing leaves machines, settings and state, and says so; purging
//! leaves nothing but what a machine that runs has open.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use dynmem_vm_tests::Image;

use super::Packages;
use crate::{build, debian::Container, setup, shell};

/// A guest boots in 4 s alone on an idle machine and in half a minute on a busy one.
const GUEST_UP: Duration = Duration::from_mins(4);
/// What changes by itself, or is dpkg's and apt's own; users are never removed again.
const VOLATILE: &str = "-path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
     -o -path /var/cache -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /packages \
     -o -path /guest -o -path '/etc/*-' -o -path /var/lib/systemd/timers -o -path /root";

/// Goes through all of it. Fails at the first promise that is not kept.
pub(super) fn run(packages: &Packages) -> Result<()> {
    setup::trying_packages()?;
    shell::run(Command::new("lintian").args(["--fail-on", "error,warning"]).args([&packages.host, &packages.guest]))?;
    let began = Instant::now();
    let Image { kernel, initrd, .. } = build::image()?;
    let debian = Container::boot(&[
        (packages.host.clone(), "/packages/dynmem.deb".to_owned()),
        (packages.guest.clone(), "/packages/dynmem-agent.deb".to_owned()),
        (kernel, "/guest/vmlinuz".to_owned()),
        (initrd, "/guest/initrd".to_owned()),
    ])?;
    eprintln!("Debian is up after {} s", began.elapsed().as_secs());
    debian.must("apt-get -qq update")?;
    debian.must("apt-get -qq satisfy --no-install-recommends \"$(dpkg-deb --field /packages/dynmem.deb Depends)\"")?;
    let before = files(&debian)?;

    install(&debian)?;
    start_a_guest(&debian)?;
    upgrade(&debian)?;
    remove(&debian)?;
    purge(&debian)?;

    let left: Vec<_> = files(&debian)?.difference(&before).cloned().collect();
    ensure!(left.is_empty(), "Purging leaves: {left:#?}");
    eprintln!("Installed, used, upgraded, removed and purged in {} s; nothing is left", began.elapsed().as_secs());
    Ok(())
}

/// All files that there are, but those that change by themselves.
fn files(debian: &Container) -> Result<BTreeSet<String>> {
    let list = debian.must(&format!("find / -xdev \\( {VOLATILE} \\) -prune -o -print"))?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Installing makes the users and starts the service.
fn install(debian: &Container) -> Result<()> {
    debian.must("apt-get -qq install --no-install-recommends /packages/dynmem.deb /packages/dynmem-agent.deb")?;
    debian.must("systemd-analyze verify --man=no dynmemd.service dynmem-agent.service")?;
    debian.must("systemctl is-active dynmemd && systemctl is-enabled dynmemd")?;
    debian.must("systemctl reload dynmemd && systemctl is-active dynmemd")?;
    // Nobody offers a port here, so nobody reports.
    debian.must("! systemctl is-active dynmem-agent")?;
    debian.must("getent group dynmem && id dynmem-qemu")?;
    debian.must("test \"$(stat -c '%A %G' /run/dynmem/dynmem.sock)\" = 'srw-rw---- dynmem'")?;
    debian.must("dynmem host && Get-VM && dynmem-agent --version").map(drop)
}

/// A guest boots as QEMU's own user, and its agent reports.
fn start_a_guest(debian: &Container) -> Result<()> {
    let options = "--startup 384M --minimum 192M --maximum 512M --kernel /guest/vmlinuz --initrd /guest/initrd";
    debian.must(&format!("dynmem vm create try {options} --cmdline 'console=ttyS0 quiet psi=1'"))?;
    debian.must("dynmem vm start try")?;
    debian.until("its agent reports", GUEST_UP, "dynmem vm list | grep -w agent")?;
    debian.must("test \"$(stat -c %U /proc/$(cat /var/lib/dynmem/run/try/qemu.pid))\" = dynmem-qemu").map(drop)
}

/// An upgrade replaces the daemon, and no machine.
fn upgrade(debian: &Container) -> Result<()> {
    let is_same = "test \"$(cat /var/lib/dynmem/run/try/qemu.pid)\" =";
    let pid = debian.must("cat /var/lib/dynmem/run/try/qemu.pid")?;
    let daemon = debian.must("systemctl show --property MainPID --value dynmemd")?;
    debian.must("apt-get -qq install --reinstall /packages/dynmem.deb")?;
    let after = debian.must("systemctl show --property MainPID --value dynmemd")?;
    ensure!(daemon != after, "The upgrade left the old daemon running");
    debian.until("the new daemon has taken it over", GUEST_UP, "dynmem vm list | grep -w agent")?;
    debian.must(&format!("{is_same} {pid}")).map(drop)
}

/// Removing leaves machines, settings and state, and says that machines run.
fn remove(debian: &Container) -> Result<()> {
    let said = debian.must("apt-get -qq remove dynmem dynmem-agent")?;
    ensure!(said.contains("try: process"), "Removing does not say that a machine runs: {said}");
    debian.must("test ! -e /usr/bin/dynmem && test ! -e /usr/bin/Get-VM && test -f /etc/dynmem/dynmemd.toml")?;
    debian.must("kill -0 \"$(cat /var/lib/dynmem/run/try/qemu.pid)\" && test -f /var/lib/dynmem/vms/try.toml").map(drop)
}

/// Purging leaves what a machine that runs has open, and later nothing.
fn purge(debian: &Container) -> Result<()> {
    let said = debian.must("apt-get -qq purge dynmem dynmem-agent")?;
    ensure!(said.contains("/var/lib/dynmem is left"), "Purging does not say what it leaves: {said}");
    debian.must("test ! -e /etc/dynmem && test -d /var/lib/dynmem/run/try")?;

    debian.must("apt-get -qq install --no-install-recommends /packages/dynmem.deb")?;
    debian.until("it is managed again", GUEST_UP, "dynmem vm list | grep -w agent")?;
    debian.must("dynmem vm stop --force --yes try")?;
    debian.must("apt-get -qq purge dynmem").map(drop)
}
