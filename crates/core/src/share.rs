//! Weighted max-min sharing with a floor and a ceiling for each claim.
//!
//! Find λ so that xᵢ = clamp(λ·wᵢ, lᵢ, uᵢ) and Σ xᵢ = capacity. The sum rises
//! with λ, so claims can be fixed at a bound in rounds (*variable fixing*) until
//! the others all lie between theirs: a few passes over the claims, exact, and
//! several times quicker than sorting them. All arithmetic is in whole blocks
//! and exact fractions; the blocks that rounding down leaves over go to the
//! largest remainders.
//!
//! Sources: weighted max-min as "water filling", Bertsekas & Gallager, *Data
//! Networks*, 6.5.2; variable fixing with two bounds, Kiwiel, *Variable fixing
//! algorithms for the continuous quadratic knapsack problem*, 2008.

use std::{
    cmp::Reverse,
    ops::{AddAssign, Mul, Sub},
};

/// One claim on the capacity, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Relative claim, 1–10000.
    pub weight: u64,
    /// What it gets in any case.
    pub floor: u64,
    /// What it never exceeds; a ceiling below the floor counts as the floor.
    pub ceiling: u64,
}

/// Shares `capacity` blocks among `claims`; the result is in their order.
///
/// Floors above the capacity are served all the same (they are guarantees, and
/// whether they fit was decided at admission); what the ceilings leave over
/// stays unassigned.
pub fn share(capacity: u64, claims: &[Claim]) -> Vec<u64> {
    let ceiling = |claim: &Claim| claim.ceiling.max(claim.floor);
    let (mut floors, mut ceilings, mut weights) = (0, 0, 0_u64);
    for claim in claims {
        floors += claim.floor;
        ceilings += ceiling(claim);
        weights += claim.weight.max(1);
    }
    if floors >= capacity {
        return claims.iter().map(|claim| claim.floor).collect();
    }
    if ceilings <= capacity {
        return claims.iter().map(ceiling).collect();
    }
    // No product or sum of products exceeds this one, and 128 bits take twice the time.
    let fits = capacity.checked_mul(weights).is_some();
    let (rest, weights) = if fits { level::<u64>(capacity, claims) } else { level::<u128>(capacity, claims) };
    fill(capacity, rest, weights, claims)
}

/// Finds λ = `rest / weights`, where the capacity is used up.
///
/// With all claims between their bounds λ would be capacity by weights. If the
/// floors that this undercuts outweigh the ceilings that it exceeds, too much
/// is given: λ must sink, so those floors are final; else those ceilings are.
/// What is final leaves, and the rest is tried again.
///
/// `Product` is a number that holds `capacity` times all weights.
fn level<Product>(capacity: u64, claims: &[Claim]) -> (u64, u64)
where
    Product: Copy + Ord + Default + From<u64> + Mul<Output = Product> + Sub<Output = Product> + AddAssign,
{
    let (mut rest, mut weights) = (capacity, 0);
    let mut open: Vec<Claim> = Vec::with_capacity(claims.len());
    for claim in claims {
        if claim.ceiling > claim.floor {
            weights += claim.weight.max(1);
            open.push(Claim { weight: claim.weight.max(1), ceiling: claim.ceiling.min(capacity), ..*claim });
        } else {
            rest = rest.saturating_sub(claim.floor);
        }
    }
    let wide = |a: u64, b: u64| Product::from(a) * Product::from(b);
    loop {
        let share = |claim: &Claim| wide(claim.weight, rest);
        let (mut undercut, mut exceeded) = (Product::default(), Product::default());
        for claim in &open {
            let (share, floor, ceiling) = (share(claim), wide(claim.floor, weights), wide(claim.ceiling, weights));
            undercut += floor.max(share) - share;
            exceeded += share.max(ceiling) - ceiling;
        }
        if undercut == exceeded {
            return (rest, weights.max(1)); // the bounds that are touched cancel out
        }
        let (mut fixed, mut fixed_weights) = (0, 0);
        open.retain(|claim| {
            let (is_final, at) = if undercut > exceeded {
                (share(claim) < wide(claim.floor, weights), claim.floor)
            } else {
                (share(claim) > wide(claim.ceiling, weights), claim.ceiling)
            };
            fixed += if is_final { at } else { 0 };
            fixed_weights += if is_final { claim.weight } else { 0 };
            !is_final
        });
        rest = rest.saturating_sub(fixed);
        weights -= fixed_weights;
    }
}

