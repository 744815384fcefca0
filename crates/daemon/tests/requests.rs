//! Requests and their refusals, through the real socket.

mod common;

use common::{Site, definition, mib, refusal};
use dynmem_api::{MemoryPatch, StopMode, StopRequest, VmState};
use dynmem_units::Bytes;

const FORCE: StopRequest = StopRequest { mode: StopMode::Force, timeout_seconds: 60 };

#[tokio::test]
async fn a_vm_lives_from_create_to_delete() {
    let site = Site::new().await;
    let created = site.define("web01").await;
    assert_eq!((created.state, created.assigned_bytes), (VmState::Off, Bytes::ZERO));
    assert!(site.state("vms/web01.toml").is_file(), "the definition is on the disk");
    assert_eq!(site.client.vms().await.expect("a list"), [created]);

    let started = site.client.start("web01").await.expect("there is memory");
    assert!(matches!(started.state, VmState::Booting | VmState::Running), "{started:?}");
    assert_eq!(started.assigned_bytes, mib(512));
    assert_eq!(started.console_path, Some(site.state("run/web01/console.sock")), "the answer is complete");
    assert_eq!(started.accelerator.as_deref(), Some("tcg"));
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;

    assert_eq!(site.client.pause("web01").await.expect("it runs").state, VmState::Paused);
    let resumed = site.client.resume("web01").await.expect("it is paused");
    assert!(matches!(resumed.state, VmState::Running | VmState::Booting), "{resumed:?}");

    let stopped = site.client.stop("web01", &StopRequest::default()).await.expect("it obeys the button");
    assert_eq!((stopped.state, stopped.assigned_bytes, stopped.pid), (VmState::Off, Bytes::ZERO, None));
    assert_eq!(site.client.host().await.expect("the host").charged_bytes, Bytes::ZERO);
    site.client.delete("web01").await.expect("it is off");
    assert!(!site.state("vms/web01.toml").exists());
    assert_eq!(refusal(site.client.vm("web01").await).status, 404);

    let kinds: Vec<String> = site.events().await.into_iter().map(|event| event.kind).collect();
    for kind in ["daemon-started", "created", "started", "stopped", "deleted"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} is missing in {kinds:?}");
    }
}

#[tokio::test]
async fn a_vm_s_memory_is_explained() {
    let site = Site::new().await;
    site.define("web01").await;
    let off = site.client.explain("web01").await.expect("it is defined");
    assert_eq!((off.why.as_str(), off.sentence.as_str()), ("off", "web01 has no memory: it is off"));
    site.client.start("web01").await.expect("there is memory");
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
    let on = site.client.explain("web01").await.expect("it is defined");
    assert_eq!((on.assigned_bytes, on.sharers_total), (mib(512), 0));
    assert!(on.sentence.starts_with("web01 has 512 MiB") && !on.why.is_empty(), "{on:?}");
    assert_eq!(refusal(site.client.explain("web09").await).status, 404);
}

#[tokio::test]
async fn every_refusal_is_a_sentence() {
    let site = Site::new().await;
    site.define("web01").await;
    let problem = refusal(site.client.create(&definition("web01")).await);
    assert_eq!(
        (problem.status, problem.detail.as_str()),
        (409, "A VM named web01 exists already: choose another name")
    );
    let problem = refusal(site.client.start("web09").await);
    assert_eq!((problem.status, problem.detail.as_str()), (404, "No VM is named \"web09\""));
    let problem = refusal(site.client.stop("web01", &FORCE).await);
    assert_eq!((problem.status, problem.detail.as_str()), (409, "Can't stop web01: it is off"));
    let problem = refusal(site.client.stop("web01", &StopRequest { timeout_seconds: 0, ..FORCE }).await);
    assert_eq!(problem.status, 400);
    let bad_name = definition("../etc");
    let problem = refusal(site.client.create(&bad_name).await);
    assert!(problem.status == 400 && problem.detail.contains("a name is 1 to 63"), "{problem:?}");

    let patch = MemoryPatch { minimum: Some(mib(600)), ..MemoryPatch::default() };
    let problem = refusal(site.client.set_memory("web01", &patch).await);
    assert_eq!(problem.status, 400);
    assert_eq!(
        problem.detail,
        "Can't change web01: Minimum 600MiB is out of range: it must be at least 32MiB (the smallest VM) and at most 512MiB (startup)"
    );
    site.client.start("web01").await.expect("there is memory");
    let problem = refusal(site.client.delete("web01").await);
    assert!(problem.status == 409 && problem.detail.starts_with("Can't delete web01: it is "), "{problem:?}");
    assert!(problem.detail.ends_with("stop it first"), "{problem:?}");
}

#[tokio::test]
async fn a_start_that_does_not_fit_is_refused_with_what_it_needs() {
    let site = Site::new().await;
    let mut giant = definition("giant");
    giant.memory.startup = mib(4096);
    giant.memory.maximum = mib(4096);
    site.client.create(&giant).await.expect("a definition may be larger than the host");
    let problem = refusal(site.client.start("giant").await);
    assert_eq!(problem.status, 409);
    let sentence = "Not enough memory in the system to start the virtual machine giant: needs ";
    assert!(problem.detail.starts_with(sentence) && problem.detail.ends_with(" available"), "{}", problem.detail);
    let vm = site.vm("giant").await;
    assert_eq!((vm.state, vm.state_reason), (VmState::Off, Some(problem.detail.clone())));
    assert_eq!(site.event("start-refused").await.message, problem.detail);
}

