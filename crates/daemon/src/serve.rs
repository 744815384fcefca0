//! [`Daemon`]: everything put together, from the settings to the last word.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle};

use anyhow::{Context as _, anyhow};
use dynmem_api::{DamagedDefinition, HostPagingView, MemoryLimits};
use dynmem_core::{Engine, HostConfig};
use dynmem_hypervisor::{Hypervisor, Qemu, fake::FakeHost};
use dynmem_linux::{HostReader, may_swap};
use dynmem_store::{Definitions, EventLog, Loaded};
use rustix::process::geteuid;
use tokio::sync::{mpsc, watch};

use crate::{
    adopt,
    advice::Advice,
    autostart::Autostarts,
    clock::Clock,
    config::{AutoSize, BackendKind, Config, QemuUser},
    fact::FACTS_MAX,
    groups::Groups,
    history, host,
    http::{self, Reload},
    instance::{ApiSocket, StateLock},
    log::{self, Log},
    paging, saved,
    supervisor::{Commands, Meters, Parts, Snapshot, Supervisor},
    systemd,
    views::HostParts,
};

/// The QEMU that is used.
const QEMU: &str = "qemu-system-x86_64";
/// Events that are kept; the oldest go.
const EVENTS_MAX: u64 = 1_000_000;

/// The hypervisor that the settings ask for, tried out.
pub async fn probe(config: &Config) -> anyhow::Result<Hypervisor> {
    let host = HostReader::at("/");
    let memory = host.sample()?.memory;
    if config.backend == BackendKind::Fake {
        let imitated = FakeHost::new(config.host.memory.size().unwrap_or(memory).max(memory));
        return Ok(Hypervisor::Fake(imitated.on_a_thread()?));
    }
    let QemuUser { account, warning } = config.qemu.settle(&host, geteuid().as_raw()).map_err(|rule| anyhow!(rule))?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(Hypervisor::Qemu(Qemu::probe(Path::new(QEMU), config.accelerator, memory, account).await?))
}

/// A daemon that listens, and has taken over what it found running.
pub struct Daemon {
    supervisor: Supervisor,
    socket: ApiSocket,
    /// Where clients on other machines come to.
    tcp: Option<http::TcpApi>,
    shared: http::Shared,
    facts: mpsc::Sender<crate::fact::Fact>,
    /// The threads that keep the history and the events: the one writes to the
    /// other.
    threads: [JoinHandle<()>; 2],
    reader: HostReader,
    groups: Option<Arc<Groups>>,
    _lock: StateLock,
}

impl Daemon {
    /// Makes everything ready: from here on clients can connect.
    pub async fn prepare(config: &Config, hypervisor: Hypervisor) -> anyhow::Result<Self> {
        Self::prepare_on(HostReader::default(), config, hypervisor).await
    }

    /// The same, on the host that `reader` reads.
    pub async fn prepare_on(reader: HostReader, config: &Config, hypervisor: Hypervisor) -> anyhow::Result<Self> {
        let lock = StateLock::take(&config.state_dir)?;
        let present = reader.sample().context("This host's memory can't be read")?.memory;
        // Imitated machines take nothing of this host: theirs may be any size.
        let imitated = matches!(hypervisor, Hypervisor::Fake(_)).then_some(config.host.memory.size()).flatten();
        let host_config =
            config.host.settle(present.max(imitated.unwrap_or_default())).map_err(|rule| anyhow!(rule))?;
        let (events, notice) = EventLog::open(&config.state_dir.join("dynmem.db"), EVENTS_MAX);
        let (autostarts, meters, forgotten) = kept(&reader, &events);
        let (mut log, events, log_thread) = log::start(events).context("Could not start the event log's thread")?;
        if let Some(notice) = notice {
            log.record(None, "event-log", notice.to_string(), &[]);
        }
        if let Some(forgotten) = forgotten {
            log.record(None, "autostart", forgotten, &[]);
        }
        let history_log = log.another();
        // Before anybody is touched: with the socket taken, this is not our place.
        let socket = ApiSocket::bind(&config.socket)?;
        let tcp = open_tcp(config)?;
        tell_start(&mut log, host_config, &hypervisor); // whoever waits for this can connect
        let (advice, advised) = watch::channel(Arc::default());
        let Supervised { supervisor, commands, snapshots, facts, groups } =
            supervise(config, hypervisor, host_config, (autostarts, meters), log, advised).await?;
        let (history, history_thread) = history::start(config.state_dir.join("history.db"), history_log, advice)
            .context("Could not start the history's thread")?;
        let shared = http::Shared::new(commands, snapshots, events, history);
        let threads = [history_thread, log_thread];
        Ok(Self { supervisor, socket, tcp, shared, facts, threads, reader, groups, _lock: lock })
    }