/// Gives each claim its whole blocks at λ = `rest / weights`, and the blocks
/// left over to the largest remainders.
fn fill(capacity: u64, rest: u64, weights: u64, claims: &[Claim]) -> Vec<u64> {
    let mut given = Vec::with_capacity(claims.len());
    let mut remainders = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let (whole, remainder) = fraction(claim.weight.max(1), rest, weights);
        let blocks = whole.clamp(claim.floor, claim.ceiling.max(claim.floor));
        if blocks == whole && blocks < claim.ceiling {
            remainders.push((remainder, index));
        }
        given.push(blocks);
    }
    let left = usize::try_from(capacity.saturating_sub(given.iter().sum())).unwrap_or(usize::MAX).min(remainders.len());
    if left > 0 {
        let by_remainder = |&(remainder, index): &(u64, usize)| (Reverse(remainder), index);
        if left < remainders.len() {
            remainders.select_nth_unstable_by_key(left, by_remainder);
        }
        for &(_, index) in &remainders[..left] {
            given[index] += 1;
        }
    }
    given
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
        Claim { weight, floor, ceiling }
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
    fn the_last_blocks_go_to_the_largest_remainders() {
        assert_eq!(share(10, &[claim(1, 0, 100), claim(1, 0, 100), claim(1, 0, 100)]), [4, 3, 3]);
        assert_eq!(share(10, &[claim(2, 0, 100), claim(5, 0, 100)]), [3, 7]);
        assert_eq!(share(10, &[claim(5, 0, 100), claim(2, 0, 100)]), [7, 3]);
        assert_eq!(share(7, &[claim(3, 0, 4), claim(1, 0, 100), claim(1, 0, 100)]), [4, 2, 1], "none above a ceiling");
    }

    #[test]
    fn no_weight_counts_as_the_least_and_a_ceiling_beyond_the_capacity_as_the_capacity() {
        assert_eq!(share(10, &[claim(0, 0, 100), claim(1, 0, 100)]), [5, 5]);
        assert_eq!(share(10, &[claim(10_000, 0, 1 << 62), claim(10_000, 0, 1 << 62)]), [5, 5]);
    }

    #[test]
    fn shares_of_the_largest_hosts_are_exact_too() {
        assert_eq!(fraction(10_000, 1 << 60, 30_000), ((1 << 60) / 3, 10_000));
        let claims = [claim(10_000, 0, 1 << 61), claim(5_000, 0, 1 << 61), claim(5_000, 0, 1 << 61)];
        assert_eq!(share(1 << 60, &claims), [1 << 59, 1 << 58, 1 << 58]);
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
            let floors: u64 = claims.iter().map(|c| c.floor).sum();
            let ceilings: u64 = claims.iter().map(|c| c.ceiling).sum();
            prop_assert_eq!(given.iter().sum::<u64>(), capacity.clamp(floors, ceilings.max(floors)));
            for (claim, blocks) in claims.iter().zip(&given) {
                prop_assert!((claim.floor..=claim.ceiling).contains(blocks));
            }
        }

        /// The definition of weighted max-min: nobody who could take more has
        /// less for its weight than somebody above its floor, up to a block.
        #[test]
        fn no_block_could_move_to_a_poorer_claim(claims in claims(), capacity in 0..150_000_u64) {
            let given = share(capacity, &claims);
            for (poor, has) in claims.iter().zip(&given).filter(|(c, has)| **has < c.ceiling) {
                for (rich, other) in claims.iter().zip(&given).filter(|(c, has)| **has > c.floor) {
                    prop_assert!(
                        (other - 1) * poor.weight <= (has + 1) * rich.weight,
                        "{:?} has {} while {:?} has {}", poor, has, rich, other
                    );
                }
            }
        }
    }
}
