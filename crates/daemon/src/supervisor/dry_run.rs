//! What would happen: a change is checked as if it were meant, and tried on a
//! copy of the engine, which another thread then follows.

use dynmem_api::{DryRunView, MemoryPatch, Problem};
use dynmem_core::{Engine, Event, Instant, VmId};
use dynmem_definition::VmDefinition;

use super::{
    Supervisor,
    changes::unknown,
    command::{Action, Target, shutting_down},
};
use crate::views::{dry_run_view, nothing_moves};

/// A change that is not meant.
#[derive(Debug)]
pub(crate) enum Trial {
    /// Define a VM.
    Create(Box<VmDefinition>),
    /// Start a VM.
    Start(String),
    /// Change a VM's memory settings.
    Memory(Target, MemoryPatch),
}

/// What is known of its outcome.
#[derive(Debug)]
pub(crate) enum Preview {
    /// All of it.
    Known(DryRunView),
    /// What is to be tried: [`Preview::view`] does it.
    Open(Box<Open>),
}

/// An event that is to be tried on this copy.
#[derive(Debug)]
pub(crate) struct Open {
    engine: Engine,
    now: Instant,
    vm: VmId,
    event: Event,
}

impl Preview {
    /// Follows the copy to its end: milliseconds of work with thousands of VMs,
    /// so it is not for the supervisor's thread.
    pub(crate) fn view(self) -> DryRunView {
        match self {
            Self::Known(view) => view,
            Self::Open(open) => dry_run_view(open.engine.foresee(open.now, open.vm, open.event)),
        }
    }
}

impl Supervisor {
    /// What is to be tried, or what is known already. A problem if the request
    /// itself makes no sense: no such VM, or a condition that does not hold.
    pub(super) fn preview(&self, trial: Trial) -> Result<Preview, Problem> {
        let planned = match trial {
            Trial::Create(definition) => self.may_create(&definition).map(|()| None),
            Trial::Start(name) => {
                let vm = self.roster.id_of(&name).ok_or_else(|| unknown(&name))?;
                self.event_for(vm, Action::Start).map(|event| Some((vm, event)))
            }
            Trial::Memory(target, patch) => {
                let vm = self.find(&target)?;
                let settings = patch.apply(&self.roster.get(vm).ok_or_else(shutting_down)?.definition.memory);
                self.may_configure(vm, &settings).map(|()| Some((vm, Event::Configured(settings))))
            }
        };
        Ok(match planned {
            Ok(Some((vm, event))) => {
                Preview::Open(Box::new(Open { engine: self.engine.clone(), now: self.clock.now(), vm, event }))
            }
            Ok(None) => Preview::Known(nothing_moves(&self.engine.host_snapshot(), None)),
            Err(problem) => Preview::Known(nothing_moves(&self.engine.host_snapshot(), Some(problem.detail))),
        })
    }
}
