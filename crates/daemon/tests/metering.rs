//! Resource metering, through the real socket and over the ends of machines and
//! daemons.

mod common;

use common::{Site, mib, refusal};
use dynmem_api::{MeterPool, MeterView, StopMode, StopRequest, VmView};

const FORCE: StopRequest = StopRequest { mode: StopMode::Force, timeout_seconds: 60 };

fn meter(vm: &VmView) -> &MeterView {
    vm.meter.as_ref().unwrap_or_else(|| panic!("{} is not metered", vm.name))
}

#[tokio::test]
async fn a_period_is_enabled_read_reset_and_disabled() {
    let site = Site::new().await;
    site.run("web01").await;
    assert_eq!(site.vm("web01").await.meter, None);
    let problem = refusal(site.client.meter("web01").await);
    assert!(problem.status == 404 && problem.detail.contains("dynmem meter enable web01"), "{problem:?}");
    assert_eq!(refusal(site.client.reset_meter("web01").await).status, 409);

    let began = site.client.enable_meter("web01").await.expect("it can be metered");
    let seen = site.vm_until("web01", "is metered", |vm| meter(vm).average_bytes.is_some()).await;
    let MeterView { average_bytes, minimum_bytes, maximum_bytes, .. } = *meter(&seen);
    assert_eq!((average_bytes, minimum_bytes, maximum_bytes), (Some(mib(512)), Some(mib(512)), Some(mib(512))));
    let again = site.client.enable_meter("web01").await.expect("it is metered");
    assert_eq!(meter(&again).since_unix_ms, meter(&began).since_unix_ms, "enabling twice begins nothing anew");

    site.guest("web01").change(|guest| guest.demand = mib(700)).await;
    let grown = |vm: &VmView| meter(vm).maximum_bytes > Some(mib(700)) && meter(vm).average_bytes > Some(mib(512));
    let vm = site.vm_until("web01", "grows", grown).await;
    assert_eq!(meter(&vm).minimum_bytes, Some(mib(512)));
    assert!(meter(&vm).average_bytes < meter(&vm).maximum_bytes, "it was small for a while: {vm:?}");

    let reset = site.client.reset_meter("web01").await.expect("it is metered");
    assert!(meter(&reset).since_unix_ms >= meter(&began).since_unix_ms);
    let vm = site.vm_until("web01", "is metered", |vm| meter(vm).minimum_bytes.is_some()).await;
    assert!(meter(&vm).minimum_bytes > Some(mib(512)), "the small beginning is forgotten: {vm:?}");
    assert_eq!(site.client.disable_meter("web01").await.expect("it is metered").meter, None);
    assert_eq!(site.client.disable_meter("web01").await.expect("nothing to end").meter, None);
}

#[tokio::test]
async fn a_period_outlives_machines_and_daemons_and_ends_with_its_vm() {
    let mut site = Site::new().await;
    site.run("web01").await;
    site.define("db").await;
    let began = meter(&site.client.enable_meter("web01").await.expect("it runs")).since_unix_ms;
    site.client.enable_meter("db").await.expect("a VM that is off can be metered");
    site.client.stop("web01", &FORCE).await.expect("it ends");
    let stopped = site.vm("web01").await;
    assert_eq!(meter(&stopped).minimum_bytes, Some(mib(512)), "off is not a size");
    assert_eq!(meter(&site.vm("db").await).average_bytes, None);

    site.stop_daemon().await;
    site.start_daemon().await;
    let after = site.vm("web01").await;
    assert_eq!((meter(&after).since_unix_ms, meter(&after).maximum_bytes), (began, Some(mib(512))));
    let vms = site.client.vms().await.expect("a list");
    assert_eq!(MeterPool::of(&vms), MeterPool { vms: 1, average_bytes: mib(512) });
    assert!(site.vm("db").await.meter.is_some(), "it goes on, too");

    site.client.delete("web01").await.expect("it is off");
    site.define("web01").await;
    assert_eq!(site.vm("web01").await.meter, None, "another VM of that name");
    site.stop_daemon().await;
    // Its definition goes by hand, and it is defined anew: the period was not this VM's.
    std::fs::rename(site.state("vms/db.toml"), site.state("db.toml")).expect("it is there");
    site.start_daemon().await;
    assert_eq!(site.vm("web01").await.meter, None);
    site.define("db").await;
    site.stop_daemon().await;
    site.start_daemon().await;
    assert_eq!(site.vm("db").await.meter, None);
}

#[tokio::test]
async fn a_static_vm_reports_its_size() {
    let site = Site::new().await;
    let mut definition = common::definition("fixed");
    definition.memory.dynamic = false;
    site.client.create(&definition).await.expect("a definition");
    site.client.enable_meter("fixed").await.expect("it can be metered");
    site.client.start("fixed").await.expect("there is memory");
    let vm = site.vm_until("fixed", "is metered", |vm| meter(vm).average_bytes.is_some()).await;
    let MeterView { average_bytes, minimum_bytes, maximum_bytes, .. } = *meter(&vm);
    assert_eq!((average_bytes, minimum_bytes, maximum_bytes), (Some(mib(512)), Some(mib(512)), Some(mib(512))));
}
