//! What everybody may see, published while anything changes: [`Snapshot`]s.

use std::{sync::Arc, time::Duration};

use dynmem_api::{HostView, VmView};
use dynmem_core::{VmId, VmSnapshot};
use tokio::time::Instant;

use super::{Supervisor, roster::Vm, snapshot::Snapshot};
use crate::{
    clock::unix_ms,
    internals::Internals,
    views::{MachineParts, assigned_message, host_view, vm_view},
};

/// Two snapshots are at least this far apart, unless somebody waits for one.
pub(super) const GAP: Duration = Duration::from_millis(50);
/// With many VMs a snapshot takes a while: then they are farther apart, so that
/// publishing takes no more than a twentieth of the time.
const SHARE: u32 = 20;
/// But not farther than this: whoever looks on sees memory move.
const GAP_MAX: Duration = Duration::from_millis(500);

impl Supervisor {
    fn view(&self, id: VmId, vm: &Vm, snapshot: &VmSnapshot, now_unix_ms: u64) -> VmView {
        // A static VM needs none: it is never smaller than at its start.
        let place = vm.definition.memory.dynamic.then(|| self.place_of(&vm.definition));
        let paging_path = place.map(|place| place.file().to_owned());
        let of_machine = vm.run.as_ref().map_or_else(MachineParts::default, |run| MachineParts {
            info: run.info.as_ref(),
            cpu: run.cpu,
            saving: run.saving,
            limits: Some(&run.limits),
            trouble: run.trouble.as_deref(),
            agent: run.handle.agent(),
            paging_path: None,
        });
        let parts = MachineParts { paging_path, ..of_machine };
        let autostart = self.autostart_view(id, &vm.definition);
        let advice = self.advice.borrow().of(&vm.definition.name);
        let meter = self.meters.view(id, now_unix_ms);
        VmView { autostart, advice, meter, ..vm_view(snapshot, vm.definition.vcpus, &parts, now_unix_ms) }
    }

    /// Publishes what there is now.
    pub(crate) fn publish(&mut self) {
        let began = Instant::now();
        let (now, now_unix_ms) = (self.clock.now(), unix_ms());
        self.observe_meters(now);
        let (vms, made): (Vec<VmView>, Vec<u64>) = (self.roster.by_name())
            .filter_map(|(id, vm)| {
                let snapshot = self.engine.vm_snapshot(now, id)?;
                if let Some(run) = &vm.run {
                    run.handle.tell_agent(assigned_message(&snapshot));
                }
                Some((self.view(id, vm, &snapshot, now_unix_ms), vm.made))
            })
            .unzip();
        let engine = self.engine.host_snapshot();
        let advice = self.advice.borrow().host.clone();
        let host = HostView { advice, ..host_view(&engine, &vms, &self.host) };
        let internals = self.internals(engine.decisions);
        let snapshot = Snapshot::after(&self.snapshots.borrow(), host, vms, made, internals);
        self.snapshots.send_replace(Arc::new(snapshot));
        self.dirty = false;
        self.published_at = Instant::now();
        self.publish_gap = (began.elapsed() * SHARE).clamp(GAP, GAP_MAX);
    }

    fn internals(&self, engine_decisions: u64) -> Internals {
        Internals {
            engine_inputs: self.engine_inputs,
            engine_decisions,
            engine_time: self.engine_time,
            facts_waiting: self.facts.len(),
            events_logged: self.log.logged(),
            events_lost: self.log.lost(),
        }
    }

    /// One VM as it is now.
    pub(super) fn view_of(&self, id: VmId) -> Option<VmView> {
        let snapshot = self.engine.vm_snapshot(self.clock.now(), id)?;
        Some(self.view(id, self.roster.get(id)?, &snapshot, unix_ms()))
    }

    /// Answers the requests that this VM's state settles. Whoever got an
    /// answer sees it in the next snapshot, too.
    pub(super) fn settle(&mut self, id: VmId) {
        if self.roster.get(id).is_none_or(|vm| vm.waiters.is_empty()) {
            return;
        }
        let Some(state) = self.engine.vm_snapshot(self.clock.now(), id).map(|vm| vm.state) else { return };
        let Some(view) = self.view_of(id) else { return };
        self.publish();
        if let Some(vm) = self.roster.get_mut(id) {
            vm.waiters.settle(state, &view);
        }
    }
}
