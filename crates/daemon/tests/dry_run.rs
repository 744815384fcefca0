//! What a change would come to, asked of the real daemon, which then has
//! changed nothing.

mod common;

use std::fs;

use common::{Site, definition, mib, refusal};
use dynmem_api::{DryRunView, DryRunVm, MemoryPatch, VmState, VmView};

/// Name, memory now and then.
fn moves(view: &DryRunView) -> Vec<(&str, u64, u64)> {
    let of = |vm: &'_ DryRunVm| (vm.now_bytes.mib(), vm.then_bytes.mib());
    view.vms.iter().map(|vm| (vm.name.as_str(), of(vm).0, of(vm).1)).collect()
}

/// All that a dry run must leave as it was: the VMs' states and promises, the
/// definitions on the disk, the events.
async fn trace(site: &Site) -> impl PartialEq + std::fmt::Debug + use<> {
    let vms = site.client.vms().await.expect("a list");
    let operations = |vm: &VmView| (vm.counters.add_operations, vm.counters.remove_operations);
    let vms: Vec<_> = vms.into_iter().map(|vm| (operations(&vm), vm.name, vm.state, vm.settings)).collect();
    let mut files: Vec<_> = fs::read_dir(site.state("vms")).expect("a folder").flatten().map(|e| e.path()).collect();
    files.sort();
    let files: Vec<_> = files.into_iter().map(|path| fs::read_to_string(path).expect("text")).collect();
    let kinds = ["created", "settings-changed", "start-refused", "started"]; // others happen by themselves
    let events = site.events().await.into_iter().filter(|event| kinds.contains(&event.kind.as_str()));
    let events: Vec<_> = events.map(|event| event.id).collect();
    (vms, files, events)
}

#[tokio::test]
async fn a_start_is_tried_and_nothing_comes_of_it() {
    let site = Site::new().await;
    site.run("rich").await.change(|behaviour| behaviour.demand = mib(880)).await;
    site.vm_until("rich", "grown", |vm| vm.assigned_bytes == mib(1024)).await;
    site.guest("rich").change(|behaviour| behaviour.demand = mib(100)).await;
    site.vm_until("rich", "idle", |vm| vm.target_bytes < mib(400)).await;
    let mut second = definition("second");
    second.memory.startup = mib(1024);
    site.client.create(&second).await.expect("a new VM");
    site.event("created").await;

    let before = trace(&site).await;
    let view = site.client.dry_run_start("second").await.expect("an answer");
    assert!(view.accepted && view.refusal.is_none() && view.waits, "{view:#?}");
    let [("rich", 1024, left), ("second", 0, 1024)] = moves(&view)[..] else { panic!("{view:#?}") };
    assert_eq!(view.reclaimed_bytes, mib(1024 - left));
    assert!(view.available_after_bytes < view.available_bytes);
    assert_eq!(trace(&site).await, before, "nothing has happened");
    assert_eq!(site.vm("second").await.state, VmState::Off);

    // And so it comes when it is meant.
    site.client.start("second").await.expect("rich gives");
    let rich = site.vm_until("rich", "smaller", |vm| vm.assigned_bytes < mib(1024)).await;
    assert!(rich.assigned_bytes <= mib(left), "{rich:#?}");
}

#[tokio::test]
async fn what_would_be_refused_says_the_same_sentence_and_is_an_answer() {
    let site = Site::new().await;
    site.run("web01").await;
    let mut giant = definition("giant");
    (giant.memory.startup, giant.memory.maximum) = (mib(4096), mib(4096));
    site.client.create(&giant).await.expect("a definition may be larger than the host");
    let before = site.client.vms().await.expect("a list").len();

    let view = site.client.dry_run_start("giant").await.expect("an answer");
    let problem = refusal(site.client.start("giant").await);
    assert_eq!((view.accepted, view.refusal), (false, Some(problem.detail)));
    let view = site.client.dry_run_start("web01").await.expect("an answer");
    assert_eq!(view.refusal.as_deref(), Some("Can't start web01: it is running"));

    let patch = MemoryPatch { minimum: Some(mib(600)), ..MemoryPatch::default() };
    let view = site.client.dry_run_memory("web01", &patch).await.expect("an answer");
    assert_eq!(view.refusal, Some(refusal(site.client.set_memory("web01", &patch).await).detail));

    let view = site.client.dry_run_create(&definition("web01")).await.expect("an answer");
    assert_eq!(view.refusal, Some(refusal(site.client.create(&definition("web01")).await).detail));
    let view = site.client.dry_run_create(&definition("../etc")).await.expect("an answer");
    assert_eq!(view.refusal, Some(refusal(site.client.create(&definition("../etc")).await).detail));
    let view = site.client.dry_run_create(&definition("new")).await.expect("an answer");
    assert!(view.accepted && view.vms.is_empty(), "it is off, and takes nothing: {view:#?}");
    assert_eq!(site.client.vms().await.expect("a list").len(), before);

    assert_eq!(refusal(site.client.dry_run_start("nobody").await).status, 404);
    assert_eq!(refusal(site.client.dry_run_memory("nobody", &patch).await).status, 404);
}

#[tokio::test]
async fn a_change_of_settings_is_tried_on_every_vm() {
    let site = Site::new().await;
    let web01 = site.run("web01").await;
    web01.change(|behaviour| behaviour.demand = mib(900)).await;
    site.vm_until("web01", "grown", |vm| vm.assigned_bytes == mib(1024)).await;
    let before = trace(&site).await;
    let patch = MemoryPatch { maximum: Some(mib(1536)), ..MemoryPatch::default() };
    let view = site.client.dry_run_memory("web01", &patch).await.expect("an answer");
    let [("web01", 1024, then)] = moves(&view)[..] else { panic!("{view:#?}") };
    assert!((1050..=1200).contains(&then), "its demand and a buffer of a fifth: {view:#?}");
    assert_eq!(trace(&site).await, before);
    let unchanged = site.client.dry_run_memory("web01", &MemoryPatch::default()).await.expect("an answer");
    assert!(unchanged.accepted && unchanged.vms.is_empty(), "{unchanged:#?}");
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_never_carried_out() {
    let site = Site::new().await;
    site.define("web01").await;
    let before = trace(&site).await;
    let definition = serde_json::to_string(&definition("web02")).expect("plain data");
    for (line, body) in [
        ("POST /v1/vms/web01/start?dry_rum=true", ""),
        ("POST /v1/vms/web01/start?dry_run=yes", ""),
        ("POST /v1/vms/web01/start?dry_run", ""),
        ("POST /v1/vms/web01/start?dry_run=true&dry_run=false", ""),
        ("PATCH /v1/vms/web01/memory?dry_run=true&force=1", "{\"minimum\":\"64M\"}"),
        ("POST /v1/vms?dryrun=true", &definition),
        // These can't be tried: they are not carried out instead.
        ("PATCH /v1/vms/web01/autostart?dry_run=true", "{\"start_delay\":5}"),
        ("DELETE /v1/vms/web01?dry_run=true", ""),
        ("POST /v1/vms/web01/stop?dry_run=true", ""),
        ("GET /v1/vms?limit=5", ""),
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (head, answer) = site.raw(&request).await;
        assert!(head.starts_with("HTTP/1.1 400") && answer.contains("query"), "{line}: {head} {answer}");
    }
    assert_eq!(trace(&site).await, before);
    // A condition counts for a dry run, too.
    let request = "PATCH /v1/vms/web01/memory?dry_run=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIf-Match: \"old\"\r\nContent-Length: 2\r\n\r\n{}";
    assert!(site.raw(request).await.0.starts_with("HTTP/1.1 412"));
}
