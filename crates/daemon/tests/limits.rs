//! Memory groups of real machines, on the host's own hierarchy. No guest runs
//! in them: their firmware finds nothing to boot.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Site, definition, mib, until};
use dynmem_api::{MemoryLimits, StopMode, StopRequest, VmView};
use dynmem_definition::Accelerator;
use dynmem_footprint::{Footprint, group_name};
use dynmem_hypervisor::{Hypervisor, Qemu};
use dynmem_linux::{Cgroups, HostReader};
use rustix::process::{Pid, Signal, kill_process};

/// A site whose machines are QEMU's and have groups.
struct Real {
    site: Site,
    /// The parent of its groups, from the root of all files.
    parent: PathBuf,
}

impl Real {
    /// `None`, and a line that says so, where nobody may make groups.
    async fn new() -> Option<Self> {
        let folder = Footprint::new().expect("a folder");
        let parent = group_name(folder.path());
        let real = Self::below(folder, &parent).await;
        if let MemoryLimits::Unavailable { reason } = real.site.client.host().await.expect("the host").memory_limits {
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        Some(real)
    }

    /// With groups below this path, if they can be made.
    async fn below(folder: Footprint, parent: &str) -> Self {
        let settings = format!("[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\ncgroup = \"{parent}\"\n");
        let mount = match HostReader::default().cgroups().expect("mounts are readable") {
            Cgroups::V1(mount) | Cgroups::V2(mount) => mount,
            Cgroups::Missing => PathBuf::new(),
        };
        let mut real = Self { site: Site::in_folder(folder, &settings), parent: mount.join(parent) };
        real.start_daemon().await;
        real
    }

    async fn start_daemon(&mut self) {
        let qemu = Qemu::probe(Path::new("qemu-system-x86_64"), Accelerator::Tcg, mib(2560), None).await;
        self.site.start_daemon_with(Hypervisor::Qemu(qemu.expect("QEMU is installed"))).await;
    }

    /// A machine that runs and has its limit.
    async fn start(&self, name: &str) -> VmView {
        self.site.client.create(&definition(name)).await.expect("a new VM");
        self.site.client.start(name).await.expect("it starts");
        self.site.vm_until(name, "limited", |vm| vm.pid.is_some() && vm.memory_limit_bytes.is_some()).await
    }

    async fn stop(&self, name: &str) {
        let force = StopRequest { mode: StopMode::Force, timeout_seconds: 60 };
        self.site.client.stop(name, &force).await.expect("it obeys");
    }

    /// All groups below the parent.
    fn groups(&self) -> Vec<PathBuf> {
        below(&self.parent).into_iter().filter(|path| path.to_string_lossy().contains("/vm-")).collect()
    }
}

/// Folders below a folder, the deepest first.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    folders.flat_map(|folder| below(&folder).into_iter().chain([folder])).collect()
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL); // it may have ended
    }
}

fn pid(vm: &VmView) -> i32 {
    i32::try_from(vm.pid.expect("it runs")).expect("a process id")
}

/// The folder of the memory group that a process is in.
fn group_of(vm: &VmView, mount: &Path) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid(vm))).expect("it runs");
    let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let path = lines.clone().find(|(controllers, _)| *controllers == "memory").or_else(|| lines.next());
    mount.join(path.expect("it is somewhere").1.trim_start_matches('/'))
}

