//! The daemon ends, in order or not; machines go on; the next daemon finds
//! them as they are.

mod common;

use std::fs;

use common::{Site, definition, mib};
use dynmem_api::{MemoryPatch, VmState};
use dynmem_hypervisor::{MachineExit, fake::QmpMood};
use dynmem_units::Bytes;

#[tokio::test]
async fn a_guest_outlives_the_daemon_and_keeps_its_memory() {
    let mut site = Site::new().await;
    let guest = site.run("web01").await;
    guest.change(|behaviour| behaviour.demand = mib(800)).await;
    let grown = |vm: &dynmem_api::VmView| vm.demand_bytes >= mib(800) && vm.assigned_bytes == vm.target_bytes;
    let before = site.vm_until("web01", "grown", grown).await;
    for orderly in [true, false] {
        if orderly {
            site.stop_daemon().await;
        } else {
            site.kill_daemon().await;
        }
        assert_eq!(guest.snapshot().boots, 1, "the guest did not notice");
        site.start_daemon().await;
        // The very first answer has the true sizes.
        let after = site.vm("web01").await;
        assert_eq!(
            (after.assigned_bytes, after.plugged_bytes),
            (before.assigned_bytes, before.plugged_bytes),
            "orderly: {orderly}"
        );
        site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
    }
    guest.change(|behaviour| behaviour.demand = mib(100)).await;
    site.vm_until("web01", "at its new demand", |vm| vm.demand_bytes < mib(300)).await;
    let adopted = site.event("adopted").await;
    assert!(adopted.message.starts_with("web01 was found running with "), "{adopted:?}");
}

#[tokio::test]
async fn a_guest_that_was_paused_stays_so() {
    let mut site = Site::new().await;
    site.run("web01").await;
    site.client.pause("web01").await.expect("it runs");
    site.kill_daemon().await;
    site.start_daemon().await;
    assert_eq!(site.vm("web01").await.state, VmState::Paused);
    site.client.resume("web01").await.expect("it is paused");
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
}

#[tokio::test]
async fn a_reboot_while_nobody_looked_goes_on_with_the_next_daemon() {
    let mut site = Site::new().await;
    let guest = site.run("web01").await;
    site.kill_daemon().await;
    guest.reboot().await;
    site.start_daemon().await;
    guest.wait_until(|snapshot| snapshot.boots == 2).await;
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
}

#[tokio::test]
async fn a_guest_that_switched_itself_off_while_nobody_looked_is_off() {
    let mut site = Site::new().await;
    let guest = site.run("web01").await;
    site.kill_daemon().await;
    guest.power_off().await;
    // Real QEMU, as we start it, traces a power-off into its log.
    fs::write(site.state("run/web01/qemu.log"), "qemu_system_shutdown_request reason=6\n").expect("written");
    site.start_daemon().await;
    site.vm_until("web01", "off", |vm| vm.state == VmState::Off).await;
    assert_eq!(site.client.host().await.expect("the host").charged_bytes, Bytes::ZERO);
}

#[tokio::test]
async fn a_machine_that_died_while_nobody_looked_is_off_and_swept() {
    let mut site = Site::new().await;
    let guest = site.run("web01").await;
    site.kill_daemon().await;
    guest.crash(MachineExit::Signal(9));
    common::until("its end", || async {
        let open = tokio::net::UnixStream::connect(site.state("run/web01/qmp.sock")).await.is_ok();
        if open { Err("it still listens".to_owned()) } else { Ok(()) }
    })
    .await;
    site.start_daemon().await;
    assert_eq!(site.vm("web01").await.state, VmState::Off);
    site.client.start("web01").await.expect("nothing is in the way");
}

#[tokio::test]
async fn a_machine_that_does_not_answer_is_charged_at_its_worst_until_it_does() {
    let mut site = Site::new().await;
    let guest = site.run("hung").await;
    site.run("well").await;
    site.kill_daemon().await;
    guest.change(|behaviour| behaviour.qmp = QmpMood::Hung).await;
    site.start_daemon().await;
    let hung = site.vm("hung").await;
    assert_eq!(hung.assigned_bytes, mib(1024), "its maximum: it may hold that much");
    assert!(!hung.warnings.is_empty(), "{hung:#?}");
    site.vm_until("well", "running", |vm| vm.state == VmState::Running).await;
    guest.change(|behaviour| behaviour.qmp = QmpMood::Healthy).await;
    let hung = site.vm_until("hung", "running", |vm| vm.state == VmState::Running && vm.warnings.is_empty()).await;
    assert!(hung.assigned_bytes <= mib(1024), "{hung:#?}");
}

