//! What happened lately, as a kernel's averages tell it: PSI's stalled share,
//! swap-in and refault rates, over about the last half second.

use dynmem_units::Bytes;

use super::memory::Lived;

/// The averages forget with e^(−t/500 ms). PSI's own shortest average is 10 s;
/// an agent reads its running total and divides by the time since.
const FORGET_ONE_MS: u64 = 4_286_386_073; // e^(−1/500) × 2³²
/// A power for each bit of a step's length, 2¹⁶ ms being the largest.
const FORGET: [u64; 17] = powers();
/// The stall is kept with this many bits behind the point, so that short steps
/// do not lose it.
const FRACTION_BITS: u32 = 16;
/// All of the time, in hundredths of a per cent.
const ALL: u64 = 10_000;

/// Exponential averages, exact for any length of step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    stall: u64,
    swap_in: u64,
    refault: u64,
}

impl Recent {
    /// Takes what was lived through in `millis`.
    pub(super) fn observe(&mut self, millis: u64, lived: &Lived) {
        let stall = lived.stalled_us * (ALL << FRACTION_BITS) / (millis * 1000);
        let (swap_in, refault) = (lived.swap_in_per_second.get(), lived.refault_per_second.get());
        if (stall, swap_in, refault) == (self.stall, self.swap_in, self.refault) {
            return;
        }
        let kept = kept(millis);
        self.stall = approach(self.stall, stall, kept);
        self.swap_in = approach(self.swap_in, swap_in, kept);
        self.refault = approach(self.refault, refault, kept);
    }

    /// Share of time lost, hundredths of a per cent: 0–10000.
    pub(super) fn stall(&self) -> u32 {
        u32::try_from(self.stall >> FRACTION_BITS).unwrap_or(u32::MAX)
    }

    /// Rate of swapping in.
    pub(super) fn swap_in_per_second(&self) -> Bytes {
        Bytes::new(self.swap_in)
    }

    /// Rate of reading lost file pages again.
    pub(super) fn refault_per_second(&self) -> Bytes {
        Bytes::new(self.refault)
    }
}

/// `now`, and `kept` (× 2³²) of the distance that `average` has from it.
fn approach(average: u64, now: u64, kept: u64) -> u64 {
    let distance = scale_down(average.abs_diff(now), kept);
    if average > now { now + distance } else { now - distance }
}

/// How much of an average is left after `millis`, × 2³².
fn kept(millis: u64) -> u64 {
    let mut kept = 1 << 32;
    for (bit, power) in FORGET.iter().enumerate() {
        if millis >> bit & 1 == 1 {
            kept = scale_down(kept, *power);
        }
    }
    if millis >> FORGET.len() > 0 { 0 } else { kept }
}

const fn powers() -> [u64; 17] {
    let mut powers = [FORGET_ONE_MS; 17];
    let mut bit = 1;
    while bit < powers.len() {
        powers[bit] = scale_down(powers[bit - 1], powers[bit - 1]);
        bit += 1;
    }
    powers
}

/// `amount × share ÷ 2³²`.
const fn scale_down(amount: u64, share: u64) -> u64 {
    // The high and the low half apart: no product needs more than 64 bits, as a
    // share is at most 2³².
    (amount >> 32) * share + (((amount & 0xffff_ffff) * share) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_steps_forget_as_much_as_many_short_ones() {
        assert_eq!(kept(500) >> 16, 24_109, "e⁻¹ × 2¹⁶");
        for (long, short, count) in [(100, 1, 100), (60_000, 100, 600), (777, 7, 111)] {
            let by_short = (0..count).fold(1 << 32, |left, _| scale_down(left, kept(short)));
            assert!(kept(long).abs_diff(by_short) < 1_000, "{long} ms: {} and {by_short}", kept(long));
        }
        assert_eq!((kept(0), kept(60_000), kept(1 << 17)), (1 << 32, 0, 0));
    }
}
