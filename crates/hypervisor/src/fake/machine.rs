//! [`FakeMachine`]: the task that is an imitated machine.

use std::{future, io, os::fd::OwnedFd, time::Duration};

use dynmem_qmp::commands::{RebootAction, ShutdownAction};
use dynmem_units::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Behaviour, QmpMood,
    agent::Agent,
    connection::{Peer, Port, listen},
    migration::Migration,
    model::Model,
    qmp::QmpPeer,
};
use crate::{MachineExit, MachinePlan, RunDir, RunState};

/// Between two steps of the model while something moves.
const TICK: Duration = Duration::from_millis(10);
/// From `cont` to the guest's own reset that was held.
const PENDING_RESET: Duration = Duration::from_millis(40);
const INBOX_MAX: usize = 64;

/// What reaches the machine's task.
pub(super) enum Message {
    Connected(Peer),
    Bytes(u64, Vec<u8>),
    /// Files that came with the bytes that come next.
    Files(Vec<OwnedFd>),
    Disconnected(u64),
    Change(Box<dyn FnOnce(&mut Behaviour) + Send>, oneshot::Sender<()>),
    Act(Act, oneshot::Sender<()>),
}

/// What happens by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Reboot,
    PowerOff,
    Panic,
    /// Not the guest: QEMU hangs up on its control clients.
    HangUp,
}

/// What handles hold of a machine's task.
#[derive(Clone, Debug)]
pub(super) struct Strings {
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) end: mpsc::Sender<MachineExit>,
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) exit: watch::Receiver<Option<MachineExit>>,
}

/// What an imitated machine is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What the machine does.
    pub state: RunState,
    /// Whether the guest has booted: its drivers and its agent work.
    pub booted: bool,
    /// Boot memory less what the balloon really holds.
    pub balloon_actual: Bytes,
    /// What the balloon was told to leave.
    pub balloon_target: Bytes,
    /// What is plugged.
    pub plugged: Bytes,
    /// What is asked to be plugged.
    pub requested: Bytes,
    /// How often it has booted since its launch.
    pub boots: u32,
    /// What the host last told the agent that the guest holds.
    pub told_assigned: Option<Bytes>,
}

/// An imitated machine: everything of it, owned by one task.
pub(super) struct FakeMachine {
    pub(super) model: Model,
    pub(super) behaviour: Behaviour,
    pub(super) state: RunState,
    pub(super) reboot: RebootAction,
    pub(super) shutdown: ShutdownAction,
    /// A reset of the guest's own that was held comes again after `cont`.
    pub(super) held_guest_reset: bool,
    pub(super) pending_reset_at: Option<Instant>,
    pub(super) statistics_seconds: u64,
    pub(super) statistics_update: u64,
    pub(super) agent: Agent,
    /// When the guest's drivers and agent are there; `None`: they are.
    ready_at: Option<Instant>,
    stepped_at: Instant,
    pub(super) boots: u32,
    pub(super) migration: Migration,
    pub(super) qmp_peers: Vec<QmpPeer>,
    pub(super) exit: Option<MachineExit>,
    snapshot: watch::Sender<Snapshot>,
}

impl FakeMachine {
    /// Listens in `dir` and lives from now on, held before its start; or
    /// `incoming`: held until it is told what machine to be.
    pub(super) fn spawn(dir: &RunDir, plan: MachinePlan, behaviour: Behaviour, incoming: bool) -> io::Result<Strings> {
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let (end, ends) = mpsc::channel(1);
        let (exited, exit) = watch::channel(None);
        let mut tasks = JoinSet::new();
        for (path, port) in [(dir.qmp(), Port::Qmp), (dir.monitor(), Port::Monitor), (dir.agent(), Port::Agent)] {
            listen(&mut tasks, &path, port, inbox.clone())?;
        }
        let (mut machine, snapshot) = Self::new(plan, behaviour);
        machine.migration.incoming = incoming;
        tokio::spawn(async move {
            let exit = machine.run(messages, ends).await;
            drop(tasks); // closes every socket
            exited.send_replace(Some(exit));
        });
        Ok(Strings { inbox, end, snapshot, exit })
    }

    fn new(plan: MachinePlan, behaviour: Behaviour) -> (Self, watch::Receiver<Snapshot>) {
        let model = Model::new(plan);
        let (snapshot, snapshots) = watch::channel(Snapshot {
            state: RunState::Prelaunch,
            booted: false,
            balloon_actual: model.balloon_actual,
            balloon_target: model.balloon_target,
            plugged: model.plugged,
            requested: model.requested,
            boots: 0,
            told_assigned: None,
        });
        let machine = Self {
            model,
            behaviour,
            state: RunState::Prelaunch,
            reboot: RebootAction::Shutdown,
            shutdown: ShutdownAction::Pause,
            held_guest_reset: false,
            pending_reset_at: None,
            statistics_seconds: 0,
            statistics_update: 0,
            agent: Agent::default(),
            ready_at: None,
            stepped_at: Instant::now(),
            boots: 0,
            migration: Migration::default(),
            qmp_peers: Vec::new(),
            exit: None,
            snapshot,
        };
        (machine, snapshots)
    }

