//! The loop of a driver that has its machine: orders in, facts out.

use std::{future::Future, time::Duration};

use dynmem_core::{DeviceFacts, Event, Exit};
use dynmem_hypervisor::{Machine, MachineError, MachineEvent, MachineExit, MachineRecord, RunState};
use dynmem_units::{Bytes, Percent};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Mailbox, Order, OrderKind,
    fence::Fence,
    pace::Pace,
    paging::{Outcome, Pager},
    statistics::Statistics,
};
use crate::{
    agent_link::{AgentLink, Limits},
    fact::{FactSender, News},
};

/// QEMU may take this long to end in order, before it is killed.
const QUIT_PATIENCE: Duration = Duration::from_secs(3);
/// Devices that did not move are told this often, so that the engine sees that
/// they don't.
const TELL_AGAIN: Duration = Duration::from_secs(1);
const CPU_EVERY: Duration = Duration::from_secs(2);
/// A reset that can't be carried out is tried this often.
const RESET_TRIES: u32 = 5;

/// What woke the driver.
enum Wake {
    /// The supervisor wants the machine to end.
    End,
    Order(Option<Order>),
    Machine(MachineEvent),
    Paging(Option<Outcome>),
    Look,
}

/// How the machine is to end, once it is.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// It was asked to.
    pub(super) asked: bool,
    /// When it is killed, if it takes too long.
    kill_at: Option<Instant>,
    /// What went wrong before, if it was that.
    reason: Option<String>,
    /// It is saved, with devices that held this.
    pub(super) saved: Option<DeviceFacts>,
}

/// A driver with its machine.
pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) fence: Fence,
    pub(super) facts: FactSender,
    pub(super) mailbox: Mailbox,
    pace: Pace,
    statistics: Statistics,
    /// What the devices were last told to hold.
    wanted: Option<(Bytes, Bytes)>,
    /// Whether that has yet to reach them.
    unsent: bool,
    /// The balloon was told one block more, to see that its driver is back
    /// after a reset; the true order follows once it is.
    telling: bool,
    /// The devices as last seen and as last told, and when.
    devices: Option<DeviceFacts>,
    told_at: Option<Instant>,
    trouble: bool,
    cpu: Option<(Instant, Duration)>,
    pub(super) pager: Pager,
    pub(super) ending: Ending,
    /// The agent's link; ends with the driver.
    _link: JoinSet<()>,
}

/// The devices of a machine that can't be asked: as it was launched.
pub(crate) fn devices_of(record: &MachineRecord) -> DeviceFacts {
    DeviceFacts {
        boot: record.boot_bytes,
        balloon_actual: record.boot_bytes,
        plugged: Bytes::ZERO,
        plug_max: record.plug_max_bytes,
        plug_block: record.plug_block_bytes,
        overhead: record.overhead_bytes,
    }
}

/// Waits for a call to the machine, or for the order to end it; then the call
/// is given up.
pub(super) async fn unless_ended<T>(
    end: &mut watch::Receiver<bool>,
    ending: bool,
    call: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        Ok(_) = end.wait_for(|end| *end), if !ending => None,
        outcome = call => Some(outcome),
    }
}

impl Driver {
    pub(super) fn new(machine: Machine, fence: Fence, facts: FactSender, mailbox: Mailbox) -> Self {
        let record = machine.record();
        let link = AgentLink {
            path: machine.run_dir().agent(),
            limits: Limits { reach: record.boot_bytes.saturating_add(record.plug_max_bytes) },
            facts: facts.clone(),
            assigned: mailbox.assigned.clone(),
            status: mailbox.agent.clone(),
        };
        let pager = Pager::new(mailbox.place.clone());
        let mut links = JoinSet::new();
        links.spawn(link.run());
        Self {
            machine,
            fence,
            facts,
            mailbox,
            pace: Pace::new(Instant::now()),
            statistics: Statistics::default(),
            wanted: None,
            unsent: false,
            telling: false,
            devices: None,
            told_at: None,
            trouble: false,
            cpu: None,
            pager,
            ending: Ending::default(),
            _link: links,
        }
    }

    /// Runs until the machine is gone or nobody listens. A machine that was
    /// `found` may have been held or halted before anybody listened.
    pub(super) async fn run(mut self, found: bool) {
        self.find_paging().await;
        if found && self.introduce().await.is_none() {
            return;
        }
        while self.step().await.is_some() {}
    }

    /// The true sizes come first: what else is told may lead to orders, which
    /// must not rest on a guess.
    async fn introduce(&mut self) -> Option<()> {
        self.look_at_devices().await?;
        self.catch_up().await
    }

