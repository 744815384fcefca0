//! [`Director`]: says what happens next, and looks after what came of it.
//!
//! One task does all of it, step by step. What takes time is done by tasks
//! that hand their guest's connection back at their end (see `deeds`), so that
//! a guest in trouble keeps nobody waiting.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dynmem_api::{StopMode, StopRequest, VmState};
use dynmem_units::Bytes;
use dynmem_vm_tests::{AgentFate, Lab, Signal, Workload, WorkloadRequest};
use fastrand::Rng;
use tokio::{
    task::{JoinHandle, spawn_blocking, spawn_local},
    time::{sleep, timeout},
};

use super::{
    actor::{Actor, Cast, Hands, Remedy},
    deeds::{self, Load, News, Reach, Told},
    fault::{AFTERMATH, Fault},
    verdict::Log,
};

const STEP: Duration = Duration::from_millis(200);
/// How long all guests may take to boot at the beginning, and to be well again
/// at the end.
const ALL_UP_WITHIN: Duration = Duration::from_mins(5);
/// A daemon that is slower is looked at again in the next step.
const DAEMON_PATIENCE: Duration = Duration::from_secs(2);
/// A guest whose clock says that it booted so much later has restarted.
const CLOCK_SLACK: Duration = Duration::from_secs(10);

pub(super) struct Director<'a> {
    lab: &'a mut Lab,
    rng: Rng,
    budget: Bytes,
    actors: Vec<Actor>,
    daemon_back_at: Option<Instant>,
    /// Until then everybody is excused: the daemon is, or was, away.
    all_excused_until: Instant,
    hog: Option<JoinHandle<()>>,
    /// Until then loads stay as they are: somebody restarts without memory.
    crowded_until: Option<Instant>,
    log: Log,
}

impl<'a> Director<'a> {
    pub(super) fn new(lab: &'a mut Lab, cast: Cast, began: Instant) -> Self {
        let actors = cast.guests.iter().map(Actor::new).collect();
        let (budget, rng) = (cast.budget(), cast.rng);
        let log = Log::new(began);
        let all_excused_until = Instant::now();
        Self { lab, rng, budget, actors, daemon_back_at: None, all_excused_until, hog: None, crowded_until: None, log }
    }

    /// What it did and saw.
    pub(super) fn finish(self) -> Log {
        self.log
    }

    /// All of it. An error is a promise that was broken, or that no more can
    /// be done.
    pub(super) async fn perform(&mut self, length: Duration) -> Result<()> {
        for actor in 0..self.actors.len() {
            self.boot(actor, Reach::start);
        }
        self.until_all_are_free("boot").await?;
        self.log.say("All guests are up");
        let ends = Instant::now() + length;
        let (mut next_load, mut next_fault) = (Instant::now(), Instant::now() + Duration::from_secs(3));
        while Instant::now() < ends {
            if Instant::now() >= next_load {
                self.change_a_load();
                next_load = Instant::now() + Duration::from_millis(self.rng.u64(400..2000));
            }
            if Instant::now() >= next_fault {
                self.let_something_go_wrong().await?;
                next_fault = Instant::now() + Duration::from_millis(self.rng.u64(1500..6000));
            }
            self.step().await?;
        }
        self.log.say("No more faults: everything must be well again");
        self.heal().await
    }

    async fn step(&mut self) -> Result<()> {
        self.hear().await?;
        if self.daemon_back_at.is_some_and(|at| Instant::now() >= at) {
            self.daemon_back_at = None;
            self.lab.start_daemon().await.context("The daemon does not start again")?;
            self.all_excused_until = Instant::now() + AFTERMATH;
        }
        for actor in 0..self.actors.len() {
            self.mend(actor).await;
        }
        self.watch().await;
        self.note_excuses();
        sleep(STEP).await;
        Ok(())
    }

