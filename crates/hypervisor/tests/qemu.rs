//! Real QEMU, without a guest: firmware that finds nothing to boot. Whatever
//! does not need a kernel is tried here; the rest is in `vm-tests/`.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::Command,
};

use dynmem_core::{DeviceFacts, MemorySettings};
use dynmem_definition::{Accelerator, Boot, Disk, DiskFormat, Network, VmDefinition};
use dynmem_footprint::Footprint;
use dynmem_hypervisor::{
    Hypervisor, Launch, LaunchError, Machine, MachineEvent, MachineExit, MachineRecord, Qemu, RunState,
};
use dynmem_units::Bytes;
use rustix::process::{Pid, Signal, kill_process};

const HOST: Bytes = Bytes::from_mib(4096);

/// A directory for machines, which end with it.
fn footprint() -> Footprint {
    Footprint::new().expect("a directory")
}

async fn qemu() -> Hypervisor {
    let program = Path::new("qemu-system-x86_64");
    Hypervisor::Qemu(Qemu::probe(program, Accelerator::Tcg, HOST, None).await.expect("QEMU is installed"))
}

fn launch(directory: &Footprint) -> Launch {
    let memory = MemorySettings {
        dynamic: true,
        startup: Bytes::from_mib(64),
        minimum: Bytes::from_mib(32),
        maximum: Bytes::from_mib(128),
        ..MemorySettings::default()
    };
    let definition = VmDefinition {
        name: "web01".to_owned(),
        vcpus: 1,
        accelerator: Accelerator::Tcg,
        boot: Boot::default(),
        disks: Vec::new(),
        networks: Vec::new(),
        vnc: None,
        extra_args: Vec::new(),
        memory,
        ..VmDefinition::new("web01")
    };
    Launch { definition, run_dir: directory.path().join("web01"), cgroups: Vec::new() }
}

async fn until(machine: &mut Machine, wanted: impl Fn(&MachineEvent) -> bool) -> MachineEvent {
    loop {
        let event = machine.next_event().await;
        if wanted(&event) {
            return event;
        }
        assert!(!matches!(event, MachineEvent::Exited(_)), "ended while something else was awaited: {event:?}");
    }
}

async fn end(mut machine: Machine) {
    machine.kill();
    until(&mut machine, |event| matches!(event, MachineEvent::Exited(_))).await;
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_launched_machine_holds_what_its_definition_says() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    let plan = qemu.plan(&launch.definition).expect("a plan");
    let mut machine = qemu.launch(&launch).await.expect("a machine");

    assert_eq!(machine.state().await.expect("a state"), RunState::Running);
    let facts = machine.facts().await.expect("facts");
    assert_eq!((facts.boot, facts.balloon_actual), (Bytes::from_mib(64), Bytes::from_mib(64)));
    assert_eq!((facts.plugged, facts.plug_max), (Bytes::ZERO, Bytes::from_mib(4096 - 64)));
    assert_eq!((facts.plug_block, facts.overhead), (Bytes::BLOCK, plan.overhead));
    assert_eq!(machine.statistics().await.expect("an answer"), None, "no guest, no statistics");
    assert!(machine.cpu_time().is_some());

    let mode = fs::metadata(machine.run_dir().path()).expect("the directory").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for socket in [machine.run_dir().monitor(), machine.run_dir().console(), machine.run_dir().agent()] {
        std::os::unix::net::UnixStream::connect(&socket).expect("QEMU listens");
    }
    end(machine).await;
}

#[tokio::test]
async fn an_order_is_brought_into_the_devices_ranges() {
    let directory = footprint();
    let mut machine = qemu().await.launch(&launch(&directory)).await.expect("a machine");
    let ordered = machine.order(Bytes::ZERO, Bytes::new(5 << 20)).await.expect("done");
    assert_eq!((ordered.balloon, ordered.plugged), (Bytes::BLOCK, Bytes::from_mib(4)));
    let ordered = machine.order(Bytes::MAX, Bytes::MAX).await.expect("done");
    assert_eq!((ordered.balloon, ordered.plugged), (Bytes::from_mib(64), Bytes::from_mib(4096 - 64)));
    end(machine).await;
}

