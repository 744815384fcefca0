//! [`Moment`]: an instant that may be missing, in half the space.
//!
//! Decisions read every machine, and machines hold many of these.

use crate::Instant;

/// An instant, or none. The last instant that there is counts as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(crate) fn at(instant: Instant) -> Self {
        Self(instant.0.min(u64::MAX - 1))
    }

    pub(crate) fn get(self) -> Option<Instant> {
        (self != Self::NONE).then_some(Instant(self.0))
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self::NONE
    }
}

impl From<Option<Instant>> for Moment {
    fn from(instant: Option<Instant>) -> Self {
        instant.map_or(Self::NONE, Self::at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_kept_and_its_absence_too() {
        for instant in [None, Some(Instant(0)), Some(Instant(7))] {
            assert_eq!(Moment::from(instant).get(), instant);
        }
        assert!(Moment::default().is_none() && !Moment::at(Instant(u64::MAX)).is_none());
    }
}