    async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut ends: mpsc::Receiver<MachineExit>,
    ) -> MachineExit {
        loop {
            let wake_at = self.wake_at();
            let wake = async {
                match wake_at {
                    Some(at) => sleep_until(at).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                exit = ends.recv() => return exit.unwrap_or(MachineExit::Unknown),
                message = messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => return MachineExit::Unknown,
                },
                () = wake => {}
            }
            self.live(Instant::now());
            self.publish();
            if let Some(exit) = self.exit {
                tokio::task::yield_now().await; // lets the last answer out
                return exit;
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Connected(peer) if peer.port != Port::Agent => {
                if self.behaviour.qmp == QmpMood::Healthy {
                    self.qmp_peers.push(QmpPeer::greeted(peer));
                }
            }
            Message::Connected(peer) => self.agent.connected(peer),
            Message::Bytes(id, bytes) => {
                if self.agent.hears(id) {
                    self.agent.take(&bytes);
                } else if let Some(at) = self.qmp_peers.iter().position(|peer| peer.id() == id) {
                    self.serve(at, &bytes);
                }
            }
            Message::Files(files) => self.migration.received = files,
            Message::Disconnected(id) => {
                self.agent.disconnected(id);
                self.qmp_peers.retain(|peer| peer.id() != id);
            }
            Message::Change(change, done) => {
                change(&mut self.behaviour);
                self.agent.hurry();
                self.publish();
                let _ = done.send(()); // the test may not wait
            }
            Message::Act(act, done) => {
                match act {
                    Act::Reboot => self.guest_reset(),
                    Act::PowerOff => self.guest_power_off(),
                    Act::Panic => self.guest_panic(),
                    Act::HangUp => self.qmp_peers.clear(),
                }
                self.publish();
                let _ = done.send(());
            }
        }
    }

    /// Tells every peer that has negotiated.
    pub(super) fn tell(&mut self, event: &str, data: &Value) {
        if self.behaviour.qmp == QmpMood::Healthy {
            let line = json!({"event": event, "data": data, "timestamp": {"seconds": 0, "microseconds": 0}});
            self.qmp_peers.iter().for_each(|peer| peer.tell(&line));
        }
    }

    pub(super) fn is_booted(&self) -> bool {
        self.state == RunState::Running && self.ready_at.is_none()
    }

    /// The guest begins anew.
    pub(super) fn boot(&mut self) {
        self.model.reset();
        self.boots += 1;
        self.ready_at = Some(Instant::now() + self.behaviour.boot_time);
        self.statistics_update = 0;
        self.agent.restarted();
    }

    fn live(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut self.stepped_at, now));
        if self.state != RunState::Running {
            return;
        }
        if self.pending_reset_at.is_some_and(|at| at <= now) {
            self.pending_reset_at = None;
            self.guest_reset();
            return;
        }
        if self.ready_at.is_some_and(|at| at <= now) {
            self.ready_at = None;
        }
        if self.ready_at.is_some() {
            return;
        }
        let moved = self.model.step(elapsed.max(Duration::from_millis(1)), &self.behaviour);
        if moved.balloon {
            self.tell("BALLOON_CHANGE", &json!({"actual": self.model.balloon_told.get()}));
        }
        if moved.plug {
            let size = self.model.plugged.get();
            self.tell("MEMORY_DEVICE_SIZE_CHANGE", &json!({"id": "vmem0", "size": size}));
        }
        self.agent.live(now, &self.model, &self.behaviour);
    }

    fn wake_at(&self) -> Option<Instant> {
        if self.state != RunState::Running {
            return None;
        }
        let booting = self.ready_at;
        let moving = (booting.is_none() && self.model.is_restless(&self.behaviour)).then(|| self.stepped_at + TICK);
        let reporting = if booting.is_none() { self.agent.wake_at(&self.behaviour) } else { None };
        [booting, moving, reporting, self.pending_reset_at].into_iter().flatten().min()
    }

    fn publish(&mut self) {
        let fresh = Snapshot {
            state: self.state,
            booted: self.is_booted(),
            balloon_actual: self.model.balloon_actual,
            balloon_target: self.model.balloon_target,
            plugged: self.model.plugged,
            requested: self.model.requested,
            boots: self.boots,
            told_assigned: self.agent.told_assigned(),
        };
        self.snapshot.send_if_modified(|snapshot| {
            let modified = *snapshot != fresh;
            *snapshot = fresh;
            modified
        });
    }

    /// What a reset of the guest's own comes to.
    fn guest_reset(&mut self) {
        match self.reboot {
            RebootAction::Reset => {
                self.boot();
                self.tell("RESET", &json!({"guest": true, "reason": "guest-reset"}));
            }
            RebootAction::Shutdown => {
                self.held_guest_reset = true;
                self.shut_down(RunState::ResetHeld, true, "guest-reset");
            }
        }
    }

    fn guest_power_off(&mut self) {
        self.shut_down(RunState::PoweredOff, true, "guest-shutdown");
    }

    fn guest_panic(&mut self) {
        self.tell("GUEST_PANICKED", &json!({"action": "pause"}));
        self.state = RunState::Panicked;
        self.tell("STOP", &json!({}));
    }

    /// The machine is shut down: held, or gone.
    pub(super) fn shut_down(&mut self, held: RunState, guest: bool, reason: &str) {
        self.tell("SHUTDOWN", &json!({"guest": guest, "reason": reason}));
        match self.shutdown {
            ShutdownAction::Pause => {
                if self.state == RunState::Running {
                    self.tell("STOP", &json!({}));
                }
                self.state = held;
            }
            ShutdownAction::Poweroff => self.exit = Some(MachineExit::Code(0)),
        }
    }

    /// The processors go on after `cont`.
    pub(super) fn go_on(&mut self) {
        if self.state == RunState::Prelaunch {
            self.boot();
        }
        self.state = RunState::Running;
        self.stepped_at = Instant::now();
        self.tell("RESUME", &json!({}));
        if std::mem::take(&mut self.held_guest_reset) {
            self.pending_reset_at = Some(Instant::now() + PENDING_RESET);
        }
    }
}
