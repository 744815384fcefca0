//! [`Bytes`]: an amount of memory.

use std::{fmt, iter::Sum, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of memory in bytes. All units are binary: `2G`, `2GB` and `2GiB`
/// are the same 2 × 1024³ bytes, as people who set VM sizes mean it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

const UNITS: [(&str, u64); 5] =
    [("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Bytes {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// 1024 bytes.
    pub const KIB: Self = Self(1 << 10);
    /// 1024² bytes.
    pub const MIB: Self = Self(1 << 20);
    /// 1024³ bytes.
    pub const GIB: Self = Self(1 << 30);
    /// The granularity of everything that we promise: 2 MiB, virtio-mem's
    /// default block and x86's huge page.
    pub const BLOCK: Self = Self(2 << 20);
    /// Everything a `u64` can say.
    pub const MAX: Self = Self(u64::MAX);

    /// An amount in bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// An amount in mebibytes; more than 2⁴⁴ of them saturate.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// The amount in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whole mebibytes, rounded down.
    pub const fn mib(self) -> u64 {
        self.0 >> 20
    }

    /// True for nothing at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self + other`, or `None` where a `u64` can't hold it.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// `self - other`, or `None` below zero.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// `self + other`, at most [`Bytes::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `self - other`, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self × numerator ÷ denominator`, rounded down, at most [`Bytes::MAX`].
    /// A zero denominator gives [`Bytes::MAX`], the limit of the quotient.
    ///
    /// ```
    /// # use dynmem_units::Bytes;
    /// assert_eq!(Bytes::from_mib(10).scale(3, 2), Bytes::from_mib(15));
    /// ```
    #[must_use]
    pub fn scale(self, numerator: u64, denominator: u64) -> Self {
        if denominator == 0 {
            return Self::MAX;
        }
        if let Some(product) = self.0.checked_mul(numerator) {
            return Self(product / denominator); // a 128-bit division costs ten of these
        }
        let scaled = u128::from(self.0) * u128::from(numerator) / u128::from(denominator);
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// The largest multiple of `block` that is not above `self`. A zero block
    /// changes nothing.
    #[must_use]
    pub const fn align_down(self, block: Self) -> Self {
        if block.0.is_power_of_two() {
            return Self(self.0 & !(block.0 - 1)); // as most blocks are; a division costs ten of these
        }
        if block.0 == 0 { self } else { Self(self.0 - self.0 % block.0) }
    }

    /// The smallest multiple of `block` that is not below `self`, or the
    /// largest that a `u64` holds. A zero block changes nothing.
    ///
    /// ```
    /// # use dynmem_units::Bytes;
    /// assert_eq!(Bytes::new(1).align_up(Bytes::BLOCK), Bytes::from_mib(2));
    /// ```
    #[must_use]
    pub const fn align_up(self, block: Self) -> Self {
        if block.0 == 0 {
            return self;
        }
        match self.checked_add(Self(block.0 - 1)) {
            Some(beyond) => beyond.align_down(block),
            None => Self::MAX.align_down(block),
        }
    }

    /// True if `self` is a whole number of `block`s.
    pub const fn is_multiple_of(self, block: Self) -> bool {
        block.0 == 0 || self.0.is_multiple_of(block.0)
    }
}

impl Sum for Bytes {
    /// Saturates: a sum of sizes beyond `u64` is "more than there is" either way.
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::ZERO, Self::saturating_add)
    }
}

impl fmt::Display for Bytes {
    /// Exact: the largest unit that divides the amount, so that parsing the
    /// text gives the same amount back. `1536MiB`, `2GiB`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = UNITS
            .iter()
            .find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size))
            .map_or_else(|| format!("{}B", self.0), |(unit, size)| format!("{}{unit}", self.0 / size));
        f.pad(&text)
    }
}

