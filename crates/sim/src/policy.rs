//! What decides in a simulated world: our engine, or a peer in its place.
//!
//! Both are told the same facts by the same events and answer with the same
//! effects, so the world can't favour one of them. What differs is the machine
//! that each would start for a VM ([`Policy::machine`]): balloon-only managers
//! start it as large as its maximum, ours adds what lies above startup later.

use dynmem_core::{Effect, Engine, HostConfig, Input, Instant, MemorySettings, VmId};
use dynmem_units::Bytes;

/// The memory devices of a machine as a policy would start it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineShape {
    /// Memory that the balloon reaches.
    pub boot: Bytes,
    /// The most that virtio-mem could plug on top.
    pub plug_max: Bytes,
}

/// What balloon statistics say beside a report, for policies that are built on
/// them. Bytes, from the guest's kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Memory in nobody's use, page cache excluded (`MemFree`).
    pub free: Bytes,
    /// Page cache.
    pub cached: Bytes,
    /// Pages that were touched within the last half minute, as a hypervisor's
    /// sampling would see them.
    pub active: Bytes,
}

/// A memory manager.
pub trait Policy: std::fmt::Debug {
    /// Its name, as the tables print it.
    fn name(&self) -> &'static str;

    /// The machine that it would start for a VM with these settings.
    fn machine(&self, settings: &MemorySettings) -> MachineShape;

    /// Takes one input and says what to do about it.
    fn handle(&mut self, now: Instant, input: Input) -> Vec<Effect>;

    /// When it wants its next [`Input::Tick`].
    fn deadline(&self) -> Instant;

    /// What the balloon's statistics say of a VM now; comes just before its
    /// [`dynmem_core::Event::Report`].
    fn statistics(&mut self, _vm: VmId, _statistics: Statistics) {}

    /// True for a bound that no real policy reaches: it is told what guests will
    /// need, and its orders take no time.
    fn foresees(&self) -> bool {
        false
    }

    /// What a VM must have in the step that comes; told only to who foresees.
    fn need(&mut self, _vm: VmId, _needed: Bytes) {}

    /// The engine behind it, if it is ours: the checks look into it.
    fn engine(&self) -> Option<&Engine> {
        None
    }

    /// Dies and is started anew, with nothing in memory.
    fn restart(&mut self);
}

/// The real engine.
#[derive(Debug)]
pub struct Dynmem {
    config: HostConfig,
    smart_paging: bool,
    engine: Engine,
}

impl Dynmem {
    /// The engine for a host.
    pub fn new(config: HostConfig) -> Self {
        Self { config, smart_paging: false, engine: Engine::new(config) }
    }

    /// The same on a host that can page machines to files, if `possible`.
    #[must_use]
    pub fn with_smart_paging(self, possible: bool) -> Self {
        Self { smart_paging: possible, engine: self.engine.with_smart_paging(possible), ..self }
    }
}

impl Policy for Dynmem {
    fn name(&self) -> &'static str {
        "dynmem"
    }

    fn machine(&self, settings: &MemorySettings) -> MachineShape {
        MachineShape { boot: settings.startup, plug_max: self.config.memory.max(settings.maximum) }
    }

    fn handle(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        self.engine.handle(now, input)
    }

    fn deadline(&self) -> Instant {
        self.engine.deadline()
    }

    fn engine(&self) -> Option<&Engine> {
        Some(&self.engine)
    }

    fn restart(&mut self) {
        self.engine = Engine::new(self.config).with_smart_paging(self.smart_paging);
    }
}
