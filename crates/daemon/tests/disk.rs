//! A disk that is full: changes are refused and nothing is lost, machines go
//! on, and events that could not be written are written when there is room.
//!
//! The daemon runs in a name space of its own with a small file system for
//! its state, which goes with it, however the test ends.

mod common;

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use common::{definition, refusal, until};
use dynmem_api::{Client, EventView, EventsQuery, MemoryPatch, StopMode, StopRequest, VmState};
use dynmem_footprint::Footprint;
use dynmem_units::Weight;

/// Mounts a small file system, gives it what `$2` holds, fills it up if `$3`
/// says so, and becomes the daemon.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs -o size=1500k,mode=755 none "$1"
cp -r "$2/." "$1"
[ "$3" = full ] && dd if=/dev/zero of="$1/filler" bs=4096 2>/dev/null || true
exec "$4" --config "$5"
"#;

/// A daemon whose state is on a small disk.
struct SmallDisk {
    folder: Footprint,
    daemon: Child,
    client: Client,
}

impl SmallDisk {
    /// Starts a daemon on a disk with these definitions; `None` where nobody
    /// may mount anything.
    async fn start(definitions: &[&str], full: bool) -> Option<Self> {
        if !may_mount() {
            eprintln!("Not tested: a name space with a file system of its own is not to be had here");
            return None;
        }
        let folder = Footprint::new().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("state")).expect("a folder");
        fs::create_dir_all(path("seed/vms")).expect("a folder");
        for name in definitions {
            let text = definition(name).to_toml().expect("a definition");
            fs::write(path("seed/vms").join(format!("{name}.toml")), text).expect("written");
        }
        let (state, socket) = (path("state"), path("api.sock"));
        let text = format!(
            "backend = 'fake'\nstate_dir = '{}'\nsocket = '{}'\n[host]\nmemory = '2560MB'\nreserve = '512MB'\n",
            state.display(),
            socket.display()
        );
        fs::write(path("dynmemd.toml"), text).expect("written");
        let mut command = in_own_name_space();
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(&state).arg(path("seed"));
        command.arg(if full { "full" } else { "empty" }).arg(env!("CARGO_BIN_EXE_dynmemd")).arg(path("dynmemd.toml"));
        let log = File::create(path("dynmemd.log")).expect("writable");
        let daemon = command.stdin(Stdio::null()).stderr(log).spawn().expect("unshare");
        let client = Client::new(socket);
        let disk = Self { folder, daemon, client };
        until("the first answer", || async { disk.client.version().await.map_err(|error| error.to_string()) }).await;
        Some(disk)
    }

    /// A path on the small disk, as the daemon sees it.
    fn state(&self, path: &str) -> PathBuf {
        let inside = self.folder.path().join("state").join(path);
        let inside = inside.strip_prefix("/").expect("an absolute path").to_owned();
        PathBuf::from(format!("/proc/{}/root", self.daemon.id())).join(inside)
    }

    fn fill(&self) {
        let mut filler = File::create(self.state("filler")).expect("ours");
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.state("filler")).expect("it fills the disk");
    }

    async fn events(&self) -> Vec<EventView> {
        self.client.events(&EventsQuery { limit: Some(1000), ..EventsQuery::default() }).await.expect("events")
    }

    async fn event_with(&self, what: &str, holds: impl Fn(&EventView) -> bool) -> EventView {
        until(what, || async {
            let events = self.events().await;
            events.iter().find(|event| holds(event)).cloned().ok_or_else(|| format!("{events:#?}\n{}", self.log()))
        })
        .await
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("dynmemd.log")).unwrap_or_default()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn in_own_name_space() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]);
    command
}

