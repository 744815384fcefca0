//! What is wrong with guests: when it begins, and when it is over.
//!
//! Whoever finds something out calls [`Engine::begins`] and [`Engine::ends`];
//! each is an event once, however often it is found out.

use super::Engine;
use crate::{
    DriverWord, Instant, NoticeKind, TroubleKind, VmId, VmState,
    ledger::Promise,
    vm::{Machine, SILENT_AFTER_MS, Vm},
};

/// A guest that boots for longer than this without a word has no agent, and no
/// driver, that works.
const BOOT_MS: u64 = 60_000;

impl Engine {
    /// Something is wrong since then; `detail` says what, said of the guest.
    pub(super) fn begins(
        &mut self,
        since: Instant,
        id: VmId,
        kind: TroubleKind,
        detail: String,
        numbers: Vec<(&'static str, u64)>,
    ) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        let message = format!("{} {detail}", vm.name);
        if machine.conduct.begins(since, kind, detail) {
            self.record(Some(id), kind.notice(), message, numbers);
        }
    }

    /// It is over, if it was.
    pub(super) fn ends(&mut self, id: VmId, kind: TroubleKind) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        if machine.conduct.ends(kind) {
            let (name, held) = (&vm.name, machine.devices.assigned());
            let message = match kind {
                TroubleKind::Stuck => format!("{name} {}, now at {held}", kind.over()),
                _ => format!("{name} {}", kind.over()),
            };
            self.record(Some(id), NoticeKind::Recovered, message, vec![("assigned_bytes", held.get())]);
        }
    }

    /// Somebody outside has found it out, or that it is over.
    pub(super) fn told_of(&mut self, now: Instant, id: VmId, kind: TroubleKind, detail: Option<String>) {
        match detail {
            Some(detail) => self.begins(now, id, kind, detail, Vec::new()),
            None => self.ends(id, kind),
        }
    }

    /// What is known about the balloon's driver has changed. One that has never
    /// given statistics may work all the same, as on Windows without the balloon
    /// service: it is missed only where the balloon does not move either.
    pub(super) fn driver_word(&mut self, now: Instant, id: VmId, word: DriverWord) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        machine.conduct.mute_driver = word == DriverWord::Mute;
        let stuck = machine.conduct.has(TroubleKind::Stuck);
        let missed = match word {
            DriverWord::Answers => false,
            DriverWord::Mute => stuck,
            DriverWord::Gone => stuck || vm.settings.dynamic,
        };
        if missed {
            self.no_driver(now, id);
        } else if word == DriverWord::Answers && machine.conduct.has(TroubleKind::NoDriver) {
            // What it did not do was for want of a driver: it is asked anew.
            machine.stall.forgive();
            self.due = true;
            self.ends(id, TroubleKind::NoDriver);
            self.ends(id, TroubleKind::Stuck);
        }
    }

    pub(super) fn no_driver(&mut self, now: Instant, id: VmId) {
        let Some(machine) = self.machine(id) else { return };
        let detail = if machine.conduct.mute_driver {
            "has no balloon driver that answers: is it loaded?"
        } else {
            "has no balloon driver any more: it answered before, and does not now"
        };
        self.begins(now, id, TroubleKind::NoDriver, detail.to_owned(), Vec::new());
    }

    /// What its guest has just said can be true or not.
    pub(super) fn look_for_doubt(&mut self, now: Instant, id: VmId) {
        let Some(machine) = self.machine(id) else { return };
        let Some(heard) = &machine.heard else { return };
        if heard.doubt.is_there() == heard.doubted {
            return;
        }
        let detail = heard.doubt.detail(&heard.report, &machine.devices);
        if let Some(heard) = self.vm_mut(id).and_then(|vm| vm.machine.as_mut()?.heard.as_mut()) {
            heard.doubted = detail.is_some();
        }
        self.told_of(now, id, TroubleKind::Implausible, detail);
    }

    /// virtio-mem gives again, or nothing depends on it any more.
    pub(super) fn look_for_unpinned(&mut self, id: VmId, unplugged: bool) {
        let Some(machine) = self.machine(id) else { return };
        let Promise { balloon, plugged } = machine.promise;
        let devices = &machine.devices;
        let gives = unplugged && devices.plugged == plugged;
        let needless = devices.plugged.is_zero() || (balloon >= devices.boot && devices.balloon_actual >= devices.boot);
        if gives || needless {
            self.ends(id, TroubleKind::Pinned);
        }
    }

    pub(super) fn look_for_silence(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm(id) else { return };
        let Some(machine) = &vm.machine else { return };
        match (vm.state, &machine.heard) {
            (VmState::Running, Some(heard)) => {
                let since = heard.at;
                if machine.silent_since.is_none() && now.millis_since(since) >= SILENT_AFTER_MS {
                    self.falls_silent(now, id, since);
                }
            }
            (VmState::Booting, None) if never_spoke(now, vm, machine) => {
                let detail =
                    format!("has not reported since its start; it keeps what it holds, {}", machine.assigned());
                self.begins(machine.conduct.since, id, TroubleKind::Silent, detail, Vec::new());
            }
            _ => {}
        }
    }

    fn falls_silent(&mut self, now: Instant, id: VmId, since: Instant) {
        let Some(machine) = self.vm_mut(id).and_then(|vm| vm.machine.as_mut()) else { return };
        machine.silent_since = Some(since);
        let held = machine.devices.assigned();
        self.leave_it(now, id);
        let detail = format!("has stopped reporting; it keeps what it holds, {held}, until it reports again");
        self.begins(since, id, TroubleKind::Silent, detail, Vec::new());
    }

    /// The guest starts anew, and with it how it behaves.
    pub(super) fn starts_anew(&mut self, now: Instant, id: VmId) {
        let Some(vm) = self.vm_mut(id) else { return };
        let Some(machine) = vm.machine.as_mut() else { return };
        let over = machine.conduct.starts_anew(now);
        let name = vm.name.clone();
        for kind in over {
            let message = format!("{name} starts anew, and what was wrong with it ({kind}) is over");
            self.record(Some(id), NoticeKind::Recovered, message, Vec::new());
        }
    }
}

/// A static VM may have nobody in it who could report.
fn never_spoke(now: Instant, vm: &Vm, machine: &Machine) -> bool {
    vm.settings.dynamic && machine.known && !machine.pages && now.millis_since(machine.conduct.since) >= BOOT_MS
}
