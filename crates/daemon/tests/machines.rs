//! Memory moves; and whatever one machine or guest does, the others are served.

mod common;

use common::{Site, definition, mib, refusal, until, using};
use dynmem_api::{DriverView, Integration, MemoryPatch, MemoryStatus, StopMode, StopRequest, VmState, VmView};
use dynmem_hypervisor::{
    MachineExit,
    fake::{AgentMood, Behaviour, DeviceMood, QmpMood},
};
use dynmem_units::Bytes;

#[tokio::test]
async fn a_loaded_guest_grows_and_an_idle_one_gives_when_it_is_needed() {
    let site = Site::new().await;
    let mut guests = Vec::new();
    for name in ["idle1", "idle2", "idle3"] {
        guests.push(site.run(name).await);
    }
    let before = site.vm("idle1").await;
    assert_eq!(before.assigned_bytes, mib(512), "nobody needs it, so nothing is taken");

    guests[0].change(|behaviour| behaviour.demand = mib(800)).await;
    let grown = site
        .vm_until("idle1", "grown to demand and buffer", |vm| {
            vm.demand_bytes >= mib(800)
                && vm.assigned_bytes >= vm.target_bytes
                && vm.memory_status == Some(MemoryStatus::Ok)
        })
        .await;
    assert!(grown.assigned_bytes >= mib(960), "{grown:#?}");
    assert!(grown.plugged_bytes > Bytes::ZERO && grown.counters.add_operations > 0, "{grown:#?}");

    // A start needs more than is free: the idle give, and never below minimum.
    let mut late = definition("late");
    (late.memory.startup, late.memory.minimum) = (mib(128), mib(64));
    site.client.create(&late).await.expect("a new VM");
    site.client.start("late").await.expect("surplus makes room");
    for name in ["idle2", "idle3"] {
        let vm = site.vm(name).await;
        assert!(vm.assigned_bytes >= mib(256), "{vm:#?}");
    }
    let host = site.client.host().await.expect("the host");
    assert!(host.charged_bytes.saturating_add(host.reserve_bytes) <= host.memory_bytes, "{host:#?}");
    assert!(host.counters.removed_bytes > Bytes::ZERO, "{host:#?}");
    site.event("grew").await;
    site.event("shrank").await;
}

#[tokio::test]
async fn an_agent_that_talks_nonsense_harms_nobody() {
    let lies: [&[u8]; 7] = [
        b"\x00\xff\xfe garbage \x1b[2J",
        br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":10995116277760,"available_bytes":0}"#,
        br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":-5,"available_bytes":0}"#,
        br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":NaN,"available_bytes":0}"#,
        br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":1e300,"available_bytes":0}"#,
        br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":1000,"available_bytes":2000}"#,
        br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":500000000,"available_bytes":0,"reserved_bytes":1099511627776}"#,
    ];
    let site = Site::new().await;
    let liar = site.run("liar").await;
    let honest = site.run("honest").await;
    for lie in lies {
        let refused_before = refused(&site).await;
        let line = lie.to_vec();
        liar.change(move |behaviour| behaviour.agent = AgentMood::Line(line)).await;
        until("the lie is refused", || async {
            let now = refused(&site).await;
            if now > refused_before { Ok(()) } else { Err(format!("{:?}", site.vm("liar").await.warnings)) }
        })
        .await;
    }
    let vm = site.vm("liar").await;
    assert_eq!(vm.assigned_bytes, mib(512), "a lie moves nothing");
    assert_eq!((troubles(&vm), troubles(&site.vm("honest").await)), (vec!["agent-refused"], vec![]));
    assert!(site.event("agent-refused").await.message.starts_with("liar has an agent that sends what is refused: "));

    honest.change(|behaviour| behaviour.demand = mib(700)).await;
    site.vm_until("honest", "served", |vm| vm.assigned_bytes >= mib(840)).await;
    // It comes back by itself, and only what was refused is remembered.
    liar.change(|behaviour| behaviour.agent = AgentMood::Healthy).await;
    site.vm_until("liar", "believed again", |vm| vm.integration == Integration::Agent).await;
    well_again(&site, "liar").await;
}

/// The words for what is wrong with a VM's guest.
fn troubles(vm: &VmView) -> Vec<&str> {
    vm.troubles.iter().map(|trouble| trouble.kind.as_str()).collect()
}

/// Nothing is wrong with it any more, which is an event.
async fn well_again(site: &Site, name: &str) {
    site.vm_until(name, "well again", |vm| vm.troubles.is_empty()).await;
    assert_eq!(site.event("recovered").await.vm.as_deref(), Some(name));
}

