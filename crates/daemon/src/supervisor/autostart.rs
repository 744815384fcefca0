//! VMs that start by themselves once the host has come up, and what is kept so
//! that they do.

use dynmem_api::{AutostartPatch, AutostartView, Problem, VmView};
use dynmem_core::{Event, Exit, VmId, VmState};
use dynmem_definition::{Autostart, VmDefinition};

use super::{
    Supervisor,
    changes::answer,
    command::{Reply, shutting_down},
};
use crate::autostart::Due;

/// VMs that are on their way up at once. More would only slow each other down.
const STARTS_AT_ONCE: usize = 8;

impl Supervisor {
    /// A VM that was defined before this daemon came, with or without machine.
    pub(super) fn look_after(&mut self, vm: VmId, runs: bool) {
        let Some(definition) = self.roster.get(vm).map(|vm| &vm.definition) else { return };
        if let Some(row) = self.autostarts.take_in(vm, definition, runs, self.clock.now()) {
            self.log.keep(definition.name.clone(), Some(row));
        }
    }

    /// Keeps whether this VM is wanted running, should the host go down.
    pub(super) fn note_wanted(&mut self, vm: VmId, wanted: bool) {
        let Some(name) = self.roster.get(vm).map(|vm| vm.definition.name.clone()) else { return };
        if let Some(row) = self.autostarts.note(&name, wanted) {
            self.log.keep(name, Some(row));
        }
    }

    /// Notes what an event of its machine says of what is wanted of a VM.
    ///
    /// The end of a machine says nothing: QEMU ends with the host, too. The
    /// guest's own power-off does, unless it is the first half of a restart, and
    /// a save does, which a person asked for.
    pub(super) fn note_event(&mut self, vm: VmId, event: EventKind) {
        match event {
            EventKind::Launched => self.note_wanted(vm, true),
            EventKind::PoweredOff if self.state_of(vm) == Some(VmState::Stopping) => self.note_wanted(vm, false),
            EventKind::Saved => self.note_wanted(vm, false),
            EventKind::PoweredOff | EventKind::Other => {}
        }
    }

    /// The VM is not defined any more.
    pub(super) fn forget_autostart(&mut self, name: &str) {
        self.autostarts.forget(name);
        self.log.keep(name.to_owned(), None);
    }

    /// A person does not want a VM that was about to start by itself. False if
    /// it was not.
    pub(super) fn cancel_autostart(&mut self, vm: VmId) -> bool {
        if !self.autostarts.cancel(vm) {
            return false;
        }
        self.note_wanted(vm, false);
        if let Some(name) = self.roster.get(vm).map(|vm| vm.definition.name.clone()) {
            let message = format!("{name} does not start by itself: a stop was asked before its delay was over");
            self.log.record(Some(name), "autostart", message, &[]);
        }
        true
    }

    /// Starts those whose time has come. Called once a tick.
    pub(super) fn start_due(&mut self) {
        // A definition that is being removed must not come to life meanwhile.
        if self.change.is_some() {
            return;
        }
        let on_their_way = |supervisor: &Self| {
            let states = supervisor.roster.by_name().filter_map(|(vm, _)| supervisor.state_of(vm));
            states.filter(|state| *state == VmState::Starting).count()
        };
        let Some(mut due) = self.autostarts.next(self.clock.now()) else { return };
        for _ in on_their_way(self)..STARTS_AT_ONCE {
            self.start_by_itself(due);
            let Some(next) = self.autostarts.next(self.clock.now()) else { return };
            due = next;
        }
        self.autostarts.put_back(due);
    }

    fn start_by_itself(&mut self, Due { vm: id, ran, name, .. }: Due) {
        let Some(vm) = self.roster.get(id) else { return };
        let off = matches!(self.state_of(id), Some(VmState::Off | VmState::Saved | VmState::Failed));
        let wanted = vm.definition.autostart != Autostart::Nothing;
        let plan = self.hypervisor.plan(&vm.definition);
        if !off || !wanted {
            return self.note_wanted(id, !off); // a person was quicker, one way or the other
        }
        // From here on it counts as looked after: what does not start now is
        // told, and waits for a person, or for the host's next start.
        self.note_wanted(id, ran);
        let overhead = match plan {
            Ok(plan) => plan.overhead,
            Err(error) => {
                let message = format!("{name} does not start by itself: {error}");
                return self.log.record(Some(name), "start-refused", message, &[]);
            }
        };
        let why = if ran { "it ran when the host went down" } else { "its setting says so" };
        let message = format!("{name} starts by itself: the host has come up, and {why}");
        self.log.record(Some(name), "autostart", message, &[]);
        self.feed_vm(id, if ran { Event::StartAgain { overhead } } else { Event::Start { overhead } });
    }

    pub(super) fn autostart_view(&self, id: VmId, definition: &VmDefinition) -> AutostartView {
        let due_at = self.autostarts.due_at(id);
        AutostartView {
            action: definition.autostart,
            delay_seconds: definition.start_delay,
            starts_in_seconds: due_at.map(|at| at.millis_since(self.clock.now()).div_ceil(1000)),
        }
    }

    pub(super) fn set_autostart(&mut self, id: VmId, patch: AutostartPatch, reply: Reply<VmView>) {
        let Some(vm) = self.roster.get(id) else { return answer(reply, Err(shutting_down())) };
        let mut definition = vm.definition.clone();
        definition.autostart = patch.autostart.unwrap_or(definition.autostart);
        definition.start_delay = patch.start_delay.unwrap_or(definition.start_delay);
        if definition == vm.definition {
            return answer(reply, self.view_of(id).ok_or_else(shutting_down));
        }
        if let Err(error) = definition.check() {
            let name = &vm.definition.name;
            return answer(reply, Err(Problem::new(400, format!("Can't change {name}: {error}"))));
        }
        self.write_autostart(id, definition, reply);
    }

    /// The new setting is on the disk.
    pub(super) fn autostart_written(&mut self, id: VmId, definition: VmDefinition, reply: Reply<VmView>) {
        let (name, action, delay) = (definition.name.clone(), definition.autostart, definition.start_delay);
        let message = format!("Autostart of {name} changed: {action}, after {delay} s");
        self.log.record(Some(name), "settings-changed", message, &[("start_delay_seconds", u64::from(delay))]);
        if let Some(vm) = self.roster.get_mut(id) {
            vm.definition = definition;
        }
        self.publish();
        answer(reply, self.view_of(id).ok_or_else(shutting_down));
    }
}

/// What of an event matters here; the event itself goes to the engine.
#[derive(Clone, Copy, Debug)]
pub(super) enum EventKind {
    Launched,
    PoweredOff,
    Saved,
    Other,
}

impl From<&Event> for EventKind {
    fn from(event: &Event) -> Self {
        match event {
            Event::Launched(_) => Self::Launched,
            Event::PoweredOff => Self::PoweredOff,
            Event::Exited(Exit::Saved(_)) => Self::Saved,
            _ => Self::Other,
        }
    }
}