    async fn step(&mut self) -> Option<()> {
        let look_at = self.ending.kill_at.map_or(self.pace.next(), |kill_at| kill_at.min(self.pace.next()));
        let wake = tokio::select! {
            biased;
            Ok(_) = self.mailbox.end.wait_for(|end| *end), if !self.ending.asked => Wake::End,
            order = self.mailbox.orders.recv() => Wake::Order(order),
            event = self.machine.next_event() => Wake::Machine(event),
            outcome = self.pager.done() => Wake::Paging(outcome),
            () = sleep_until(look_at) => Wake::Look,
        };
        match wake {
            Wake::End => self.end().await,
            Wake::Order(order) => self.obey(order?).await,
            Wake::Machine(event) => self.happened(event).await,
            Wake::Paging(outcome) => self.paged(outcome).await,
            Wake::Look => self.look().await,
        }
    }

    /// Ends the machine: in order, so that its disks are whole, or by force.
    pub(super) async fn end(&mut self) -> Option<()> {
        self.ending.asked = true;
        self.ending.kill_at = Some(Instant::now() + QUIT_PATIENCE);
        if !matches!(timeout(QUIT_PATIENCE, self.machine.quit()).await, Ok(Ok(()))) {
            self.machine.kill();
        }
        Some(())
    }

    async fn obey(&mut self, first: Order) -> Option<()> {
        let mut order = first;
        // Of several orders to the memory devices only the last one counts.
        while matches!(order, Order::Memory { .. }) {
            match self.mailbox.orders.try_recv() {
                Ok(next @ Order::Memory { .. }) => order = next,
                Ok(next) => {
                    self.carry_out(order).await?;
                    order = next;
                }
                Err(_) => break,
            }
        }
        self.carry_out(order).await
    }

    async fn carry_out(&mut self, order: Order) -> Option<()> {
        if let Order::Memory { balloon, plugged } = order {
            self.wanted = Some((balloon, plugged));
            self.unsent = true;
            self.fence.hold(balloon.saturating_add(plugged));
            self.pager.remember(balloon.saturating_add(plugged));
            return self.send_order().await;
        }
        // These two are answered by what they come to.
        match order {
            Order::BeginPaging(paged) => {
                self.pager.begin(paged);
                return Some(());
            }
            Order::EndPaging => return self.end_paging().await,
            Order::Save => return self.save().await,
            _ => {}
        }
        let kind = order.kind();
        let (machine, end) = (&mut self.machine, &mut self.mailbox.end);
        let call = async {
            match order {
                Order::Memory { .. } | Order::BeginPaging(_) | Order::EndPaging | Order::Save => Ok(()),
                Order::PowerDown => machine.power_down().await,
                Order::HoldForReset => machine.hold_for_reset().await,
                Order::ContinueReset => continue_reset(machine).await,
                Order::Pause => machine.pause().await,
                Order::Resume => machine.resume().await,
            }
        };
        let Some(outcome) = unless_ended(end, self.ending.asked, call).await else { return Some(()) };
        if kind == OrderKind::ContinueReset {
            self.statistics.reset(Instant::now());
            self.pager.reset();
            self.fence.reset();
            if let Err(error) = &outcome {
                self.give_up(format!("It could not be reset: {error}")).await?;
            }
        }
        if outcome.is_ok() && matches!(kind, OrderKind::Pause | OrderKind::Resume) {
            self.catch_up().await?; // what was asked may have been so already: then no event tells
        }
        self.pace.event(Instant::now());
        self.facts.tell(News::Done(kind, outcome.map_err(|error| error.to_string()))).await
    }

    /// Nothing but an end helps this machine.
    async fn give_up(&mut self, reason: String) -> Option<()> {
        self.ending.reason.get_or_insert(reason);
        self.end().await
    }

    async fn send_order(&mut self) -> Option<()> {
        let Some((balloon, plugged)) = self.wanted.filter(|_| self.unsent) else { return Some(()) };
        let call = async {
            self.fence.allow(balloon, plugged).await;
            self.machine.order(balloon, plugged).await
        };
        let Some(outcome) = unless_ended(&mut self.mailbox.end, self.ending.asked, call).await else {
            return Some(());
        };
        match outcome {
            Ok(_) => {
                self.unsent = false;
                self.telling = self.machine.is_balloon_stale();
                self.pace.ordered(Instant::now());
                Some(())
            }
            Err(error) => self.in_trouble(&error).await, // sent again at the next look
        }
    }

