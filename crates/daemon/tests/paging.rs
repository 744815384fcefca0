//! Smart Paging with imitated machines and this host's real swap files: a
//! restart without memory gets a file, and the file goes, whatever happens.
//! Where the host lets nobody swap, there is nothing to see here.

mod common;

use std::fs;

use common::{Site, definition, mib, refusal, until};
use dynmem_api::{MemoryPatch, StopMode, StopRequest, VmState, VmView};
use dynmem_footprint::swap_files;
use dynmem_hypervisor::fake::{AgentMood, FakeGuest};
use dynmem_linux::{HostReader, SwapFile};

/// A host that is full: `web01` is shrunk below its startup of 1 GiB, and
/// `busy` needs all the rest.
struct Full {
    site: Site,
    web01: FakeGuest,
    busy: FakeGuest,
}

/// None where there is no Smart Paging.
async fn full() -> Option<Full> {
    let site = Site::new().await;
    let paging = site.client.host().await.expect("the host").smart_paging;
    if !paging.possible {
        eprintln!("SKIPPED: {paging:?}");
        return None;
    }
    let mut large = definition("web01");
    (large.memory.startup, large.memory.minimum) = (mib(1024), mib(128));
    let mut hungry = definition("busy");
    hungry.memory.maximum = mib(2048);
    for definition in [&large, &hungry] {
        site.client.create(definition).await.expect("a new VM");
        site.client.start(&definition.name).await.expect("it starts");
        site.vm_until(&definition.name, "running", |vm| vm.state == VmState::Running).await;
    }
    let (web01, busy) = (site.guest("web01"), site.guest("busy"));
    web01.change(|behaviour| behaviour.demand = mib(100)).await;
    busy.change(|behaviour| behaviour.demand = mib(1700)).await;
    site.vm_until("web01", "shrunk", |vm| vm.assigned_bytes < mib(400)).await;
    site.vm_until("busy", "fed", |vm| vm.assigned_bytes >= mib(1500)).await;
    Some(Full { site, web01, busy })
}

impl Full {
    /// Restarts `web01`, whose guest then says nothing: it stays as it is while
    /// it boots.
    async fn restart_into_silence(&self) -> VmView {
        self.web01.change(|behaviour| behaviour.agent = AgentMood::Silent).await;
        self.web01.reboot().await;
        self.site.vm_until("web01", "paging", |vm| vm.smart_paging.in_use && vm.state == VmState::Booting).await
    }

    async fn speak(&self) {
        self.web01.change(|behaviour| behaviour.agent = AgentMood::Healthy).await;
    }

    async fn is_well_again(&self) {
        is_well_again(&self.site).await;
    }

    fn leaves_nothing(&self) {
        leaves_nothing(&self.site);
    }
}

async fn is_well_again(site: &Site) {
    let well = |vm: &VmView| vm.state == VmState::Running && !vm.smart_paging.in_use;
    site.vm_until("web01", "well again", well).await;
    leaves_nothing(site);
}

fn leaves_nothing(site: &Site) {
    let folder = site.state("paging");
    let left: Vec<_> = fs::read_dir(&folder).expect("readable").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(swap_files(site.folder.path()).len(), 0);
}

#[tokio::test]
async fn a_restart_without_memory_gets_a_file_until_its_guest_is_up() {
    let Some(full) = full().await else { return };
    let vm = full.restart_into_silence().await;
    let file = vm.smart_paging.file_bytes.expect("its size");
    let placed = file.saturating_add(vm.assigned_bytes);
    assert!((mib(1000)..=mib(1024)).contains(&placed), "a place for every byte: {vm:#?}");
    let path = vm.smart_paging.path.expect("its place");
    assert_eq!(path, full.site.state("paging/web01.swap"));
    let areas = HostReader::default().swap_areas().expect("readable");
    assert!(areas.iter().any(|area| area.path == path && area.size == file), "{areas:?}");
    let busy = full.site.vm("busy").await;
    assert!(busy.assigned_bytes >= mib(1500), "the neighbour keeps what it needs: {busy:#?}");

    full.speak().await;
    full.is_well_again().await;
    assert!(full.web01.snapshot().boots >= 2);
    full.site.event("smart-paging-began").await;
    full.site.event("smart-paging-ended").await;
}

#[tokio::test]
async fn a_restart_command_pages_too_and_is_answered() {
    let Some(full) = full().await else { return };
    full.site.client.restart("web01").await.expect("it restarts");
    full.is_well_again().await;
    assert!(full.web01.snapshot().boots >= 2);
    full.site.event("smart-paging-ended").await;
}

#[tokio::test]
async fn a_machine_that_dies_takes_its_file_along() {
    let Some(full) = full().await else { return };
    full.restart_into_silence().await;
    let force = StopRequest { mode: StopMode::Force, ..StopRequest::default() };
    full.site.client.stop("web01", &force).await.expect("it ends");
    full.leaves_nothing();
    assert!(!full.site.vm("web01").await.smart_paging.in_use);
}