#[tokio::test]
async fn a_lowered_maximum_is_not_the_worst_before_the_guest_has_given() {
    let mut site = Site::new().await;
    let guest = site.run("hung").await;
    site.kill_daemon().await;
    site.start_daemon().await;
    site.vm_until("hung", "running", |vm| vm.state == VmState::Running).await;
    for maximum in [mib(640), mib(512)] {
        let lower = MemoryPatch { maximum: Some(maximum), ..MemoryPatch::default() };
        site.client.set_memory("hung", &lower).await.expect("its guest can be asked");
    }
    site.kill_daemon().await;
    guest.change(|behaviour| behaviour.qmp = QmpMood::Hung).await;
    site.start_daemon().await;
    assert_eq!(site.vm("hung").await.assigned_bytes, mib(1024), "it ran with that maximum, and can't be asked");
    guest.change(|behaviour| behaviour.qmp = QmpMood::Healthy).await;
    site.vm_until("hung", "at its maximum", |vm| vm.assigned_bytes <= mib(512) && vm.warnings.is_empty()).await;
}

#[tokio::test]
async fn a_static_machine_that_does_not_answer_is_charged_the_largest_startup_that_it_ran_with() {
    for maximum in [mib(256), mib(4096)] {
        let mut site = Site::new().await;
        let mut fixed = definition("fixed");
        (fixed.memory.dynamic, fixed.memory.startup, fixed.memory.maximum) = (false, mib(512), maximum);
        site.client.create(&fixed).await.expect("its maximum waits for the day on which it is dynamic");
        site.client.start("fixed").await.expect("there is memory");
        site.vm_until("fixed", "up", |vm| vm.state == VmState::Running).await;
        for size in [1024, 768] {
            let startup = MemoryPatch { startup: Some(mib(size)), ..MemoryPatch::default() };
            site.client.set_memory("fixed", &startup).await.expect("its guest can be asked");
            site.vm_until("fixed", "as large as asked", |vm| vm.assigned_bytes == mib(size)).await;
        }
        site.kill_daemon().await;
        site.guest("fixed").change(|behaviour| behaviour.qmp = QmpMood::Hung).await;
        site.start_daemon().await;
        let charged = site.vm("fixed").await.assigned_bytes;
        assert_eq!(charged, mib(1024), "it may not have given what it was asked for; its maximum is {maximum}");
    }
}

#[tokio::test]
async fn a_machine_whose_record_can_not_be_read_is_kept_out_of_the_pool() {
    let mut site = Site::new().await;
    let guest = site.run("web01").await;
    let before = site.client.host().await.expect("the host");
    site.kill_daemon().await;
    fs::write(site.state("run/web01/machine.json"), "{").expect("written");
    site.start_daemon().await;
    let complaint = site.event("orphan").await.message;
    assert!(complaint.contains("machine.json") && complaint.contains("remove the directory"), "{complaint}");
    let host = site.client.host().await.expect("the host");
    let kept = host.reserve_bytes.saturating_sub(before.reserve_bytes);
    assert!(kept >= mib(1024), "at least its maximum: {kept}");
    let refused = common::refusal(site.client.start("web01").await);
    assert!(!refused.to_string().is_empty());
    assert_eq!(guest.snapshot().boots, 1, "it goes on");
}

#[tokio::test]
async fn a_machine_without_a_definition_is_told_and_left_alone() {
    let mut site = Site::new().await;
    let guest = site.run("web01").await;
    let before = site.client.host().await.expect("the host");
    site.kill_daemon().await;
    fs::write(site.state("vms/web01.toml"), "name = 1").expect("written");
    site.start_daemon().await;
    assert!(site.event("orphan").await.message.starts_with("A machine of web01 runs"));
    assert_eq!(guest.snapshot().boots, 1);
    assert!(site.state("run/web01/qmp.sock").exists(), "it goes on");
    let host = site.client.host().await.expect("the host");
    assert_eq!(
        host.reserve_bytes,
        before.reserve_bytes.saturating_add(before.charged_bytes),
        "what it holds is not lent again"
    );
}
