//! The supervisor: the one task that owns the engine, the definitions and the
//! drivers' handles.
//!
//! ```text
//!  Command (reply) ──▶ ┌────────────┐ ──Order──▶ driver of each VM
//!  Fact ─────────────▶ │ supervisor │ ──Entry──▶ log
//!  time ─────────────▶ │  (Engine)  │ ──Snapshot (watch)──▶ GETs
//!                      └────────────┘ ──VmView or Problem──▶ the request that asked
//! ```
//!
//! It waits for nobody: a driver that is busy finds its orders later, a log
//! that is full loses entries and says so, a definition is written by another
//! thread while requests (and only they) wait.

mod autostart;
mod changes;
mod command;
mod drivers;
mod dry_run;
mod metering;
mod publish;
mod roster;
mod snapshot;
mod waiters;

use std::{path::PathBuf, sync::Arc, time::Duration};

use dynmem_api::Problem;
use dynmem_core::{Effect, Engine, Event, HostFacts, Input, Notice, VmId, VmState};
use dynmem_hypervisor::Hypervisor;
use dynmem_store::Definitions;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use autostart::EventKind;
use changes::Change;
pub(crate) use changes::unknown;
pub(crate) use command::{Action, Command, Commands, SettingsPatch, Target, shutting_down};
pub(crate) use dry_run::Trial;
pub(crate) use metering::{MeterAction, Meters};
use roster::{Roster, Run};
pub(crate) use snapshot::Snapshot;

use crate::{
    advice::Advice,
    autostart::Autostarts,
    clock::Clock,
    driver::Order,
    fact::{Fact, News},
    groups::Groups,
    log::Log,
    views::HostParts,
};

/// What the supervisor is made of.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) hypervisor: Hypervisor,
    /// Where machines have their memory groups, if they may have any.
    pub(crate) groups: Option<Arc<Groups>>,
    pub(crate) definitions: Arc<Definitions>,
    /// Machines have their directories in here.
    pub(crate) run_root: PathBuf,
    /// Smart paging files are remembered in here.
    pub(crate) paging_root: PathBuf,
    /// VMs are saved in here.
    pub(crate) saved_root: PathBuf,
    pub(crate) log: Log,
    pub(crate) autostarts: Autostarts,
    pub(crate) meters: Meters,
    pub(crate) host: HostParts,
    /// What is advised, by whoever knows the history.
    pub(crate) advice: watch::Receiver<Arc<Advice>>,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// The facts, and how drivers send them.
    pub(crate) facts: (mpsc::Sender<Fact>, mpsc::Receiver<Fact>),
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
}

/// See the module's head.
pub(crate) struct Supervisor {
    engine: Engine,
    clock: Clock,
    hypervisor: Hypervisor,
    groups: Option<Arc<Groups>>,
    definitions: Arc<Definitions>,
    run_root: PathBuf,
    paging_root: PathBuf,
    saved_root: PathBuf,
    log: Log,
    autostarts: Autostarts,
    meters: Meters,
    host: HostParts,
    advice: watch::Receiver<Arc<Advice>>,
    commands: mpsc::Receiver<Command>,
    facts: mpsc::Receiver<Fact>,
    facts_sender: mpsc::Sender<Fact>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    roster: Roster,
    drivers: JoinSet<()>,
    runs: u64,
    /// What the engine was given, and how long it took.
    engine_inputs: u64,
    engine_time: Duration,
    /// A definition that is being written; requests wait until it is.
    change: Option<Change>,
    /// Something changed since the last snapshot.
    dirty: bool,
    published_at: Instant,
    /// Until the next, at least.
    publish_gap: Duration,
}

/// What woke the supervisor.
enum Wake {
    Fact(Option<Fact>),
    Command(Option<Command>),
    Written(Result<(), Problem>),
    DriverEnded(tokio::task::Id, bool),
    Tick,
    Publish,
}