    /// Where the API is served over TCP, if it is.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(http::TcpApi::address)
    }

    /// What reads certificates and tokens again, if there are any.
    pub fn reload(&self) -> Option<Reload> {
        self.tcp.as_ref().map(http::TcpApi::reload)
    }

    /// Serves until `stop`. Machines go on running.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { supervisor, socket, tcp, shared, facts, threads, reader, groups, _lock } = self;
        let sampling = tokio::spawn(history::watch(shared.snapshots.clone(), shared.history.clone()));
        let watching = tokio::spawn(host::watch(reader, groups, facts));
        let api = match http::ApiThread::start(socket, tcp, http::router(shared)) {
            Ok(api) => api,
            Err(error) => return tracing::error!(%error, "no thread for clients can be started"),
        };
        systemd::notify(systemd::READY);
        tokio::select! {
            () = supervisor.run() => tracing::error!("the supervisor ended by itself"),
            () = api.ended() => {}
            () = stop => {}
        }
        // Dropped by now, the supervisor has answered everybody who waited.
        systemd::notify(systemd::STOPPING);
        watching.abort();
        sampling.abort();
        api.stop().await;
        // Nobody is left who could write: the threads end.
        let _ = tokio::task::spawn_blocking(move || threads.map(JoinHandle::join)).await;
    }
}

/// The API over TCP, if the settings want it.
fn open_tcp(config: &Config) -> anyhow::Result<Option<http::TcpApi>> {
    let Some(section) = &config.tcp else { return Ok(None) };
    let api = http::TcpApi::open(section)?;
    let address = api.address().unwrap_or(section.listen);
    tracing::info!("The API is served on https://{address} to those who have a token");
    Ok(Some(api))
}

/// What daemons before this one kept of VMs, and in which boot of the host this
/// one is; and what to tell people if that is not known.
fn kept(reader: &HostReader, events: &EventLog) -> (Autostarts, Meters, Option<String>) {
    let same = |why: &dyn std::fmt::Display| {
        format!("Whether the host has been restarted can't be told, so no VM starts by itself: {why}")
    };
    let (boot_id, unknown) = match reader.boot_id() {
        Ok(boot_id) => (Some(boot_id), None),
        Err(error) => (None, Some(same(&error))),
    };
    match events.states() {
        Ok(mut rows) => {
            let meters = Meters::take_from(&mut rows);
            (Autostarts::new(boot_id, events.is_durable(), rows), meters, unknown)
        }
        Err(error) => {
            let none = Autostarts::new(boot_id, false, BTreeMap::new());
            (none, Meters::default(), unknown.or_else(|| Some(same(&error))))
        }
    }
}

fn tell_start(log: &mut Log, host: HostConfig, hypervisor: &Hypervisor) {
    let HostConfig { memory, reserve } = host;
    let message = format!(
        "dynmemd {} started: {} MiB of memory, {} MiB of them for the host itself. {}",
        env!("CARGO_PKG_VERSION"),
        memory.mib(),
        reserve.mib(),
        hypervisor.description()
    );
    let numbers = [("memory_bytes", memory.get()), ("reserve_bytes", reserve.get())];
    log.record(None, dynmem_core::NoticeKind::DaemonStarted.name(), message, &numbers);
}

/// The folder of the machines' memory groups, and what people see of it.
fn open_groups(config: &Config, hypervisor: &Hypervisor, log: &mut Log) -> (Option<Groups>, MemoryLimits) {
    if matches!(hypervisor, Hypervisor::Fake(_)) {
        return (None, MemoryLimits::Off); // nothing is imitated that could be limited
    }
    match Groups::open(&config.host.cgroup, &config.state_dir) {
        Ok(None) => (None, MemoryLimits::Off),
        Ok(Some(groups)) => {
            let folder = groups.folder().to_owned();
            (Some(groups), MemoryLimits::On { folder })
        }
        Err(reason) => {
            let message = format!(
                "Machines run without memory limits, and a guest that uses more than it was lent harms the others: {reason}"
            );
            log.record(None, "limits-unavailable", message, &[]);
            (None, MemoryLimits::Unavailable { reason })
        }
    }
}

/// A supervisor, and how to speak with it.
struct Supervised {
    supervisor: Supervisor,
    commands: Commands,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    facts: mpsc::Sender<crate::fact::Fact>,
    groups: Option<Arc<Groups>>,
}

