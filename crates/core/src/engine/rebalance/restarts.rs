//! Machines held before a reset, in a decision: who goes on, who waits, and who
//! goes on with a part of its memory in a file.

use dynmem_units::Bytes;

use super::{Engine, PendingStart, Purse, blocks, bytes};
use crate::{
    Instant, VmId, VmState,
    ledger::Promise,
    vm::{Machine, Vm},
};

/// A restart that could page waits so long for memory that was asked back.
const PAGING_PATIENCE_MS: u64 = 5_000;

/// One held machine, and what it takes of what is free.
pub(super) struct Restart {
    id: VmId,
    /// Blocks, on top of what it is charged.
    pub(super) takes: u64,
    /// That is not all that it needs: a file has the rest.
    pages: bool,
}

/// A restart that has to wait, and the blocks that are kept for it meanwhile.
pub(super) struct Waiting {
    id: VmId,
    kept: u64,
}

/// The held `resets` (blocks that each needs) that fit into what demand has
/// `left`, smallest first: one that does not must not keep memory from those
/// that do. If `may_page` lets it, the next one gets the rest, and pages.
pub(super) fn within_reach(
    mut resets: Vec<(VmId, u64)>,
    mut left: u64,
    may_page: impl Fn(VmId) -> bool,
) -> Vec<Restart> {
    resets.sort_by_key(|(id, needs)| (*needs, *id));
    let mut restarts = Vec::with_capacity(resets.len());
    let mut paging = false;
    for (id, needs) in resets {
        let fits = needs <= left;
        if fits || (!paging && may_page(id)) {
            paging |= !fits;
            let takes = needs.min(left);
            left -= takes;
            restarts.push(Restart { id, takes, pages: !fits });
        }
    }
    restarts
}

impl Vm {
    /// What a machine that pages lacks of its demand, as far as it could hold it
    /// now. Blocks, the last one begun.
    fn paging_lacks(&self, machine: &Machine) -> u64 {
        let reach = self.demand(machine).min(machine.devices.balloon_actual);
        blocks(reach.saturating_sub(machine.promise.balloon).align_up(Bytes::BLOCK))
    }
}

impl Engine {
    /// What machines that page lack: their demand comes before others' buffers.
    pub(super) fn paging_needs(&self, paging: &[VmId]) -> u64 {
        let lacks = |id: &VmId| self.vm(*id).and_then(|vm| Some(vm.paging_lacks(vm.machine.as_ref()?)));
        paging.iter().filter_map(lacks).sum()
    }

    /// Lets those go on for whom there is memory now; says who has to wait
    /// first.
    pub(super) fn serve_restarts(
        &mut self,
        now: Instant,
        restarts: Vec<Restart>,
        purse: &mut Purse,
    ) -> Option<Waiting> {
        let mut waiting = None;
        for Restart { id, takes, pages } in restarts {
            if takes > purse.free {
                waiting.get_or_insert(Waiting { id, kept: purse.free });
                purse.short += takes - purse.free;
                purse.free = 0;
                continue;
            }
            purse.free -= takes;
            if pages {
                self.begin_paging(now, id, bytes(takes));
            } else {
                self.continue_reset(now, id);
            }
        }
        waiting
    }

    /// A restart waits, and nobody gives anything any more: the rest is paged.
    pub(super) fn page_instead(&mut self, now: Instant, Waiting { id, kept }: Waiting) {
        if self.may_page(now, id) {
            self.begin_paging(now, id, bytes(kept));
        }
    }

    /// Machines that page get what is free, up to all that they hold. What
    /// they need of it is short, so that others' surplus comes back for it.
    pub(super) fn relieve_paging(&mut self, now: Instant, paging: &[VmId], purse: &mut Purse) {
        for &id in paging {
            let Some(vm) = self.vm(id) else { continue };
            let Some(machine) = vm.machine.as_ref() else { continue };
            let overdue = machine.paging.as_ref().is_some_and(|paging| paging.overdue);
            if !machine.known || machine.reset_held || (vm.state != VmState::Running && !overdue) {
                continue; // its boot is not to be disturbed by the balloon
            }
            let (held, has) = (machine.devices.balloon_actual, machine.promise.balloon);
            // The last part of a block is as good a reason for a file as any.
            let more = blocks(held.saturating_sub(has).align_up(Bytes::BLOCK)).min(purse.free);
            purse.free -= more;
            purse.short += vm.paging_lacks(machine).saturating_sub(more);
            if more > 0 {
                self.order(now, id, Promise { balloon: has.saturating_add(bytes(more)), plugged: Bytes::ZERO });
            }
        }
    }

    /// What a start that may page begins with, if it is time for that: all that
    /// is `within` reach, or what is free if the rest does not come. None if it
    /// should wait, or is none of those.
    pub(super) fn paged_start(&self, now: Instant, start: PendingStart, purse: &Purse, within: u64) -> Option<Bytes> {
        let vm = self.vm(start.vm)?;
        if !start.again || !self.may_page(now, start.vm) {
            return None;
        }
        let waited = now.millis_since(start.since) >= PAGING_PATIENCE_MS && purse.returning == 0;
        let has = if waited { purse.free.min(within) } else { within };
        if has > purse.free {
            return None;
        }
        let memory = bytes(has).saturating_sub(start.overhead).align_down(Bytes::BLOCK);
        (memory >= vm.settings.minimum && memory < vm.settings.startup).then_some(memory)
    }

    /// True if a start that may page has enough `within` reach to wait for it.
    pub(super) fn waits_to_page(&self, start: PendingStart, within: u64) -> bool {
        let Some(vm) = self.vm(start.vm) else { return false };
        let least = vm.settings.minimum.saturating_add(start.overhead).align_up(Bytes::BLOCK);
        start.again && self.smart_paging && blocks(least) <= within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_restart_that_does_not_fit_pages() {
        let reach = |may_page: bool| {
            let resets = vec![(VmId(0), 40), (VmId(1), 10), (VmId(2), 30)];
            let restarts = within_reach(resets, 25, |_| may_page);
            restarts.into_iter().map(|Restart { id, takes, pages }| (id.0, takes, pages)).collect::<Vec<_>>()
        };
        assert_eq!(reach(true), [(1, 10, false), (2, 15, true)]);
        assert_eq!(reach(false), [(1, 10, false)]);
    }
}
