//! What a person may set for a VM's memory, and the rules for it.
//!
//! A [`MemorySettings`] value is checked as a whole by [`MemorySettings::check`];
//! a change of a VM that runs is checked by [`MemorySettings::check_change`].
//! A refusal names the setting, the value and the range, and changes nothing.

use std::{fmt, path::PathBuf};

use dynmem_units::{Bytes, Percent, Weight};
use serde::{Deserialize, Serialize};

/// How a VM's demand is estimated from what its guest reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DemandModel {
    /// What can't be reclaimed cheaply, and what swapping and refaults say is
    /// missing.
    #[default]
    WorkingSet,
    /// What the guest has promised to its programs (`Committed_AS`), as
    /// Hyper-V does it.
    Committed,
}

impl fmt::Display for DemandModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::WorkingSet => "working-set",
            Self::Committed => "committed",
        })
    }
}

/// The memory settings of one VM. Sizes are multiples of 2 MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MemorySettings {
    /// Whether memory moves at all. A static VM holds `startup` always.
    pub dynamic: bool,
    /// Memory that the VM boots with.
    #[serde(with = "size_text")]
    #[cfg_attr(feature = "schema", schema(value_type = dynmem_units::SizeText))]
    pub startup: Bytes,
    /// Memory that a booted VM is always guaranteed; at most `startup`.
    #[serde(with = "size_text")]
    #[cfg_attr(feature = "schema", schema(value_type = dynmem_units::SizeText))]
    pub minimum: Bytes,
    /// Memory that the VM never exceeds; at least `startup`.
    #[serde(with = "size_text")]
    #[cfg_attr(feature = "schema", schema(value_type = dynmem_units::SizeText))]
    pub maximum: Bytes,
    /// Per cent of demand kept on top of demand: 5–2000.
    pub buffer: Percent,
    /// Relative claim when not everybody can be served.
    pub weight: Weight,
    /// How demand is estimated.
    pub demand_model: DemandModel,
    /// Where the smart paging file is made when it is needed; the daemon's own
    /// place for such files by default. For the next restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub smart_paging_folder: Option<PathBuf>,
}

/// Sizes are text for people who read the file (`"512MiB"`), and either form
/// is accepted.
mod size_text {
    use dynmem_units::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(size: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(size)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Bytes::deserialize(deserializer)
    }
}

/// The smallest minimum (Hyper-V's own).
pub const MINIMUM_FLOOR: Bytes = Bytes::from_mib(32);
/// The largest maximum: the most guest memory that QEMU addresses comfortably
/// on x86-64 machines with 46 physical address bits, less its own holes.
pub const MAXIMUM_CEILING: Bytes = Bytes::from_mib(32 << 20);
/// The range of the buffer in per cent.
pub const BUFFER_RANGE: std::ops::RangeInclusive<u32> = 5..=2000;

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            dynamic: false,
            startup: Bytes::from_mib(512),
            minimum: Bytes::from_mib(512),
            maximum: Bytes::from_mib(1 << 20),
            buffer: Percent::new(20),
            weight: Weight::default(),
            demand_model: DemandModel::default(),
            smart_paging_folder: None,
        }
    }
}

/// A rule of [`MemorySettings`] that a value broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A size that is not a whole number of blocks.
    #[error("{setting} {value} is not a multiple of 2MiB: the nearest are {} and {}", value.align_down(Bytes::BLOCK), value.align_up(Bytes::BLOCK))]
    Unaligned {
        /// The setting's name.
        setting: &'static str,
        /// What was asked.
        value: Bytes,
    },
    /// A size outside of the range that the other settings leave it.
    #[error(
        "{setting} {value} is out of range: it must be at least {least} ({least_is}) and at most {most} ({most_is})"
    )]
    SizeRange {
        /// The setting's name.
        setting: &'static str,
        /// What was asked.
        value: Bytes,
        /// The lower end.
        least: Bytes,
        /// What the lower end is.
        least_is: &'static str,
        /// The upper end.
        most: Bytes,
        /// What the upper end is.
        most_is: &'static str,
    },
    /// A buffer outside of 5–2000 %.
    #[error("Buffer {0} is out of range: it must be from 5% to 2000%")]
    BufferRange(Percent),
    /// A change that a running VM can't take.
    #[error("{setting} can't change from {from} to {to} while the VM runs: {rule}")]
    Running {
        /// The setting's name.
        setting: &'static str,
        /// What holds now.
        from: String,
        /// What was asked.
        to: String,
        /// What would be allowed.
        rule: &'static str,
    },
    /// A change that this VM could take at another time.
    #[error("{setting} can't change from {from} to {to} while the VM runs: {why}")]
    Now {
        /// The setting's name.
        setting: &'static str,
        /// What holds now.
        from: Bytes,
        /// What was asked.
        to: Bytes,
        /// What is missing, and what would be possible now.
        why: String,
    },
}

