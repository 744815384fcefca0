//! What becomes of a VM when its host has come up: [`AutostartView`], and
//! [`AutostartPatch`] to change it.

use std::fmt;

use dynmem_definition::Autostart;
use serde::{Deserialize, Serialize};

/// What becomes of a VM when its host has come up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AutostartView {
    /// What is done with it.
    pub action: Autostart,
    /// So long after the daemon's start, seconds.
    pub delay_seconds: u32,
    /// The host has come up, and the VM starts by itself in so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_in_seconds: Option<u64>,
}

/// `start-if-running after 30 s`, and when that is if it is about to happen.
impl fmt::Display for AutostartView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, delay_seconds, starts_in_seconds } = self;
        write!(f, "{action}")?;
        if *delay_seconds > 0 {
            write!(f, " after {delay_seconds} s")?;
        }
        starts_in_seconds.iter().try_for_each(|seconds| write!(f, " (starts in {seconds} s)"))
    }
}

/// The body of `PATCH /v1/vms/{name}/autostart`. What is absent stays as it
/// is. Taken in every state of the VM, for the next time the host comes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AutostartPatch {
    /// What is done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart: Option<Autostart>,
    /// So long after the daemon's start, seconds, 0–86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(maximum = 86_400))]
    pub start_delay: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_changes_and_no_more() {
        let patch: AutostartPatch = serde_json::from_str(r#"{"autostart": "start-if-running"}"#).expect("a change");
        assert_eq!(patch, AutostartPatch { autostart: Some(Autostart::StartIfRunning), start_delay: None });
        assert_eq!(serde_json::to_string(&patch).expect("plain data"), r#"{"autostart":"start-if-running"}"#);
        assert!(serde_json::from_str::<AutostartPatch>(r#"{"auto_start": "start"}"#).is_err());
    }
}