#[tokio::test]
async fn pausing_and_resuming_are_told() {
    let directory = footprint();
    let mut machine = qemu().await.launch(&launch(&directory)).await.expect("a machine");
    machine.pause().await.expect("done");
    assert_eq!(machine.next_event().await, MachineEvent::Paused, "the first event: the launch itself tells none");
    assert_eq!(machine.state().await.expect("a state"), RunState::Paused);
    machine.resume().await.expect("done");
    assert_eq!(machine.next_event().await, MachineEvent::Resumed);
    end(machine).await;
}

#[tokio::test]
async fn a_reset_is_held_until_it_is_continued() {
    let directory = footprint();
    let mut machine = qemu().await.launch(&launch(&directory)).await.expect("a machine");
    for _ in 0..2 {
        machine.hold_for_reset().await.expect("done");
        assert_eq!(machine.next_event().await, MachineEvent::ResetHeld);
        assert_eq!(machine.state().await.expect("a state"), RunState::ResetHeld);
        machine.continue_reset().await.expect("done");
        assert_eq!(machine.state().await.expect("a state"), RunState::Running);
    }
    let error = machine.continue_reset().await.expect_err("nothing is held");
    assert_eq!(error.to_string(), "The machine is not held before a reset: it is running");
    end(machine).await;
}

/// A daemon that has just taken it over asks for its state, and may do so before
/// it reads the event.
#[tokio::test]
async fn a_reset_that_is_known_by_the_state_is_not_told_again_after_it() {
    let directory = footprint();
    let mut machine = qemu().await.launch(&launch(&directory)).await.expect("a machine");
    machine.hold_for_reset().await.expect("done");
    while machine.state().await.expect("a state") != RunState::ResetHeld {
        tokio::task::yield_now().await;
    }
    machine.continue_reset().await.expect("done");
    machine.pause().await.expect("done");
    let told = until(&mut machine, |event| matches!(event, MachineEvent::ResetHeld | MachineEvent::Paused)).await;
    assert_eq!(told, MachineEvent::Paused, "the reset is over");
    end(machine).await;
}

#[tokio::test]
async fn a_machine_that_quits_leaves_neither_a_directory_nor_a_zombie() {
    let directory = footprint();
    let mut machine = qemu().await.launch(&launch(&directory)).await.expect("a machine");
    let pid = machine.pid().expect("a process");
    machine.quit().await.expect("done");
    assert_eq!(machine.next_event().await, MachineEvent::Exited(MachineExit::Code(0)));
    assert!(!is_alive(pid), "reaped");
    assert!(!directory.path().join("web01").exists());
}

#[tokio::test]
async fn a_machine_that_is_killed_tells_its_signal() {
    let directory = footprint();
    let mut machine = qemu().await.launch(&launch(&directory)).await.expect("a machine");
    machine.kill();
    assert_eq!(machine.next_event().await, MachineEvent::Exited(MachineExit::Signal(9)));
    assert!(matches!(machine.facts().await, Err(error) if error.is_closed()));
}

#[tokio::test]
async fn a_machine_outlives_its_handle_and_is_taken_over_with_true_figures() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    let mut first = qemu.launch(&launch).await.expect("a machine");
    let (pid, facts) = (first.pid().expect("a process"), first.facts().await.expect("facts"));
    first.pause().await.expect("done");
    drop(first);

    let mut second = qemu.attach(&launch.run_dir).await.expect("no error").expect("still there");
    assert_eq!(second.pid(), Some(pid));
    assert_eq!(second.facts().await.expect("facts"), facts);
    assert_eq!(second.state().await.expect("a state"), RunState::Paused);
    second.quit().await.expect("done");
    assert!(matches!(second.next_event().await, MachineEvent::Exited(_)));
    assert_eq!(qemu.attach(&launch.run_dir).await.expect("no error").map(|machine| machine.pid()), None);
}