    async fn happened(&mut self, event: MachineEvent) -> Option<()> {
        match event {
            MachineEvent::BalloonChanged | MachineEvent::PlugChanged => {
                self.pace.event(Instant::now());
                Some(())
            }
            MachineEvent::ResetHeld => self.facts.vm(Event::ResetHeld).await,
            MachineEvent::PoweredOff => self.facts.vm(Event::PoweredOff).await,
            MachineEvent::Paused => self.stands_still(true).await,
            MachineEvent::Resumed => self.stands_still(false).await,
            MachineEvent::Panicked => self.give_up("The guest's kernel has panicked".to_owned()).await,
            MachineEvent::Exited(exit) => self.exited(exit).await,
            MachineEvent::Lagged => self.catch_up().await,
        }
    }

    async fn stands_still(&mut self, still: bool) -> Option<()> {
        self.statistics.stands_still(still);
        self.facts.vm(if still { Event::Paused } else { Event::Resumed }).await
    }

    /// Events were missed: what would they have said?
    pub(super) async fn catch_up(&mut self) -> Option<()> {
        self.pace.event(Instant::now());
        self.unsent = self.wanted.is_some();
        let call = self.machine.state();
        let state = unless_ended(&mut self.mailbox.end, self.ending.asked, call).await;
        let event = match state {
            None => return Some(()),
            Some(Ok(RunState::Prelaunch)) => return self.give_up("It was never started to its end".to_owned()).await,
            Some(Err(error)) => return self.in_trouble(&error).await,
            Some(Ok(RunState::Running)) => return self.stands_still(false).await,
            Some(Ok(RunState::Paused | RunState::Stopped)) => return self.stands_still(true).await,
            Some(Ok(RunState::ResetHeld)) => Event::ResetHeld,
            Some(Ok(RunState::PoweredOff)) => Event::PoweredOff,
            Some(Ok(RunState::Panicked)) => return self.give_up("The guest's kernel has panicked".to_owned()).await,
        };
        self.facts.vm(event).await
    }

    /// The machine is gone: the last word.
    async fn exited(&mut self, exit: MachineExit) -> Option<()> {
        let Ending { asked, reason, saved, .. } = &self.ending;
        let exit = match (saved, reason, asked, exit) {
            (Some(devices), ..) => Exit::Saved(*devices),
            (None, Some(reason), ..) => Exit::Failed(reason.clone()),
            (None, None, true, _) | (None, None, false, MachineExit::Code(0)) => Exit::Clean,
            (None, None, false, exit) => {
                let log = self.machine.log_tail();
                let said = if log.is_empty() { String::new() } else { format!("; it said: {log}") };
                let killed = self.fence.killed();
                Exit::Failed(killed.unwrap_or_else(|| format!("QEMU ended unexpectedly ({exit}){said}")))
            }
        };
        self.pager.clear().await;
        self.fence.remove().await;
        self.facts.vm(Event::Exited(exit)).await;
        None
    }

    /// Looks at the devices, and at whatever else is due.
    async fn look(&mut self) -> Option<()> {
        let now = Instant::now();
        if self.ending.kill_at.is_some_and(|at| now >= at) {
            self.machine.kill();
            self.ending.kill_at = Some(now + QUIT_PATIENCE);
        }
        // Not before: the same order again would come to the same.
        if self.telling && !self.machine.is_balloon_stale() {
            self.unsent = true;
        }
        self.send_order().await?;
        self.look_at_devices().await?;
        if let Some(news) = self.fence.look(self.machine.pid()).await {
            self.facts.tell(News::Limits(Box::new(news))).await?;
        }
        self.look_at_cpu().await?;
        let agent_at = self.mailbox.agent.borrow().reported_at;
        if self.trouble || !self.statistics.due(now, agent_at) {
            return Some(());
        }
        let call = self.statistics.read(&mut self.machine, agent_at);
        let report = match unless_ended(&mut self.mailbox.end, self.ending.asked, call).await {
            Some(Ok(report)) => report,
            Some(Err(error)) => return self.in_trouble(&error).await,
            None => return Some(()),
        };
        if let Some(word) = self.statistics.driver_word() {
            self.facts.vm(Event::Driver(word)).await?;
        }
        match report {
            Some(report) => self.facts.vm(Event::Report(report)).await,
            None => Some(()),
        }
    }

