//! [`Percent`] and [`Weight`]: the two ratios that people set.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::Bytes;

/// A whole, non-negative percentage, without an upper bound of its own: a
/// buffer may be 2000 %, a pressure more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(u32);

impl Percent {
    /// `percent` parts of a hundred.
    pub const fn new(percent: u32) -> Self {
        Self(percent)
    }

    /// Parts of a hundred.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// This share of `whole`, rounded down, at most [`Bytes::MAX`].
    pub fn of(self, whole: Bytes) -> Bytes {
        whole.scale(u64::from(self.0), 100)
    }

    /// `part ÷ whole × 100`, rounded to nearest, at most `u32::MAX`. Nothing of
    /// nothing is 100 %: exactly enough. Something of nothing is `u32::MAX`.
    ///
    /// ```
    /// # use dynmem_units::{Bytes, Percent};
    /// let pressure = Percent::ratio(Bytes::from_mib(300), Bytes::from_mib(200));
    /// assert_eq!(pressure.get(), 150);
    /// ```
    pub fn ratio(part: Bytes, whole: Bytes) -> Self {
        let (part, whole) = (u128::from(part.get()), u128::from(whole.get()));
        match (part, whole) {
            (0, 0) => Self(100),
            (_, 0) => Self(u32::MAX),
            _ => Self(u32::try_from((part * 200 + whole) / (whole * 2)).unwrap_or(u32::MAX)),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", self.0))
    }
}

/// A VM's claim on memory relative to the others' when not everybody can be
/// served: 1–10000, 5000 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Weight(u16);

/// Why a number is not a weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Weight {0} is out of range: weight is a whole number from 1 to 10000")]
pub struct WeightError(u64);

impl Weight {
    /// The smallest claim.
    pub const MIN: Self = Self(1);
    /// The largest claim.
    pub const MAX: Self = Self(10_000);

    /// A weight from 1 to 10000.
    pub fn new(weight: u64) -> Result<Self, WeightError> {
        match u16::try_from(weight) {
            Ok(small @ 1..=10_000) => Ok(Self(small)),
            _ => Err(WeightError(weight)),
        }
    }

    /// The number, 1–10000.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(5000)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_worked_example() {
        let demand = Bytes::from_mib(1000);
        assert_eq!(Percent::new(20).of(demand), Bytes::from_mib(200));
    }

    #[test]
    fn a_ratio_rounds_to_nearest_and_never_divides_by_zero() {
        assert_eq!(Percent::ratio(Bytes::new(1), Bytes::new(3)).get(), 33);
        assert_eq!(Percent::ratio(Bytes::new(2), Bytes::new(3)).get(), 67);
        assert_eq!(Percent::ratio(Bytes::ZERO, Bytes::ZERO).get(), 100);
        assert_eq!(Percent::ratio(Bytes::MAX, Bytes::ZERO).get(), u32::MAX);
        assert_eq!(Percent::ratio(Bytes::MAX, Bytes::MAX).get(), 100);
    }

    #[test]
    fn a_weight_out_of_range_is_named() {
        assert_eq!(
            Weight::new(0).expect_err("zero").to_string(),
            "Weight 0 is out of range: weight is a whole number from 1 to 10000"
        );
        assert!(Weight::new(10_001).is_err());
        assert!(Weight::new(u64::MAX).is_err());
        assert_eq!(Weight::new(10_000), Ok(Weight::MAX));
    }
}