    /// Takes in what tasks tell at their end.
    async fn hear(&mut self) -> Result<()> {
        for actor in 0..self.actors.len() {
            let Hands::Busy(task) = &mut self.actors[actor].hands else { continue };
            if !task.is_finished() {
                continue;
            }
            let Told { workload, news } = task.await?;
            let its = &mut self.actors[actor];
            its.hands = Hands::Empty;
            match (workload, news) {
                (Some(workload), Ok(news)) => {
                    self.actors[actor].hands = Hands::Free(workload);
                    self.learn(actor, news);
                }
                (Some(_), Err(error)) => {
                    // Its answers would be those of the call that failed: it is connected anew.
                    let excused = if its.is_excused() { "" } else { ", and has no fault that explains it" };
                    let message = format!("{} does not do what it is asked{excused}: {error:#}", its.name);
                    self.log.say(&message);
                }
                (None, error) => {
                    let name = its.name.clone();
                    its.booting = false;
                    let error = error.err().map_or_else(String::new, |error| format!("{error:#}"));
                    self.log.lose(format!("{name} does not come up: {error}"));
                }
            }
        }
        Ok(())
    }

    fn learn(&mut self, actor: usize, news: News) {
        let its = &mut self.actors[actor];
        let booted_at = news.at.checked_sub(news.uptime).unwrap_or(news.at);
        let restarted = its.booted_at.is_some_and(|before| booted_at > before + CLOCK_SLACK);
        if news.is_up_again || (restarted && !news.is_restored) {
            (its.oom_kills, its.broken) = (0, 0);
        }
        let (ran_out, broken) = (news.oom_kills > its.oom_kills, news.broken.saturating_sub(its.broken));
        let excused = its.is_excused();
        (its.oom_kills, its.broken, its.booted_at) = (news.oom_kills, news.broken, Some(booted_at));
        its.goal = news.goal.saturating_sub(deeds::KEEPSAKE);
        if news.is_up_again || news.is_restored {
            its.booting = false;
            its.excused_until = Some(Instant::now() + AFTERMATH);
        }
        let name = its.name.clone();
        self.log.broken += broken;
        if broken > 0 {
            self.log.say(&format!("{name} has {broken} pages with a wrong content"));
        }
        if restarted && !news.is_up_again && !news.is_restored && !excused {
            self.log.harm(format!("{name} restarted without a fault of its own"));
        }
        if ran_out && !excused {
            self.log.harm(format!("{name} ran out of memory without a fault of its own"));
        }
    }

    /// Ends a fault whose time is over.
    async fn mend(&mut self, actor: usize) {
        let its = &mut self.actors[actor];
        let Some((_, remedy)) = its.remedy.filter(|(at, _)| Instant::now() >= *at) else { return };
        let mended = match remedy {
            Remedy::Thaw => {
                let _ = self.lab.signal_machine(&its.name, Signal::CONT); // it may be gone
                true
            }
            Remedy::Resume => {
                let resumed = timeout(DAEMON_PATIENCE, self.lab.client().resume(&its.name)).await;
                // A refusal: it goes on already, or is gone.
                matches!(resumed, Ok(Ok(_) | Err(dynmem_api::ClientError::Refused(_))))
            }
            Remedy::ContinueAgent => {
                its.act(|workload| deeds::mischief(workload, WorkloadRequest::Agent { fate: AgentFate::Continued }))
            }
            Remedy::BindBalloon => {
                its.act(|workload| deeds::mischief(workload, WorkloadRequest::Balloon { bound: true }))
            }
        };
        if mended {
            its.remedy = None;
            its.excused_until = Some(Instant::now() + AFTERMATH);
        }
    }