async fn refused(site: &Site) -> u64 {
    let warnings = site.vm("liar").await.warnings;
    let count = |warning: &String| warning.split_once(" messages of its agent")?.0.parse().ok();
    warnings.iter().find_map(count).unwrap_or(0)
}

#[tokio::test]
async fn a_lie_within_the_possible_gets_no_more_than_the_maximum() {
    let site = Site::new().await;
    let greedy = site.run("greedy").await;
    let modest = site.run("modest").await;
    let all_used = br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":500000000,"available_bytes":0,
        "committed_bytes":10995116277760,"swap_total_bytes":10995116277760,"swap_used_bytes":10995116277760,
        "swap_in_bytes_per_s":10995116277760,"stall_hundredths":10000}"#;
    let line: Vec<u8> = all_used.iter().copied().filter(|byte| *byte != b'\n').collect();
    greedy.change(move |behaviour| behaviour.agent = AgentMood::Line(line)).await;
    site.vm_until("greedy", "at its maximum", |vm| vm.assigned_bytes == mib(1024)).await;
    modest.change(|behaviour| behaviour.demand = mib(600)).await;
    site.vm_until("modest", "served", |vm| vm.assigned_bytes >= mib(720)).await;
    assert_eq!(site.vm("greedy").await.assigned_bytes, mib(1024), "10 TiB of demand and not a byte more");
}

#[tokio::test]
async fn an_agent_that_floods_is_bounded_and_the_daemon_answers() {
    let site = Site::new().await;
    let flooder = site.run("flooder").await;
    let other = site.run("other").await;
    flooder.change(|behaviour| behaviour.agent = AgentMood::Flood).await;
    site.vm_until("flooder", "named", |vm| troubles(vm).contains(&"agent-floods")).await;
    site.event("agent-floods").await;
    other.change(|behaviour| behaviour.demand = mib(700)).await;
    site.vm_until("other", "served", |vm| vm.assigned_bytes >= mib(840)).await;
    assert_eq!(site.vm("flooder").await.assigned_bytes, mib(512));
    assert!(site.vm("other").await.troubles.is_empty());
}

#[tokio::test]
async fn a_machine_that_hangs_keeps_nobody_waiting_and_can_be_ended() {
    let site = Site::new().await;
    let hung = site.run("hung").await;
    let other = site.run("other").await;
    hung.change(|behaviour| {
        behaviour.qmp = QmpMood::Hung;
        behaviour.demand = mib(900);
    })
    .await;
    other.change(|behaviour| behaviour.demand = mib(700)).await;
    site.vm_until("other", "served", |vm| vm.assigned_bytes >= mib(840)).await;
    let vm = site.vm_until("hung", "known to hang", |vm| !vm.warnings.is_empty()).await;
    assert!(vm.warnings[0].starts_with("QEMU does not do what it is asked: "), "{:?}", vm.warnings);
    site.event("control-lost").await;

    let force = StopRequest { mode: StopMode::Force, timeout_seconds: 60 };
    let stopped = site.client.stop("hung", &force).await.expect("its process can be ended");
    assert_eq!(stopped.state, VmState::Off);
    assert_eq!(site.vm("other").await.state, VmState::Running);
}

#[tokio::test]
async fn a_hung_machine_that_comes_back_gets_what_it_was_promised() {
    let site = Site::new().await;
    let guest = site.run("sleepy").await;
    guest.change(|behaviour| behaviour.qmp = QmpMood::Hung).await;
    site.vm_until("sleepy", "known to hang", |vm| !vm.warnings.is_empty()).await;
    guest.change(|behaviour| behaviour.demand = mib(800)).await;
    guest.change(|behaviour| behaviour.qmp = QmpMood::Healthy).await;
    let vm = site.vm_until("sleepy", "served", |vm| vm.assigned_bytes >= mib(960)).await;
    assert!(vm.warnings.is_empty(), "{:?}", vm.warnings);
    site.event("control-regained").await;
}

#[tokio::test]
async fn a_machine_that_dies_has_failed_and_frees_its_memory() {
    let site = Site::new().await;
    let guest = site.run("fragile").await;
    site.run("other").await;
    guest.crash(MachineExit::Signal(11));
    let vm = site.vm_until("fragile", "failed", |vm| vm.state == VmState::Failed).await;
    let reason = vm.state_reason.expect("a failure has its reason");
    assert!(reason.contains("QEMU ended unexpectedly (signal 11)"), "{reason}");
    assert_eq!(vm.assigned_bytes, Bytes::ZERO);
    assert_eq!(site.vm("other").await.state, VmState::Running);
    assert!(site.event("failed").await.message.contains("fragile"));
    site.client.start("fragile").await.expect("failed is as good as off");
    site.vm_until("fragile", "running", |vm| vm.state == VmState::Running).await;
}