#[tokio::test]
async fn settings_change_all_or_nothing_and_survive_the_daemon() {
    let mut site = Site::new().await;
    site.run("web01").await;
    let patch = MemoryPatch { maximum: Some(mib(2048)), minimum: Some(mib(128)), ..MemoryPatch::default() };
    let vm = site.client.set_memory("web01", &patch).await.expect("a running VM takes this");
    assert_eq!((vm.settings.minimum_bytes, vm.settings.maximum_bytes), (mib(128), mib(2048)));

    // One half is allowed while it runs, the other is not.
    let patch = MemoryPatch { maximum: Some(mib(3072)), startup: Some(mib(256)), ..MemoryPatch::default() };
    let problem = refusal(site.client.set_memory("web01", &patch).await);
    assert!(problem.detail.contains("while the VM runs: the VM must be off"), "{problem:?}");
    assert_eq!(site.vm("web01").await.settings, vm.settings, "nothing changed");

    site.stop_daemon().await;
    site.start_daemon().await;
    assert_eq!(site.vm("web01").await.settings, vm.settings);
}

#[tokio::test]
async fn what_is_not_understood_is_answered_with_a_problem() {
    let site = Site::new().await;
    let request = |line: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    let long = format!("{{\"\\u001b[2J\\u007f{}\":1}}", "y".repeat(10_000));
    for (line, body, status, detail) in [
        ("GET /v2/vms", "", 404, "There is no /v2/vms here"),
        ("PUT /v1/vms", "", 405, "/v1/vms does not take PUT"),
        ("POST /v1/vms", "", 400, "The body is not understood"),
        ("POST /v1/vms", "{\"name\":\"a\",\"nam\":1}", 400, "unknown field `nam`"),
        ("POST /v1/vms", &large, 413, "A body of at most 65536 bytes"),
        ("PATCH /v1/vms/a/memory", "{\"minimum\":\"much\"}", 400, "is not a size"),
        ("PATCH /v1/vms/a/memory", "{\"minimum\":\"3é\"}", 400, "is not a size"),
        ("PATCH /v1/vms/a/memory", &long, 400, "unknown field `?[2J?yyy"),
        ("PATCH /v1/vms/a/memory", "{}", 404, "No VM is named"),
        ("POST /v1/vms/a/stop", "{\"mode\":\"gently\"}", 400, "unknown variant `gently`"),
        ("POST /v1/vms/a/stop", "", 404, "No VM is named"),
        ("GET /v1/vms/%ff", "", 400, "The name in the path is not understood"),
        ("GET /v1/events?limit=0", "", 400, "Limit 0 is out of range"),
        ("GET /v1/events?limit=x", "", 400, "The query is not understood"),
        ("GET /v1/events?befor=1", "", 400, "The query is not understood"),
    ] {
        let (head, answer) = site.raw(&request(line, body)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{line} {body:.40}: {head} {answer}");
        assert!(head.contains("application/problem+json"), "{line}: {head}");
        assert!(answer.contains(detail) && answer.len() <= 1000, "{line}: {answer}");
    }
    let (head, _) = site.raw("what is this\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    site.client.host().await.expect("the daemon is well");
}

#[tokio::test]
async fn damaged_definitions_hide_no_others_and_are_shown() {
    let mut site = Site::without_daemon("");
    site.write_definition("good.toml", &definition("good").to_toml().expect("right"));
    site.write_definition("bad.toml", "name = \"bad\"\nvcpu = 2\n");
    site.start_daemon().await;
    let names: Vec<_> = site.client.vms().await.expect("a list").into_iter().map(|vm| vm.name).collect();
    assert_eq!(names, ["good"]);
    let damaged = site.client.host().await.expect("the host").damaged_definitions;
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].path, site.state("vms/bad.toml"));
    assert!(damaged[0].error.contains("line 2"), "{}", damaged[0].error);
    assert!(site.event("definition-damaged").await.message.contains("bad.toml"));
    // Its name is not free: what is in the file is not lost by a create.
    let problem = refusal(site.client.create(&definition("bad")).await);
    assert_eq!(problem.status, 409);
}

#[tokio::test]
async fn a_damaged_event_log_is_set_aside() {
    let mut site = Site::without_daemon("");
    std::fs::create_dir_all(site.state("")).expect("a folder");
    std::fs::write(site.state("dynmem.db"), "this is no database, and never was".repeat(200)).expect("written");
    site.start_daemon().await;
    site.event("event-log").await;
    site.event("daemon-started").await;
}

#[tokio::test]
async fn events_are_read_on_from_the_last_one_seen() {
    let site = Site::new().await;
    for name in ["a", "b", "c"] {
        site.define(name).await;
    }
    site.event("created").await;
    let all = common::until("three creations", || async {
        let created: Vec<_> = site.events().await.into_iter().filter(|event| event.kind == "created").collect();
        if created.len() == 3 { Ok(created) } else { Err(format!("{created:?}")) }
    })
    .await;
    let query = dynmem_api::EventsQuery { after: Some(all[0].id), limit: Some(1), vm: None };
    assert_eq!(site.client.events(&query).await.expect("events"), [all[1].clone()]);
    let query = dynmem_api::EventsQuery { vm: Some("c".to_owned()), ..dynmem_api::EventsQuery::default() };
    assert_eq!(site.client.events(&query).await.expect("events"), [all[2].clone()]);
}
