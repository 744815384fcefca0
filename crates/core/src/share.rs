//! Weighted max-min sharing with a floor and a ceiling for each claim.
//!
//! Find λ so that xᵢ = clamp(λ·wᵢ, lᵢ, uᵢ) and Σ xᵢ = capacity. The sum rises
//! with λ, so claims can be fixed at a bound in rounds (*variable fixing*) until
//! the others all lie between theirs: a few passes over the claims, exact, and
//! several times quicker than sorting them. All arithmetic is in whole blocks
//! and exact fractions; the blocks that rounding down leaves over, less than one
//! for each claim, go to the first ones.
//!
//! Sources: weighted max-min as "water filling", Bertsekas & Gallager, *Data
//! Networks*, 6.5.2; variable fixing with two bounds, Kiwiel, *Variable fixing
//! algorithms for the continuous quadratic knapsack problem*, 2008.

use std::ops::{AddAssign, Mul, Sub};

/// One claim on the capacity. Small, as a decision goes over all of them many
/// times: a claim ends at 2³² blocks, that is, at 8 PiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub(crate) weight: u32,
    pub(crate) floor: u32,
    pub(crate) ceiling: u32,
}

impl Claim {
    /// A claim of a relative `weight` (no weight counts as the least) that gets
    /// `floor` blocks in any case and never more than `ceiling`; a ceiling
    /// below the floor counts as the floor.
    pub fn new(weight: u64, floor: u64, ceiling: u64) -> Self {
        let least = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { weight: least(weight).max(1), floor: least(floor), ceiling: least(ceiling.max(floor)) }
    }
}

/// Shares `capacity` blocks among `claims`; the result is in their order.
///
/// Floors above the capacity are served all the same (they are guarantees, and
/// whether they fit was decided at admission); what the ceilings leave over
/// stays unassigned.
pub fn share(capacity: u64, claims: &[Claim]) -> Vec<u64> {
    let mut shares: Vec<_> = claims.iter().map(|claim| (*claim, 0)).collect();
    share_among(capacity, &mut shares, |(claim, _)| *claim, |(_, share), blocks| *share = u64::from(blocks));
    shares.into_iter().map(|(_, share)| share).collect()
}

/// As [`share`], among whatever makes a `claim` and can be told what it gets.
pub(crate) fn share_among<T>(
    capacity: u64,
    items: &mut [T],
    claim: impl Fn(&T) -> Claim,
    mut give: impl FnMut(&mut T, u32),
) {
    let (mut floors, mut ceilings, mut weights) = (0, 0, 0_u64);
    // No claim gets more than all: so no product below is larger than expected.
    let most = u32::try_from(capacity).unwrap_or(u32::MAX);
    let mut open = Vec::with_capacity(items.len());
    for claim in items.iter().map(&claim) {
        floors += u64::from(claim.floor);
        ceilings += u64::from(claim.ceiling);
        weights += u64::from(claim.weight);
        open.push(Claim { ceiling: claim.ceiling.min(most), ..claim });
    }
    if floors >= capacity {
        return items.iter_mut().for_each(|item| give(item, claim(item).floor));
    }
    if ceilings <= capacity {
        return items.iter_mut().for_each(|item| give(item, claim(item).ceiling));
    }
    // No product or sum of products exceeds this one, and 128 bits take twice the time.
    let fits = capacity.checked_mul(weights).is_some();
    let level =
        if fits { level::<u64>(capacity, weights, &mut open) } else { level::<u128>(capacity, weights, &mut open) };
    let mut left = level.rest.saturating_sub(open.iter().map(|claim| u64::from(level.of(claim).0)).sum());
    for item in items {
        let (blocks, more) = level.of(&claim(item));
        let one_more = more && left > 0;
        left -= u64::from(one_more);
        give(item, blocks + u32::from(one_more));
    }
}

/// λ, where the capacity is used up: `rest / weights`.
struct Level {
    rest: u64,
    weights: u64,
}