    async fn look_at_devices(&mut self) -> Option<()> {
        let call = self.machine.facts();
        let mut facts = match unless_ended(&mut self.mailbox.end, self.ending.asked, call).await {
            None => return Some(()),
            Some(Err(error)) => {
                self.pace.looked(Instant::now(), false, false);
                return self.in_trouble(&error).await;
            }
            Some(Ok(facts)) => facts,
        };
        self.fence.seen(&mut facts);
        let now = Instant::now();
        if std::mem::take(&mut self.trouble) {
            self.facts.tell(News::Trouble(None)).await?;
        }
        let moved = self.devices.replace(facts) != Some(facts);
        let arrived = self.wanted.is_none_or(|wanted| wanted == (facts.balloon_actual, facts.plugged));
        self.pace.looked(now, moved, arrived && !self.unsent);
        if moved || self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_AGAIN) {
            self.told_at = Some(now);
            self.facts.vm(Event::Devices(facts)).await?;
        }
        Some(())
    }

    async fn look_at_cpu(&mut self) -> Option<()> {
        let now = Instant::now();
        if self.cpu.is_some_and(|(at, _)| now.duration_since(at) < CPU_EVERY) {
            return Some(());
        }
        let Some(used) = self.machine.cpu_time() else { return Some(()) };
        let Some((at, before)) = self.cpu.replace((now, used)) else { return Some(()) };
        let elapsed = now.duration_since(at).as_millis().max(1);
        let percent = used.saturating_sub(before).as_millis() * 100 / elapsed;
        self.facts.tell(News::Cpu(Percent::new(u32::try_from(percent).unwrap_or(u32::MAX)))).await
    }

    pub(super) async fn in_trouble(&mut self, error: &MachineError) -> Option<()> {
        if self.trouble || error.is_closed() {
            return Some(()); // told already, or the end of the connection is told by the next event
        }
        self.trouble = true;
        self.facts.tell(News::Trouble(Some(format!("QEMU does not do what it is asked: {error}")))).await
    }
}

/// A held machine has to be reset: its guest stands still until then.
async fn continue_reset(machine: &mut Machine) -> Result<(), MachineError> {
    let mut outcome = machine.continue_reset().await;
    for _ in 1..RESET_TRIES {
        if outcome.is_ok() {
            break;
        }
        outcome = match machine.continue_reset().await {
            // The try before did it after all, and failed at something later.
            Err(MachineError::NotHeld(RunState::Running)) => Ok(()),
            outcome => outcome,
        };
    }
    outcome
}

#[cfg(test)]
mod tests {
    use dynmem_core::VmId;
    use dynmem_definition::VmDefinition;
    use dynmem_hypervisor::{Hypervisor, Launch, SavedDir, fake::FakeHost};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{driver::mailbox, fact::Fact, paging::Place};

    #[tokio::test]
    async fn a_balloon_that_is_asked_for_its_old_figure_after_a_reset_gets_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = FakeHost::new(Bytes::from_mib(4096));
        let definition = VmDefinition::from_toml("name = \"web01\"", folder.path()).expect("right");
        let boot = definition.memory.startup;
        let less = boot.saturating_sub(Bytes::from_mib(256));
        let job = Launch { definition, run_dir: folder.path().join("web01"), cgroups: Vec::new() };
        let machine = Hypervisor::Fake(host.clone()).launch(&job).await.expect("a machine");
        let guest = host.guest("web01").expect("its guest");
        let (sender, mut told) = mpsc::channel(64);
        let (mut handle, mailbox) = mailbox(Place::default(), SavedDir::new("/nowhere"));
        let facts = FactSender { vm: VmId(0), run: 1, facts: sender };
        let fence = Fence::found(None, &machine);
        let driver = tokio::spawn(Driver::new(machine, fence, facts, mailbox).run(false));
        let memory = |balloon| Order::Memory { balloon, plugged: Bytes::ZERO };

        handle.push(memory(less));
        guest.wait_until(|guest| guest.balloon_actual == less).await;
        guest.reboot().await;
        let held = |fact: &Fact| matches!(fact, Fact::Machine { news: News::Event(Event::ResetHeld), .. });
        while !held(&told.recv().await.expect("it speaks")) {}
        let listening = tokio::spawn(async move { while told.recv().await.is_some() {} });
        for order in [memory(boot), Order::ContinueReset, memory(less)] {
            handle.push(order);
        }
        let there = guest.wait_until(|guest| guest.boots > 1 && guest.balloon_actual == less);
        timeout(Duration::from_secs(30), there).await.expect("not a block more for ever");
        driver.abort();
        listening.abort();
    }
}
