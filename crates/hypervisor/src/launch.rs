//! Launching: from a definition to a machine whose processors run.
//!
//! Everything that can be checked is checked before anything is made. QEMU
//! starts with its processors held (`-S`), so that a launch that breaks off
//! half-way costs no guest anything; the record is on disk before they run.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dynmem_definition::{Network, VmDefinition};
use dynmem_qmp::{Client, Events, QmpError, commands};
use dynmem_units::Bytes;
use tokio::task;

use crate::{
    Launch, LaunchError, Machine, MachineError, MachinePlan, MachineRecord, Qemu, RunDir, SaveError, SavedDir,
    SavedRecord, bridge,
    events::Translator,
    files::{self, is_served},
    process::{Process, ProcessStat, RealProcess},
    save,
    saved::keep_definition,
    spawn::spawn,
};

/// How long QEMU may take from its start to its greeting. It takes 0.1 s; an
/// overloaded host gets much more.
const GREETING_PATIENCE: Duration = Duration::from_secs(30);
/// How often balloon statistics are asked for until somebody says otherwise.
pub(crate) const STATISTICS_SECONDS: u32 = 1;
/// What QEMU logs of a power-off, see [`mod@crate::command_line`]: no news.
pub(crate) const SHUTDOWN_TRACE: &str = "qemu_system_shutdown_request";
/// How much of the log is shown in a message.
const LOG_TAIL_BYTES: u64 = 2048;
const LOG_TAIL_LINES: usize = 8;

impl Qemu {
    pub(crate) async fn launch(&self, launch: &Launch) -> Result<Machine, LaunchError> {
        let plan = self.plan(&launch.definition)?;
        self.launch_as(launch, &plan, None).await
    }

    /// Makes a machine of what was saved: with the same hardware, to the byte.
    pub(crate) async fn restore(
        &self,
        launch: &Launch,
        saved: &SavedDir,
        record: SavedRecord,
    ) -> Result<Machine, LaunchError> {
        let SavedRecord { definition, machine, .. } = record;
        let plan = MachinePlan { accelerator: machine.accelerator, ..self.plan(&definition)? };
        let plan = MachinePlan {
            boot: machine.boot_bytes,
            plug_max: machine.plug_max_bytes,
            plug_block: machine.plug_block_bytes,
            overhead: machine.overhead_bytes.max(plan.overhead),
            ..plan
        };
        let launch = Launch { definition, ..launch.clone() };
        let restore = Restore { saved, stale_balloon: machine.stale_balloon_bytes };
        self.launch_as(&launch, &plan, Some(restore)).await
    }

    async fn launch_as(
        &self,
        launch: &Launch,
        plan: &MachinePlan,
        restore: Option<Restore<'_>>,
    ) -> Result<Machine, LaunchError> {
        let dir = RunDir::new(&launch.run_dir);
        check_path_length(&dir)?;
        files::check(&launch.definition, self.user())?;
        prepare_directory(&dir)?;
        match self.launch_in(&dir, launch, plan, restore).await {
            Ok(machine) => Ok(machine),
            Err(error) => {
                let _ = dir.remove(); // the error that matters is the first one
                Err(error)
            }
        }
    }

    async fn launch_in(
        &self,
        dir: &RunDir,
        launch: &Launch,
        plan: &MachinePlan,
        restore: Option<Restore<'_>>,
    ) -> Result<Machine, LaunchError> {
        let taps = taps(&launch.definition).await?;
        let process = match restore {
            None => spawn(self, dir, launch, plan, taps)?,
            Some(_) => spawn(self, dir, &waiting(launch), plan, taps)?,
        };
        let mut newborn = Newborn(Some(process));
        let outcome = set_up(newborn.process(), dir, self.version(), &launch.definition, plan, restore).await;
        let mut process = newborn.take();
        match outcome {
            Ok((record, connection)) => {
                let translator = Translator { swallow_resume: true, ..Translator::default() };
                Ok(Machine::new(dir.clone(), record, connection, Process::Real(process), translator))
            }
            Err(failure) => {
                process.kill();
                let exit = process.exited().await;
                let (name, mut log) = (launch.definition.name.clone(), log_tail(dir));
                if log.is_empty() {
                    log.push_str("it said nothing");
                }
                Err(match failure {
                    Failure::Exited => LaunchError::Exited { name, exit, log },
                    Failure::Silent => LaunchError::Silent { name, waited: GREETING_PATIENCE, log },
                    Failure::Setup(source) => LaunchError::Setup { name, source },
                    Failure::Restore(SaveError::Machine(error)) if error.is_closed() => {
                        let source = SaveError::Refused(format!("{log} ({exit})"));
                        LaunchError::Restore { name, source }
                    }
                    Failure::Restore(source) => LaunchError::Restore { name, source },
                    Failure::Io { doing, source } => LaunchError::Io { doing, path: dir.path().to_owned(), source },
                })
            }
        }
    }
}

/// What a machine goes on from.
#[derive(Clone, Copy)]
struct Restore<'a> {
    saved: &'a SavedDir,
    /// As in [`MachineRecord::stale_balloon_bytes`].
    stale_balloon: Option<Bytes>,
}

/// The same launch of a QEMU that waits for a machine to be read.
fn waiting(launch: &Launch) -> Launch {
    let mut launch = launch.clone();
    launch.definition.extra_args.extend(["-incoming".to_owned(), "defer".to_owned()]);
    launch
}