/// A supervisor that knows all definitions and all machines that run.
async fn supervise(
    config: &Config,
    hypervisor: Hypervisor,
    host_config: HostConfig,
    (autostarts, meters): (Autostarts, Meters),
    mut log: Log,
    advice: watch::Receiver<Arc<Advice>>,
) -> anyhow::Result<Supervised> {
    let definitions = Definitions::open(config.state_dir.join("vms"))?;
    let Loaded { definitions: loaded, damaged } = definitions.load_all()?;
    for damage in &damaged {
        log.record(None, "definition-damaged", damage.to_string(), &[]);
    }
    let run_root = config.state_dir.join("run");
    let paging_root = config.state_dir.join("paging");
    let saved_root = config.state_dir.join("saved");
    let mut saved = saved::look(&hypervisor, &saved_root, &run_root, &loaded).await;
    for complaint in saved.complaints.drain(..) {
        log.record(None, "orphan", complaint, &[]);
    }
    let mut adoption = adopt::look(&hypervisor, &run_root, &paging_root, &loaded).await;
    for complaint in adoption.complaints.drain(..) {
        log.record(None, "orphan", complaint, &[]);
    }
    let (groups, memory_limits) = open_groups(config, &hypervisor, &mut log);
    adoption.found.values_mut().for_each(|found| found.measure(groups.as_ref()));
    for told in groups.iter().flat_map(|groups| groups.clear(|name| adoption.found.contains_key(name))) {
        log.record(None, "orphan", told, &[]);
    }
    let (commands, asked) = Commands::channel();
    let (facts, told) = mpsc::channel(FACTS_MAX);
    let (snapshots, seen) = watch::channel(Arc::new(Snapshot::default()));
    let host = HostParts {
        accelerator: hypervisor.accelerator().to_string(),
        qemu_version: hypervisor.version().to_owned(),
        memory_limits,
        smart_paging: smart_paging(&paging_root, &hypervisor, groups.as_ref()),
        reserve_is_set: matches!(config.host.reserve, AutoSize::Size(_)),
        out_of_reach: adoption.out_of_reach,
        damaged: (damaged.iter())
            .map(|damage| DamagedDefinition { path: damage.path.clone(), error: damage.to_string() })
            .collect(),
    };
    // What nobody here can take back is as good as the host's own.
    let reserve = host_config.reserve.saturating_add(adoption.out_of_reach).min(host_config.memory);
    let groups = groups.map(Arc::new);
    let mut supervisor = Supervisor::new(Parts {
        engine: Engine::new(HostConfig { reserve, ..host_config }).with_smart_paging(host.smart_paging.possible),
        clock: Clock::start(),
        hypervisor,
        groups: groups.clone(),
        definitions: Arc::new(definitions),
        run_root,
        paging_root,
        saved_root,
        log,
        autostarts,
        meters,
        host,
        advice,
        commands: asked,
        facts: (facts.clone(), told),
        snapshots,
    });
    for definition in loaded {
        let found = adoption.found.remove(&definition.name);
        let saved = saved.found.remove(&definition.name);
        supervisor.take_in(definition, found, saved);
    }
    supervisor.publish(); // whoever comes first sees all of them
    Ok(Supervised { supervisor, commands, snapshots: seen, facts, groups })
}

/// Whether this host can page machines to files; and why not, or what is to be
/// said of the folder where they are made.
fn smart_paging(folder: &Path, hypervisor: &Hypervisor, groups: Option<&Groups>) -> HostPagingView {
    let confined = match groups {
        Some(groups) => groups.can_swap(),
        None if hypervisor.has_processes() => Err("It takes memory groups, and there are none".to_owned()),
        None => Ok(()), // an imitated machine has nothing that could be confined
    };
    let why_not = "The kernel does not let this daemon use swap files: that takes root, outside of a container";
    let allowed = if may_swap() { confined } else { Err(why_not.to_owned()) };
    let possible = allowed.is_ok();
    let place = folder.display();
    let on_system_disk =
        || format!("its files are made in {place}, on the system disk: a folder elsewhere lets the host keep its pace");
    let remark = allowed.err().or_else(|| paging::is_on_system_disk(folder).then(on_system_disk));
    HostPagingView { possible, folder: Some(folder.to_owned()), remark }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn clients_are_served_by_a_daemon_that_knows_its_vms() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display();
        let text = format!(
            "state_dir = '{path}'\nsocket = '{path}/s'\nbackend = 'fake'\n[host]\nmemory = '2560MB'\nreserve = '512MB'\n"
        );
        let config = Config::from_toml(&text, &folder.path().join("dynmemd.toml")).expect("right settings");
        fs::create_dir(folder.path().join("vms")).expect("a folder");
        fs::write(folder.path().join("vms/web01.toml"), "name = 'web01'\n").expect("written");
        let hypervisor = probe(&config).await.expect("imitated");
        let daemon = Daemon::prepare(&config, hypervisor).await.expect("a daemon");
        assert!(daemon.shared.snapshots.borrow().vm("web01").is_some(), "before the first request is read");
    }
}