impl Level {
    /// The whole blocks of a claim at this level, and whether it could take
    /// another one instead of what rounding left over.
    fn of(&self, claim: &Claim) -> (u32, bool) {
        let (whole, _) = fraction(u64::from(claim.weight), self.rest, self.weights);
        let blocks = u32::try_from(whole).unwrap_or(u32::MAX).clamp(claim.floor, claim.ceiling);
        (blocks, u64::from(blocks) == whole && blocks < claim.ceiling)
    }
}

/// Finds the level at which the `open` claims share `rest`; `weights` is the
/// sum of theirs. Leaves those open whose bounds don't matter.
///
/// With all claims between their bounds λ would be `rest` by `weights`. If the
/// floors that this undercuts outweigh the ceilings that it exceeds, too much
/// is given: λ must sink, so those floors are final; else those ceilings are.
/// What is final leaves, and the rest is tried again.
///
/// `Product` is a number that holds the capacity times all weights.
fn level<Product>(mut rest: u64, mut weights: u64, open: &mut Vec<Claim>) -> Level
where
    Product: Copy + Ord + Default + From<u64> + Mul<Output = Product> + Sub<Output = Product> + AddAssign,
{
    let wide = |a: u32, b: u64| Product::from(u64::from(a)) * Product::from(b);
    loop {
        let share = |claim: &Claim| wide(claim.weight, rest);
        let (mut undercut, mut exceeded) = (Product::default(), Product::default());
        for claim in &*open {
            let (share, floor, ceiling) = (share(claim), wide(claim.floor, weights), wide(claim.ceiling, weights));
            undercut += floor.max(share) - share;
            exceeded += share.max(ceiling) - ceiling;
        }
        if undercut == exceeded {
            return Level { rest, weights: weights.max(1) }; // the bounds that are touched cancel out
        }
        let (mut fixed, mut fixed_weights, mut kept) = (0, 0, 0);
        for index in 0..open.len() {
            let claim = open[index];
            let (is_final, at) = if undercut > exceeded {
                (share(&claim) < wide(claim.floor, weights), claim.floor)
            } else {
                (share(&claim) > wide(claim.ceiling, weights), claim.ceiling)
            };
            fixed += u64::from(at) * u64::from(is_final);
            fixed_weights += u64::from(claim.weight) * u64::from(is_final);
            // No branch: nobody could foretell which are final.
            open[kept] = claim;
            kept += usize::from(!is_final);
        }
        open.truncate(kept);
        rest = rest.saturating_sub(fixed);
        weights -= fixed_weights;
    }
}

