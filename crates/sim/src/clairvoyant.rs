//! The clairvoyant bound: somebody who knows what every guest will need in the
//! next step and moves memory in no time. No policy can serve a plan better;
//! how near one comes is its score.

use dynmem_core::{Claim, DeviceFacts, Effect, Event, HostConfig, Input, Instant, MemorySettings, VmId, share};
use dynmem_units::Bytes;

use crate::policy::{MachineShape, Policy};

/// A machine as it knows it.
#[derive(Clone, Debug, Default)]
struct Seen {
    settings: MemorySettings,
    devices: Option<DeviceFacts>,
    needed: Bytes,
    ordered: Bytes,
}

/// The bound.
#[derive(Debug)]
pub struct Clairvoyant {
    config: HostConfig,
    vms: Vec<Seen>,
}

impl Clairvoyant {
    /// The bound for a host.
    pub fn new(config: HostConfig) -> Self {
        Self { config, vms: Vec::new() }
    }

    fn seen(&mut self, id: VmId) -> &mut Seen {
        let index = id.0 as usize;
        if self.vms.len() <= index {
            self.vms.resize(index + 1, Seen::default());
        }
        &mut self.vms[index]
    }

    /// Shares what there is by weight, between minimum and need.
    fn decide(&mut self) -> Vec<Effect> {
        let running = || self.vms.iter().filter_map(|vm| Some((vm, vm.devices?)));
        let overhead: Bytes = running().map(|(_, devices)| devices.overhead).sum();
        let blocks = |bytes: Bytes| bytes.get() / Bytes::BLOCK.get();
        let claims: Vec<Claim> = running()
            .map(|(vm, _)| {
                let needed = vm.needed.align_up(Bytes::BLOCK).clamp(vm.settings.minimum, vm.settings.maximum);
                Claim::new(u64::from(vm.settings.weight.get()), blocks(vm.settings.minimum), blocks(needed))
            })
            .collect();
        let room = blocks(self.config.lendable().saturating_sub(overhead));
        let mut shares = share(room, &claims).into_iter();
        let mut effects = Vec::new();
        for (id, vm) in (0..).map(VmId).zip(&mut self.vms) {
            let Some(devices) = vm.devices else { continue };
            let wanted = Bytes::BLOCK.scale(shares.next().unwrap_or_default(), 1);
            if wanted != vm.ordered {
                vm.ordered = wanted;
                let balloon = wanted.min(devices.boot);
                effects.push(Effect::Order { vm: id, balloon, plugged: wanted.saturating_sub(balloon) });
            }
        }
        effects
    }
}

impl Policy for Clairvoyant {
    fn name(&self) -> &'static str {
        "clairvoyant"
    }

    fn machine(&self, settings: &MemorySettings) -> MachineShape {
        MachineShape { boot: settings.maximum, plug_max: Bytes::ZERO }
    }

    fn handle(&mut self, _now: Instant, input: Input) -> Vec<Effect> {
        let Input::Vm(id, event) = input else {
            return if matches!(input, Input::Tick) { self.decide() } else { Vec::new() };
        };
        match event {
            Event::Defined { settings, .. } | Event::Configured(settings) => self.seen(id).settings = settings,
            Event::Start { .. } | Event::StartAgain { .. } => return vec![Effect::Launch(id)],
            Event::Launched(devices) | Event::Adopted { devices, .. } => {
                let seen = self.seen(id);
                (seen.devices, seen.ordered) = (Some(devices), devices.assigned());
            }
            Event::PoweredOff | Event::Stop { .. } => return vec![Effect::Kill(id)],
            Event::ResetHeld => return vec![Effect::ContinueReset(id)],
            Event::Restart { .. } => return vec![Effect::HoldForReset(id)],
            Event::Pause => return vec![Effect::Pause(id)],
            Event::Resume => return vec![Effect::Resume(id)],
            Event::Exited(_) | Event::Forgotten | Event::LaunchFailed(_) => {
                (self.seen(id).devices, self.seen(id).ordered) = (None, Bytes::ZERO);
            }
            // It is never short of memory for a restart, and nobody asks it to save.
            Event::PagingBegan
            | Event::PagingUsed(_)
            | Event::PagingFailed(_)
            | Event::PagingEnded
            | Event::Save
            | Event::SaveFailed(_)
            | Event::FoundSaved(_)
            | Event::Discarded
            | Event::Devices(_)
            | Event::Report(_)
            | Event::Driver(_)
            | Event::Trouble(..)
            | Event::Paused
            | Event::Resumed => {}
        }
        Vec::new()
    }

    fn deadline(&self) -> Instant {
        Instant(u64::MAX)
    }

    fn foresees(&self) -> bool {
        true
    }

    fn need(&mut self, vm: VmId, needed: Bytes) {
        self.seen(vm).needed = needed;
    }

    fn restart(&mut self) {
        self.vms.clear();
    }
}