impl Supervisor {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            engine,
            clock,
            hypervisor,
            groups,
            definitions,
            run_root,
            paging_root,
            saved_root,
            log,
            autostarts,
            meters,
            host,
            advice,
            commands,
            facts,
            snapshots,
        } = parts;
        let (facts_sender, facts) = facts;
        Self {
            engine,
            clock,
            hypervisor,
            groups,
            definitions,
            run_root,
            paging_root,
            saved_root,
            log,
            autostarts,
            meters,
            host,
            advice,
            commands,
            facts,
            facts_sender,
            snapshots,
            roster: Roster::default(),
            drivers: JoinSet::new(),
            runs: 0,
            engine_inputs: 0,
            engine_time: Duration::ZERO,
            change: None,
            dirty: true,
            published_at: Instant::now(),
            publish_gap: publish::GAP,
        }
    }

    /// Runs until nobody can ask any more. Dropping it leaves every machine
    /// running.
    pub(crate) async fn run(mut self) {
        while let Some(wake) = self.sleep().await {
            match wake {
                Wake::Fact(Some(fact)) => self.take_fact(fact),
                Wake::Command(Some(command)) => self.take_command(command),
                Wake::Fact(None) | Wake::Command(None) => return,
                Wake::Written(outcome) => self.written(outcome),
                Wake::DriverEnded(task, by_panic) => self.driver_ended(task, by_panic),
                Wake::Tick => self.tick(),
                Wake::Publish => self.publish(),
            }
        }
    }

    async fn sleep(&mut self) -> Option<Wake> {
        let tick_at = self.clock.at(self.engine.deadline());
        let publish_at = self.published_at + self.publish_gap;
        Some(tokio::select! {
            fact = self.facts.recv() => Wake::Fact(fact),
            command = self.commands.recv(), if self.change.is_none() => Wake::Command(command),
            outcome = changes::outcome(&mut self.change) => Wake::Written(outcome),
            Some(ended) = self.drivers.join_next_with_id() => match ended {
                Ok((task, ())) => Wake::DriverEnded(task, false),
                Err(error) => Wake::DriverEnded(error.id(), error.is_panic()),
            },
            () = sleep_until(tick_at) => Wake::Tick,
            () = sleep_until(publish_at), if self.dirty => Wake::Publish,
        })
    }

    /// Tells the engine, and does what it says.
    fn feed(&mut self, input: Input) {
        let begun = std::time::Instant::now();
        let effects = self.engine.handle(self.clock.now(), input);
        self.engine_time += begun.elapsed();
        self.engine_inputs += 1;
        self.dirty = true;
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn feed_vm(&mut self, vm: VmId, event: Event) {
        self.feed(Input::Vm(vm, event));
        self.settle(vm);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Launch(vm) => self.launch(vm, None),
            Effect::Restore(vm) => self.restore(vm),
            Effect::Save(vm) => self.order(vm, Order::Save),
            Effect::LaunchPaged(vm, paged) => self.launch(vm, Some(paged)),
            Effect::BeginPaging(vm, paged) => self.order(vm, Order::BeginPaging(paged)),
            Effect::EndPaging(vm) => self.order(vm, Order::EndPaging),
            Effect::Order { vm, balloon, plugged } => self.order(vm, Order::Memory { balloon, plugged }),
            Effect::PowerDown(vm) => self.order(vm, Order::PowerDown),
            Effect::HoldForReset(vm) => self.order(vm, Order::HoldForReset),
            Effect::ContinueReset(vm) => self.order(vm, Order::ContinueReset),
            Effect::Pause(vm) => self.order(vm, Order::Pause),
            Effect::Resume(vm) => self.order(vm, Order::Resume),
            Effect::Kill(vm) => {
                if let Some(run) = self.roster.run_mut(vm) {
                    run.handle.end();
                }
            }
            Effect::Refused(vm, refusal) => {
                self.publish(); // whoever is told sees it, too
                if let Some(vm) = self.roster.get_mut(vm) {
                    vm.waiters.refused(&refusal);
                }
            }
            Effect::Record(notice) => self.record(*notice),
        }
    }

    fn order(&mut self, vm: VmId, order: Order) {
        if let Some(run) = self.roster.run_mut(vm) {
            run.handle.push(order);
        }
    }

    fn record(&mut self, notice: Notice) {
        let vm = notice.vm.and_then(|vm| self.roster.get(vm)).map(|vm| vm.definition.name.clone());
        self.log.record(vm, notice.kind.name(), notice.message, &notice.numbers);
    }

    fn take_fact(&mut self, fact: Fact) {
        let (vm, run, news) = match fact {
            Fact::Host(facts) => return self.host_facts(facts),
            Fact::Machine { vm, run, news } => (vm, run, news),
        };
        let Some(driver) = self.roster.run_mut(vm).filter(|driver| driver.number == run) else {
            return; // about a machine that is gone
        };
        driver.handle.flush();
        match news {
            News::Event(event) => {
                match event {
                    Event::Exited(_) | Event::LaunchFailed(_) => self.forget_driver(vm),
                    Event::Launched(_) => driver.launching = false,
                    _ => {}
                }
                let kind = EventKind::from(&event);
                self.feed_vm(vm, event);
                self.note_event(vm, kind);
            }
            News::Info(info) => driver.info = Some(*info),
            News::Cpu(percent) => driver.cpu = Some(percent),
            News::Saving(bytes) => driver.saving = Some(bytes),
            News::Limits(limits) => self.limits(vm, *limits),
            News::Trouble(trouble) => self.trouble(vm, trouble),
            News::Done(kind, outcome) => self.done(vm, kind, outcome),
        }
        self.dirty = true;
    }

    /// A machine outside of the groups is not in their sum.
    fn host_facts(&mut self, facts: HostFacts) {
        let outside = self.roster.each_mut().any(|(_, vm)| vm.run.as_ref().is_some_and(Run::is_outside));
        let machines = facts.machines.filter(|_| !outside);
        self.feed(Input::Host(HostFacts { machines, ..facts }));
    }

    fn tick(&mut self) {
        self.feed(Input::Tick);
        let waiting: Vec<VmId> =
            self.roster.each_mut().filter(|(_, vm)| !vm.waiters.is_empty()).map(|(id, _)| id).collect();
        for vm in waiting {
            self.settle(vm);
        }
        self.look_at_drivers();
        self.start_due();
        self.keep_meters();
        self.log.flush();
    }

    fn state_of(&self, vm: VmId) -> Option<VmState> {
        self.engine.vm_snapshot(self.clock.now(), vm).map(|vm| vm.state)
    }
}