#[tokio::test]
async fn what_happened_while_nobody_looked_is_told_after_attaching() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    let mut first = qemu.launch(&launch).await.expect("a machine");
    first.hold_for_reset().await.expect("done");
    drop(first);
    let mut second = qemu.attach(&launch.run_dir).await.expect("no error").expect("still there");
    assert_eq!(second.next_event().await, MachineEvent::ResetHeld);
    second.continue_reset().await.expect("done");
    end(second).await;
}

#[tokio::test]
async fn a_directory_whose_process_is_another_is_only_cleaned() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    let machine = qemu.launch(&launch).await.expect("a machine");
    let mut record = machine.record().clone();
    end(machine).await;
    record.pid = std::process::id(); // the number belongs to somebody else now
    fs::create_dir_all(&launch.run_dir).expect("a directory");
    fs::write(launch.run_dir.join("machine.json"), serde_json::to_vec(&record).expect("plain data")).expect("a file");
    assert!(qemu.attach(&launch.run_dir).await.expect("no error").is_none());
    assert!(!launch.run_dir.exists());
}

#[tokio::test]
async fn a_refused_launch_names_the_reason_and_leaves_nothing() {
    let directory = footprint();
    let qemu = qemu().await;
    let refuse = async |change: fn(&mut Launch)| {
        let mut launch = launch(&directory);
        change(&mut launch);
        let error = qemu.launch(&launch).await.expect_err("refused");
        assert!(!launch.run_dir.exists(), "nothing is left: {error}");
        error.to_string()
    };
    let message = refuse(|launch| launch.definition.boot.kernel = Some("/nonexistent/kernel".into())).await;
    assert!(message.starts_with("Kernel /nonexistent/kernel can't be read: "), "{message}");
    let message = refuse(|launch| {
        launch.definition.disks =
            vec![Disk { path: "/nonexistent/disk".into(), format: DiskFormat::Raw, read_only: false }];
    })
    .await;
    assert!(message.starts_with("Disk /nonexistent/disk can't be read: "), "{message}");
    let message = refuse(|launch| launch.definition.extra_args = vec!["-nonsense".to_owned()]).await;
    assert!(message.contains("ended at its start (exit code 1)") && message.contains("-nonsense"), "{message}");
    let message = refuse(|launch| launch.run_dir = launch.run_dir.join("x".repeat(100))).await;
    assert!(message.contains("choose a shorter state directory"), "{message}");
    let message = refuse(|launch| launch.cgroups = vec!["/nonexistent/group".into()]).await;
    assert!(message.starts_with("Can't join control group /nonexistent/group: "), "{message}");
    let message = refuse(|launch| launch.definition.accelerator = Accelerator::Kvm).await;
    assert!(message.starts_with("VM web01 asks for KVM, which can't be used here: "), "{message}");
}

#[tokio::test]
async fn a_pipe_in_a_files_place_is_refused_and_keeps_nobody_waiting() {
    let directory = footprint();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let mut launch = launch(&directory);
    launch.definition.boot.kernel = Some(pipe.clone());
    let error = qemu().await.launch(&launch).await.expect_err("nobody writes into it");
    let sentence = format!("Kernel {} can't be read: it is a pipe, not a file", pipe.display());
    assert_eq!(error.to_string(), sentence);
}

#[tokio::test]
async fn a_second_launch_of_the_same_machine_is_refused_and_hurts_nobody() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    let mut machine = qemu.launch(&launch).await.expect("a machine");
    let error = qemu.launch(&launch).await.expect_err("it runs already");
    assert!(matches!(error, LaunchError::SocketInUse(_)), "{error}");
    assert_eq!(machine.state().await.expect("still there"), RunState::Running);
    end(machine).await;
}