/// `weight × rest ÷ weights`: the whole part and the remainder.
pub(crate) fn fraction(weight: u64, rest: u64, weights: u64) -> (u64, u64) {
    if let Some(product) = weight.checked_mul(rest) {
        return (product / weights, product % weights); // a 128-bit division costs ten of these
    }
    let (product, weights) = (u128::from(weight) * u128::from(rest), u128::from(weights));
    let whole = u64::try_from(product / weights).unwrap_or(u64::MAX);
    (whole, u64::try_from(product % weights).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(weight: u64, floor: u64, ceiling: u64) -> Claim {
        Claim::new(weight, floor, ceiling)
    }

    #[test]
    fn equal_weights_share_equally() {
        assert_eq!(share(9, &[claim(1, 0, 100), claim(1, 0, 100), claim(1, 0, 100)]), [3, 3, 3]);
    }

    #[test]
    fn weight_decides_between_floor_and_ceiling() {
        assert_eq!(share(90, &[claim(1, 0, 100), claim(2, 0, 100)]), [30, 60]);
        assert_eq!(share(90, &[claim(1, 50, 100), claim(2, 0, 100)]), [50, 40]);
        assert_eq!(share(90, &[claim(1, 0, 100), claim(2, 0, 20)]), [70, 20]);
    }

    #[test]
    fn guarantees_are_served_even_where_they_do_not_fit() {
        assert_eq!(share(5, &[claim(1, 4, 9), claim(9, 4, 9)]), [4, 4]);
    }

    #[test]
    fn what_nobody_may_take_stays() {
        assert_eq!(share(100, &[claim(1, 1, 4), claim(9, 1, 5)]), [4, 5]);
        assert_eq!(share(100, &[]), [0_u64; 0]);
    }

    #[test]
    fn the_last_blocks_go_to_the_first_who_can_take_them() {
        assert_eq!(share(10, &[claim(1, 0, 100), claim(1, 0, 100), claim(1, 0, 100)]), [4, 3, 3]);
        assert_eq!(share(10, &[claim(2, 0, 100), claim(5, 0, 100)]), [3, 7]);
        assert_eq!(share(10, &[claim(5, 0, 100), claim(2, 0, 100)]), [8, 2]);
        assert_eq!(share(7, &[claim(3, 0, 4), claim(1, 0, 100), claim(1, 0, 100)]), [4, 2, 1], "none above a ceiling");
        assert_eq!(share(7, &[claim(1, 3, 9), claim(9, 0, 3), claim(1, 0, 9)]), [3, 3, 1], "none above its level");
    }

    #[test]
    fn no_weight_counts_as_the_least_and_a_ceiling_beyond_the_capacity_as_the_capacity() {
        assert_eq!(share(10, &[claim(0, 0, 100), claim(1, 0, 100)]), [5, 5]);
        assert_eq!(share(10, &[claim(10_000, 0, 1 << 62), claim(10_000, 0, 1 << 62)]), [5, 5]);
    }

    #[test]
    fn shares_of_the_largest_hosts_are_exact_too() {
        assert_eq!(fraction(10_000, 1 << 60, 30_000), ((1 << 60) / 3, 10_000));
        let claims = [claim(1 << 31, 0, 1 << 32), claim(1 << 30, 0, 1 << 32), claim(1 << 30, 0, 1 << 32)];
        assert_eq!(share(1 << 32, &claims), [1 << 31, 1 << 30, 1 << 30]);
        assert_eq!(share(1 << 40, &claims), [u64::from(u32::MAX); 3]);
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let one =
            (1..=10_000_u64, 0..5_000_u64, 0..5_000_u64).prop_map(|(weight, a, b)| claim(weight, a.min(b), a.max(b)));
        prop::collection::vec(one, 1..40)
    }

    proptest! {
        #[test]
        fn everything_is_shared_and_bounds_are_kept(claims in claims(), capacity in 0..150_000_u64) {
            let given = share(capacity, &claims);
            let floors: u64 = claims.iter().map(|c| u64::from(c.floor)).sum();
            let ceilings: u64 = claims.iter().map(|c| u64::from(c.ceiling)).sum();
            prop_assert_eq!(given.iter().sum::<u64>(), capacity.clamp(floors, ceilings.max(floors)));
            for (claim, blocks) in claims.iter().zip(&given) {
                prop_assert!((u64::from(claim.floor)..=u64::from(claim.ceiling)).contains(blocks));
            }
        }

        /// The definition of weighted max-min: nobody who could take more has
        /// less for its weight than somebody above its floor, up to a block.
        #[test]
        fn no_block_could_move_to_a_poorer_claim(claims in claims(), capacity in 0..150_000_u64) {
            let given = share(capacity, &claims);
            for (poor, has) in claims.iter().zip(&given).filter(|(c, has)| **has < u64::from(c.ceiling)) {
                for (rich, other) in claims.iter().zip(&given).filter(|(c, has)| **has > u64::from(c.floor)) {
                    prop_assert!(
                        (other - 1) * u64::from(poor.weight) <= (has + 1) * u64::from(rich.weight),
                        "{:?} has {} while {:?} has {}", poor, has, rich, other
                    );
                }
            }
        }
    }
}