    /// Looks whether all are on that should be, and connects to whom nobody is
    /// connected.
    async fn watch(&mut self) {
        if self.daemon_back_at.is_some() {
            return;
        }
        let Ok(Ok(vms)) = timeout(DAEMON_PATIENCE, self.lab.client().vms()).await else { return };
        for actor in 0..self.actors.len() {
            let its = &mut self.actors[actor];
            let Some(vm) = vms.iter().find(|vm| vm.name == its.name) else { continue };
            let did_page = std::mem::replace(&mut its.pages, vm.smart_paging.in_use);
            if its.pages && !did_page {
                self.log.paged += 1;
                self.log.say(&format!("{} restarts on a file", vm.name));
            }
            let its = &self.actors[actor];
            if its.booting {
                continue;
            }
            if matches!(vm.state, VmState::Off | VmState::Failed) {
                let reason = vm.state_reason.as_deref().unwrap_or("no reason is told");
                let message = format!("{} is {}: {reason}", its.name, vm.state);
                if its.is_excused() {
                    self.log.say(&message);
                } else {
                    self.log.lose(message);
                }
                self.actors[actor].remedy = None;
                self.boot(actor, Reach::start);
            } else if matches!(its.hands, Hands::Empty) {
                let reach = self.reach(actor);
                self.actors[actor].hands = Hands::Busy(spawn_local(reach.connect()));
            }
        }
    }

    fn note_excuses(&mut self) {
        let everybody = self.daemon_back_at.is_some() || Instant::now() < self.all_excused_until;
        for actor in &self.actors {
            self.log.note(&actor.name, everybody || actor.is_excused());
        }
    }

    fn reach(&self, actor: usize) -> Reach {
        let name = self.actors[actor].name.clone();
        Reach { socket: self.lab.workload_socket(&name), name, client: self.lab.client().clone() }
    }