#[tokio::test]
async fn every_kind_of_device_starts_in_the_sandbox() {
    let directory = footprint();
    let mut launch = launch(&directory);
    let disk = directory.path().join("data,disk");
    fs::File::create(&disk).expect("a file").set_len(16 << 20).expect("sparse");
    let definition = &mut launch.definition;
    definition.vcpus = 2;
    definition.disks = vec![Disk { path: disk, format: DiskFormat::Raw, read_only: true }];
    definition.networks = vec![Network::User { forward: Vec::new(), mac: Some("52:54:00:12:34:56".to_owned()) }];
    definition.vnc = Some(format!("unix:{}", directory.path().join("vnc.sock").display()));
    definition.extra_args = vec![
        "-chardev".to_owned(),
        format!("socket,id=second,server=on,wait=off,path={}", directory.path().join("second.sock").display()),
        "-device".to_owned(),
        "virtserialport,bus=serial0.0,chardev=second,name=org.example.second".to_owned(),
    ];
    let mut machine = qemu().await.launch(&launch).await.expect("a machine");
    assert_eq!(machine.state().await.expect("a state"), RunState::Running);
    end(machine).await;
}

#[tokio::test]
async fn a_port_in_use_is_told_in_qemus_words() {
    let directory = footprint();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let mut launch = launch(&directory);
    launch.definition.networks = vec![Network::User { forward: vec![format!("tcp:127.0.0.1:{port}-:22")], mac: None }];
    let error = qemu().await.launch(&launch).await.expect_err("the port is taken");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[tokio::test]
async fn a_display_in_use_is_refused_and_stays_with_its_owner() {
    let directory = footprint();
    let qemu = qemu().await;
    let refuse = async |vnc: String| {
        let mut launch = launch(&directory);
        launch.definition.vnc = Some(vnc);
        let error = qemu.launch(&launch).await.expect_err("the display is taken");
        assert!(!launch.run_dir.exists(), "nothing is left: {error}");
        error.to_string()
    };
    let taken = (5900..6000).find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok()).expect("a port");
    let display = format!("127.0.0.1:{}", taken.local_addr().expect("bound").port() - 5900);
    let message = refuse(display.clone()).await;
    assert!(message.contains(&format!("-vnc {display}: ")) && message.contains("Address already in use"), "{message}");

    let socket = directory.path().join("vnc.sock");
    let display = format!("unix:{}", socket.display());
    let owner = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let message = refuse(display.clone()).await;
    assert!(message.starts_with(&format!("VNC socket {} is in use", socket.display())), "{message}");
    std::os::unix::net::UnixStream::connect(&socket).expect("still its owner's");

    // What an owner left behind is in nobody's way.
    drop(owner);
    let mut launch = launch(&directory);
    launch.definition.vnc = Some(display);
    end(qemu.launch(&launch).await.expect("a machine")).await;
}

#[tokio::test]
async fn a_file_in_a_displays_place_is_not_removed() {
    let directory = footprint();
    let file = directory.path().join("letter.txt");
    fs::write(&file, "precious").expect("a file");
    let mut launch = launch(&directory);
    launch.definition.vnc = Some(format!("unix:{}", file.display()));
    let error = qemu().await.launch(&launch).await.expect_err("no place for a socket");
    assert!(matches!(error, LaunchError::DisplayOverFile(_)), "{error}");
    assert_eq!(fs::read_to_string(&file).expect("still there"), "precious");
}

#[tokio::test]
async fn after_an_unexpected_end_the_log_stays_until_the_next_launch() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    let mut machine = qemu.launch(&launch).await.expect("a machine");
    fs::write(machine.run_dir().log(), "qemu: something broke\n").expect("a log");
    let pid = machine.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("a process");
    kill_process(pid, Signal::KILL).expect("ours");
    assert_eq!(machine.next_event().await, MachineEvent::Exited(MachineExit::Signal(9)));
    assert_eq!(machine.log_tail(), "qemu: something broke");
    assert!(qemu.attach(&launch.run_dir).await.expect("no error").is_none());
    let left: Vec<_> = fs::read_dir(&launch.run_dir).expect("kept").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["qemu.log"]);

    let machine = qemu.launch(&launch).await.expect("a machine");
    assert_eq!(machine.log_tail(), "", "a new machine, a new log");
    end(machine).await;
}

