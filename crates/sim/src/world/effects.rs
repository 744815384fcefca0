//! What a policy wants is done, or fails as it may.

use dynmem_core::{Effect, Event, Exit, GuestReport, Input, Paged, Refusal, VmId};
use dynmem_units::Bytes;

use super::{LAUNCH_MS, Lie, SimFile, World};

impl World {
    /// Does what `effect` says; an answer that comes at once is returned.
    pub(super) fn carry_out(&mut self, effect: &Effect) -> Option<Input> {
        let answer = |id: VmId, event| Some(Input::Vm(id, event));
        let now_ms = self.now_ms;
        match *effect {
            Effect::Launch(id) if self.vm_mut(id).trouble.launch_fails => {
                return answer(id, Event::LaunchFailed("QEMU said no".to_owned()));
            }
            Effect::Launch(id) => self.launch(id),
            Effect::LaunchPaged(id, paged) => {
                let trouble = self.vm_mut(id).trouble;
                if trouble.launch_fails || trouble.file_fails {
                    return answer(id, Event::LaunchFailed("there is no place for its file".to_owned()));
                }
                self.launch(id);
                let file = SimFile { paged, limit: Some(paged.memory) };
                self.vm_mut(id).machine.as_mut()?.file = Some(file);
            }
            Effect::BeginPaging(id, paged) => self.begin_paging(id, paged),
            Effect::EndPaging(id) => self.end_paging(id),
            Effect::Order { vm, balloon, plugged } => self.order(vm, balloon, plugged),
            Effect::PowerDown(id) => {
                if let Some(machine) = self.vm_mut(id).machine.as_mut() {
                    machine.press_power_button(now_ms);
                }
            }
            Effect::Kill(id) => {
                self.vm_mut(id).end();
                self.forget_news_of(id);
                return answer(id, Event::Exited(Exit::Clean));
            }
            Effect::HoldForReset(id) => {
                let machine = self.vm_mut(id).machine.as_mut()?;
                machine.held = true;
                return answer(id, Event::ResetHeld);
            }
            Effect::ContinueReset(id) => {
                self.forget_news_of(id);
                let vm = self.vm_mut(id);
                let devices = vm.machine.as_mut()?.reset(now_ms, &vm.plan);
                return answer(id, Event::Devices(devices));
            }
            Effect::Pause(id) | Effect::Resume(id) => {
                let paused = matches!(effect, Effect::Pause(_));
                self.vm_mut(id).machine.as_mut()?.paused = paused;
                return answer(id, if paused { Event::Paused } else { Event::Resumed });
            }
            // A start that was given up is over.
            Effect::Refused(id, ref refusal) => {
                let goes_on = matches!(**refusal, Refusal::WrongState { .. } | Refusal::PagingFailed { .. });
                self.vm_mut(id).ran_before &= goes_on;
            }
            // Nobody saves a VM here.
            Effect::Record(_) | Effect::Save(_) | Effect::Restore(_) => {}
        }
        None
    }

    fn launch(&mut self, id: VmId) {
        let now_ms = self.now_ms;
        let vm = &mut self.vms[id.0 as usize];
        let shape = self.policy.machine(&vm.plan.settings);
        let startup = vm.plan.settings.startup;
        let devices = vm.switch_on(now_ms, shape, startup, true);
        self.send_at(now_ms + LAUNCH_MS, id, Event::Launched(devices));
    }

    fn order(&mut self, id: VmId, balloon: Bytes, plugged: Bytes) {
        let now_ms = self.now_ms;
        let vm = self.vm_mut(id);
        vm.count_order(now_ms, balloon, plugged);
        let deaf = vm.trouble.deaf(now_ms);
        let Some(machine) = vm.machine.as_mut() else { return };
        // The limit is the host's, and does not wait for QMP.
        machine.limit_to(balloon.saturating_add(plugged));
        if deaf {
            machine.late_order = Some((balloon, plugged));
        } else {
            machine.late_order = None;
            machine.guest.order(balloon, plugged);
        }
    }

    /// What was on its way from a machine that is no more.
    pub(super) fn forget_news_of(&mut self, id: VmId) {
        self.inbox
            .retain(|_, (of, event)| *of != id || matches!(event, Event::Start { .. } | Event::StartAgain { .. }));
    }
}

/// Makes a report say what is not so.
pub(super) fn tell_a_lie(report: &mut GuestReport, lie: Lie, now_ms: u64) {
    match lie {
        Lie::High => {
            (report.available, report.stall) = (Bytes::ZERO, 10_000);
            report.committed = Some(Bytes::from_mib(1 << 20));
        }
        Lie::Low => {
            (report.available, report.hot_file, report.stall) = (report.visible, Bytes::ZERO, 0);
            report.committed = Some(Bytes::ZERO);
        }
        Lie::Nonsense => {
            let noise = Bytes::new(now_ms.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            (report.visible, report.available, report.swap_used) = (noise, Bytes::MAX, noise);
            (report.reserved, report.refault_per_second) = (Some(Bytes::MAX), noise);
            report.stall = u32::MAX;
        }
    }
}

/// Folds an effect into a digest (FNV-1a over what it orders).
pub(super) fn digest(digest: u64, now_ms: u64, effect: &Effect) -> u64 {
    let words = match effect {
        Effect::Launch(id) => [1, u64::from(id.0), 0, 0],
        Effect::Order { vm, balloon, plugged } => [2, u64::from(vm.0), balloon.get(), plugged.get()],
        Effect::PowerDown(id) => [3, u64::from(id.0), 0, 0],
        Effect::Kill(id) => [4, u64::from(id.0), 0, 0],
        Effect::HoldForReset(id) => [5, u64::from(id.0), 0, 0],
        Effect::ContinueReset(id) => [6, u64::from(id.0), 0, 0],
        Effect::Pause(id) => [7, u64::from(id.0), 0, 0],
        Effect::Resume(id) => [8, u64::from(id.0), 0, 0],
        Effect::Refused(id, _) => [9, u64::from(id.0), 0, 0],
        Effect::LaunchPaged(vm, Paged { memory, file }) => [11, u64::from(vm.0), memory.get(), file.get()],
        Effect::BeginPaging(vm, Paged { memory, file }) => [12, u64::from(vm.0), memory.get(), file.get()],
        Effect::EndPaging(id) => [13, u64::from(id.0), 0, 0],
        Effect::Save(id) => [14, u64::from(id.0), 0, 0],
        Effect::Restore(id) => [15, u64::from(id.0), 0, 0],
        Effect::Record(notice) => [10, notice.vm.map_or(u64::MAX, |vm| u64::from(vm.0)), notice.kind as u64, 0],
    };
    words.iter().fold(digest ^ now_ms, |digest, word| (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3))
}