impl MemorySettings {
    /// Checks every rule that holds for a VM whether it runs or not.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (setting, value) in [("Startup", self.startup), ("Minimum", self.minimum), ("Maximum", self.maximum)] {
            if !value.is_multiple_of(Bytes::BLOCK) {
                return Err(SettingsError::Unaligned { setting, value });
            }
        }
        let range = |setting, value, (least, least_is), (most, most_is)| {
            if value < least || value > most {
                return Err(SettingsError::SizeRange { setting, value, least, least_is, most, most_is });
            }
            Ok(())
        };
        let (floor, ceiling) = ((MINIMUM_FLOOR, "the smallest VM"), (MAXIMUM_CEILING, "the largest VM"));
        range("Startup", self.startup, floor, ceiling)?;
        if self.dynamic {
            range("Minimum", self.minimum, floor, (self.startup, "startup"))?;
            range("Maximum", self.maximum, (self.startup, "startup"), ceiling)?;
        }
        if !BUFFER_RANGE.contains(&self.buffer.get()) {
            return Err(SettingsError::BufferRange(self.buffer));
        }
        Ok(())
    }

    /// The most memory that a machine with these settings is ever promised: a
    /// static VM's startup, whatever the bounds say that wait for the day on which
    /// it becomes dynamic.
    pub fn most(&self) -> Bytes {
        if self.dynamic { self.maximum.max(self.startup) } else { self.startup }
    }

    /// Checks `new` as the next settings of a VM that runs with `self`, whose
    /// devices reach up to `reach` (boot memory and the virtio-mem device).
    ///
    /// Buffer, weight, demand model and folder may always change, minimum and
    /// maximum of a dynamic VM and the startup of a static one as far as the
    /// machine reaches. Whether that can be honoured now is not said here: see
    /// [`crate::Engine::check_settings`].
    pub fn check_change(&self, new: &Self, reach: Bytes) -> Result<(), SettingsError> {
        new.check()?;
        let refuse = |setting, from: &dyn fmt::Display, to: &dyn fmt::Display, rule| {
            Err(SettingsError::Running { setting, from: from.to_string(), to: to.to_string(), rule })
        };
        if self.dynamic != new.dynamic {
            let word = |on| if on { "on" } else { "off" };
            return refuse("Dynamic memory", &word(self.dynamic), &word(new.dynamic), "the VM must be off");
        }
        if self.dynamic && self.startup != new.startup {
            return refuse("Startup", &self.startup, &new.startup, "the VM must be off");
        }
        // Minimum and maximum of a static VM wait for the day it becomes dynamic.
        let (setting, from, to) =
            if self.dynamic { ("Maximum", self.maximum, new.maximum) } else { ("Startup", self.startup, new.startup) };
        if to > from && to > reach {
            let rule =
                "this machine was started with less room for hot-add; start it again from off to raise it further";
            return refuse(setting, &from, &to, rule);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::de::{
        IntoDeserializer,
        value::{Error, MapDeserializer},
    };

    use super::*;

    fn dynamic() -> MemorySettings {
        MemorySettings {
            dynamic: true,
            startup: Bytes::from_mib(512),
            minimum: Bytes::from_mib(256),
            maximum: Bytes::from_mib(2048),
            ..MemorySettings::default()
        }
    }

    #[test]
    fn the_defaults_keep_every_rule() {
        assert_eq!(MemorySettings::default().check(), Ok(()));
        assert_eq!(MemorySettings { dynamic: true, ..MemorySettings::default() }.check(), Ok(()));
    }

    #[test]
    fn sizes_are_read_as_text_and_as_bytes_and_models_by_name() {
        fn read<'de, V: IntoDeserializer<'de, Error>>(name: &'static str, value: V) -> Result<MemorySettings, Error> {
            MemorySettings::deserialize(MapDeserializer::new(std::iter::once((name, value))))
        }
        let expected = MemorySettings { startup: Bytes::from_mib(1024), ..MemorySettings::default() };
        assert_eq!(read("startup", "1GiB"), Ok(expected.clone()));
        assert_eq!(read("startup", 1_u64 << 30), Ok(expected));
        assert!(read("startup", "much").is_err() && read("start_up", "1GiB").is_err());
        for demand_model in [DemandModel::WorkingSet, DemandModel::Committed] {
            let expected = MemorySettings { demand_model, ..MemorySettings::default() };
            assert_eq!(read("demand_model", demand_model.to_string().as_str()), Ok(expected));
        }
    }

    #[test]
    fn the_ends_of_every_range_are_allowed() {
        for size in [MINIMUM_FLOOR, MAXIMUM_CEILING] {
            let all_one = MemorySettings { startup: size, minimum: size, maximum: size, ..dynamic() };
            assert_eq!(all_one.check(), Ok(()), "{size}");
        }
        for buffer in [5, 2000] {
            assert_eq!(MemorySettings { buffer: Percent::new(buffer), ..dynamic() }.check(), Ok(()), "{buffer}%");
        }
    }

    #[test]
    fn a_refusal_names_rule_value_and_range() {
        let error =
            MemorySettings { minimum: Bytes::from_mib(1024), ..dynamic() }.check().expect_err("minimum > startup");
        assert_eq!(
            error.to_string(),
            "Minimum 1GiB is out of range: it must be at least 32MiB (the smallest VM) and at most 512MiB (startup)"
        );
        let error =
            MemorySettings { maximum: Bytes::from_mib(256), ..dynamic() }.check().expect_err("maximum < startup");
        assert!(error.to_string().starts_with("Maximum 256MiB is out of range: it must be at least 512MiB (startup)"));
        let error = MemorySettings { minimum: Bytes::from_mib(255), ..dynamic() }.check().expect_err("unaligned");
        assert_eq!(error.to_string(), "Minimum 255MiB is not a multiple of 2MiB: the nearest are 254MiB and 256MiB");
        for buffer in [0, 4, 2001, u32::MAX] {
            let error = MemorySettings { buffer: Percent::new(buffer), ..dynamic() }.check().expect_err("buffer");
            assert!(matches!(error, SettingsError::BufferRange(_)));
        }
        assert!(MemorySettings { minimum: Bytes::from_mib(30), ..dynamic() }.check().is_err());
        assert!(MemorySettings { startup: MAXIMUM_CEILING.saturating_add(Bytes::BLOCK), ..dynamic() }.check().is_err());
    }

    #[test]
    fn a_running_vm_takes_what_spec_section_2_allows_and_nothing_else() {
        let reach = Bytes::from_mib(4096);
        let change = |new: MemorySettings| dynamic().check_change(&new, reach);
        let ok = [
            MemorySettings { minimum: Bytes::from_mib(128), ..dynamic() },
            MemorySettings { maximum: reach, ..dynamic() },
            MemorySettings { minimum: Bytes::from_mib(512), ..dynamic() },
            MemorySettings { maximum: Bytes::from_mib(512), ..dynamic() },
            MemorySettings { buffer: Percent::new(50), weight: Weight::MAX, ..dynamic() },
            MemorySettings { demand_model: DemandModel::Committed, ..dynamic() },
            MemorySettings { smart_paging_folder: Some("/fast".into()), ..dynamic() },
        ];
        for new in &ok {
            assert_eq!(change(new.clone()), Ok(()), "{new:?}");
        }
        let fixed = |mib| MemorySettings { dynamic: false, startup: Bytes::from_mib(mib), ..dynamic() };
        for new in [fixed(64), fixed(4096)] {
            assert_eq!(fixed(512).check_change(&new, reach), Ok(()), "the startup of a static VM");
        }
        assert!(matches!(fixed(512).check_change(&fixed(4098), reach), Err(SettingsError::Running { .. })));
        let beyond_reach = dynamic().check_change(&ok[4], Bytes::from_mib(1024));
        assert_eq!(beyond_reach, Ok(()), "a maximum that this machine can't reach may stay");
        let refused = [
            MemorySettings { dynamic: false, ..dynamic() },
            MemorySettings { startup: Bytes::from_mib(514), ..dynamic() },
            MemorySettings { maximum: Bytes::from_mib(4098), ..dynamic() },
        ];
        for new in refused {
            assert!(matches!(change(new.clone()), Err(SettingsError::Running { .. })), "{new:?}");
        }
    }
}