#[tokio::test]
async fn a_panic_of_the_guest_is_a_failure_with_its_name() {
    let site = Site::new().await;
    site.run("panicky").await.panic().await;
    let vm = site.vm_until("panicky", "failed", |vm| vm.state == VmState::Failed).await;
    assert!(vm.state_reason.is_some_and(|reason| reason.contains("The guest's kernel has panicked")));
}

#[tokio::test]
async fn a_guest_that_shuts_itself_down_is_off() {
    let site = Site::new().await;
    site.run("done").await.power_off().await;
    let vm = site.vm_until("done", "off", |vm| vm.state == VmState::Off).await;
    assert_eq!((vm.state_reason, vm.assigned_bytes), (None, Bytes::ZERO));
}

#[tokio::test]
async fn a_balloon_that_does_not_move_is_shown_and_others_give_instead() {
    let site = Site::new().await;
    let stuck = site.run("stuck").await;
    site.run("willing").await;
    stuck.change(|behaviour| behaviour.balloon = DeviceMood::Stuck).await;
    let hungry = site.run("hungry").await;
    hungry.change(|behaviour| behaviour.demand = mib(900)).await;
    // 2 GiB to lend, three guests at 512 MiB and their overhead: hungry needs
    // what the other two hold beyond their minima.
    let frozen = site.vm_until("stuck", "frozen", |vm| matches!(&vm.driver, DriverView::Frozen { .. })).await;
    let [trouble] = &frozen.troubles[..] else { panic!("{frozen:#?}") };
    assert!(trouble.kind == "stuck" && trouble.detail.starts_with("It does not move its memory: asked for "));
    site.vm_until("hungry", "served with what is there", |vm| vm.assigned_bytes >= mib(700)).await;
    assert!(site.vm("willing").await.assigned_bytes >= mib(256));
    let event = site.event("stuck").await;
    assert_eq!(event.vm.as_deref(), Some("stuck"), "{event:?}");
    assert!(site.vm("willing").await.troubles.is_empty() && site.vm("hungry").await.troubles.is_empty());
    stuck.change(|behaviour| behaviour.balloon = DeviceMood::Willing).await;
    well_again(&site, "stuck").await;
    assert_eq!(site.vm("stuck").await.driver, DriverView::Ok);
}

#[tokio::test]
async fn a_guest_that_gives_back_no_hot_added_memory_is_named_and_its_balloon_gives_it() {
    let site = Site::new().await;
    let pinned = site.run("pinned").await;
    pinned.change(|behaviour| behaviour.demand = mib(850)).await;
    let grown = site.vm_until("pinned", "grown", |vm| vm.plugged_bytes >= mib(400)).await;
    pinned.change(|behaviour| (behaviour.plug, behaviour.demand) = (DeviceMood::Stuck, mib(100))).await;
    site.run("busy").await.change(|behaviour| behaviour.demand = mib(850)).await;
    let vm = site.vm_until("pinned", "named", |vm| troubles(vm) == ["pinned"]).await;
    assert!(vm.troubles[0].detail.starts_with("It gives back no more hot-added memory: "), "{vm:#?}");
    let vm = site.vm_until("pinned", "smaller", |vm| vm.assigned_bytes <= mib(950)).await;
    assert!(vm.plugged_bytes >= grown.plugged_bytes && vm.driver == DriverView::Ok, "its balloon gives: {vm:#?}");
    site.event("pinned").await;
}

#[tokio::test]
async fn a_guest_without_an_agent_is_served_from_balloon_statistics() {
    let site = Site::new().await;
    let mute = Behaviour { agent: AgentMood::Silent, ..using(300) };
    site.fake.set_default(mute);
    let guest = site.run("old").await;
    let vm = site.vm("old").await;
    assert_eq!(vm.integration, Integration::BalloonStatistics);
    assert!(vm.warnings.iter().any(|warning| warning.contains("install dynmem-agent")), "{:?}", vm.warnings);
    guest.change(|behaviour| behaviour.demand = mib(700)).await;
    site.vm_until("old", "served", |vm| vm.assigned_bytes >= mib(800)).await;
}

#[tokio::test]
async fn a_restart_holds_the_guest_until_its_memory_is_there() {
    let site = Site::new().await;
    let guest = site.run("web01").await;
    let restarted = site.client.restart("web01").await.expect("it obeys the button");
    assert!(matches!(restarted.state, VmState::Booting | VmState::Running), "{restarted:#?}");
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
    assert_eq!(guest.snapshot().boots, 2);
    // The guest's own reboot goes the same way.
    guest.reboot().await;
    guest.wait_until(|snapshot| snapshot.boots == 3).await;
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
    site.event("restarting").await;
}

