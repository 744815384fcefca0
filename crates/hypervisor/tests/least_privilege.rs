//! What a QEMU may do that its guest has taken over: as little as can be. With
//! the real QEMU, as the user `nobody`, and so for root alone: to anybody else
//! these tests say that they prove nothing, and pass.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
};

use dynmem_definition::{Accelerator, Disk, DiskFormat, Network, VmDefinition};
use dynmem_footprint::Footprint;
use dynmem_hypervisor::{Hypervisor, Launch, LaunchError, Machine, MachineEvent, Qemu, RunState};
use dynmem_linux::{Account, HostReader};
use dynmem_units::Bytes;
use rustix::{process::geteuid, thread::UnshareFlags};

/// A directory for machines, which everybody may pass through, and which ends
/// them.
struct Lab(Footprint);

impl Lab {
    /// `None`, with a word about it, unless root asks.
    fn for_root() -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("Only root can start QEMU as another user: nothing is tested here");
            return None;
        }
        let directory = Footprint::new().expect("a directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).expect("permissions");
        Some(Self(directory))
    }

    fn launch(&self) -> Launch {
        let text = "name = 'web01'\naccelerator = 'tcg'\n[memory]\nstartup = '64MB'\nminimum = '32MB'\n";
        let definition = VmDefinition::from_toml(text, Path::new("web01.toml")).expect("a definition");
        Launch { definition, run_dir: self.0.path().join("web01"), cgroups: Vec::new() }
    }

    /// A disk image of root's own, which nobody else may open.
    fn disk(&self) -> Disk {
        let path = self.0.path().join("disk.img");
        fs::File::create(&path).expect("a file").set_len(1 << 20).expect("sparse");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
        Disk { path, format: DiskFormat::Raw, read_only: false }
    }
}

fn nobody() -> Account {
    HostReader::default().account("nobody").expect("readable").expect("on every host")
}

async fn qemu() -> Hypervisor {
    let program = Path::new("qemu-system-x86_64");
    let probed = Qemu::probe(program, Accelerator::Tcg, Bytes::from_mib(4096), Some(nobody())).await;
    Hypervisor::Qemu(probed.expect("QEMU is installed"))
}

async fn end(mut machine: Machine) {
    machine.kill();
    while !matches!(machine.next_event().await, MachineEvent::Exited(_)) {}
}

/// A line of `/proc/PID/status`, its words joined by one space.
fn status(machine: &Machine, key: &str) -> String {
    let pid = machine.pid().expect("a process");
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).expect("a known key");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn qemu_runs_as_its_own_user_sandboxed_and_without_rights() {
    let Some(lab) = Lab::for_root() else { return };
    let machine = qemu().await.launch(&lab.launch()).await.expect("a machine");
    let Account { uid, gid, .. } = nobody();
    assert_eq!(status(&machine, "Uid"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(status(&machine, "Gid"), format!("{gid} {gid} {gid} {gid}"));
    assert_eq!(status(&machine, "Groups"), gid.to_string(), "none of the daemon's");
    for rights in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&machine, rights), "0000000000000000", "{rights}");
    }
    assert_eq!(status(&machine, "Seccomp"), "2", "a filter");
    assert_eq!(status(&machine, "NoNewPrivs"), "1");
    end(machine).await;
}

#[tokio::test]
async fn nothing_in_the_run_time_directory_is_qemus() {
    let Some(lab) = Lab::for_root() else { return };
    let machine = qemu().await.launch(&lab.launch()).await.expect("a machine");
    let directory = machine.run_dir().path();
    let metadata = fs::metadata(directory).expect("there");
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o700), "no way in, and so no name to replace");
    for entry in fs::read_dir(directory).expect("readable") {
        let entry = entry.expect("readable");
        assert_eq!(entry.metadata().expect("there").uid(), 0, "{:?}", entry.file_name());
    }
    // What it holds open is what it was given: sockets, its log, no directory.
    let open = fs::read_dir(format!("/proc/{}/fd", machine.pid().expect("a process"))).expect("readable");
    let open: Vec<_> = open.flatten().filter_map(|file| fs::read_link(file.path()).ok()).collect();
    let inside: Vec<_> = open.iter().filter(|path| path.starts_with(directory)).collect();
    assert!(inside.iter().all(|path| path.ends_with("qemu.log")), "{inside:?}");
    end(machine).await;
}

