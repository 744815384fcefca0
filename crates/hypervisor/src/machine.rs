//! [`Machine`]: the handle of one running machine.

use std::{
    collections::VecDeque,
    fmt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dynmem_core::DeviceFacts;
use dynmem_qmp::{Client, Event, Events, QmpError, commands};
use dynmem_units::Bytes;
use tokio::time;
use tracing::warn;

use crate::{
    MachineError, MachineEvent, MachineExit, MachineRecord, RunDir,
    events::{Held, Translator},
    launch::log_tail,
    process::Process,
    reset::HOLD,
    statistics::Rates,
};

/// Where the balloon device is in QEMU's tree of objects.
pub(crate) const BALLOON_PATH: &str = "/machine/peripheral/balloon0";
/// Where the virtio-mem device is.
pub(crate) const VIRTIO_MEM_PATH: &str = "/machine/peripheral/vmem0";
/// The least that the balloon is told to leave: QEMU ignores a wish for 0.
const BALLOON_FLOOR: Bytes = Bytes::BLOCK;
/// How long a control connection may take to be made again.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Events that were read while another call waited for its own.
const PENDING_MAX: usize = 64;

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Made, and not yet started.
    Prelaunch,
    /// Its processors run.
    Running,
    /// Its processors stand still.
    Paused,
    /// Held before a reset.
    ResetHeld,
    /// Held after the guest's power-off.
    PoweredOff,
    /// Held after a panic of the guest's kernel.
    Panicked,
    /// Stopped by QEMU for another reason (an I/O error, an internal error).
    Stopped,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prelaunch => "not yet started",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::ResetHeld => "held before a reset",
            Self::PoweredOff => "switched off by its guest",
            Self::Panicked => "stopped by a kernel panic",
            Self::Stopped => "stopped by an error",
        })
    }
}

/// What an order came down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// What the balloon was told to leave of the boot memory. While its figure
    /// is stale this may be one block more than asked, so that it moves.
    pub balloon: Bytes,
    /// What virtio-mem has been asked to plug, read back.
    pub plugged: Bytes,
}

/// The handle of one running machine. It has one owner, which calls it from
/// one task: `next_event` may be dropped (as in `select!`) and called again
/// without losing anything; the other calls should be awaited to their end.
///
/// Dropping it leaves the machine running.
#[derive(Debug)]
pub struct Machine {
    pub(crate) dir: RunDir,
    pub(crate) record: MachineRecord,
    pub(crate) client: Client,
    pub(crate) events: Option<Events>,
    pub(crate) process: Process,
    pub(crate) translator: Translator,
    pub(crate) pending: VecDeque<MachineEvent>,
    pub(crate) rates: Rates,
    /// A reset came that nobody held: what `query-balloon` says is stale.
    pub(crate) unarranged_reset: bool,
    /// Its end is wanted: nobody will look for the reason in its log.
    end_asked: bool,
    gone: bool,
}

impl Machine {
    pub(crate) fn new(
        dir: RunDir,
        record: MachineRecord,
        (client, events): (Client, Events),
        process: Process,
        translator: Translator,
    ) -> Self {
        Self {
            dir,
            record,
            client,
            events: Some(events),
            process,
            translator,
            pending: VecDeque::new(),
            rates: Rates::default(),
            unarranged_reset: false,
            end_asked: false,
            gone: false,
        }
    }

    /// The machine's directory and its sockets.
    pub fn run_dir(&self) -> &RunDir {
        &self.dir
    }

    /// What it was launched with.
    pub fn record(&self) -> &MachineRecord {
        &self.record
    }

    /// QEMU's process; `None` for a machine without one.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Time since it was launched.
    pub fn uptime(&self) -> Duration {
        let started = UNIX_EPOCH + Duration::from_millis(self.record.started_unix_ms);
        SystemTime::now().duration_since(started).unwrap_or_default()
    }