fn may_mount() -> bool {
    let tried = in_own_name_space().args(["mount", "-t", "tmpfs", "none", "/mnt"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn force() -> StopRequest {
    StopRequest { mode: StopMode::Force, ..StopRequest::default() }
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_loses_nothing() {
    let Some(disk) = SmallDisk::start(&["web01", "db01"], false).await else { return };
    let client = &disk.client;
    client.start("web01").await.expect("there is room");
    let before = client.vm("web01").await.expect("it exists");
    let text = fs::read_to_string(disk.state("vms/web01.toml")).expect("there");
    disk.fill();

    let refused = refusal(client.create(&definition("new")).await).to_string();
    assert!(refused.contains("new.toml") && refused.contains("No space left on device"), "{refused}");
    let weight = MemoryPatch { weight: Some(Weight::new(7).expect("in range")), ..MemoryPatch::default() };
    let refused = refusal(client.set_memory("web01", &weight).await).to_string();
    assert!(refused.contains("web01.toml") && refused.contains("No space left on device"), "{refused}");
    let refused = refusal(client.start("db01").await).to_string();
    assert!(refused.contains("No space left on device"), "{refused}");

    let after = client.vm("web01").await.expect("it exists");
    assert_eq!((&after.settings, after.state.is_on()), (&before.settings, true), "half a change");
    assert_eq!(fs::read_to_string(disk.state("vms/web01.toml")).expect("there"), text);
    let names = fs::read_dir(disk.state("vms")).expect("listable").flatten().map(|entry| entry.file_name());
    assert_eq!(names.count(), 2, "nothing half-written is left");
    let host = client.host().await.expect("the host");
    assert_eq!(host.vms_running, 1, "{host:?}");

    disk.make_room();
    client.create(&definition("new")).await.expect("there is room again");
    client.set_memory("web01", &weight).await.expect("there is room again");
    client.start("db01").await.expect("there is room again");
    client.stop("web01", &force()).await.expect("it runs");
}

#[tokio::test]
async fn events_of_a_full_disk_are_written_when_there_is_room() {
    let Some(disk) = SmallDisk::start(&["web01"], false).await else { return };
    let client = &disk.client;
    client.start("web01").await.expect("there is room");
    client.stop("web01", &force()).await.expect("it runs");
    disk.event_with("the stop's event", |event| event.kind == "stopped").await;
    let known = disk.events().await;
    disk.fill();
    // The space that the log has already takes a few more; the rest waits.
    let mut failures = 0;
    while !disk.log().contains("events could not be written") {
        refusal(client.start("web01").await);
        failures += 1;
        assert!(failures < 1000, "{}", disk.log());
    }
    let seen = disk.events().await;
    assert!(seen.starts_with(&known), "what was told is told still: {seen:#?}");
    disk.make_room();
    until("every event", || async {
        let told = disk.events().await.iter().filter(|event| event.kind == "failed").count();
        if told == failures { Ok(()) } else { Err(format!("{told} of {failures}")) }
    })
    .await;
    let ids: Vec<u64> = disk.events().await.iter().map(|event| event.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
}

#[tokio::test]
async fn a_daemon_that_starts_on_a_full_disk_serves_and_writes_its_events_later() {
    let Some(disk) = SmallDisk::start(&["web01", "db01"], true).await else { return };
    let client = &disk.client;
    let vms = client.vms().await.expect("all of them");
    assert!(vms.len() == 2 && vms.iter().all(|vm| vm.state == VmState::Off), "{vms:#?}");
    let notice = disk.event_with("a word about the log", |event| event.kind == "event-log").await;
    assert!(notice.message.contains("events are kept in memory"), "{notice:?}");
    assert!(fs::metadata(disk.state("dynmem.db")).map_or(0, |database| database.len()) == 0);

    disk.make_room();
    client.start("web01").await.expect("there is room again");
    until("the log on the disk", || async {
        let written = fs::metadata(disk.state("dynmem.db-wal")).map_or(0, |log| log.len());
        if written > 0 { Ok(()) } else { Err(disk.log()) }
    })
    .await;
    let kinds: Vec<String> = disk.events().await.into_iter().map(|event| event.kind).collect();
    for kind in ["daemon-started", "started"] {
        assert_eq!(kinds.iter().filter(|its| *its == kind).count(), 1, "{kinds:?}");
    }
}