#[tokio::test]
async fn a_machine_of_another_user_is_taken_over_and_obeys() {
    let Some(lab) = Lab::for_root() else { return };
    let qemu = qemu().await;
    let first = qemu.launch(&lab.launch()).await.expect("a machine");
    let pid = first.pid();
    drop(first);
    let mut second = qemu.attach(&lab.launch().run_dir).await.expect("no error").expect("it runs");
    assert_eq!(second.pid(), pid);
    second.pause().await.expect("done");
    assert_eq!(second.state().await.expect("a state"), RunState::Paused);
    end(second).await;
}

#[tokio::test]
async fn a_file_that_only_root_can_open_is_refused_with_what_to_do() {
    let Some(lab) = Lab::for_root() else { return };
    let (qemu, mut launch) = (qemu().await, lab.launch());
    let disk = lab.disk();
    launch.definition.disks = vec![disk.clone()];
    let error = qemu.launch(&launch).await.expect_err("nobody may not");
    assert!(matches!(error, LaunchError::NotForUser { .. }), "{error}");
    let message = error.to_string();
    let begins = format!("Disk {} can't be opened by nobody, the user that QEMU runs as: ", disk.path.display());
    assert!(message.starts_with(&begins) && message.contains("setfacl --modify u:nobody:"), "{message}");
    assert!(!launch.run_dir.exists(), "nothing is left");

    chown(&disk.path, Some(nobody().uid), None).expect("root may");
    let machine = qemu.launch(&launch).await.expect("now it may");
    end(machine).await;
    // This thread tried as nobody on another one, and is root still.
    fs::write("/proc/self/oom_score_adj", "0").expect("ours");
    assert!(geteuid().is_root());
}

#[tokio::test]
async fn a_displays_socket_is_made_where_qemus_user_may_and_nowhere_else() {
    let Some(lab) = Lab::for_root() else { return };
    let (qemu, mut launch) = (qemu().await, lab.launch());
    let folder = lab.0.path().join("displays");
    fs::create_dir(&folder).expect("made");
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("permissions");
    launch.definition.vnc = Some(format!("unix:{}", folder.join("web01").display()));
    let message = qemu.launch(&launch).await.expect_err("nobody may not").to_string();
    assert!(message.starts_with("VNC socket ") && message.contains("let nobody make it"), "{message}");

    chown(&folder, Some(nobody().uid), None).expect("root may");
    end(qemu.launch(&launch).await.expect("now it may")).await;
    assert!(folder.join("web01").exists(), "the killed machine left it");
    end(qemu.launch(&launch).await.expect("what is left is in nobody's way")).await;
}

/// Runs a command that has to succeed.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("a program of every host");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives this thread, and what it starts, a network and an `/etc/qemu` of its
/// own.
#[expect(unsafe_code, reason = "the thread's open files stay shared: nothing else could go wrong")]
fn leave_the_hosts_network() {
    // SAFETY: `UnshareFlags::FILES` is not among them.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.expect("root may");
    run("mount", &["--make-rprivate", "/"]);
    run("mount", &["-t", "tmpfs", "tmpfs", "/etc"]);
    fs::create_dir("/etc/qemu").expect("made");
}

#[tokio::test]
async fn a_bridge_is_joined_by_a_qemu_that_could_not_do_so_itself() {
    let Some(lab) = Lab::for_root() else { return };
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("There is no `ip` (package iproute2) to make a bridge with: nothing is tested here");
        return;
    }
    let (qemu, mut launch) = (qemu().await, lab.launch());
    launch.definition.networks = vec![Network::Bridge { bridge: "br0".to_owned(), mac: None }];
    leave_the_hosts_network();
    run("ip", &["link", "add", "br0", "type", "bridge"]);

    fs::write("/etc/qemu/bridge.conf", "deny br0\n").expect("written");
    let message = qemu.launch(&launch).await.expect_err("it is not allowed").to_string();
    assert!(message.starts_with("Bridge br0 can't be joined: ") && message.contains("denied"), "{message}");

    fs::write("/etc/qemu/bridge.conf", "allow br0\n").expect("written");
    let machine = qemu.launch(&launch).await.expect("a machine");
    assert_eq!(status(&machine, "CapEff"), "0000000000000000");
    run("ip", &["link", "show", "tap0"]); // the machine's end of it
    end(machine).await;
    let gone = Command::new("ip").args(["link", "show", "tap0"]).output().expect("there");
    assert!(!gone.status.success(), "an interface ends with its machine");
}
