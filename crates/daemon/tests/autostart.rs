//! The host goes down and comes up again: what ran runs again, and what nobody
//! wanted stays off.

mod common;

use std::fs;

use common::{Site, definition, refusal};
use dynmem_api::{AutostartPatch, StopRequest, VmState};
use dynmem_definition::{Autostart, VmDefinition};
use dynmem_hypervisor::MachineExit;

const LENT: &str = "[host]\nmemory = \"3GB\"\nreserve = \"512MB\"\n";

/// A site whose host can be restarted.
async fn site() -> Site {
    let mut site = Site::without_daemon(LENT).on_a_host_of_its_own();
    site.boot(1);
    site.start_daemon().await;
    site
}

impl Site {
    async fn define_with(&self, name: &str, autostart: Autostart, start_delay: u32) {
        let vm = VmDefinition { autostart, start_delay, ..definition(name) };
        self.client.create(&vm).await.expect("a new VM");
    }

    async fn launch(&self, name: &str) {
        self.client.start(name).await.expect("it starts");
        self.vm_until(name, "running", |vm| vm.state == VmState::Running).await;
    }

    /// The daemon is ended first, and has written what it knows; then the
    /// machines are, and nobody sees it.
    async fn host_goes_down(&mut self, machines: &[&str]) {
        self.stop_daemon().await;
        for name in machines {
            self.guest(name).crash(MachineExit::Signal(9));
            let socket = self.state("run").join(name).join("qmp.sock");
            common::until("its end", || async {
                let open = tokio::net::UnixStream::connect(&socket).await.is_ok();
                if open { Err("it still listens".to_owned()) } else { Ok(()) }
            })
            .await;
        }
    }

    async fn host_comes_up(&mut self, boot: u32) {
        self.boot(boot);
        self.start_daemon().await;
    }

    async fn autostart_events(&self) -> Vec<String> {
        let events = self.events().await.into_iter();
        events.filter(|event| event.kind == "autostart").map(|event| event.message).collect()
    }
}

#[tokio::test]
async fn what_ran_runs_again_and_what_was_stopped_stays_off() {
    let mut site = site().await;
    for (name, autostart) in [
        ("ran", Autostart::StartIfRunning),
        ("stopped", Autostart::StartIfRunning),
        ("unused", Autostart::StartIfRunning),
        ("always", Autostart::Start),
        ("never", Autostart::Nothing),
    ] {
        site.define_with(name, autostart, 0).await;
    }
    for name in ["ran", "stopped", "never"] {
        site.launch(name).await;
    }
    site.client.stop("stopped", &StopRequest::default()).await.expect("it stops");
    site.host_goes_down(&["ran", "never"]).await;
    site.host_comes_up(2).await;
    for name in ["ran", "always"] {
        site.vm_until(name, "running", |vm| vm.state == VmState::Running).await;
    }
    for name in ["stopped", "unused", "never"] {
        assert_eq!(site.vm(name).await.state, VmState::Off, "{name}");
    }
    let told = site.autostart_events().await;
    assert_eq!(
        told,
        [
            "always starts by itself: the host has come up, and its setting says so",
            "ran starts by itself: the host has come up, and it ran when the host went down",
        ]
    );
}

#[tokio::test]
async fn qemu_that_ends_with_the_host_before_the_daemon_was_still_wanted() {
    let mut site = site().await;
    site.define("web01").await;
    site.launch("web01").await;
    site.guest("web01").crash(MachineExit::Code(0)); // init's SIGTERM: a clean end
    site.vm_until("web01", "off", |vm| vm.state == VmState::Off).await;
    site.stop_daemon().await;
    site.host_comes_up(2).await;
    site.vm_until("web01", "running", |vm| vm.state == VmState::Running).await;
}

#[tokio::test]
async fn a_guest_that_switched_itself_off_stays_off() {
    let mut site = site().await;
    site.define("web01").await;
    site.launch("web01").await;
    site.guest("web01").power_off().await;
    site.vm_until("web01", "off", |vm| vm.state == VmState::Off).await;
    site.stop_daemon().await;
    site.define_eager_marker();
    site.host_comes_up(2).await;
    site.vm_until("marker", "running", |vm| vm.state == VmState::Running).await;
    assert_eq!(site.vm("web01").await.state, VmState::Off);
}

