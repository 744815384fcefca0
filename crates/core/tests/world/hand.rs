//! An engine and one hand: inputs go in one at a time, and nobody answers for
//! the machines unless the test does. For what a single event does.

use dynmem_core::{
    DeviceFacts, Effect, Engine, Event, HostConfig, Input, Instant, MemorySettings, NoticeKind, VmId, VmSnapshot,
    VmState,
};
use dynmem_units::Bytes;

use super::{mib, report};

pub struct Hand {
    pub engine: Engine,
    pub now: Instant,
    settings: Vec<MemorySettings>,
}

impl Hand {
    /// A host that lends `memory` MiB. No machine has overhead.
    pub fn new(memory: u64) -> Self {
        let engine = Engine::new(HostConfig { memory: mib(memory), reserve: Bytes::ZERO });
        Self { engine, now: Instant(0), settings: Vec::new() }
    }

    pub fn send(&mut self, vm: VmId, event: Event) -> Vec<Effect> {
        self.engine.handle(self.now, Input::Vm(vm, event))
    }

    /// Lets time pass without a word, but for a tick at its end if one is due.
    pub fn after(&mut self, millis: u64) -> Vec<Effect> {
        self.now = self.now.plus_millis(millis);
        if self.engine.deadline() <= self.now { self.engine.handle(self.now, Input::Tick) } else { Vec::new() }
    }

    pub fn define(&mut self, settings: MemorySettings) -> VmId {
        let vm = VmId(u32::try_from(self.settings.len()).expect("few VMs"));
        self.settings.push(settings.clone());
        self.send(vm, Event::Defined { name: format!("vm{}", vm.0), settings });
        vm
    }

    /// Defines a VM, and asks for its start, which is decided at once.
    pub fn starting(&mut self, settings: MemorySettings) -> VmId {
        let vm = self.define(settings);
        self.after(10);
        self.start(vm);
        vm
    }

    pub fn start(&mut self, vm: VmId) -> Vec<Effect> {
        self.send(vm, Event::Start { overhead: Bytes::ZERO })
    }

    pub fn launched(&mut self, vm: VmId) -> Vec<Effect> {
        let devices = self.devices(vm, self.settings[vm.0 as usize].startup);
        self.send(vm, Event::Launched(devices))
    }

    pub fn booting(&mut self, settings: MemorySettings) -> VmId {
        let vm = self.starting(settings);
        self.launched(vm);
        assert_eq!(self.vm(vm).state, VmState::Booting, "there was memory for it");
        vm
    }

    /// A VM whose guest has told what it uses, in MiB, and that was decided on.
    pub fn running(&mut self, settings: MemorySettings, used: u64) -> VmId {
        let vm = self.booting(settings);
        self.after(10);
        self.reports(vm, used);
        vm
    }

    /// The guest says what it uses, in MiB.
    pub fn reports(&mut self, vm: VmId, used: u64) -> Vec<Effect> {
        let assigned = self.vm(vm).assigned;
        self.send(vm, Event::Report(report(assigned, mib(used))))
    }

    /// The machine says that it holds `assigned` MiB.
    pub fn holds(&mut self, vm: VmId, assigned: u64) -> Vec<Effect> {
        let devices = self.devices(vm, mib(assigned));
        self.send(vm, Event::Devices(devices))
    }

    pub fn devices(&self, vm: VmId, assigned: Bytes) -> DeviceFacts {
        let boot = self.settings[vm.0 as usize].startup;
        let plugged = assigned.saturating_sub(boot);
        DeviceFacts {
            boot,
            balloon_actual: assigned.saturating_sub(plugged),
            plugged,
            plug_max: mib(65_536),
            plug_block: Bytes::BLOCK,
            overhead: Bytes::ZERO,
        }
    }

    pub fn vm(&self, vm: VmId) -> VmSnapshot {
        self.engine.vm_snapshot(self.now, vm).expect("defined")
    }

    pub fn state(&self, vm: VmId) -> VmState {
        self.vm(vm).state
    }
}

/// The order that makes a machine with `boot` MiB hold `assigned` MiB.
pub fn order(vm: VmId, boot: u64, assigned: u64) -> Effect {
    Effect::Order { vm, balloon: mib(assigned.min(boot)), plugged: mib(assigned.saturating_sub(boot)) }
}

/// The effects without what is only told.
pub fn deeds(effects: Vec<Effect>) -> Vec<Effect> {
    effects.into_iter().filter(|effect| !matches!(effect, Effect::Record(_))).collect()
}

/// The sentences of one kind.
pub fn told(effects: &[Effect], kind: NoticeKind) -> Vec<&str> {
    let mut sentences = Vec::new();
    for effect in effects {
        match effect {
            Effect::Record(notice) if notice.kind == kind => sentences.push(notice.message.as_str()),
            _ => {}
        }
    }
    sentences
}
