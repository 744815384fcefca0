//! The storm: faults and requests at random instants, several at once, each
//! fault healed again after a time of its own.

use dynmem_core::{Event, MemorySettings, VmId};
use dynmem_units::{Bytes, Percent, Weight};

use super::{Life, host};
use crate::world::{Lie, SimVm, Trouble};

/// Something that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    BalloonStuck,
    PlugRefused,
    UnplugRefused,
    Slow,
    Unmovable,
    AgentSilent,
    AgentLate,
    AgentLies,
    AgentRestarts,
    QmpDeaf,
    LaunchFails,
    ButtonIgnored,
    FileFails,
    MachineDies,
    GuestReboots,
    Start,
    Stop,
    Restart,
    Pause,
    Resume,
    Configure,
    DaemonDies,
    HostRestarts,
    Stolen,
    ClockJumps,
}

const KINDS: [Kind; 25] = [
    Kind::BalloonStuck,
    Kind::PlugRefused,
    Kind::UnplugRefused,
    Kind::Slow,
    Kind::Unmovable,
    Kind::AgentSilent,
    Kind::AgentLate,
    Kind::AgentLies,
    Kind::AgentRestarts,
    Kind::QmpDeaf,
    Kind::LaunchFails,
    Kind::ButtonIgnored,
    Kind::FileFails,
    Kind::MachineDies,
    Kind::GuestReboots,
    Kind::Start,
    Kind::Stop,
    Kind::Restart,
    Kind::Pause,
    Kind::Resume,
    Kind::Configure,
    Kind::DaemonDies,
    Kind::HostRestarts,
    Kind::Stolen,
    Kind::ClockJumps,
];

/// What a life goes through before it calms down.
#[derive(Debug)]
pub(super) struct Storm {
    /// What happens in this life; starts and resumes always do.
    kinds: Vec<Kind>,
    /// The mean time from one thing to the next.
    pause_ms: u64,
    steps: u32,
    step_max_ms: u64,
    next_at_ms: u64,
    /// Faults that end: when, whose, and which.
    healing: Vec<(u64, VmId, Kind)>,
}

impl Storm {
    pub(super) fn new(rng: &mut fastrand::Rng) -> Self {
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| rng.bool()).collect();
        kinds.extend([Kind::Start, Kind::Start, Kind::Resume]);
        Self {
            kinds,
            pause_ms: [1_000, 5_000, 20_000][rng.usize(0..3)],
            steps: rng.u32(1_000..5_000),
            step_max_ms: [100, 300, 1_000][rng.usize(0..3)],
            next_at_ms: 0,
            healing: Vec::new(),
        }
    }
}

impl Life {
    pub(super) fn storm(&mut self) {
        for _ in 0..self.storm.steps {
            let millis = self.rng.u64(50..=self.storm.step_max_ms);
            if !self.step(millis) {
                return;
            }
            let now_ms = self.world.now_ms();
            let due = |healing: &mut Vec<(u64, VmId, Kind)>| {
                let index = healing.iter().position(|(at, ..)| *at <= now_ms)?;
                Some(healing.swap_remove(index))
            };
            while let Some((_, id, kind)) = due(&mut self.storm.healing) {
                self.heal(id, kind);
            }
            if now_ms >= self.storm.next_at_ms {
                self.storm.next_at_ms = now_ms + self.rng.u64(0..2 * self.storm.pause_ms);
                let kind = self.storm.kinds[self.rng.usize(0..self.storm.kinds.len())];
                self.strike(kind);
            }
        }
    }

    fn any_vm(&mut self) -> VmId {
        let index = self.rng.usize(0..self.world.vms().len());
        self.world.vms()[index].id
    }

    fn strike(&mut self, kind: Kind) {
        let id = self.any_vm();
        let lasts_ms = [1_000, 10_000, 120_000][self.rng.usize(0..3)];
        let lasts_ms = self.rng.u64(100..lasts_ms);
        let until_ms = self.world.now_ms() + lasts_ms;
        match kind {
            Kind::BalloonStuck
            | Kind::PlugRefused
            | Kind::UnplugRefused
            | Kind::Slow
            | Kind::Unmovable
            | Kind::AgentSilent
            | Kind::AgentLate
            | Kind::AgentLies
            | Kind::QmpDeaf
            | Kind::LaunchFails
            | Kind::ButtonIgnored
            | Kind::FileFails => {
                self.break_vm(id, kind, until_ms);
                self.storm.healing.push((until_ms, id, kind));
            }
            Kind::Stolen => {
                let most = self.world.plan().host.memory;
                self.world.steal(most.scale(self.rng.u64(0..60), 100));
                self.storm.healing.push((until_ms, id, kind));
            }
            Kind::AgentRestarts => self.world.restart_agent(id),
            Kind::MachineDies => self.world.crash_guest(id),
            Kind::GuestReboots => self.world.reboot_guest(id),
            Kind::DaemonDies => self.world.crash_policy(lasts_ms),
            Kind::HostRestarts => self.world.restart_host(lasts_ms),
            Kind::ClockJumps => self.world.jump_clock(lasts_ms * self.rng.u64(1..30)),
            Kind::Configure => self.configure(id),
            Kind::Start | Kind::Stop | Kind::Restart | Kind::Pause | Kind::Resume => self.request(id, kind, lasts_ms),
        }
    }