impl Site {
    /// A VM that starts with the host: when it runs, everybody had their turn.
    fn define_eager_marker(&self) {
        self.write_definition("marker.toml", "name = \"marker\"\nautostart = \"start\"\n[memory]\nweight = 1\n");
    }
}

#[tokio::test]
async fn a_new_daemon_on_the_same_boot_starts_nothing() {
    let mut site = site().await;
    site.define_with("ran", Autostart::StartIfRunning, 0).await;
    site.define_with("eager", Autostart::Start, 0).await;
    site.launch("ran").await;
    site.host_goes_down(&["ran"]).await; // it is the machine alone that ended
    site.define_eager_marker();
    site.start_daemon().await;
    site.vm_until("marker", "running", |vm| vm.state == VmState::Running).await;
    assert_eq!(site.autostart_events().await.len(), 1, "the marker, whom nobody had looked after");
    for name in ["ran", "eager"] {
        assert_eq!(site.vm(name).await.state, VmState::Off, "{name}");
    }
    // What crashed before the host went down was not stopped by anybody.
    site.host_goes_down(&["marker"]).await;
    site.host_comes_up(2).await;
    site.vm_until("ran", "running", |vm| vm.state == VmState::Running).await;
}

#[tokio::test]
async fn where_the_boot_can_not_be_told_nothing_starts_and_people_hear_why() {
    let mut site = site().await;
    site.define_with("eager", Autostart::Start, 0).await;
    site.launch("eager").await;
    site.host_goes_down(&["eager"]).await;
    fs::remove_file(site.host_root().join("proc/sys/kernel/random/boot_id")).expect("it was there");
    site.start_daemon().await;
    let told = site.event("autostart").await.message;
    assert!(told.starts_with("Whether the host has been restarted can't be told, so no VM starts by itself"), "{told}");
    assert_eq!(site.vm("eager").await.autostart.starts_in_seconds, None);
    assert_eq!(site.vm("eager").await.state, VmState::Off);
}

#[tokio::test]
async fn a_delay_outlives_the_daemon_and_a_stop_ends_it() {
    let mut site = site().await;
    site.define_with("late", Autostart::StartIfRunning, 3_600).await;
    site.launch("late").await;
    site.host_goes_down(&["late"]).await;
    site.host_comes_up(2).await;
    assert!(site.vm("late").await.autostart.starts_in_seconds.is_some_and(|seconds| seconds > 3_500));
    site.kill_daemon().await;
    site.start_daemon().await;
    assert!(site.vm("late").await.autostart.starts_in_seconds.is_some(), "the daemon before did not get that far");
    let view = site.client.stop("late", &StopRequest::default()).await.expect("that is a wish, too");
    assert_eq!((view.state, view.autostart.starts_in_seconds), (VmState::Off, None));
    site.stop_daemon().await;
    site.host_comes_up(3).await;
    assert_eq!(site.vm("late").await.autostart.starts_in_seconds, None, "nobody wants it any more");
}

#[tokio::test]
async fn what_becomes_of_a_vm_is_set_whether_it_runs_or_not() {
    let mut site = site().await;
    site.define("web01").await;
    let set = async |site: &Site, autostart, start_delay| {
        site.client.set_autostart("web01", &AutostartPatch { autostart, start_delay }).await
    };
    let view = set(&site, None, Some(30)).await.expect("it is off").autostart;
    assert_eq!((view.action, view.delay_seconds), (Autostart::StartIfRunning, 30));
    site.launch("web01").await;
    let view = set(&site, Some(Autostart::Nothing), None).await.expect("it runs").autostart;
    assert_eq!((view.action, view.delay_seconds), (Autostart::Nothing, 30));
    assert_eq!(site.event("settings-changed").await.message, "Autostart of web01 changed: nothing, after 30 s");
    let problem = refusal(set(&site, None, Some(86_401)).await);
    assert_eq!(problem.status, 400);
    assert_eq!(
        problem.detail,
        "Can't change web01: Setting start_delay can't be 86401: it must be from 0 to 86400 seconds, which is a day"
    );
    let unknown = site.client.set_autostart("web02", &AutostartPatch::default()).await;
    assert_eq!(refusal(unknown).status, 404);
    site.kill_daemon().await;
    site.start_daemon().await;
    assert_eq!(site.vm("web01").await.autostart.action, Autostart::Nothing, "it is in the file");
}