/// Interfaces on the bridges that the machine is to join.
async fn taps(definition: &VmDefinition) -> Result<Vec<OwnedFd>, LaunchError> {
    let bridges = definition.networks.iter().filter_map(|network| match network {
        Network::Bridge { bridge, .. } => Some(bridge.clone()),
        Network::User { .. } | Network::Tap { .. } => None,
    });
    let mut taps = Vec::new();
    for bridge in bridges {
        let joined = task::spawn_blocking(move || bridge::join(&bridge)).await;
        taps.push(joined.expect("joining a bridge does not panic")?);
    }
    Ok(taps)
}

/// A process that ends with its owner until somebody takes it: an abandoned
/// launch leaves no QEMU.
struct Newborn(Option<RealProcess>);

impl Newborn {
    fn process(&mut self) -> &mut RealProcess {
        self.0.as_mut().expect("taken only at the end")
    }

    fn take(mut self) -> RealProcess {
        self.0.take().expect("taken only once")
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}

enum Failure {
    Exited,
    Silent,
    Setup(QmpError),
    Restore(SaveError),
    Io { doing: &'static str, source: io::Error },
}

impl From<QmpError> for Failure {
    fn from(error: QmpError) -> Self {
        if matches!(error, QmpError::Closed) { Self::Exited } else { Self::Setup(error) }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Qmp(error) => error.into(),
            MachineError::NotHeld(_) => unreachable!("nothing is reset during a launch"),
        }
    }
}

async fn set_up(
    process: &mut RealProcess,
    dir: &RunDir,
    version: &str,
    definition: &VmDefinition,
    plan: &MachinePlan,
    restore: Option<Restore<'_>>,
) -> Result<(MachineRecord, (Client, Events)), Failure> {
    let (client, events) = tokio::select! {
        biased;
        _ = process.exited() => return Err(Failure::Exited),
        greeted = greeting(dir) => greeted?,
    };
    let stat = ProcessStat::read(process.pid());
    let stat = stat.map_err(|source| Failure::Io { doing: "read the start of the process for", source })?;
    let mut record = MachineRecord::new(definition, plan, version, process.pid(), stat.start_ticks);
    record.stale_balloon_bytes = restore.and_then(|restore| restore.stale_balloon);
    let written = keep_definition(dir, definition).and_then(|()| record.write(&dir.record()));
    written.map_err(|source| Failure::Io { doing: "write the machine's record in", source })?;
    match restore {
        None => introduce(&client).await?,
        Some(Restore { saved, .. }) => {
            save::restore(&client, saved, dir).await.map_err(Failure::Restore)?;
        }
    }
    Ok((record, (client, events)))
}

/// The last steps of a launch; the processors run after them.
pub(crate) async fn introduce(client: &Client) -> Result<(), QmpError> {
    client.call(crate::statistics::interval(STATISTICS_SECONDS)).await?;
    client.call(commands::Cont {}).await.map(drop)
}

/// Its sockets have listened since before it was QEMU: the first knock is heard.
async fn greeting(dir: &RunDir) -> Result<(Client, Events), Failure> {
    match dynmem_qmp::connect(&dir.qmp(), GREETING_PATIENCE).await {
        Err(QmpError::Timeout { .. }) => Err(Failure::Silent),
        connected => Ok(connected?),
    }
}

impl MachineRecord {
    pub(crate) fn new(
        definition: &VmDefinition,
        plan: &MachinePlan,
        version: &str,
        pid: u32,
        process_start_ticks: u64,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            name: definition.name.clone(),
            qemu_version: version.to_owned(),
            accelerator: plan.accelerator,
            vcpus: definition.vcpus,
            boot_bytes: plan.boot,
            plug_max_bytes: plan.plug_max,
            plug_block_bytes: plan.plug_block,
            overhead_bytes: plan.overhead,
            pid,
            process_start_ticks,
            started_unix_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            stale_balloon_bytes: None,
            log_bytes_at_reset: 0,
        }
    }
}

pub(crate) fn check_path_length(dir: &RunDir) -> Result<(), LaunchError> {
    let path = dir.path().to_owned();
    if path.as_os_str().len() > RunDir::PATH_BYTES_MAX {
        return Err(LaunchError::PathTooLong { path, most: RunDir::PATH_BYTES_MAX });
    }
    Ok(())
}

/// Makes the directory, empty, for our eyes only.
pub(crate) fn prepare_directory(dir: &RunDir) -> Result<(), LaunchError> {
    if let Some(socket) = dir.sockets().into_iter().find(|socket| is_served(socket)) {
        return Err(LaunchError::SocketInUse(socket));
    }
    let io_error = |doing| move |source| LaunchError::Io { doing, path: dir.path().to_owned(), source };
    dir.remove().map_err(io_error("clear directory"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir.path()).map_err(io_error("make directory"))
}

/// The end of QEMU's log, in one line fit for a message; empty if it said
/// nothing.
pub(crate) fn log_tail(dir: &RunDir) -> String {
    let length = fs::metadata(dir.log()).map_or(0, |metadata| metadata.len());
    let text = read_log(dir, length.saturating_sub(LOG_TAIL_BYTES), LOG_TAIL_BYTES);
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(SHUTDOWN_TRACE)).collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("; ");
    tail.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// QEMU's log from an offset, at most so many bytes of it.
pub(crate) fn read_log(dir: &RunDir, offset: u64, most: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut log) = File::open(dir.log())
        && log.seek(SeekFrom::Start(offset)).is_ok()
    {
        let _ = log.take(most).read_to_end(&mut text); // what could be read is read
    }
    String::from_utf8_lossy(&text).into_owned()
}
