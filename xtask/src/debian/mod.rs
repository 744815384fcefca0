//! A clean Debian 12 to try packages in: installed once, booted as often as needed.
//!
//! ```text
//!  mmdebstrap ──▶ target/debian/root, never written to ──┐
//!                 target/debian/archives, apt's cache ───┼──▶ Container: systemd as PID 1 in namespaces
//!                 a private folder: what is written ─────┘     of its own ──▶ run("apt-get install …")
//! ```
//!
//! Only Linux's own means are used (namespaces, overlayfs), so that it runs wherever
//! root does, also in a virtual machine without nested virtualisation.

mod container;
mod inside;
mod talk;

pub(crate) use container::Container;
pub(crate) use inside::{Contain, contain};

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{setup, shell};

/// What a Debian that somebody installed has, beside `apt` and what is essential.
const INSTALLED: &str = "systemd-sysv,dbus,ca-certificates";
/// A container is set up within seconds: what is older and has no process is nobody's.
const LONG_AGO: Duration = Duration::from_mins(10);
/// The release that everything is made for.
const SUITE: &str = "bookworm";

/// Where all of it lies.
fn folder() -> PathBuf {
    shell::target_dir().join("debian")
}

/// A Debian as it is when somebody has just installed it; made if it is not there. Delete the folder
/// to get a newer one. `DYNMEM_MIRROR` names a mirror other than Debian's own.
fn root() -> Result<PathBuf> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "A Debian is installed and booted by root only: run this command as root, or with sudo"
    );
    setup::trying_packages()?;
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("Could not make {}", folder.display()))?;
    let folder = fs::canonicalize(folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock().with_context(|| format!("Could not lock {}", folder.display()))?;
    forget_the_dead(&folder)?;
    let root = folder.join("root");
    if root.is_dir() {
        return Ok(root);
    }
    eprintln!("Installing Debian 12 into {}: once, about two minutes", root.display());
    let unfinished = folder.join("root.unfinished");
    remove(&unfinished)?;
    let mut install = Command::new("mmdebstrap");
    install
        .args(["--variant=minbase", &format!("--include={INSTALLED}"), "--format=directory", SUITE])
        .arg(&unfinished);
    if let Some(mirror) = env::var_os("DYNMEM_MIRROR") {
        install.arg(mirror);
    }
    shell::run(&mut install)?;
    fs::rename(&unfinished, &root)?;
    Ok(root)
}

/// Removes what containers left whose xtask was killed: the kernel has ended them, and nobody has
/// cleaned up.
fn forget_the_dead(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > LONG_AGO);
        let is_labs = entry.file_name().to_string_lossy().starts_with("dynmem-lab-");
        if is_old && is_labs && dynmem_vm_tests::processes(&entry.path()).is_empty() {
            for group in dynmem_vm_tests::groups(&entry.path()) {
                fs::remove_dir(&group).with_context(|| format!("Could not remove {}", group.display()))?;
            }
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder that an earlier run was interrupted in.
fn remove(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        fs::remove_dir_all(folder).with_context(|| format!("Could not remove {}", folder.display()))?;
    }
    Ok(())
}