#[tokio::test]
async fn the_next_daemon_goes_on_with_the_file() {
    let Some(mut full) = full().await else { return };
    let before = full.restart_into_silence().await;
    full.site.kill_daemon().await;
    full.site.start_daemon().await;
    let after = full.site.vm("web01").await;
    assert_eq!(after.smart_paging, before.smart_paging);
    let more = after.assigned_bytes.saturating_sub(before.assigned_bytes);
    assert!(more < mib(64), "what is in the file is not charged: {after:#?}");
    full.speak().await;
    full.is_well_again().await;
}

#[tokio::test]
async fn a_file_whose_machine_is_gone_is_swept_by_the_next_daemon() {
    let Some(mut full) = full().await else { return };
    full.restart_into_silence().await;
    full.site.kill_daemon().await;
    full.web01.crash(dynmem_hypervisor::MachineExit::Signal(9));
    until("its end", || async {
        let open = tokio::net::UnixStream::connect(full.site.state("run/web01/qmp.sock")).await.is_ok();
        if open { Err("it still listens".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(swap_files(full.site.folder.path()).len(), 1);
    full.site.start_daemon().await;
    full.leaves_nothing();
    assert_eq!(full.site.vm("web01").await.state, VmState::Off);
}

#[tokio::test]
async fn a_file_that_was_given_up_by_hand_is_cleared_away() {
    let Some(full) = full().await else { return };
    let path = full.restart_into_silence().await.smart_paging.path.expect("its place");
    let file = SwapFile::open(&path).expect("readable").expect("there");
    file.deactivate().expect("nothing is in it");
    full.site.event("smart-paging-ended").await;
    full.leaves_nothing();
}

#[tokio::test]
async fn without_room_for_a_file_the_restart_is_held_and_nobody_else_is_hurt() {
    let Some(full) = full().await else { return };
    let nowhere = full.site.folder.path().join("missing");
    let patch = MemoryPatch { smart_paging_folder: Some(nowhere.clone()), ..MemoryPatch::default() };
    full.site.client.set_memory("web01", &patch).await.expect("for the next restart");
    let problem = refusal(full.site.client.restart("web01").await).to_string();
    assert!(problem.contains("can't be paged to a file") && problem.contains("missing/web01.swap"), "{problem}");
    let vm = full.site.vm("web01").await;
    assert_eq!(vm.state, VmState::Starting, "{vm:#?}");
    assert_eq!(full.web01.snapshot().boots, 1, "held");
    assert!(full.site.vm("busy").await.assigned_bytes >= mib(1500));
    full.leaves_nothing();
    // Memory comes free: no file is needed any more.
    full.busy.change(|behaviour| behaviour.demand = mib(100)).await;
    full.is_well_again().await;
}

#[tokio::test]
async fn a_folder_that_a_person_chose_is_used() {
    let Some(full) = full().await else { return };
    let chosen = full.site.folder.path().join("fast disk");
    fs::create_dir(&chosen).expect("a folder");
    let patch = MemoryPatch { smart_paging_folder: Some(chosen.clone()), ..MemoryPatch::default() };
    full.site.client.set_memory("web01", &patch).await.expect("for the next restart");
    let vm = full.restart_into_silence().await;
    assert_eq!(vm.smart_paging.path, Some(chosen.join("web01.swap")));
    assert!(chosen.join("web01.swap").exists());
    full.speak().await;
    full.is_well_again().await;
    assert!(fs::read_dir(&chosen).expect("readable").next().is_none());
}

#[tokio::test]
async fn a_vm_that_ran_when_the_host_went_down_starts_on_a_file_if_it_must() {
    let lent = "[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\n";
    let mut site = Site::without_daemon(lent).on_a_host_of_its_own();
    site.boot(1);
    site.start_daemon().await;
    if !site.client.host().await.expect("the host").smart_paging.possible {
        return eprintln!("SKIPPED: this host can't page");
    }
    let mut fixed = definition("fixed");
    (fixed.memory.dynamic, fixed.memory.startup) = (false, mib(1500));
    for definition in [&fixed, &definition("web01")] {
        let mut small = definition.clone();
        small.memory.startup = definition.memory.startup.min(mib(256));
        site.client.create(&small).await.expect("a new VM");
        site.client.start(&small.name).await.expect("it starts");
    }
    site.stop_daemon().await;
    for (name, definition) in [("fixed", fixed), ("web01", definition("web01"))] {
        site.guest(name).crash(dynmem_hypervisor::MachineExit::Signal(9));
        let socket = site.state("run").join(name).join("qmp.sock");
        until("its end", || async {
            let open = tokio::net::UnixStream::connect(&socket).await.is_ok();
            if open { Err("it still listens".to_owned()) } else { Ok(()) }
        })
        .await;
        let mut larger = definition;
        if name == "web01" {
            (larger.memory.startup, larger.memory.minimum) = (mib(1024), mib(128));
        }
        site.write_definition(&format!("{name}.toml"), &larger.to_toml().expect("right"));
    }
    site.boot(2);
    site.start_daemon().await;
    let began = site.event("smart-paging-began").await;
    assert_eq!(began.vm.as_deref(), Some("web01"), "{began:?}");
    is_well_again(&site).await;
    let vm = site.vm("web01").await;
    assert!(vm.assigned_bytes < mib(512), "there is no more: {vm:#?}");
    site.event("smart-paging-ended").await;
}
