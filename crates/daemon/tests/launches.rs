//! Machines that can't be launched, with the real QEMU. No guest runs in them:
//! their firmware finds nothing to boot.

mod common;

use std::{net::TcpListener, os::unix::net::UnixStream, path::Path};

use common::{Site, definition, mib, refusal};
use dynmem_api::{StopMode, StopRequest, VmState};
use dynmem_definition::{Accelerator, Disk, DiskFormat, Network, VmDefinition};
use dynmem_hypervisor::{Hypervisor, Qemu};

/// A site whose machines are QEMU's.
async fn real() -> Site {
    let mut site = Site::without_daemon("[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\ncgroup = \"off\"\n");
    let qemu = Qemu::probe(Path::new("qemu-system-x86_64"), Accelerator::Tcg, mib(2560), None).await;
    site.start_daemon_with(Hypervisor::Qemu(qemu.expect("QEMU is installed"))).await;
    site
}

#[tokio::test]
async fn what_can_not_be_launched_tells_why_and_disturbs_nobody() {
    let site = real().await;
    let display = site.folder.path().join("steady.vnc");
    let mut steady = definition("steady");
    steady.vnc = Some(format!("unix:{}", display.display()));
    site.client.create(&steady).await.expect("a new VM");
    site.client.start("steady").await.expect("it starts");
    let before = site.vm_until("steady", "known by its process", |vm| vm.pid.is_some()).await;
    let charged = site.client.host().await.expect("the host").charged_bytes;

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let forward = format!("tcp:127.0.0.1:{}-:22", taken.local_addr().expect("bound").port());
    let broken = |change: &dyn Fn(&mut VmDefinition)| {
        let mut vm = definition("broken");
        change(&mut vm);
        vm
    };
    for (vm, reason) in [
        (
            broken(&|vm| vm.boot.kernel = Some("/nonexistent/kernel".into())),
            "Kernel /nonexistent/kernel can't be read: No such file".to_owned(),
        ),
        (
            broken(&|vm| {
                vm.disks = vec![Disk { path: "/nonexistent/disk".into(), format: DiskFormat::Raw, read_only: false }];
            }),
            "Disk /nonexistent/disk can't be read: No such file".to_owned(),
        ),
        (
            broken(&|vm| vm.networks = vec![Network::User { forward: vec![forward.clone()], mac: None }]),
            "ended at its start (exit code 1): ".to_owned(),
        ),
        (
            broken(&|vm| vm.vnc.clone_from(&steady.vnc)),
            format!("VNC socket {} is in use by another process", display.display()),
        ),
    ] {
        site.client.create(&vm).await.expect("a definition may name what is not there yet");
        let problem = refusal(site.client.start("broken").await);
        assert!(problem.status == 409 && problem.detail.contains(&reason), "{problem:?}");
        let seen = site.vm("broken").await;
        assert_eq!((seen.state, seen.state_reason), (VmState::Failed, Some(problem.detail.clone())));
        assert_eq!(site.client.host().await.expect("the host").charged_bytes, charged, "it costs nothing");
        assert!(!site.state("run/broken").exists(), "nothing is left of it");
        site.client.delete("broken").await.expect("it does not run");
    }

    let after = site.vm("steady").await;
    assert_eq!((after.state, after.pid, after.assigned_bytes), (before.state, before.pid, before.assigned_bytes));
    UnixStream::connect(&display).expect("its display is still there");
    let force = StopRequest { mode: StopMode::Force, timeout_seconds: 60 };
    site.client.stop("steady", &force).await.expect("it obeys");
}
