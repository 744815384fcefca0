//! [`Container`]: a Debian that runs, and goes without a trace.
//!
//! What it writes is in a private folder, its mounts are in a mount namespace, and
//! its processes in a process namespace whose first process the kernel kills
//! together with us. So ending one process ends all, and the folder is removed
//! after it ([`Footprint`], on Ctrl-C too).

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dynmem_footprint::Footprint;

use crate::shell;

/// A busy machine boots it in half a minute.
const BOOT_LIMIT: Duration = Duration::from_mins(4);
/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(200);
/// What a login as root finds.
const ENVIRONMENT: [&str; 6] = [
    "HOME=/root",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=dumb",
    "USER=root",
    "DEBIAN_FRONTEND=noninteractive",
];

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Standard output and standard error, as they came.
    pub(crate) text: String,
    /// Whether it succeeded.
    pub(crate) success: bool,
}

/// A Debian with systemd.
pub(crate) struct Container {
    process: Child,
    init: u32,
    footprint: Footprint, // dropped last: what runs on it has ended then
}

impl Container {
    /// Boots one. Of `files`, each is put into it at the path beside it.
    pub(crate) fn boot(files: &[(PathBuf, String)]) -> Result<Self> {
        let root = super::root()?;
        let base = root.parent().context("The root is in a folder")?;
        let footprint = Footprint::below(base).context("Could not make a folder for the container")?;
        let written = footprint.path().join("written");
        for folder in ["written/etc", "work", "root"] {
            fs::create_dir_all(footprint.path().join(folder))?;
        }
        fs::create_dir_all(base.join("archives"))?;
        // It is on this host's network, and knows it by this host's means.
        for file in ["resolv.conf", "hosts"] {
            fs::copy(Path::new("/etc").join(file), written.join("etc").join(file))?;
        }
        for (file, path) in files {
            let place = written.join(path.trim_start_matches('/'));
            fs::create_dir_all(place.parent().context("A file is in a folder")?)?;
            fs::copy(file, &place).with_context(|| format!("Could not copy {}", file.display()))?;
        }
        let mut boot = shell::xtask(&["contain", "outside"])?;
        let log = fs::File::create(footprint.path().join("log"))?;
        boot.arg(footprint.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = boot.spawn().context("Could not start the container")?;
        let mut container = Self { process, init: 0, footprint };
        container.init = container.until_up()?;
        Ok(container)
    }

    /// Waits until systemd has started everything. Gives its process.
    fn until_up(&mut self) -> Result<u32> {
        let deadline = Instant::now() + BOOT_LIMIT;
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("The container ended ({status}): {}", self.log());
            }
            let init = fs::read_to_string(&children).ok().and_then(|pids| pids.trim().parse().ok());
            if let Some(init) = init {
                self.init = init;
                let state = self.run("systemctl is-system-running")?.text;
                if ["running", "degraded"].contains(&state.trim()) {
                    return Ok(init);
                }
            }
            ensure!(Instant::now() < deadline, "The container does not come up: {}", self.log());
            thread::sleep(PAUSE);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.footprint.path().join("log")).unwrap_or_default()
    }

    /// Runs a shell's line as root logs in, to its end.
    pub(crate) fn run(&self, line: &str) -> Result<Output> {
        let mut child = self
            .enter(&format!("exec 2>&1; {line}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("Could not run nsenter: is util-linux installed?")?;
        let mut bytes = Vec::new();
        child.stdout.take().context("It has an output")?.read_to_end(&mut bytes)?;
        let success = child.wait()?.success();
        Ok(Output { text: String::from_utf8_lossy(&bytes).into_owned(), success })
    }

    /// A shell's line as root logs in.
    pub(super) fn enter(&self, line: &str) -> Command {
        let mut enter = Command::new("nsenter");
        enter.arg("--target").arg(self.init.to_string());
        enter.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--wdns=/root", "--", "env", "-i"]);
        enter.args(ENVIRONMENT).args(["sh", "-c", line]);
        enter
    }

    /// Runs a line that has to succeed; shows it. Gives what it said.
    pub(crate) fn must(&self, line: &str) -> Result<String> {
        let began = Instant::now();
        eprintln!("# {line}");
        let Output { text, success } = self.run(line)?;
        if began.elapsed().as_secs() > 0 {
            eprintln!("  ({} s)", began.elapsed().as_secs());
        }
        ensure!(success, "This failed in the container: {line}\n{text}");
        Ok(text)
    }

    /// Runs a line again and again until it succeeds.
    pub(crate) fn until(&self, what: &str, limit: Duration, line: &str) -> Result<()> {
        eprintln!("# until {what}: {line}");
        let deadline = Instant::now() + limit;
        loop {
            let Output { text, success } = self.run(line)?;
            if success {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "Not within {} s: {what}; the last that was said: {text}",
                limit.as_secs()
            );
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its child, the container's first process, dies with it, and all others with that one.
        let _ = self.process.kill().and_then(|()| self.process.wait());
        let first = format!("/proc/{}", self.init);
        let deadline = Instant::now() + BOOT_LIMIT;
        while self.init != 0 && Path::new(&first).exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}