#[tokio::test]
async fn a_guest_that_ignores_the_button_is_switched_off_in_time() {
    let site = Site::new().await;
    let deaf = site.run("deaf").await;
    deaf.change(|behaviour| behaviour.obeys_power_button = false).await;
    let request = StopRequest { mode: StopMode::Graceful, timeout_seconds: 1 };
    assert_eq!(site.client.stop("deaf", &request).await.expect("by force").state, VmState::Off);
}

#[tokio::test]
async fn a_start_that_waits_for_memory_can_be_cancelled() {
    let site = Site::new().await;
    site.fake.set_default(Behaviour { rate: mib(1), ..Behaviour::default() });
    for name in ["slow1", "slow2", "slow3"] {
        site.run(name).await;
    }
    site.define("waits").await;
    let client = site.client.clone();
    let starting = tokio::spawn(async move { client.start("waits").await });
    let vm = site.vm_until("waits", "starting", |vm| vm.state == VmState::Starting).await;
    assert_eq!(vm.state_reason.as_deref(), Some("waiting for memory"));
    let stopped = site.client.stop("waits", &StopRequest::default()).await.expect("nothing has happened yet");
    assert_eq!(stopped.state, VmState::Off);
    let problem = refusal(starting.await.expect("no panic"));
    assert_eq!((problem.status, problem.detail.as_str()), (409, "The start of waits was cancelled by a stop"));
}

#[tokio::test]
async fn whoever_waits_when_the_daemon_ends_is_told_so() {
    let mut site = Site::new().await;
    let deaf = site.run("deaf").await;
    deaf.change(|behaviour| behaviour.obeys_power_button = false).await;
    let client = site.client.clone();
    let stopping = tokio::spawn(async move { client.stop("deaf", &StopRequest::default()).await });
    site.vm_until("deaf", "stopping", |vm| vm.state == VmState::Stopping).await;
    site.stop_daemon().await;
    let problem = refusal(stopping.await.expect("no panic"));
    assert!(problem.status == 503 && problem.detail.contains("shutting down"), "{problem:?}");
}

#[tokio::test]
async fn a_static_vm_that_runs_is_made_larger_and_smaller_as_far_as_its_guest_follows() {
    let site = Site::new().await;
    let mut fixed = definition("fixed");
    (fixed.memory.dynamic, fixed.memory.startup) = (false, mib(512));
    site.client.create(&fixed).await.expect("a new VM");
    site.client.start("fixed").await.expect("there is memory");
    site.vm_until("fixed", "up", |vm| vm.state == VmState::Running).await;
    let startup = |size| MemoryPatch { startup: Some(mib(size)), ..MemoryPatch::default() };
    for size in [1024, 768, 256] {
        site.client.set_memory("fixed", &startup(size)).await.expect("there is memory");
        site.vm_until("fixed", "as large as asked", |vm| vm.assigned_bytes == mib(size)).await;
    }
    let detail = refusal(site.client.set_memory("fixed", &startup(3_000)).await).detail;
    assert!(detail.starts_with("Can't change fixed: Startup can't change from 256MiB to 3000MiB"), "{detail}");
    assert!(detail.contains(" available; "), "{detail}");

    let guest = site.guest("fixed");
    guest.change(|behaviour| behaviour.balloon = DeviceMood::Partial(mib(200))).await;
    let vm = site.client.set_memory("fixed", &startup(128)).await.expect("as far as it goes");
    assert_eq!(vm.settings.startup_bytes, mib(128));
    let vm = site.vm_until("fixed", "as small as it gets", |vm| vm.assigned_bytes == mib(200)).await;
    assert!(
        vm.warnings.iter().any(|warning| warning.starts_with("It holds 200MiB of memory, and its startup is 128MiB"))
    );
}

#[tokio::test]
async fn a_minimum_is_raised_and_a_maximum_lowered_while_the_vm_runs_or_refused() {
    let site = Site::new().await;
    let guest = site.run("web01").await;
    guest.change(|behaviour| behaviour.demand = mib(700)).await;
    site.vm_until("web01", "grown", |vm| vm.assigned_bytes >= mib(840)).await;
    guest.change(|behaviour| behaviour.demand = mib(100)).await;
    let patch = MemoryPatch { minimum: Some(mib(512)), maximum: Some(mib(512)), ..MemoryPatch::default() };
    site.client.set_memory("web01", &patch).await.expect("its guest moves");
    site.vm_until("web01", "at its new maximum", |vm| vm.assigned_bytes == mib(512)).await;
}