#[tokio::test]
async fn a_machine_lives_in_its_group_from_its_first_page_to_its_end() {
    let Some(real) = Real::new().await else { return };
    let vm = real.start("web01").await;
    let [group] = &real.groups()[..] else { panic!("{:?}", real.groups()) };
    assert!(group.ends_with("vm-web01"), "{group:?}");
    let mount = real.parent.parent().expect("a hierarchy");
    assert_eq!(&group_of(&vm, mount), group);
    let limit = vm.memory_limit_bytes.expect("limited");
    let least = vm.assigned_bytes.saturating_add(vm.overhead_bytes);
    assert!(limit > least && limit <= least.saturating_add(mib(128)), "{limit} for {least}");
    let name = if group.join("memory.max").exists() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(fs::read_to_string(group.join(name)).expect("readable").trim(), limit.get().to_string());

    until("the host knows what its machines hold", || async {
        let held = real.site.client.host().await.expect("the host").machines_hold_bytes.expect("there are groups");
        if held > mib(4) && held <= limit { Ok(()) } else { Err(format!("{held} of {limit}")) }
    })
    .await;

    real.stop("web01").await;
    assert_eq!(real.groups(), Vec::<PathBuf>::new(), "before anybody is told that it is off");
    assert_eq!(real.site.vm("web01").await.memory_limit_bytes, None);
    let mut real = real;
    real.site.stop_daemon().await;
    until("the daemon's folder is gone", || async {
        let left = below(&real.parent);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_launch_that_fails_leaves_no_group() {
    let Some(real) = Real::new().await else { return };
    let mut broken = definition("broken");
    broken.boot.kernel = Some("/nonexistent/kernel".into());
    real.site.client.create(&broken).await.expect("a definition may name what is not there yet");
    common::refusal(real.site.client.start("broken").await);
    assert_eq!(real.groups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_next_daemon_takes_up_the_groups_of_those_that_run_and_removes_the_others() {
    let Some(mut real) = Real::new().await else { return };
    let before = real.start("runs").await;
    let dead = real.start("dies").await;
    real.site.kill_daemon().await;
    kill(pid(&dead));
    real.start_daemon().await;

    let after = real.site.vm_until("runs", "limited again", |vm| vm.memory_limit_bytes.is_some()).await;
    assert_eq!((after.pid, after.memory_limit_bytes), (before.pid, before.memory_limit_bytes));
    assert_eq!(real.site.vm("dies").await.memory_limit_bytes, None);
    let groups = real.groups();
    assert!(groups.len() == 1 && groups[0].ends_with("vm-runs"), "{groups:?}");
    real.stop("runs").await;
}

#[tokio::test]
async fn a_machine_whose_group_is_taken_from_it_goes_on_without_and_says_so() {
    let Some(real) = Real::new().await else { return };
    let vm = real.start("web01").await;
    let [group] = &real.groups()[..] else { panic!("{:?}", real.groups()) };
    let mount = real.parent.parent().expect("a hierarchy");
    fs::write(mount.join("cgroup.procs"), pid(&vm).to_string()).expect("ours to move");
    fs::remove_dir(group).expect("nobody is in it");

    let told = real.site.event("limit-missing").await;
    assert!(told.message.starts_with("web01 runs without a memory limit: "), "{told:?}");
    until("the host does not go by what it can't see", || async {
        let host = real.site.client.host().await.expect("the host");
        if host.machines_hold_bytes.is_none() { Ok(()) } else { Err(format!("{host:#?}")) }
    })
    .await;
    let held = real.site.vm_until("web01", "measured", |vm| vm.resident_bytes.is_some()).await;
    let resident = held.resident_bytes.expect("measured");
    assert!(resident > mib(0) && resident < mib(128), "firmware alone touches little of {held:#?}");
    let seen = real.site.vm_until("web01", "known to be without", |vm| vm.memory_limit_bytes.is_none()).await;
    assert!(seen.warnings.iter().any(|warning| warning.starts_with("It runs without a memory limit")), "{seen:?}");
    assert_eq!(seen.pid, vm.pid, "it goes on");
    real.stop("web01").await;
}

#[tokio::test]
async fn where_no_group_can_be_made_machines_run_without_and_it_is_said_once() {
    // Below what is no folder nobody can make one, not even root.
    let real = Real::below(Footprint::new().expect("a folder"), "cgroup.procs/dynmem").await;
    let site = &real.site;
    let limits = site.client.host().await.expect("the host").memory_limits;
    assert!(matches!(limits, MemoryLimits::Unavailable { .. }), "{limits:?}");

    site.client.create(&definition("web01")).await.expect("a new VM");
    site.client.start("web01").await.expect("it starts");
    let vm = site.vm_until("web01", "known by its process", |vm| vm.pid.is_some()).await;
    assert_eq!((vm.memory_limit_bytes, vm.warnings), (None, Vec::new()), "the host says it, not each VM");
    real.stop("web01").await;
    let told = site.events().await.into_iter().filter(|event| event.kind.starts_with("limit")).collect::<Vec<_>>();
    assert!(told.len() == 1 && told[0].kind == "limits-unavailable", "{told:?}");
}