    /// Lets a guest boot, in whatever way; what it held is gone.
    fn boot<F: Future<Output = Told> + 'static>(&mut self, actor: usize, how: impl FnOnce(Reach) -> F) {
        let task = spawn_local(how(self.reach(actor)));
        let its = &mut self.actors[actor];
        if let Hands::Busy(task) = std::mem::replace(&mut its.hands, Hands::Busy(task)) {
            task.abort();
        }
        (its.booting, its.goal) = (true, Bytes::ZERO);
    }

    /// Another load for a guest that has nothing else to do.
    fn change_a_load(&mut self) {
        if self.crowded_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let Some(actor) = self.somebody() else { return };
        let all: Bytes = self.actors.iter().map(|actor| actor.goal).sum();
        let its = &mut self.actors[actor];
        let left = self.budget.saturating_sub(all.saturating_sub(its.goal));
        let wanted = Bytes::from_mib(self.rng.u64(..=its.goal_max().min(left).mib()));
        let (more, less) = (wanted.saturating_sub(its.goal), its.goal.saturating_sub(wanted));
        let load = if self.rng.u32(..6) == 0 {
            Load::Verify
        } else if more.is_zero() {
            Load::Shrink(less)
        } else if more <= Bytes::from_mib(64) && self.rng.bool() {
            Load::Spike(more)
        } else {
            Load::Grow { bytes: more, per_second: Bytes::from_mib(self.rng.u64(8..=64)) }
        };
        its.act(|workload| deeds::load(workload, load));
        its.goal = wanted;
    }

    /// A guest without a fault whose connection is free.
    fn somebody(&mut self) -> Option<usize> {
        let idle: Vec<usize> = (0..self.actors.len()).filter(|&actor| self.actors[actor].is_able()).collect();
        (!idle.is_empty()).then(|| idle[self.rng.usize(..idle.len())])
    }

    async fn let_something_go_wrong(&mut self) -> Result<()> {
        if self.rng.u32(..5) == 0 {
            let fault = Fault::of_host(&mut self.rng);
            return self.fault_of_host(&fault);
        }
        let Some(actor) = self.somebody() else { return Ok(()) };
        let fault = Fault::of_guest(&self.actors[actor].settings, &mut self.rng);
        self.fault_of_guest(actor, fault).await;
        Ok(())
    }

    fn fault_of_host(&mut self, fault: &Fault) -> Result<()> {
        match *fault {
            Fault::DaemonKilled(away) if self.daemon_back_at.is_none() => {
                self.log.fault(fault, "");
                self.lab.kill_daemon()?;
                self.daemon_back_at = Some(Instant::now() + away);
            }
            Fault::Hog(bytes, held) if self.hog.as_ref().is_none_or(JoinHandle::is_finished) => {
                self.log.fault(fault, "");
                let bytes = usize::try_from(bytes.get())?;
                self.hog = Some(spawn_blocking(move || {
                    let hog = std::hint::black_box(vec![1_u8; bytes]);
                    std::thread::sleep(held);
                    drop(hog);
                }));
            }
            _ => {} // one at a time
        }
        Ok(())
    }

    async fn fault_of_guest(&mut self, actor: usize, fault: Fault) {
        let name = self.actors[actor].name.clone();
        self.log.fault(&fault, &name);
        if fault.excuses() {
            self.actors[actor].excused_until = Some(Instant::now() + AFTERMATH);
        }
        match fault {
            Fault::QemuKilled(off) => {
                let _ = self.lab.signal_machine(&name, Signal::KILL);
                self.boot(actor, move |reach| reach.off_and_on(None, off));
            }
            Fault::Stopped { force, off } => {
                let mode = if force { StopMode::Force } else { StopMode::Graceful };
                let stop = StopRequest { mode, timeout_seconds: 20 };
                self.boot(actor, move |reach| reach.off_and_on(Some(stop), off));
            }
            Fault::Restart => self.boot(actor, Reach::restart),
            Fault::Saved(off) => self.boot(actor, move |reach| reach.save_and_restore(off)),
            Fault::CrowdedRestart { inside } => self.restart_crowded(actor, inside),
            Fault::GuestReboots => self.leave(actor, WorkloadRequest::Reboot),
            Fault::GuestCrashes => self.leave(actor, WorkloadRequest::Crash),
            Fault::QemuFrozen(held) => {
                let _ = self.lab.signal_machine(&name, Signal::STOP);
                self.remedy(actor, held, Remedy::Thaw);
            }
            Fault::Paused(held) => {
                let _ = timeout(DAEMON_PATIENCE, self.lab.client().pause(&name)).await; // the daemon may be away
                self.remedy(actor, held, Remedy::Resume);
            }
            Fault::AgentKilled => self.mischief(actor, WorkloadRequest::Agent { fate: AgentFate::Killed }),
            Fault::AgentStopped(held) => {
                self.mischief(actor, WorkloadRequest::Agent { fate: AgentFate::Stopped });
                self.remedy(actor, held, Remedy::ContinueAgent);
            }
            Fault::BalloonUnbound(held) => {
                self.mischief(actor, WorkloadRequest::Balloon { bound: false });
                self.remedy(actor, held, Remedy::BindBalloon);
            }
            Fault::Settings(patch) => {
                let set = timeout(DAEMON_PATIENCE, self.lab.client().set_memory(&name, &patch)).await;
                if let Ok(Ok(vm)) = set {
                    self.actors[actor].settings = patch.apply(&self.actors[actor].settings);
                    debug_assert_eq!(vm.settings.maximum_bytes, self.actors[actor].settings.maximum);
                }
            }
            Fault::DaemonKilled(_) | Fault::Hog(..) => {}
        }
    }

    fn remedy(&mut self, actor: usize, after: Duration, remedy: Remedy) {
        self.actors[actor].remedy = Some((Instant::now() + after, remedy));
    }

    fn mischief(&mut self, actor: usize, what: WorkloadRequest) {
        self.actors[actor].act(|workload| deeds::mischief(workload, what));
    }

    fn leave(&mut self, actor: usize, how: WorkloadRequest) {
        let Some(workload) = self.actors[actor].take() else { return };
        self.boot(actor, move |reach| deeds::leave(workload, how, reach));
    }

    /// The others take what they boot with, and what this one can
    /// spare; then it restarts.
    fn restart_crowded(&mut self, actor: usize, inside: bool) {
        let settings = &self.actors[actor].settings;
        let startup = settings.startup;
        let mut wanted = startup.saturating_sub(settings.minimum);
        let others = (0..self.actors.len()).filter(|other| *other != actor);
        let (able, unable): (Vec<usize>, Vec<usize>) = others.partition(|other| self.actors[*other].is_able());
        for other in unable {
            let its = &self.actors[other];
            wanted = wanted.saturating_add(its.settings.startup.saturating_sub(its.need()));
        }
        let share = wanted.scale(1, able.len().max(1) as u64).saturating_add(Bytes::from_mib(16));
        for other in able {
            let its = &mut self.actors[other];
            let goal = its.goal_to_need(its.settings.startup.saturating_add(share));
            let bytes = goal.saturating_sub(its.goal);
            let load = Load::Grow { bytes, per_second: Bytes::from_mib(64) };
            if !bytes.is_zero() && its.act(|workload| deeds::load(workload, load)) {
                its.goal = goal;
            }
        }
        let Some(workload) = self.actors[actor].take() else { return };
        self.crowded_until = Some(Instant::now() + deeds::CROWDED_WITHIN);
        self.boot(actor, move |reach| deeds::restart_crowded(workload, inside, startup, reach));
    }

    /// Ends all faults, lowers all loads, and makes sure that all are well.
    async fn heal(&mut self) -> Result<()> {
        let now = Instant::now();
        self.daemon_back_at = self.daemon_back_at.map(|_| now);
        for actor in &mut self.actors {
            actor.remedy = actor.remedy.map(|(_, remedy)| (now, remedy));
        }
        for actor in &mut self.actors {
            // Who waits to be started or restored needs what these hold.
            let less = std::mem::take(&mut actor.goal);
            actor.act(|workload| deeds::load(workload, Load::Shrink(less)));
        }
        self.until_all_are_free("be well again").await?;
        for load in [Load::Shrink(Bytes::MAX), Load::Verify] {
            for actor in &mut self.actors {
                let goal = actor.goal;
                let load = if let Load::Shrink(_) = load { Load::Shrink(goal) } else { load };
                actor.act(|workload| deeds::load(workload, load));
            }
            self.until_all_are_free("verify their memory").await?;
        }
        for actor in &self.actors {
            if let Err(error) = self.lab.until_agent_reports(&actor.name).await {
                self.log.lose(format!("{} is not well at the end: {error:#}", actor.name));
            }
        }
        if let Some(hog) = self.hog.take() {
            hog.await?;
        }
        Ok(())
    }

    async fn until_all_are_free(&mut self, what: &str) -> Result<()> {
        let deadline = Instant::now() + ALL_UP_WITHIN;
        loop {
            self.step().await?;
            let busy = |actor: &&Actor| !matches!(actor.hands, Hands::Free(_)) || actor.remedy.is_some();
            let names: Vec<&str> = self.actors.iter().filter(busy).map(|actor| actor.name.as_str()).collect();
            if names.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "Not all guests {what} within {} s: {names:?}", ALL_UP_WITHIN.as_secs());
        }
    }
}

impl Actor {
    fn take(&mut self) -> Option<Workload> {
        match std::mem::replace(&mut self.hands, Hands::Empty) {
            Hands::Free(workload) => Some(workload),
            other => {
                self.hands = other;
                None
            }
        }
    }

    /// Begins a deed, if the connection is free for it.
    fn act<F: Future<Output = Told> + 'static>(&mut self, deed: impl FnOnce(Workload) -> F) -> bool {
        let workload = self.take();
        let begun = workload.is_some();
        if let Some(workload) = workload {
            self.hands = Hands::Busy(spawn_local(deed(workload)));
        }
        begun
    }
}