    fn break_vm(&mut self, id: VmId, kind: Kind, until_ms: u64) {
        let percent = self.rng.u8(1..=100);
        let lie = [Lie::High, Lie::Low, Lie::Nonsense][self.rng.usize(0..3)];
        let late_ms = self.rng.u64(100..20_000);
        let vm = self.world.vm_mut(id);
        match kind {
            Kind::AgentSilent => vm.trouble.silent_until_ms = until_ms,
            Kind::AgentLate => vm.trouble.late_ms = late_ms,
            Kind::AgentLies => vm.trouble.lie = Some(lie),
            Kind::QmpDeaf => vm.trouble.deaf_until_ms = until_ms,
            Kind::LaunchFails => vm.trouble.launch_fails = true,
            Kind::ButtonIgnored => vm.trouble.ignores_button = true,
            Kind::FileFails => vm.trouble.file_fails = true,
            _ => set_defect(vm, kind, true, percent),
        }
    }

    fn heal(&mut self, id: VmId, kind: Kind) {
        let vm = self.world.vm_mut(id);
        match kind {
            Kind::AgentLate => vm.trouble.late_ms = 0,
            Kind::AgentLies => vm.trouble.lie = None,
            Kind::LaunchFails => vm.trouble.launch_fails = false,
            Kind::ButtonIgnored => vm.trouble.ignores_button = false,
            Kind::FileFails => vm.trouble.file_fails = false,
            Kind::Stolen => self.world.steal(Bytes::ZERO),
            _ => set_defect(vm, kind, false, 0),
        }
    }

    /// Ends every fault at once.
    pub(super) fn heal_all(&mut self) {
        self.storm.healing.clear();
        self.world.steal(Bytes::ZERO);
        for index in 0..self.world.vms().len() {
            let id = self.world.vms()[index].id;
            let vm = self.world.vm_mut(id);
            vm.trouble = Trouble::default();
            if let Some(machine) = &mut vm.machine {
                machine.guest.defects = crate::guest::Defects::default();
            }
        }
    }

    fn request(&mut self, id: VmId, kind: Kind, lasts_ms: u64) {
        let grace_ms = self.rng.bool().then_some(lasts_ms);
        let overhead = self.world.vms()[id.0 as usize].plan.overhead;
        let event = match kind {
            Kind::Start => Event::Start { overhead },
            Kind::Stop => Event::Stop { grace_ms },
            Kind::Restart => Event::Restart { grace_ms },
            Kind::Pause => Event::Pause,
            _ => Event::Resume,
        };
        self.world.request(id, event);
    }

    /// New settings, allowed or not: what is refused must change nothing.
    fn configure(&mut self, id: VmId) {
        let before = self.world.vms()[id.0 as usize].plan.settings.clone();
        let settings = match self.rng.u32(0..11) {
            0 => host::settings(&mut self.rng),
            1 => MemorySettings { maximum: before.minimum.saturating_sub(Bytes::BLOCK), ..before },
            2 => MemorySettings { minimum: before.minimum.scale(self.rng.u64(1..300), 100), ..before },
            3 => {
                MemorySettings { minimum: host::between(&mut self.rng, Bytes::from_mib(32), before.minimum), ..before }
            }
            4 | 5 => {
                let most = before.maximum.scale(2, 1);
                MemorySettings { maximum: host::between(&mut self.rng, before.maximum, most), ..before }
            }
            6 => MemorySettings { minimum: host::between(&mut self.rng, before.minimum, before.startup), ..before },
            7 => MemorySettings { maximum: host::between(&mut self.rng, before.startup, before.maximum), ..before },
            8 => {
                let most = before.startup.scale(2, 1);
                MemorySettings { startup: host::between(&mut self.rng, Bytes::from_mib(32), most), ..before }
            }
            9 => MemorySettings { buffer: Percent::new(self.rng.u32(0..300)), ..before },
            _ => {
                let weight = Weight::new(self.rng.u64(1..=10_000)).unwrap_or_default();
                MemorySettings { weight, ..before }
            }
        };
        self.world.configure(id, settings);
    }
}

fn set_defect(vm: &mut SimVm, kind: Kind, on: bool, percent: u8) {
    let Some(machine) = &mut vm.machine else { return };
    let defects = &mut machine.guest.defects;
    match kind {
        Kind::BalloonStuck => defects.balloon_stuck = on,
        Kind::PlugRefused => defects.plug_refused = on,
        Kind::UnplugRefused => defects.unplug_refused = on,
        Kind::Slow => defects.slow = on,
        Kind::Unmovable => defects.unmovable_percent = percent,
        _ => {}
    }
}
