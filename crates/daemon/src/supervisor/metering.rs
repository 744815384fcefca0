//! Resource metering: which VMs are metered, and what is kept of it.
//!
//! ```text
//!  requests ──▶ begin, end ──▶ ┌────────┐ ──row, at most every 30 s──▶ log thread (vm_state)
//!  each snapshot ──holds─────▶ │ Meters │ ──MeterView──▶ the VM's view
//!                              └────────┘
//! ```
//! A row's key is `meter/` and the VM's name, which can hold no slash: so it is
//! never taken for the row of a VM.

use std::collections::BTreeMap;

use dynmem_api::{MeterView, Problem, VmView};
use dynmem_core::{Instant, VmId};
use serde_json::Value;

use super::{
    Supervisor,
    changes::{answer, unknown},
    command::{Reply, shutting_down},
};
use crate::{clock::unix_ms, meter::Meter};

const PREFIX: &str = "meter/";
/// What a daemon that dies may forget.
const KEEP_EVERY_MS: u64 = 30_000;

/// What is asked about the metering of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MeterAction {
    /// Begin, unless it is metered already.
    Enable,
    /// Forget what was metered, and begin anew.
    Reset,
    /// End, and forget what was metered.
    Disable,
}

/// The VMs that are metered.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    by_vm: BTreeMap<VmId, Meter>,
    /// Periods of earlier daemons whose VM was not taken in yet.
    found: BTreeMap<String, Meter>,
    kept_at: Instant,
}

impl Meters {
    /// Takes what earlier daemons kept out of `rows`.
    pub(crate) fn take_from(rows: &mut BTreeMap<String, Value>) -> Self {
        let ours = rows.extract_if(.., |key, _| key.starts_with(PREFIX));
        let found = ours.filter_map(|(key, row)| Some((key.strip_prefix(PREFIX)?.to_owned(), Meter::from_row(row)?)));
        Self { found: found.collect(), ..Self::default() }
    }

    /// A VM that is defined: its period goes on, if there is one.
    pub(super) fn take_in(&mut self, vm: VmId, name: &str) {
        if let Some(meter) = self.found.remove(name) {
            self.by_vm.insert(vm, meter);
        }
    }

    /// What is known of a VM; nothing if it is not metered.
    pub(super) fn view(&self, vm: VmId, now_unix_ms: u64) -> Option<MeterView> {
        self.by_vm.get(&vm).map(|meter| meter.view(now_unix_ms))
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

impl Supervisor {
    /// Begins, ends or resets the metering of a VM.
    pub(super) fn meter(&mut self, name: &str, action: MeterAction, reply: Reply<VmView>) {
        let Some(id) = self.roster.id_of(name) else { return answer(reply, Err(unknown(name))) };
        let is_metered = self.meters.by_vm.contains_key(&id);
        let row = match action {
            MeterAction::Enable if is_metered => None,
            MeterAction::Reset if !is_metered => {
                let advice = format!("{name} is not metered: enable that first (dynmem meter enable {name})");
                return answer(reply, Err(Problem::new(409, advice)));
            }
            MeterAction::Enable | MeterAction::Reset => {
                let meter = Meter::begin(unix_ms());
                let row = meter.row();
                self.meters.by_vm.insert(id, meter);
                Some(row)
            }
            MeterAction::Disable => self.meters.by_vm.remove(&id).map(|_| None),
        };
        if let Some(row) = row {
            self.log.keep(key(name), row);
        }
        self.publish();
        answer(reply, self.view_of(id).ok_or_else(shutting_down));
    }

    /// Notes what the VMs hold that are metered.
    pub(super) fn observe_meters(&mut self, now: Instant) {
        for (vm, meter) in &mut self.meters.by_vm {
            let holds = self.engine.vm_snapshot(now, *vm).map(|vm| vm.assigned);
            meter.observe(now, holds.unwrap_or_default());
        }
    }

    /// The VM is not defined any more; or it is new, and whatever is known is of
    /// one whose definition went by hand.
    pub(super) fn forget_meter(&mut self, vm: VmId, name: &str) {
        let was_found = self.meters.found.remove(name).is_some();
        if self.meters.by_vm.remove(&vm).is_some() || was_found {
            self.log.keep(key(name), None);
        }
    }

    /// Keeps what was metered, if it is time for that. Called once a tick.
    pub(super) fn keep_meters(&mut self) {
        let now = self.clock.now();
        if now.millis_since(self.meters.kept_at) >= KEEP_EVERY_MS {
            self.meters.kept_at = now;
            self.keep_meters_now();
        }
    }

    pub(super) fn keep_meters_now(&mut self) {
        for (vm, meter) in &self.meters.by_vm {
            let name = self.roster.get(*vm).map(|vm| vm.definition.name.as_str());
            if let (Some(name), Some(row)) = (name, meter.row()) {
                self.log.keep_later(key(name), Some(row));
            }
        }
        self.log.flush();
    }
}

impl Drop for Supervisor {
    /// The next daemon goes on where this one ends.
    fn drop(&mut self) {
        self.keep_meters_now();
    }
}
