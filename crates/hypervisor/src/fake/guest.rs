//! [`FakeHost`] and [`FakeGuest`]: the ends that a test holds.

use std::path::Path;

use dynmem_definition::VmDefinition;
use dynmem_units::Bytes;

use super::Behaviour;
use crate::{AttachError, ChosenAccelerator, Launch, LaunchError, Machine, MachineExit, MachinePlan, RunState};

/// A host of imitated machines. Cheap to clone; machines end with the last
/// clone.
#[derive(Clone, Debug)]
pub struct FakeHost {
    memory: Bytes,
}

/// A test's handle of one imitated guest.
#[derive(Clone, Debug)]
pub struct FakeGuest {}

/// What an imitated machine is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What the machine does.
    pub state: RunState,
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
}

impl FakeHost {
    /// A host with so much memory.
    pub fn new(memory: Bytes) -> Self {
        Self { memory }
    }

    /// How guests behave that are launched from now on.
    pub fn set_default(&self, behaviour: Behaviour) {
        let _ = behaviour;
    }

    /// The guest of the running machine of this name.
    pub fn guest(&self, name: &str) -> Option<FakeGuest> {
        let _ = name;
        None
    }

    pub(crate) fn plan(&self, definition: &VmDefinition) -> MachinePlan {
        MachinePlan::new(definition, ChosenAccelerator::Tcg, self.memory)
    }

    pub(crate) async fn launch(&self, launch: &Launch) -> Result<Machine, LaunchError> {
        let _ = launch;
        std::future::pending().await
    }

    pub(crate) async fn attach(&self, run_dir: &Path) -> Result<Option<Machine>, AttachError> {
        let _ = run_dir;
        Ok(None)
    }
}

impl FakeGuest {
    /// Changes its behaviour; done when this returns. Nothing if it has ended.
    pub async fn change(&self, change: impl FnOnce(&mut Behaviour) + Send + 'static) {
        let _ = change;
    }

    /// What it is now.
    pub fn snapshot(&self) -> Snapshot {
        unreachable!("not yet")
    }

    /// Waits until it is so; the snapshot that was.
    pub async fn wait_until(&self, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let _ = condition;
        std::future::pending().await
    }

    /// The guest reboots by itself.
    pub async fn reboot(&self) {}

    /// The guest switches itself off.
    pub async fn power_off(&self) {}

    /// The guest's kernel panics.
    pub async fn panic(&self) {}

    /// The machine's process ends suddenly.
    pub async fn crash(&self, exit: MachineExit) {
        let _ = exit;
    }
}

/// The machine's "process".
#[derive(Debug)]
pub(crate) struct FakeProcess {}

impl FakeProcess {
    pub(crate) async fn exited(&mut self) -> MachineExit {
        std::future::pending().await
    }

    pub(crate) fn kill(&self) {
        let _ = self;
    }
}
