//! VMs are saved to files and go on from there, and whoever is killed meanwhile,
//! there is always one of the two: the machine, or all that it was.

mod common;

use std::{fs, path::Path};

use common::{Site, definition, mib, refusal, until};
use dynmem_api::{MemoryPatch, StopMode, StopRequest, VmState};
use dynmem_definition::{Autostart, VmDefinition};
use dynmem_hypervisor::fake::{Behaviour, SaveMood};
use dynmem_units::Bytes;

impl Site {
    /// A guest that was given more than its startup.
    async fn run_large(&self) {
        let guest = self.run("web01").await;
        guest.change(|behaviour| behaviour.demand = mib(700)).await;
        let grown = |vm: &dynmem_api::VmView| vm.plugged_bytes > mib(100) && vm.assigned_bytes == vm.target_bytes;
        self.vm_until("web01", "grown", grown).await;
    }

    async fn nothing_is_left(&self) {
        until("an empty folder", || async {
            let left: Vec<_> = fs::read_dir(self.state("saved")).into_iter().flatten().flatten().collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[tokio::test]
async fn a_saved_vm_frees_its_memory_and_goes_on_as_it_was() {
    let site = Site::new().await;
    site.run_large().await;
    let before = site.vm("web01").await;
    let saved = site.client.save("web01").await.expect("it runs");
    assert_eq!((saved.state, saved.assigned_bytes, saved.pid), (VmState::Saved, Bytes::ZERO, None));
    assert_eq!(saved.saved_bytes, Some(before.assigned_bytes));
    assert_eq!(site.client.host().await.expect("the host").charged_bytes, Bytes::ZERO);
    assert!(site.event("saved").await.message.starts_with("web01 was saved with "));
    let started = site.client.start("web01").await.expect("it is saved");
    assert_eq!((started.assigned_bytes, started.plugged_bytes), (before.assigned_bytes, before.plugged_bytes));
    assert_eq!(started.saved_bytes, None);
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
    assert_eq!(site.guest("web01").snapshot().boots, 1, "its guest noticed nothing");
    site.event("restored").await;
    site.nothing_is_left().await;
}

#[tokio::test]
async fn the_next_daemon_finds_a_saved_vm_saved() {
    let mut site = Site::new().await;
    site.run_large().await;
    let held = site.client.save("web01").await.expect("it runs").saved_bytes;
    for orderly in [true, false] {
        if orderly {
            site.stop_daemon().await;
        } else {
            site.kill_daemon().await;
        }
        site.start_daemon().await;
        let vm = site.vm("web01").await;
        assert_eq!((vm.state, vm.saved_bytes, vm.assigned_bytes), (VmState::Saved, held, Bytes::ZERO));
    }
    site.client.start("web01").await.expect("it is saved");
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
}

#[tokio::test]
async fn a_saved_vm_changes_as_little_as_a_running_one_and_is_not_deleted() {
    let site = Site::new().await;
    site.run("web01").await;
    site.client.save("web01").await.expect("it runs");
    let patch = MemoryPatch { startup: Some(mib(600)), ..MemoryPatch::default() };
    assert_eq!(refusal(site.client.set_memory("web01", &patch).await).status, 400);
    let patch = MemoryPatch { minimum: Some(mib(128)), ..MemoryPatch::default() };
    site.client.set_memory("web01", &patch).await.expect("a minimum may sink");
    assert_eq!(
        refusal(site.client.delete("web01").await).detail,
        "Can't delete web01: it is saved; discard that first"
    );
    assert_eq!(refusal(site.client.pause("web01").await).detail, "Can't pause web01: it is saved");
    let off = site.client.discard("web01").await.expect("it is saved");
    assert_eq!((off.state, off.saved_bytes), (VmState::Off, None));
    assert_eq!(
        refusal(site.client.discard("web01").await).detail,
        "Can't discard the saved state of web01: it has none, it is off"
    );
    site.nothing_is_left().await;
    assert_eq!(refusal(site.client.save("web01").await).detail, "Can't save web01: it is off");
    site.client.start("web01").await.expect("it boots");
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
    site.client.stop("web01", &StopRequest { mode: StopMode::Force, ..StopRequest::default() }).await.expect("it runs");
    site.client.delete("web01").await.expect("it is off");
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_vm_goes_on() {
    let site = Site::new().await;
    let guest = site.run("web01").await;
    guest.change(|behaviour| behaviour.save = SaveMood::DiskFull).await;
    let problem = refusal(site.client.save("web01").await);
    assert_eq!(problem.status, 409);
    assert_eq!(problem.detail, "Can't save web01: QEMU says: Unable to write to file: No space left on device");
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
    assert!(guest.snapshot().booted, "its processors go on");
    site.event("save-failed").await;
    site.nothing_is_left().await;
    guest.change(|behaviour| behaviour.demand = mib(700)).await;
    site.vm_until("web01", "served", |vm| vm.assigned_bytes >= mib(700)).await;
}

#[tokio::test]
async fn a_paused_vm_that_could_not_be_saved_stays_paused() {
    let site = Site::new().await;
    let guest = site.run("web01").await;
    guest.change(|behaviour| behaviour.save = SaveMood::DiskFull).await;
    site.client.pause("web01").await.expect("it runs");
    refusal(site.client.save("web01").await);
    site.vm_until("web01", "paused", |vm| vm.state == VmState::Paused).await;
    assert!(!guest.snapshot().booted, "it stands still");
    site.client.resume("web01").await.expect("it is paused");
}

#[tokio::test]
async fn a_stop_ends_a_save_that_takes_too_long() {
    let site = Site::new().await;
    let guest = site.run("web01").await;
    guest.change(|behaviour| behaviour.save = SaveMood::Endless).await;
    let save = tokio::spawn({
        let client = site.client.clone();
        async move { client.save("web01").await }
    });
    site.vm_until("web01", "being saved", |vm| vm.state == VmState::Saving).await;
    let off = site.client.stop("web01", &StopRequest::default()).await.expect("it is on");
    assert_eq!(off.state, VmState::Off);
    refusal(save.await.expect("no panic"));
    site.nothing_is_left().await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_in_the_middle_of_a_save_costs_nothing() {
    for orderly in [true, false] {
        let mut site = Site::new().await;
        let guest = site.run("web01").await;
        guest.change(|behaviour| behaviour.save = SaveMood::Endless).await;
        let client = site.client.clone();
        let save = tokio::spawn(async move { client.save("web01").await });
        until("a file", || async {
            let there = site.state("saved/web01/memory.partial").exists();
            if there { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        if orderly {
            site.stop_daemon().await;
        } else {
            site.kill_daemon().await;
        }
        save.await.expect("no panic").expect_err("nobody is there who could say so");
        guest.change(|behaviour| behaviour.save = SaveMood::Quick).await;
        site.start_daemon().await;
        site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
        assert_eq!((guest.snapshot().booted, guest.snapshot().boots), (true, 1));
        site.nothing_is_left().await;
        site.client.save("web01").await.expect("now it works");
    }
}

/// All is written, and then nobody ends the machine; or a restore is broken off
/// before its machine has run. There must not be two of one.
#[tokio::test]
async fn a_machine_beside_its_whole_file_is_ended_by_the_next_daemon() {
    let mut site = Site::new().await;
    site.run_large().await;
    let held = site.client.save("web01").await.expect("it runs").saved_bytes;
    let (saved, kept) = (site.state("saved/web01"), site.folder.path().join("kept"));
    copy(&saved, &kept);
    site.client.start("web01").await.expect("it is saved");
    site.nothing_is_left().await;
    site.kill_daemon().await;
    copy(&kept, &saved);
    site.start_daemon().await;
    let vm = site.vm("web01").await;
    assert_eq!((vm.state, vm.saved_bytes), (VmState::Saved, held));
    assert!(!site.state("run/web01").exists(), "its machine was ended");
    site.client.start("web01").await.expect("it is saved");
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
}

#[tokio::test]
async fn what_can_not_be_restored_is_told_and_still_there() {
    let site = Site::new().await;
    site.run("web01").await;
    site.client.save("web01").await.expect("it runs");
    site.fake.set_default(Behaviour { restores: false, ..Behaviour::default() });
    let problem = refusal(site.client.start("web01").await);
    assert!(problem.detail.contains("It is still saved; try again, or discard that"), "{problem}");
    let vm = site.vm("web01").await;
    assert_eq!((vm.state, vm.state_reason.is_some()), (VmState::Saved, true));
    site.fake.set_default(Behaviour::default());
    site.client.start("web01").await.expect("nothing was lost");
}

#[tokio::test]
async fn what_was_torn_is_told_and_moved_aside() {
    let mut site = Site::new().await;
    site.run("web01").await;
    site.client.save("web01").await.expect("it runs");
    site.kill_daemon().await;
    fs::write(site.state("saved/web01/memory"), "half").expect("torn");
    site.start_daemon().await;
    assert_eq!(site.vm("web01").await.state, VmState::Off);
    let told = site.event("orphan").await.message;
    assert!(told.starts_with("What was saved of web01 can't be restored (its memory should be a file of "), "{told}");
    assert!(site.state("saved/.web01.damaged-0/memory").exists(), "a person may look at it");
}

#[tokio::test]
async fn what_the_last_daemon_was_about_to_remove_is_gone() {
    let mut site = Site::new().await;
    site.kill_daemon().await;
    fs::create_dir_all(site.state("saved/.web01.void-0")).expect("a folder");
    fs::write(site.state("saved/.web01.void-0/memory"), "of a machine that went on").expect("written");
    site.start_daemon().await;
    site.nothing_is_left().await;
}

#[tokio::test]
async fn a_saved_vm_starts_with_the_host_if_it_is_to_start_at_all() {
    let mut site = Site::without_daemon("[host]\nmemory = \"3GB\"\nreserve = \"512MB\"\n").on_a_host_of_its_own();
    site.boot(1);
    site.start_daemon().await;
    for (name, autostart) in [("always", Autostart::Start), ("if-running", Autostart::StartIfRunning)] {
        site.client.create(&VmDefinition { autostart, ..definition(name) }).await.expect("a new VM");
        site.client.start(name).await.expect("it starts");
        site.vm_until(name, "running", |vm| vm.state == VmState::Running).await;
        site.client.save(name).await.expect("it runs");
    }
    site.stop_daemon().await;
    site.boot(2);
    site.start_daemon().await;
    site.vm_until("always", "running", |vm| vm.state == VmState::Running).await;
    assert_eq!(site.guest("always").snapshot().boots, 1, "it went on");
    assert_eq!(site.vm("if-running").await.state, VmState::Saved, "a person had it saved: it did not run");
}
