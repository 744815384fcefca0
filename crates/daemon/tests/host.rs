//! The host is protected: when somebody else takes its memory, VMs give back
//! before it has to swap, and people see what is kept and why.

mod common;

use std::fs;

use common::{Site, mib, until};
use dynmem_api::{HostView, ReserveBy, VmState};

/// A host of 8 GiB with a daemon that may lend 2 GiB of them.
async fn site() -> Site {
    let settings = "[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\n";
    let mut site = Site::without_daemon(settings).on_a_host_of_its_own();
    site.boot(1);
    site.start_daemon().await;
    site
}

/// So much of the host's memory is available, and tasks wait for memory in such
/// a share of the time.
fn host_has(site: &Site, available_mib: u64, stalled_percent: u32) {
    let available = available_mib << 10;
    let info = format!(
        "MemTotal: 8388608 kB\nMemFree: 0 kB\nMemAvailable: {available} kB\nSwapTotal: 8388608 kB\nSwapFree: 8388608 kB\n"
    );
    let line = |kind| format!("{kind} avg10={stalled_percent}.00 avg60=0.00 avg300=0.00 total=0\n");
    let proc = site.host_root().join("proc");
    fs::create_dir_all(proc.join("pressure")).expect("a folder");
    fs::write(proc.join("pressure/memory"), line("some") + &line("full")).expect("written");
    // In one step, as the kernel does it: the daemon reads when it likes.
    fs::write(proc.join("meminfo.new"), info).expect("written");
    fs::rename(proc.join("meminfo.new"), proc.join("meminfo")).expect("renamed");
}

async fn host_until(site: &Site, what: &str, so: impl Fn(&HostView) -> bool) -> HostView {
    until(&format!("the host {what}"), || async {
        let host = site.client.host().await.expect("the host");
        if so(&host) { Ok(host) } else { Err(format!("{host:#?}")) }
    })
    .await
}

#[tokio::test]
async fn vms_give_back_when_somebody_else_takes_the_hosts_memory_and_never_below_minimum() {
    let site = site().await;
    site.run("web01").await;
    site.run("web02").await;
    let calm = host_until(&site, "read", |host| host.host_available_bytes == mib(8192)).await;
    assert_eq!((calm.lendable_bytes, calm.protection), (mib(2048), None));
    assert_eq!((calm.reserve_by, calm.floor_bytes), (ReserveBy::Setting, mib(128)));
    assert_eq!(calm.machines_hold_bytes, None, "imitated machines have no groups");

    host_has(&site, 20, 0);
    for name in ["web01", "web02"] {
        site.vm_until(name, "smaller", |vm| vm.assigned_bytes < mib(512)).await;
    }
    let short = host_until(&site, "short", |host| host.under_pressure).await;
    let why = short.protection.expect("it says why");
    assert!(why.contains("others use the host's memory. It has 20 MiB available; 128 MiB of them are kept"), "{why}");
    assert!(short.lendable_bytes < mib(1200) && short.counters.removed_bytes > mib(0));
    assert!(site.event("host-pressure").await.message.starts_with("The host is under pressure: 20MiB available"));
    // It goes on as long as that lasts, as far as is promised to the VMs.
    for name in ["web01", "web02"] {
        site.vm_until(name, "at its minimum", |vm| vm.assigned_bytes == mib(256)).await;
    }

    host_has(&site, 4096, 0);
    host_until(&site, "well again", |host| !host.under_pressure && host.protection.is_none()).await;
    for name in ["web01", "web02"] {
        assert!(site.vm(name).await.assigned_bytes >= mib(256));
    }
}

#[tokio::test]
async fn a_host_that_stalls_keeps_twice_as_much() {
    let site = site().await;
    site.run("web01").await;
    host_has(&site, 200, 25);
    let stalled = host_until(&site, "known to stall", |host| host.stall_percent.get() == 25).await;
    assert!(stalled.under_pressure, "of 200 MiB 128 are enough, and 256 are not: {stalled:#?}");
    assert_eq!(stalled.floor_bytes, mib(256));
    assert!(stalled.protection.expect("it says why").ends_with("256 MiB of them are kept, twice as much as usual"));
    site.vm_until("web01", "smaller", |vm| vm.assigned_bytes < mib(512)).await;
}

#[tokio::test]
async fn a_paused_vm_keeps_its_memory_whoever_needs_it() {
    let site = site().await;
    site.run("paused").await;
    site.client.pause("paused").await.expect("it runs");
    site.vm_until("paused", "paused", |vm| vm.state == VmState::Paused).await;
    let busy = site.run("busy").await;
    busy.change(|behaviour| behaviour.demand = mib(900)).await;
    site.vm_until("busy", "served with what is free", |vm| vm.assigned_bytes == mib(1024)).await;
    host_has(&site, 20, 0);
    site.vm_until("busy", "asked, as the host is short", |vm| vm.assigned_bytes < mib(1000)).await;
    assert_eq!(site.vm("paused").await.assigned_bytes, mib(512));
}