    /// Processor time that QEMU has used since then; `None` if unknown.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.process.cpu_time()
    }

    /// QEMU's last words, for a message; empty if it said nothing.
    pub fn log_tail(&self) -> String {
        log_tail(&self.dir)
    }

    /// What the memory devices hold now.
    pub async fn facts(&mut self) -> Result<DeviceFacts, MachineError> {
        let actual = Bytes::new(self.client.call(commands::QueryBalloon {}).await?.actual).min(self.record.boot_bytes);
        let plugged = if self.has_virtio_mem() { self.virtio_mem_figure("size").await? } else { Bytes::ZERO };
        Ok(DeviceFacts {
            boot: self.record.boot_bytes,
            balloon_actual: self.true_balloon(actual),
            plugged,
            plug_max: self.record.plug_max_bytes,
            plug_block: self.record.plug_block_bytes,
            overhead: self.record.overhead_bytes,
        })
    }

    /// Tells the devices what to hold: what the balloon should leave of the
    /// boot memory, and what virtio-mem should plug. Both are brought into
    /// their ranges. The guest complies when and as far as it can: see
    /// [`Machine::facts`].
    pub async fn order(&mut self, balloon: Bytes, plugged: Bytes) -> Result<Ordered, MachineError> {
        let balloon = self.telling_balloon(balloon.clamp(BALLOON_FLOOR, self.record.boot_bytes));
        self.client.call(commands::SetBalloon { value: balloon.get() }).await?;
        if !self.has_virtio_mem() {
            return Ok(Ordered { balloon, plugged: Bytes::ZERO });
        }
        let plugged = plugged.min(self.record.plug_max_bytes).align_down(self.record.plug_block_bytes);
        let set = commands::QomSet { path: VIRTIO_MEM_PATH, property: "requested-size", value: plugged.get() };
        self.client.call(set).await?;
        Ok(Ordered { balloon, plugged: self.virtio_mem_figure("requested-size").await? })
    }

    /// What the machine does.
    pub async fn state(&mut self) -> Result<RunState, MachineError> {
        let status = self.client.call(commands::QueryStatus {}).await?.status;
        Ok(match (status.as_str(), self.translator.held) {
            ("prelaunch", _) => RunState::Prelaunch,
            ("running", _) => RunState::Running,
            (_, Some(Held::Reset)) => RunState::ResetHeld,
            (_, Some(Held::PoweredOff)) => RunState::PoweredOff,
            ("guest-panicked", _) | (_, Some(Held::Panicked)) => RunState::Panicked,
            ("paused", _) => RunState::Paused,
            ("shutdown", None) => self.shutdown_state(),
            _ => RunState::Stopped,
        })
    }

    /// Lets the processors stand still; told by [`MachineEvent::Paused`].
    pub async fn pause(&mut self) -> Result<(), MachineError> {
        Ok(self.client.call(commands::Stop {}).await.map(drop)?)
    }

    /// Lets them go on; told by [`MachineEvent::Resumed`].
    pub async fn resume(&mut self) -> Result<(), MachineError> {
        Ok(self.client.call(commands::Cont {}).await.map(drop)?)
    }

    /// Presses the power button. What the guest makes of it is its business.
    pub async fn power_down(&mut self) -> Result<(), MachineError> {
        Ok(self.client.call(commands::SystemPowerdown {}).await.map(drop)?)
    }

    /// Ends QEMU in order; told by [`MachineEvent::Exited`].
    pub async fn quit(&mut self) -> Result<(), MachineError> {
        self.end_asked = true;
        match self.client.call(commands::Quit {}).await {
            Ok(_) | Err(QmpError::Closed) => Ok(()), // it may be gone before its answer is
            Err(error) => Err(error.into()),
        }
    }

    /// Ends QEMU at once; told by [`MachineEvent::Exited`].
    pub fn kill(&mut self) {
        self.end_asked = true;
        self.process.kill();
    }

    /// The next event; for ever pending after [`MachineEvent::Exited`].
    pub async fn next_event(&mut self) -> MachineEvent {
        loop {
            if self.gone {
                std::future::pending::<()>().await;
            }
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            let Some(events) = &mut self.events else {
                return self.reconnect_or_exit().await;
            };
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => if let Some(news) = self.digest(&event) {
                        return news;
                    },
                    None => self.events = None,
                },
                exit = self.process.exited() => return self.bury(exit),
            }
        }
    }

    /// Takes in one of QEMU's events; gives back what is news.
    pub(crate) fn digest(&mut self, event: &Event) -> Option<MachineEvent> {
        match event {
            Event::BalloonChange { actual } => self.balloon_spoke(Bytes::new(*actual)),
            Event::Reset { .. } => self.unarranged_reset = true,
            _ => {}
        }
        self.translator.translate(event)
    }

    /// Keeps an event for [`Machine::next_event`].
    pub(crate) fn keep(&mut self, event: MachineEvent) {
        if self.pending.len() < PENDING_MAX {
            self.pending.push_back(event);
        } else if self.pending.back() != Some(&MachineEvent::Lagged) {
            self.pending.pop_back();
            self.pending.push_back(MachineEvent::Lagged);
        }
    }

    pub(crate) fn has_virtio_mem(&self) -> bool {
        !self.record.plug_max_bytes.is_zero()
    }

    pub(crate) async fn virtio_mem_figure(&self, property: &str) -> Result<Bytes, MachineError> {
        let value = self.client.call(commands::QomGet { path: VIRTIO_MEM_PATH, property }).await?;
        let figure = value.as_u64().ok_or_else(|| QmpError::Protocol {
            command: "qom-get",
            problem: format!("{property} is {value}, not a size"),
        })?;
        Ok(Bytes::new(figure))
    }

    /// The control connection is over. Usually the process is, too.
    async fn reconnect_or_exit(&mut self) -> MachineEvent {
        loop {
            tokio::select! {
                biased;
                exit = self.process.exited() => return self.bury(exit),
                () = time::sleep(RECONNECT_PATIENCE) => {}
            }
            match dynmem_qmp::connect(&self.dir.qmp(), RECONNECT_PATIENCE).await {
                Ok((client, events)) => match client.call(HOLD).await {
                    Ok(_) => {
                        // It may have broken off in the middle of a reset.
                        (self.client, self.events) = (client, Some(events));
                        return MachineEvent::Lagged;
                    }
                    Err(error) => warn!(machine = %self.record.name, %error, "resets can't be held"),
                },
                Err(error) => warn!(machine = %self.record.name, %error, "control connection is lost"),
            }
        }
    }

    fn bury(&mut self, exit: MachineExit) -> MachineEvent {
        self.gone = true;
        let kept = !self.end_asked && exit != MachineExit::Code(0) && keep_log_only(&self.dir);
        if !kept && let Err(error) = self.dir.remove() {
            warn!(machine = %self.record.name, %error, "could not remove {}", self.dir.path().display());
        }
        MachineEvent::Exited(exit)
    }
}

/// After a bad end the log stays for a person to read, until the next launch.
fn keep_log_only(dir: &RunDir) -> bool {
    let keep = |path: &Path| path == dir.log();
    let Ok(entries) = std::fs::read_dir(dir.path()) else { return false };
    let mut kept = false;
    for path in entries.flatten().map(|entry| entry.path()) {
        if keep(&path) && std::fs::metadata(&path).is_ok_and(|log| log.len() > 0) {
            kept = true;
        } else {
            let _ = std::fs::remove_file(&path);
        }
    }
    kept
}
