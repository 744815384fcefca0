//! A daemon on a private folder, with imitated machines, asked through its
//! real socket.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use dynmem_api::{Client, ClientError, EventView, EventsQuery, Problem, VmState, VmView};
use dynmem_core::MemorySettings;
use dynmem_daemon::{Daemon, Reload, config::Config};
use dynmem_definition::VmDefinition;
use dynmem_footprint::Footprint;
use dynmem_hypervisor::{
    Hypervisor,
    fake::{Behaviour, FakeGuest, FakeHost},
};
use dynmem_linux::HostReader;
use dynmem_units::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
};

/// Far beyond what anything takes: for a condition that never comes true.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

/// A folder, a host of imitated machines, and a daemon for them.
pub(crate) struct Site {
    pub(crate) folder: Footprint,
    pub(crate) fake: FakeHost,
    pub(crate) client: Client,
    config: Config,
    host: HostReader,
    daemon: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Of the daemon that runs, if its API is served over TCP.
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) reload: Option<Reload>,
}

impl Site {
    /// With a running daemon that has 2 GiB to lend.
    pub(crate) async fn new() -> Self {
        let mut site = Self::without_daemon("[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\n");
        site.start_daemon().await;
        site
    }

    /// With more settings, and no daemon yet.
    pub(crate) fn without_daemon(settings: &str) -> Self {
        Self::in_folder(Footprint::new().expect("a folder"), settings)
    }

    /// The same in a folder that is there.
    pub(crate) fn in_folder(folder: Footprint, settings: &str) -> Self {
        let path = folder.path().display();
        let text =
            format!("state_dir = \"{path}/state\"\nsocket = \"{path}/api.sock\"\nbackend = \"fake\"\n{settings}");
        let config = Config::from_toml(&text, &folder.path().join("dynmemd.toml")).expect("right settings");
        let client = Client::new(&config.socket);
        let (fake, host) = (FakeHost::new(mib(8 << 10)), HostReader::default());
        Self { folder, fake, client, config, host, daemon: None, tcp: None, reload: None }
    }

    /// With a host that has booted as a test says, and 8 GiB.
    pub(crate) fn on_a_host_of_its_own(mut self) -> Self {
        let root = self.host_root();
        fs::create_dir_all(root.join("proc/sys/kernel/random")).expect("a folder");
        let info =
            "MemTotal: 8388608 kB\nMemFree: 8388608 kB\nMemAvailable: 8388608 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        fs::write(root.join("proc/meminfo"), info).expect("written");
        self.host = HostReader::at(root);
        self
    }

    pub(crate) fn host_root(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    /// The host's next boot, by number.
    pub(crate) fn boot(&self, number: u32) {
        let path = self.host_root().join("proc/sys/kernel/random/boot_id");
        fs::write(path, format!("{number:08x}-9e5b-4473-83ad-5a92af449ba1\n")).expect("written");
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn hypervisor(&self) -> Hypervisor {
        Hypervisor::Fake(self.fake.clone())
    }

    pub(crate) fn state(&self, path: &str) -> PathBuf {
        self.config.state_dir.join(path)
    }

    pub(crate) async fn start_daemon(&mut self) {
        self.start_daemon_with(self.hypervisor()).await;
    }

    pub(crate) async fn start_daemon_with(&mut self, hypervisor: Hypervisor) {
        let daemon = Daemon::prepare_on(self.host.clone(), &self.config, hypervisor).await.expect("a daemon");
        (self.tcp, self.reload) = (daemon.tcp_address(), daemon.reload());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(daemon.serve(async {
            let _ = stopped.await;
        }));
        self.daemon = Some((stop, serving));
    }

    /// As SIGTERM does it.
    pub(crate) async fn stop_daemon(&mut self) {
        let (stop, serving) = self.daemon.take().expect("it runs");
        let _ = stop.send(());
        serving.await.expect("a clean end");
    }

    /// As SIGKILL does it: nothing is finished.
    pub(crate) async fn kill_daemon(&mut self) {
        let (_stop, serving) = self.daemon.take().expect("it runs");
        serving.abort();
        let _ = serving.await;
    }

    /// A dynamic VM, defined: startup 512 MiB, minimum 256 MiB, maximum 1 GiB.
    pub(crate) async fn define(&self, name: &str) -> VmView {
        self.client.create(&definition(name)).await.expect("a new VM")
    }

    /// Defined, started, and its guest has spoken.
    pub(crate) async fn run(&self, name: &str) -> FakeGuest {
        self.define(name).await;
        self.client.start(name).await.expect("it starts");
        self.vm_until(name, "running", |vm| vm.state == VmState::Running).await;
        self.guest(name)
    }

    pub(crate) fn guest(&self, name: &str) -> FakeGuest {
        self.fake.guest(name).expect("it was launched")
    }

    pub(crate) async fn vm(&self, name: &str) -> VmView {
        self.client.vm(name).await.expect("it exists")
    }

    /// Waits until the VM is so.
    pub(crate) async fn vm_until(&self, name: &str, what: &str, so: impl Fn(&VmView) -> bool) -> VmView {
        until(&format!("{name} {what}"), || async {
            let vm = self.vm(name).await;
            if so(&vm) { Ok(vm) } else { Err(format!("{vm:#?}")) }
        })
        .await
    }

    pub(crate) async fn events(&self) -> Vec<EventView> {
        self.client.events(&EventsQuery { limit: Some(1000), ..EventsQuery::default() }).await.expect("events")
    }

    /// Waits until an event of this kind is there.
    pub(crate) async fn event(&self, kind: &str) -> EventView {
        until(&format!("event {kind}"), || async {
            let events = self.events().await;
            events.iter().rev().find(|event| event.kind == kind).cloned().ok_or_else(|| format!("{events:#?}"))
        })
        .await
    }

    /// A request byte for byte; status line and headers, and body.
    pub(crate) async fn raw(&self, request: &str) -> (String, String) {
        let mut stream = UnixStream::connect(&self.config.socket).await.expect("it listens");
        // A server that has heard enough may close before it heard all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_owned(), body.to_owned())
    }

    pub(crate) fn write_definition(&self, name: &str, text: &str) {
        fs::create_dir_all(self.state("vms")).expect("a folder");
        fs::write(self.state("vms").join(name), text).expect("written");
    }
}

pub(crate) fn definition(name: &str) -> VmDefinition {
    let memory = MemorySettings {
        dynamic: true,
        startup: mib(512),
        minimum: mib(256),
        maximum: mib(1024),
        ..MemorySettings::default()
    };
    let text = format!("name = {name:?}");
    let named = VmDefinition::from_toml("name = \"x\"", &PathBuf::from("test.toml")).expect(&text);
    VmDefinition { name: name.to_owned(), memory, ..named }
}

/// A guest whose programs use so much.
pub(crate) fn using(mib_used: u64) -> Behaviour {
    Behaviour { demand: mib(mib_used), ..Behaviour::default() }
}

/// The daemon's refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> Problem {
    match outcome {
        Err(ClientError::Refused(problem)) => problem,
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits until `look` gives something; what it said instead is told if it
/// never does.
pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, look: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "{what} never came; at last: {instead}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
