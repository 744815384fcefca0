//! Drivers: how they come, what they tell about themselves, how they end.

use std::path::PathBuf;

use dynmem_core::{DeviceFacts, Event, Paged, TroubleKind, VmId};
use dynmem_definition::VmDefinition;
use dynmem_hypervisor::{Launch, SavedDir};
use dynmem_units::Bytes;
use tokio::{
    task,
    time::{Duration, Instant},
};

use super::{Supervisor, roster::Run};
use crate::{
    adopt::Found,
    driver::{self, Attached, LimitView, Lost, MachineInfo, OrderKind, Start, Workshop},
    fact::FactSender,
    paging::Place,
};

/// An agent that has sent nothing wrong for this long is well again.
const AGENT_WELL_AFTER: Duration = Duration::from_secs(10);

impl Supervisor {
    /// A machine's directory.
    pub(super) fn run_dir(&self, name: &str) -> PathBuf {
        self.run_root.join(name)
    }

    /// Takes in a VM that is defined already, and its machine if one was
    /// found, or what that held if it was `saved`. For the time before [`Supervisor::run`]: `found` are all charged
    /// before the first decision.
    pub(crate) fn take_in(&mut self, definition: VmDefinition, found: Option<Found>, saved: Option<DeviceFacts>) {
        let (name, settings) = (definition.name.clone(), definition.memory.clone());
        let Some(vm) = self.roster.add(definition) else {
            self.log.record(
                Some(name),
                "definition-ignored",
                "There are too many VMs: this one is ignored".into(),
                &[],
            );
            return;
        };
        self.meters.take_in(vm, &name);
        self.feed_vm(vm, Event::Defined { name, settings });
        if let Some(devices) = saved {
            self.feed_vm(vm, Event::FoundSaved(devices));
        }
        self.look_after(vm, found.is_some());
        let Some(Found { devices, paused, known, paging, info, attached }) = found else { return };
        self.spawn(vm, Start::Attached(attached), Some(info));
        self.feed_vm(vm, Event::Adopted { devices, paused, known, paging });
    }

    /// Where a VM's smart paging file is made.
    pub(super) fn place_of(&self, definition: &VmDefinition) -> Place {
        Place::new(&self.paging_root, definition.memory.smart_paging_folder.as_deref(), &definition.name)
    }

    /// Launches the machine, with a part of its memory in a file if need be; it
    /// is charged.
    pub(super) fn launch(&mut self, vm: VmId, paged: Option<Paged>) {
        let Some(definition) = self.roster.get(vm).map(|vm| vm.definition.clone()) else { return };
        let run_dir = self.run_dir(&definition.name);
        self.spawn(vm, Start::Launch(Box::new(Launch { definition, run_dir, cgroups: Vec::new() }), paged), None);
    }

    /// Lets it go on as it was saved; it is charged.
    pub(super) fn restore(&mut self, vm: VmId) {
        let Some(definition) = self.roster.get(vm).map(|vm| vm.definition.clone()) else { return };
        let run_dir = self.run_dir(&definition.name);
        self.spawn(vm, Start::Restore(Box::new(Launch { definition, run_dir, cgroups: Vec::new() })), None);
    }

    /// Where a VM is saved.
    pub(super) fn saved_dir(&self, name: &str) -> SavedDir {
        SavedDir::new(self.saved_root.join(name))
    }

    fn spawn(&mut self, vm: VmId, start: Start, info: Option<MachineInfo>) {
        self.runs += 1;
        let number = self.runs;
        let Some(definition) = self.roster.get(vm).map(|vm| &vm.definition) else { return };
        let (handle, mailbox) = driver::mailbox(self.place_of(definition), self.saved_dir(&definition.name));
        let facts = FactSender { vm, run: number, facts: self.facts_sender.clone() };
        let found = matches!(start, Start::Attached(_));
        let (launching, trouble) = match &start {
            Start::Launch(..) | Start::Restore(_) => (true, None),
            Start::Attached(Attached::Control(_)) => (false, None),
            Start::Attached(Attached::Lost(lost)) => (lost.launching, Some(lost.reason.clone())),
        };
        let workshop = Workshop { hypervisor: self.hypervisor.clone(), groups: self.groups.clone() };
        let task = self.drivers.spawn(driver::run(workshop, start, facts, mailbox)).id();
        if let Some(vm) = self.roster.get_mut(vm) {
            let (cpu, saving, trouble, limits) = (None, None, None, LimitView::default());
            vm.run = Some(Run {
                number,
                task,
                handle,
                found,
                launching,
                info,
                cpu,
                saving,
                limits,
                trouble,
                agent_troubles: [false; 2],
            });
        }
        if trouble.is_some() {
            self.trouble(vm, trouble);
        }
    }

    /// The machine is gone, or never was.
    pub(super) fn forget_driver(&mut self, vm: VmId) {
        if let Some(vm) = self.roster.get_mut(vm) {
            vm.run = None;
        }
    }

