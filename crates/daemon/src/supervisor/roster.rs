//! [`Roster`]: which VMs there are, by name and by number, and what belongs to
//! each besides the engine's part.

use std::collections::BTreeMap;

use dynmem_core::VmId;
use dynmem_definition::VmDefinition;
use dynmem_units::{Bytes, Percent};
use tokio::task;

use super::waiters::Waiters;
use crate::driver::{Handle, LimitView, MachineInfo};

/// The most VMs that one daemon looks after.
pub(crate) const VMS_MAX: usize = 10_000;

/// A VM.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) definition: VmDefinition,
    /// Tells it from VMs that had its name before.
    pub(crate) made: u64,
    /// Its driver, while it has one.
    pub(crate) run: Option<Run>,
    /// Who waits for its state to change.
    pub(crate) waiters: Waiters,
}

/// A VM's driver and what it told.
#[derive(Debug)]
pub(crate) struct Run {
    /// Tells this driver's news from those of earlier ones.
    pub(crate) number: u64,
    pub(crate) task: task::Id,
    pub(crate) handle: Handle,
    /// It was found running.
    pub(crate) found: bool,
    /// How the launch went is still to be told.
    pub(crate) launching: bool,
    pub(crate) info: Option<MachineInfo>,
    pub(crate) cpu: Option<Percent>,
    /// How much of its memory is written, while it is being saved.
    pub(crate) saving: Option<Bytes>,
    pub(crate) limits: LimitView,
    pub(crate) trouble: Option<String>,
    /// Whether its agent lately sent what is refused, and more than is read, as
    /// last told.
    pub(crate) agent_troubles: [bool; 2],
}

impl Run {
    /// True if its machine is not in a memory group, as far as is known.
    pub(crate) fn is_outside(&self) -> bool {
        self.limits.missing.is_some() || (self.found && self.limits.limit.is_none())
    }
}

/// All VMs.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Indexed by number; holes are free numbers.
    vms: Vec<Option<Vm>>,
    names: BTreeMap<String, VmId>,
    made: u64,
}

impl Roster {
    /// Adds a VM whose name is not taken; `None` if there are too many.
    pub(crate) fn add(&mut self, definition: VmDefinition) -> Option<VmId> {
        if self.names.len() >= VMS_MAX {
            return None;
        }
        let free = self.vms.iter().position(Option::is_none).unwrap_or(self.vms.len());
        let id = VmId(u32::try_from(free).ok()?);
        if free == self.vms.len() {
            self.vms.push(None);
        }
        self.names.insert(definition.name.clone(), id);
        self.made += 1;
        self.vms[free] = Some(Vm { definition, made: self.made, run: None, waiters: Waiters::default() });
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: VmId) {
        if let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::take) {
            self.names.remove(&vm.definition.name);
        }
    }

    pub(crate) fn id_of(&self, name: &str) -> Option<VmId> {
        self.names.get(name).copied()
    }

    pub(crate) fn get(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: VmId) -> Option<&mut Vm> {
        self.vms.get_mut(id.0 as usize)?.as_mut()
    }

    /// The driver of a VM, if it has one.
    pub(crate) fn run_mut(&mut self, id: VmId) -> Option<&mut Run> {
        self.get_mut(id)?.run.as_mut()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.names.len() >= VMS_MAX
    }

    /// Every VM, by name.
    pub(crate) fn by_name(&self) -> impl Iterator<Item = (VmId, &Vm)> {
        self.names.values().filter_map(|id| Some((*id, self.get(*id)?)))
    }

    /// Every VM, in the order of numbers.
    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = (VmId, &mut Vm)> {
        (0_u32..).zip(&mut self.vms).filter_map(|(id, vm)| Some((VmId(id), vm.as_mut()?)))
    }
}
