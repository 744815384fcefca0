//! [`Adviser`]: the rules' look at all VMs, every ten seconds.

use std::collections::BTreeMap;

use dynmem_api::VmView;
use dynmem_store::history::{Point, Subject};

use super::{
    Advice, Usage,
    rules::{Facts, about_host, about_vm},
    steady::Steady,
    usage,
};
use crate::{paging::is_on_system_disk, supervisor::Snapshot};

/// Seconds from one look to the next.
const LOOK_EVERY: u64 = 10;
/// All VMs' histories are read once in so many looks: an hour.
const ROUND: usize = 360;
const WEEK: u64 = 7 * 86_400;

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(crate) struct Adviser {
    seconds: u64,
    /// The next VM whose history is read, by its place.
    next: usize,
    host: Steady,
    vms: BTreeMap<String, Known>,
}

/// What is known of a VM besides its view.
#[derive(Debug, Default)]
struct Known {
    usage: Usage,
    steady: Steady,
    paging_on_system_disk: bool,
}

impl Adviser {
    /// Called each second; every tenth time, and as soon as there are other
    /// VMs, what is advised now. `history` gives the minutes of a subject since
    /// then.
    pub(crate) fn look(
        &mut self,
        snapshot: &Snapshot,
        now_unix_s: u64,
        history: impl Fn(&Subject, u64) -> Vec<Point>,
    ) -> Option<Advice> {
        self.seconds += 1;
        let others = !self.vms.keys().map(String::as_str).eq(snapshot.vms.iter().map(|vm| vm.name.as_str()));
        if !others && !self.seconds.is_multiple_of(LOOK_EVERY) {
            return None;
        }
        if others {
            let mut before = std::mem::take(&mut self.vms);
            let kept = |vm: &VmView| (vm.name.clone(), before.remove(&vm.name).unwrap_or_default());
            self.vms = snapshot.vms.iter().map(kept).collect();
        }
        self.read_some(snapshot, now_unix_s, history);
        let on_system_disk = snapshot.host.smart_paging.folder.as_deref().is_some_and(is_on_system_disk);
        let host = self.host.look(about_host(&snapshot.host, on_system_disk));
        let mut advice = Advice { host, ..Advice::default() };
        for (vm, known) in snapshot.vms.iter().zip(self.vms.values_mut()) {
            let Known { usage, steady, paging_on_system_disk } = known;
            let paging_on_system_disk = *paging_on_system_disk;
            let of_vm = steady.look(about_vm(&Facts { vm, host: &snapshot.host, usage, paging_on_system_disk }));
            if !of_vm.is_empty() {
                advice.vms.insert(vm.name.clone(), of_vm);
            }
        }
        Some(advice)
    }

    /// Reads the histories of the next few VMs, so that each has its turn once
    /// in a round.
    fn read_some(&mut self, snapshot: &Snapshot, now_unix_s: u64, history: impl Fn(&Subject, u64) -> Vec<Point>) {
        let since = now_unix_s.saturating_sub(WEEK);
        let host = history(&Subject::Host, since);
        for _ in 0..=snapshot.vms.len() / ROUND {
            self.next = if self.next < snapshot.vms.len() { self.next } else { 0 };
            let Some(vm) = snapshot.vms.get(self.next) else { return };
            self.next += 1;
            let week = history(&Subject::Vm(vm.name.clone()), since);
            let folder = vm.settings.smart_paging_folder.as_deref();
            if let Some(known) = self.vms.get_mut(&vm.name) {
                known.usage = usage(&week, &host, now_unix_s);
                known.paging_on_system_disk = folder.is_some_and(is_on_system_disk);
            }
        }
    }
}
