//! A guest: a kernel that lives in the memory it is lent.
//!
//! ```text
//!  orders ──▶ devices ── assigned ──▶ memory ◀── need (the workload)
//!             balloon      │            │ resident, swapped, hot files, cache
//!             virtio-mem ◀─┘ spare      │
//!                                       ├──▶ Step     what was lost: stalls, kills
//!                                       └──▶ recent ──▶ report ──▶ agent: when it is told
//! ```
//!
//! The model is a kernel's behaviour in sums of bytes, not in pages: programs
//! grow as fast as they can touch memory, the page cache fills what is free and
//! is the first to go, then hot file pages are lost, then anonymous pages are
//! swapped, and what finds no room at all waits. The books always balance:
//!
//! ```text
//! assigned = kernel + anonymous + hot files + cache + free
//! ```

mod agent;
mod config;
mod devices;
mod memory;
mod recent;

use dynmem_core::{DeviceFacts, GuestReport, ReportSource};
use dynmem_units::Bytes;

pub use self::{
    agent::Agent,
    config::{Defects, GuestConfig, Mechanism},
};
use self::{devices::Devices, memory::Memory, recent::Recent};
use crate::{policy::Statistics, workload::Need};

/// Longer steps are taken in pieces of this length, until nothing but time
/// passes: short enough that growth, balloon and swap meet each other.
const PIECE_MS: u64 = 100;
/// What ESX samples as active was touched within about this time.
const ACTIVE_SECONDS: u64 = 30;

/// What a guest lived through in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// A memory device holds another amount than before.
    pub moved: bool,
    /// Time that its programs lost waiting for memory: 0 to the step's length.
    pub stalled_ms: u64,
    /// Its programs were killed for want of memory.
    pub oom: bool,
}

/// A running guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What is wrong with its devices now.
    pub defects: Defects,
    config: GuestConfig,
    devices: Devices,
    memory: Memory,
    recent: Recent,
    need: Need,
    /// Stalled time below a millisecond, told with the next one.
    stalled_us: u64,
}

impl Guest {
    /// A guest whose kernel is up and whose programs use nothing yet.
    pub fn boot(config: GuestConfig, devices: DeviceFacts) -> Self {
        Self {
            defects: Defects::default(),
            config,
            devices: Devices::new(devices),
            memory: Memory::default(),
            recent: Recent::default(),
            need: Need::default(),
            stalled_us: 0,
        }
    }

    /// Takes an order for both devices; it replaces the one before. Kept within
    /// what the devices can do.
    pub fn order(&mut self, balloon: Bytes, plugged: Bytes) {
        self.devices.order(balloon, plugged, self.config.mechanism.order_delay_ms);
    }

    /// Lets time pass (1 ms to 60 s) in which the programs want `need`.
    pub fn step(&mut self, millis: u64, need: Need) -> Step {
        self.need = need;
        let devices_before = self.devices.facts();
        let mut step = Step::default();
        let mut left_ms = millis;
        let mut at_rest = false;
        while left_ms > 0 {
            // Where nothing moves any more the rest is more of the same.
            let piece_ms = if at_rest { left_ms } else { left_ms.min(PIECE_MS) };
            let before = (self.devices, self.memory);
            step.oom |= self.advance(piece_ms);
            left_ms -= piece_ms;
            at_rest = self.devices == before.0 && self.memory.rests_since(&before.1);
        }
        step.moved = self.devices.facts() != devices_before;
        step.stalled_ms = self.stalled_us / 1000;
        self.stalled_us %= 1000;
        step
    }

    /// One piece of a step; true if the programs were killed.
    fn advance(&mut self, millis: u64) -> bool {
        self.devices.advance(millis, &self.config, self.defects, &mut self.memory);
        let lived = self.memory.live(self.visible(), self.need, millis, &self.config);
        self.stalled_us += lived.stalled_us;
        self.recent.observe(millis, &lived);
        lived.oom
    }

    /// The memory devices as they are now.
    pub fn devices(&self) -> DeviceFacts {
        self.devices.facts()
    }

    /// What its agent would report now.
    pub fn report(&self) -> GuestReport {
        let visible = self.visible();
        GuestReport {
            source: ReportSource::Agent,
            visible,
            available: self.memory.spare(visible).saturating_add(self.memory.hot),
            committed: Some(self.need.anonymous.saturating_add(self.need.committed_beyond)),
            hot_file: self.memory.hot,
            reserved: Some(self.config.kernel_bytes.min(self.held())),
            ballooned: Some(self.devices().boot.saturating_sub(self.devices().balloon_actual)),
            swap_total: self.config.swap_bytes,
            swap_used: self.memory.swapped,
            swap_in_per_second: self.recent.swap_in_per_second(),
            refault_per_second: self.recent.refault_per_second(),
            stall: self.recent.stall(),
        }
    }

    /// What the balloon's statistics say now.
    pub fn statistics(&self) -> Statistics {
        let cached = self.memory.cache.saturating_add(self.memory.hot);
        let read_lately = self.need.file_read_per_second.scale(ACTIVE_SECONDS, 1).min(self.memory.cache);
        Statistics {
            free: self.memory.free(self.visible()),
            cached,
            active: [self.memory.anonymous, self.memory.hot, read_lately].into_iter().sum(),
        }
    }

    /// What must be assigned for `need` to be met at full speed: the kernel,
    /// the working set, and the little that the kernel always keeps free. The
    /// truth, not an estimate.
    pub fn needed(&self, need: Need) -> Bytes {
        self.config.kernel_bytes.saturating_add(memory::visible_for(need.working_set()))
    }

    /// The memory lent to it now.
    pub fn held(&self) -> Bytes {
        self.devices().assigned()
    }

    /// The part of it that is in nobody's use.
    pub fn unused(&self) -> Bytes {
        self.memory.free(self.visible())
    }

    /// What its devices were last asked to hold: boot memory less the balloon,
    /// and plugged memory.
    pub fn ordered(&self) -> (Bytes, Bytes) {
        self.devices.ordered()
    }

    /// Memory that its kernel manages.
    fn visible(&self) -> Bytes {
        self.held().saturating_sub(self.config.kernel_bytes)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
