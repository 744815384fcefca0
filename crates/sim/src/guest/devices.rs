//! The memory devices of a guest: a balloon and virtio-mem, on their way from
//! what they hold to what they were ordered to hold.

use dynmem_core::DeviceFacts;
use dynmem_units::{Bytes, Percent};

use super::{Defects, GuestConfig, memory::Memory};

/// All speeds of devices that work a page at a time.
const SLOW_PER_SECOND: Bytes = Bytes::MIB;
/// Where the balloon must wait for reclaim it is slower by this: each page then
/// costs a search for one and a write to swap.
const RECLAIM_SLOWDOWN: u64 = 8;

/// Both devices. Opposite orders cancel the former: only the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Devices {
    facts: DeviceFacts,
    balloon: Bytes,
    plugged: Bytes,
    /// Time until the devices begin to move.
    delay_ms: u64,
    /// Work done by virtio-mem on the block that is not finished yet.
    unfinished: Bytes,
    /// The most that was plugged since nothing was: what is unmovable is a
    /// share of this.
    peak: Bytes,
}

impl Devices {
    /// Devices at rest.
    pub(super) fn new(facts: DeviceFacts) -> Self {
        Self {
            facts,
            balloon: facts.balloon_actual,
            plugged: facts.plugged,
            delay_ms: 0,
            unfinished: Bytes::ZERO,
            peak: facts.plugged,
        }
    }

    /// What they hold.
    pub(super) fn facts(&self) -> DeviceFacts {
        self.facts
    }

    /// What they were ordered to hold.
    pub(super) fn ordered(&self) -> (Bytes, Bytes) {
        (self.balloon, self.plugged)
    }

    /// Takes an order, as far as the devices reach. Devices under way take a
    /// new target as they go, those at rest begin after `delay_ms`.
    pub(super) fn order(&mut self, balloon: Bytes, plugged: Bytes, delay_ms: u64) {
        let at_rest = self.balloon == self.facts.balloon_actual && self.plugged == self.facts.plugged;
        let plugged = plugged.min(self.facts.plug_max).align_down(self.facts.plug_block);
        (self.balloon, self.plugged) = (balloon.min(self.facts.boot), plugged);
        if at_rest {
            self.delay_ms = delay_ms;
        }
    }

    /// Moves for a while. What is taken comes out of `memory`.
    pub(super) fn advance(&mut self, millis: u64, config: &GuestConfig, defects: Defects, memory: &mut Memory) {
        if self.balloon == self.facts.balloon_actual && self.plugged == self.facts.plugged {
            return;
        }
        let waited_ms = self.delay_ms.min(millis);
        self.delay_ms -= waited_ms;
        let millis = millis - waited_ms;
        let work = |per_second: Bytes| {
            if defects.slow { SLOW_PER_SECOND.min(per_second) } else { per_second }.scale(millis, 1000)
        };
        let mechanism = &config.mechanism;
        if !defects.balloon_stuck {
            if self.balloon < self.facts.balloon_actual {
                self.inflate(work(mechanism.inflate_per_second), millis, config, memory);
            } else {
                self.deflate(work(mechanism.deflate_per_second));
            }
        }
        if self.plugged > self.facts.plugged && !defects.plug_refused {
            self.plug(work(mechanism.plug_per_second));
        } else if self.plugged < self.facts.plugged && !defects.unplug_refused {
            self.unplug(work(mechanism.unplug_per_second), millis, defects.unmovable_percent, config, memory);
        }
        memory.fit(self.visible(config));
    }

    /// Takes what is spare at full speed, and beyond that only what reclaim
    /// finds. Like Linux's driver it gets slower and stops; it kills nothing.
    fn inflate(&mut self, work: Bytes, millis: u64, config: &GuestConfig, memory: &mut Memory) {
        let wanted = self.facts.balloon_actual.saturating_sub(self.balloon);
        let easy = wanted.min(work).min(memory.spare(self.visible(config)));
        let effort = work.saturating_sub(easy).scale(1, RECLAIM_SLOWDOWN);
        let hard = memory.squeeze(wanted.saturating_sub(easy).min(effort), millis, config);
        let taken = easy.saturating_add(hard);
        self.facts.balloon_actual = self.facts.balloon_actual.saturating_sub(taken);
    }

    fn deflate(&mut self, work: Bytes) {
        self.facts.balloon_actual = self.facts.balloon_actual.saturating_add(work).min(self.balloon);
    }

    fn plug(&mut self, work: Bytes) {
        let wanted = self.plugged.saturating_sub(self.facts.plugged);
        self.facts.plugged = self.facts.plugged.saturating_add(self.whole_blocks(work, wanted));
        self.peak = self.peak.max(self.facts.plugged);
    }

    /// Gives back whole blocks that are free, or whose pages find room
    /// elsewhere: either way it takes what is spare, and beyond that what
    /// reclaim finds, as migrating a page allocates another. Unmovable blocks
    /// stay.
    fn unplug(&mut self, work: Bytes, millis: u64, unmovable_percent: u8, config: &GuestConfig, memory: &mut Memory) {
        let unmovable = Percent::new(u32::from(unmovable_percent.min(100))).of(self.peak);
        let movable = self.facts.plugged.saturating_sub(unmovable.align_up(self.facts.plug_block));
        let wanted = self.facts.plugged.saturating_sub(self.plugged).min(movable);
        let spare = memory.spare(self.visible(config));
        let effort = work.saturating_sub(spare).scale(1, RECLAIM_SLOWDOWN).align_up(self.facts.plug_block);
        let found = memory.squeeze(wanted.saturating_sub(spare).min(effort), millis, config);
        let given = self.whole_blocks(work, wanted.min(spare.saturating_add(found)));
        self.facts.plugged = self.facts.plugged.saturating_sub(given);
        if self.facts.plugged.is_zero() {
            self.peak = Bytes::ZERO;
        }
    }

    /// As many blocks of `wanted` as are finished with this work; a part of one
    /// is kept for the next time.
    fn whole_blocks(&mut self, work: Bytes, wanted: Bytes) -> Bytes {
        let wanted = wanted.align_down(self.facts.plug_block);
        let worked = self.unfinished.saturating_add(work);
        let done = worked.min(wanted).align_down(self.facts.plug_block);
        // Nothing is worked ahead where there is nothing to do.
        self.unfinished = worked.saturating_sub(done).min(wanted.saturating_sub(done));
        done
    }

    fn visible(&self, config: &GuestConfig) -> Bytes {
        self.facts.assigned().saturating_sub(config.kernel_bytes)
    }
}
