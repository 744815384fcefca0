//! Value noise: random at whole slots of time, straight lines between them.
//! A hash of the slot stands in for a random number, so the noise at one
//! instant needs none of those before it.

use dynmem_units::Bytes;

/// A smooth disturbance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noise {
    pub(super) seed: u64,
    /// The most that it adds or takes.
    pub(super) amount: Bytes,
    pub(super) slot_ms: u64,
}

impl Noise {
    /// `level` with the noise of `now_ms` upon it.
    pub(super) fn around(&self, level: Bytes, now_ms: u64) -> Bytes {
        if self.amount.is_zero() || self.slot_ms == 0 {
            return level;
        }
        let (slot, within) = (now_ms / self.slot_ms, now_ms % self.slot_ms);
        // Twice the amount is the whole range; its middle is the level.
        let range = self.amount.saturating_add(self.amount);
        let here = share(range, hash(self.seed, slot));
        let next = share(range, hash(self.seed, slot.wrapping_add(1)));
        level.saturating_add(between(here, next, within, self.slot_ms)).saturating_sub(self.amount)
    }
}

/// On the straight line from `from` to `to`, `part` of `whole` along it.
pub(super) fn between(from: Bytes, to: Bytes, part: u64, whole: u64) -> Bytes {
    if to >= from {
        from.saturating_add(to.saturating_sub(from).scale(part, whole))
    } else {
        from.saturating_sub(from.saturating_sub(to).scale(part, whole))
    }
}

/// `range × random`, for a random number of 64 bits.
pub(super) fn share(range: Bytes, random: u64) -> Bytes {
    range.scale(random >> 48, 1 << 16)
}

/// A random number for a place: the finalizer of `SplitMix64` (Steele, Lea,
/// Flood 2014).
pub(super) fn hash(seed: u64, place: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
