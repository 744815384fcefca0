//! The host's own memory: what may be lent at all.

use dynmem_units::Bytes;
use serde::Serialize;

use crate::HostFacts;

/// How much memory there is to manage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HostConfig {
    /// Memory that the host and all VMs share.
    pub memory: Bytes,
    /// The part of it that is never lent.
    pub reserve: Bytes,
}

impl HostConfig {
    /// The reserve that spec section 1 gives a host by default: 384 MiB and
    /// 30 MiB for each GiB of memory.
    ///
    /// ```
    /// # use dynmem_core::HostConfig;
    /// # use dynmem_units::Bytes;
    /// assert_eq!(HostConfig::default_reserve(Bytes::from_mib(24 * 1024)), Bytes::from_mib(384 + 24 * 30));
    /// ```
    pub fn default_reserve(memory: Bytes) -> Bytes {
        Bytes::from_mib(384).saturating_add(memory.scale(30, 1024))
    }

    /// Memory that may be lent.
    pub fn lendable(&self) -> Bytes {
        self.memory.saturating_sub(self.reserve)
    }
}

/// PSI from which on the host counts as stalled, hundredths of a per cent.
const STALLED: u32 = 1_000;

/// The host's health, and what it means for lending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    pub(crate) config: HostConfig,
    pub(crate) facts: Option<HostFacts>,
    /// What machines held when the facts were read: they speak of that instant.
    held_then: Bytes,
    pub(crate) under_pressure: bool,
}

impl Host {
    pub(crate) fn new(config: HostConfig) -> Self {
        Self { config, facts: None, held_then: Bytes::ZERO, under_pressure: false }
    }

    /// Takes new facts, read while machines held `held`; true if the host came
    /// under pressure or left it.
    pub(crate) fn observe(&mut self, facts: HostFacts, held: Bytes) -> bool {
        self.facts = Some(facts);
        // What was lent and not yet touched is still available: it must not
        // count as held beside that.
        self.held_then = facts.machines.unwrap_or(held);
        let floor = self.floor();
        // Leaving takes a quarter more than entering, so that the state does
        // not flap.
        let enough = if self.under_pressure { floor.scale(5, 4) } else { floor };
        let before = std::mem::replace(&mut self.under_pressure, facts.available < enough);
        before != self.under_pressure
    }

    /// Available memory that the host must keep: 1/50 of it, 128 MiB to 2 GiB;
    /// twice that while the host stalls.
    pub(crate) fn floor(&self) -> Bytes {
        let floor = self.config.memory.scale(1, 50).clamp(Bytes::from_mib(128), Bytes::from_mib(2048));
        if self.stalls() { floor.scale(2, 1) } else { floor }
    }

    /// True if tasks of the host wait for memory.
    pub(crate) fn stalls(&self) -> bool {
        self.facts.is_some_and(|facts| facts.stall >= STALLED)
    }

    /// The most that may be lent: what the configuration allows, and no more
    /// than was held when the host was last read and was available beside it.
    /// So one reading is lent once, and asked back once, whatever happens until
    /// the next; and what was promised then and had yet to be taken is not
    /// counted on top of the memory that it was taken from.
    pub(crate) fn capacity(&self) -> Bytes {
        let lendable = self.config.lendable();
        let Some(facts) = self.facts else { return lendable };
        lendable.min(self.held_then.saturating_add(facts.available).saturating_sub(self.floor()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn gib(gib: u64) -> Bytes {
        Bytes::from_mib(gib * 1024)
    }

    /// A host whose machines held 4 GiB when it was read.
    fn host(available: Bytes, stall: u32) -> Host {
        let mut host = Host::new(HostConfig { memory: gib(16), reserve: gib(1) });
        host.observe(HostFacts { available, stall, machines: None }, gib(4));
        host
    }

    #[test]
    fn a_healthy_host_lends_all_but_the_reserve() {
        assert_eq!(host(gib(12), 0).capacity(), gib(15));
        assert_eq!(Host::new(HostConfig { memory: gib(16), reserve: gib(1) }).capacity(), gib(15));
    }

    #[test]
    fn the_default_reserve_grows_with_the_host() {
        assert_eq!(HostConfig::default_reserve(gib(2)), Bytes::from_mib(384 + 2 * 30));
        assert_eq!(HostConfig::default_reserve(gib(1024)), Bytes::from_mib(384 + 1024 * 30));
    }

    #[test]
    fn memory_that_somebody_else_took_is_not_lent() {
        let floor = gib(16).scale(1, 50);
        assert_eq!(host(gib(2), 0).capacity(), gib(6).saturating_sub(floor));
        assert_eq!(host(Bytes::ZERO, 0).capacity(), gib(4).saturating_sub(floor));
        assert_eq!(host(Bytes::ZERO, 5_000).capacity(), gib(4).saturating_sub(floor.scale(2, 1)));
    }

    #[test]
    fn what_was_lent_and_not_touched_is_not_lent_twice() {
        let floor = gib(16).scale(1, 50);
        let mut host = host(gib(8), 0);
        host.observe(HostFacts { available: gib(8), stall: 0, machines: Some(gib(1)) }, gib(4));
        assert_eq!(host.capacity(), gib(9).saturating_sub(floor), "3 of the 4 GiB are still among the 8");
    }

    #[test]
    fn pressure_is_left_later_than_it_is_entered() {
        let floor = gib(16).scale(1, 50);
        let mut host = host(gib(8), 0);
        let mut now_at = |available| host.observe(HostFacts { available, stall: 0, machines: None }, gib(4));
        assert!(now_at(floor.saturating_sub(Bytes::MIB)), "entered");
        assert!(!now_at(floor.saturating_add(Bytes::MIB)), "not left yet");
        assert!(now_at(floor.scale(5, 4)), "left");
    }
}