#[tokio::test]
async fn a_machine_runs_on_and_is_taken_over_whatever_became_of_its_record() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    let mut machine = qemu.launch(&launch).await.expect("a machine");
    let (pid, facts, record) = (machine.pid(), machine.facts().await.expect("facts"), machine.record().clone());
    let (path, pid_file) = (machine.run_dir().record(), machine.run_dir().pid_file());
    let whole = fs::read(&path).expect("there");
    drop(machine);
    let torn = (0..whole.len()).step_by(7).map(|kept| whole[..kept].to_vec());
    let zeroed = (0..whole.len()).step_by(31).map(|kept| {
        let mut bytes = whole.clone();
        bytes[kept..].fill(0);
        bytes
    });
    for bytes in torn.chain(zeroed).chain([vec![0xA5; whole.len()]]) {
        fs::write(&path, &bytes).expect("writable");
        let mut again = qemu.attach(&launch.run_dir).await.expect("no error").expect("it runs");
        assert_eq!(again.pid(), pid);
        let found = again.facts().await.expect("facts");
        assert!(found.overhead >= facts.overhead, "at least what it was charged: {found:?}");
        assert_eq!(DeviceFacts { overhead: facts.overhead, ..found }, facts);
        let rebuilt = again.record();
        assert_eq!(
            rebuilt,
            &MachineRecord {
                overhead_bytes: rebuilt.overhead_bytes,
                started_unix_ms: rebuilt.started_unix_ms,
                ..record.clone()
            }
        );
        assert!(rebuilt.started_unix_ms.abs_diff(record.started_unix_ms) < 10_000, "{rebuilt:?}");
    }
    // Nor is it lost without any file that names it.
    for path in [&path, &pid_file] {
        fs::remove_file(path).expect("there");
    }
    let again = qemu.attach(&launch.run_dir).await.expect("no error").expect("it runs");
    assert_eq!(again.pid(), pid);
    assert_eq!(MachineRecord::from_json(&fs::read(&path).expect("written anew")).expect("whole").pid, pid.unwrap_or(0));
    end(again).await;
}

#[tokio::test]
async fn a_damaged_record_of_a_machine_that_is_gone_is_swept() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    fs::create_dir(&launch.run_dir).expect("a directory");
    fs::write(launch.run_dir.join("machine.json"), "{").expect("written");
    assert!(qemu.attach(&launch.run_dir).await.expect("no error").is_none());
    assert!(!launch.run_dir.exists());
}

#[tokio::test]
async fn a_launch_that_broke_off_is_cleared() {
    let directory = footprint();
    let (qemu, launch) = (qemu().await, launch(&directory));
    // As it is when the daemon dies before it writes the record.
    fs::create_dir(&launch.run_dir).expect("a directory");
    let socket = launch.run_dir.join("qmp.sock");
    let mut newborn = Command::new("qemu-system-x86_64")
        .args(["-S", "-nodefaults", "-display", "none", "-machine", "q35", "-accel", "tcg", "-m", "64", "-qmp"])
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .spawn()
        .expect("QEMU is installed");
    fs::write(launch.run_dir.join("qemu.pid"), newborn.id().to_string()).expect("written");
    while !socket.exists() {
        tokio::task::yield_now().await; // ours listen before QEMU is there
    }
    assert!(qemu.attach(&launch.run_dir).await.expect("no error").is_none());
    assert_eq!(newborn.wait().expect("our child").signal(), Some(9));
    assert!(!launch.run_dir.exists());
}
