//! What happens between a started process and systemd: `xtask contain`, hidden.
//!
//! ```text
//!  outside: joins a group of its own, ──unshare──▶ inside: PID 1. Mounts, and makes its
//!  dies with whoever started it                    root the only one ──exec──▶ systemd
//! ```
//! Each stage becomes the next one, so that there is one process to end.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Error, Result};
use rustix::process::{Signal, pivot_root, set_parent_process_death_signal};

use crate::shell;

/// Which stage, and of which container.
#[derive(clap::Args)]
pub(crate) struct Contain {
    stage: Stage,
    /// The container's private folder
    folder: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Stage {
    Outside,
    Inside,
}

/// Devices of the host that are the container's too, as far as there are such.
const DEVICES: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "kvm", "net/tun"];

/// Becomes the next stage; comes back only if that does not work.
pub(crate) fn contain(Contain { stage, folder }: &Contain) -> Result<()> {
    let mut next = match stage {
        Stage::Outside => outside(folder)?,
        Stage::Inside => inside(folder)?,
    };
    Err(Error::new(next.exec()).context(format!("Could not run {}", next.get_program().to_string_lossy())))
}

fn outside(folder: &Path) -> Result<Command> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let hierarchy = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let hierarchy = hierarchy.into_iter().find(|hierarchy| hierarchy.join("cgroup.procs").is_file());
    let hierarchy = hierarchy.context("This host has no cgroup v2, which systemd wants")?;
    let group = hierarchy.join(folder.file_name().context("The folder has a name")?);
    fs::create_dir(&group).and_then(|()| fs::write(group.join("cgroup.procs"), "0"))?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation=private", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"]);
    unshare.arg("--").args([std::env::current_exe()?.as_os_str(), "contain".as_ref(), "inside".as_ref()]).arg(folder);
    Ok(unshare)
}

fn inside(folder: &Path) -> Result<Command> {
    let root = folder.join("root");
    let lower = folder.parent().context("The folder is in a folder")?;
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join("root").display(),
        folder.join("written").display(),
        folder.join("work").display()
    );
    mount(&["-t", "overlay", "-o", &layers, "overlay"], &root)?;
    mount(&["-t", "proc", "proc"], &root.join("proc"))?;
    // What the kernel is told there is told for the host as well: it may be read.
    mount(&["--bind", &text(&root.join("proc/sys"))], &root.join("proc/sys"))?;
    mount(&["-o", "remount,bind,ro", "none"], &root.join("proc/sys"))?;
    mount(&["-t", "sysfs", "-o", "ro", "sysfs"], &root.join("sys"))?;
    mount(&["-t", "cgroup2", "cgroup2"], &root.join("sys/fs/cgroup"))?;
    mount(&["-t", "tmpfs", "-o", "mode=755", "run"], &root.join("run"))?;
    mount(&["--bind", &text(&lower.join("archives"))], &root.join("var/cache/apt/archives"))?;
    devices(&root.join("dev"))?;
    std::env::set_current_dir(&root)?;
    pivot_root(".", ".").context("Could not change the root")?;
    shell::output(Command::new("umount").args(["--lazy", "."]))?;
    let mut systemd = Command::new("/lib/systemd/systemd");
    systemd.env_clear().env("container", "dynmem").current_dir("/");
    Ok(systemd)
}

fn devices(folder: &Path) -> Result<()> {
    mount(&["-t", "tmpfs", "-o", "mode=755", "dev"], folder)?;
    for (name, options) in [("pts", "newinstance,ptmxmode=0666,mode=620"), ("shm", "mode=1777")] {
        fs::create_dir(folder.join(name))?;
        let kind = if name == "pts" { "devpts" } else { "tmpfs" };
        mount(&["-t", kind, "-o", options, name], &folder.join(name))?;
    }
    for name in DEVICES {
        let (device, place) = (Path::new("/dev").join(name), folder.join(name));
        if device.exists() {
            fs::create_dir_all(place.parent().context("A device is in a folder")?)?;
            fs::write(&place, "")?;
            mount(&["--bind", &text(&device)], &place)?;
        }
    }
    for (name, to) in
        [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        match symlink(to, folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn mount(what: &[&str], place: &Path) -> Result<()> {
    shell::output(Command::new("mount").args(what).arg(place)).map(drop)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
