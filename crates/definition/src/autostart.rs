//! [`Autostart`]: what becomes of a VM when its host has come up again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest [`crate::VmDefinition::start_delay`]: a day.
pub const START_DELAY_SECONDS_MAX: u32 = 86_400;

/// What is done with a VM when the host has come up.
///
/// By default what ran goes on running, as in Hyper-V: a restart of the host
/// then ends in what was there before it, and a VM that nobody had started
/// takes nobody's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Autostart {
    /// It stays off.
    Nothing,
    /// It is started if it ran when the host went down.
    #[default]
    StartIfRunning,
    /// It is started.
    Start,
}

impl Autostart {
    /// The word, as files and JSON have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::StartIfRunning => "start-if-running",
            Self::Start => "start",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Autostart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