/// Why a text is not an amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBytesError {
    /// Not digits followed by a known unit.
    #[error("{0:?} is not a size: write a whole number and a unit, such as 512MB, 2GiB or 1048576")]
    Malformed(String),
    /// More than 2⁶⁴ − 1 bytes.
    #[error("{0:?} is too large: the largest size is 16383PiB")]
    TooLarge(String),
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    /// Whole digits, then optionally a unit: `B`, or `K`, `M`, `G`, `T`, `P`
    /// alone or followed by `B` or `iB`; case does not matter. No sign, no
    /// fraction and no space inside: what is not exact is refused.
    ///
    /// ```
    /// # use dynmem_units::Bytes;
    /// assert_eq!("2G".parse::<Bytes>(), "2GiB".parse());
    /// assert!("1.5G".parse::<Bytes>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, ParseBytesError> {
        let shown = || text.chars().take(40).collect::<String>();
        let malformed = || ParseBytesError::Malformed(shown());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        if number.is_empty() {
            return Err(malformed());
        }
        let unit = unit.to_ascii_lowercase();
        let size = match unit.as_str() {
            "" | "b" => 1,
            unit => UNITS
                .iter()
                .find(|(name, _)| {
                    let name = name.to_ascii_lowercase();
                    unit == name || unit == &name[..1] || unit.strip_suffix('b') == Some(&name[..1])
                })
                .map(|(_, size)| *size)
                .ok_or_else(malformed)?,
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(size))
            .map(Self)
            .ok_or_else(|| ParseBytesError::TooLarge(shown()))
    }
}

impl Serialize for Bytes {
    /// A plain number of bytes: programs compute with it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    /// A number of bytes, or a text such as `"512MB"`, which people write.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"512MB\", or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Bytes, E> {
                u64::try_from(bytes).map(Bytes).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_unit_is_binary() {
        for text in ["2G", "2GB", "2GiB", "2g", "2gb", "2gib", "2048MB", "2147483648", "2147483648B", " 2G "] {
            assert_eq!(text.parse(), Ok(Bytes::new(2 << 30)), "{text}");
        }
    }

    #[test]
    fn anything_inexact_is_refused() {
        for text in ["", "G", "-1G", "+1", "1.5G", "1 G", "1GG", "1iB", "1Gi", "NaN", "1e9", "0x10", "10€", "3¸", "3é"]
        {
            assert!(matches!(text.parse::<Bytes>(), Err(ParseBytesError::Malformed(_))), "{text}");
        }
        assert!(matches!("16384P".parse::<Bytes>(), Err(ParseBytesError::TooLarge(_))));
        assert!(matches!("99999999999999999999".parse::<Bytes>(), Err(ParseBytesError::TooLarge(_))));
    }

    #[test]
    fn json_is_a_number_and_accepts_text() {
        assert_eq!(serde_json::to_string(&Bytes::MIB).expect("plain number"), "1048576");
        assert_eq!(serde_json::from_str::<Bytes>("\"1MB\"").expect("a size"), Bytes::MIB);
        assert!(serde_json::from_str::<Bytes>("-5").is_err());
        assert!(serde_json::from_str::<Bytes>("1.5").is_err());
    }

    proptest! {
        #[test]
        fn printing_then_parsing_gives_the_same(bytes: u64) {
            let bytes = Bytes(bytes);
            prop_assert_eq!(bytes.to_string().parse(), Ok(bytes));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,60}") {
            let _ = text.parse::<Bytes>();
        }

        #[test]
        fn alignment_brackets_the_amount(bytes in 0..u64::MAX / 2, block in 1..1_u64 << 40) {
            let (bytes, block) = (Bytes(bytes), Bytes(block));
            let (down, up) = (bytes.align_down(block), bytes.align_up(block));
            prop_assert!(down <= bytes && bytes <= up);
            prop_assert!(down.is_multiple_of(block) && up.is_multiple_of(block));
            prop_assert!(up.saturating_sub(down) <= block);
        }
    }
}