    /// A driver's task is over. It says a last word before, which may still be
    /// on its way; unless it broke down. Then its machine may still run, and
    /// another driver gets it back.
    pub(super) fn driver_ended(&mut self, task: task::Id, by_panic: bool) {
        let ended = self.roster.each_mut().find(|(_, vm)| vm.run.as_ref().is_some_and(|run| run.task == task));
        let (Some((id, vm)), true) = (ended, by_panic) else { return };
        let name = vm.definition.name.clone();
        let message =
            format!("The driver of {name} broke down: this is a bug in dynmemd. Its machine is taken over again");
        self.log.record(Some(name.clone()), "driver-lost", message, &[]);
        // It may have been at work on a smart paging file: that begins again.
        self.feed_vm(id, Event::PagingFailed("its driver broke down".to_owned()));
        let Some(run) = self.roster.run_mut(id) else { return };
        let (launching, info) = (run.launching, run.info.clone());
        // Even of a launch that nobody told about a machine may be left.
        let lost = Lost { run_dir: self.run_dir(&name), reason: "Its driver broke down".to_owned(), launching };
        self.spawn(id, Start::Attached(Attached::Lost(lost)), info);
    }

    /// Something is wrong with the connection to a machine, or is well again.
    pub(super) fn trouble(&mut self, vm: VmId, trouble: Option<String>) {
        let Some(vm) = self.roster.get_mut(vm) else { return };
        let name = vm.definition.name.clone();
        let Some(run) = vm.run.as_mut() else { return };
        let message = match (&run.trouble, &trouble) {
            (None, Some(reason)) => format!("{name} can't be controlled: {reason}"),
            (Some(_), None) => format!("{name} can be controlled again"),
            _ => String::new(),
        };
        let kind = if trouble.is_some() { "control-lost" } else { "control-regained" };
        run.trouble = trouble;
        if !message.is_empty() {
            self.log.record(Some(name), kind, message, &[]);
        }
    }

    /// A machine's limit is another one, is hit, or can't be kept.
    pub(super) fn limits(&mut self, id: VmId, limits: LimitView) {
        let Some(vm) = self.roster.get_mut(id) else { return };
        let Some(run) = vm.run.as_mut() else { return };
        let before = std::mem::replace(&mut run.limits, limits.clone());
        if let Some(why) = limits.missing.filter(|why| before.missing.as_ref() != Some(why)) {
            let name = vm.definition.name.clone();
            let message = format!("{name} runs without a memory limit: {why}");
            self.log.record(Some(name), "limit-missing", message, &[]);
        }
        if limits.taken != before.taken {
            let taken = |taken: Bytes| {
                format!(
                    "has taken {} MiB out of its balloon on its own: they were not lent to it, and it is killed if it uses them",
                    taken.mib()
                )
            };
            self.feed_vm(id, Event::Trouble(TroubleKind::BalloonEmptied, limits.taken.map(taken)));
        }
        if limits.at_limit.is_some() != before.at_limit.is_some() {
            let at_limit = |limit: Bytes| {
                format!(
                    "is held at its memory limit, {} MiB: it uses memory that it was not lent, and is killed if it takes more",
                    limit.mib()
                )
            };
            self.feed_vm(id, Event::Trouble(TroubleKind::AtMemoryLimit, limits.at_limit.map(at_limit)));
        }
    }

    /// An order was carried out, or not.
    pub(super) fn done(&mut self, id: VmId, kind: OrderKind, outcome: Result<(), String>) {
        let Some(vm) = self.roster.get_mut(id) else { return };
        let name = &vm.definition.name;
        vm.waiters.done(name, kind, outcome.as_ref().copied().map_err(String::as_str));
        if let Err(reason) = outcome {
            let message = format!("Could not {kind} {name}: {reason}");
            self.log.record(Some(name.clone()), "order-failed", message, &[]);
        }
        self.settle(id);
    }

    /// Once in a while: orders that wait, agents that talk nonsense.
    pub(super) fn look_at_drivers(&mut self) {
        let mut news = Vec::new();
        for (id, vm) in self.roster.each_mut() {
            let Some(run) = vm.run.as_mut() else { continue };
            run.handle.flush();
            let agent = run.handle.agent();
            let lately = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < AGENT_WELL_AFTER);
            let now = [lately(agent.refused_at), lately(agent.flooded_at)];
            let before = std::mem::replace(&mut run.agent_troubles, now);
            let complaint = agent.complaint.unwrap_or_default();
            let details = [
                (TroubleKind::AgentRefused, format!("has an agent that sends what is refused: {complaint}")),
                (TroubleKind::AgentFloods, "has an agent that sends more than is read".to_owned()),
            ];
            for ((kind, detail), (now, before)) in details.into_iter().zip(now.into_iter().zip(before)) {
                if now != before {
                    news.push((id, Event::Trouble(kind, now.then_some(detail))));
                }
            }
        }
        for (id, event) in news {
            self.feed_vm(id, event);
        }
    }
}
