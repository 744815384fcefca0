//! The host and its VMs as they change: [`Live`], what `GET /v1/live` tells, and
//! [`LiveState`], what all of it comes to.
//!
//! ```text
//!  event: snapshot   the host and all VMs, first
//!  event: change     the host, the VMs that changed, the names that are gone
//!  event: event      an entry of the event log, as it is written
//!  : keep-alive      nothing was told for 15 s
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EventView, HostView, VmView};

/// Two changes are told with at least this much between, unless asked.
pub const LIVE_INTERVAL_MS: u32 = 1_000;
/// The least that can be asked for.
pub const LIVE_INTERVAL_MIN_MS: u32 = 100;
/// The most that can be asked for.
pub const LIVE_INTERVAL_MAX_MS: u32 = 60_000;

/// The query of `GET /v1/live`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct LiveQuery {
    /// Two changes are told with at least so many milliseconds between,
    /// 100–60000; 1000 if absent. Events are told at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(minimum = 100, maximum = 60_000))]
    pub interval_ms: Option<u32>,
}

impl LiveQuery {
    /// The interval in milliseconds, or a sentence why not.
    pub fn checked_interval_ms(&self) -> Result<u32, String> {
        match self.interval_ms.unwrap_or(LIVE_INTERVAL_MS) {
            interval @ LIVE_INTERVAL_MIN_MS..=LIVE_INTERVAL_MAX_MS => Ok(interval),
            interval => Err(format!(
                "Interval {interval} ms is out of range: ask for {LIVE_INTERVAL_MIN_MS} to {LIVE_INTERVAL_MAX_MS} ms"
            )),
        }
    }
}

/// The host and all VMs at one instant: the data of `event: snapshot`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LiveSnapshot {
    /// The host.
    pub host: HostView,
    /// All VMs, by name.
    pub vms: Vec<VmView>,
}

/// What has changed since what was told before: the data of `event: change`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LiveChange {
    /// The host, whether it changed or not.
    pub host: HostView,
    /// The VMs that changed or are new, each as a whole. Where nothing but time
    /// passed (uptime, since when something lasts) a VM has not changed.
    pub vms: Vec<VmView>,
    /// The names of VMs that are not defined any more.
    pub gone: Vec<String>,
}

/// What is told live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// How things are.
    Snapshot(Box<LiveSnapshot>),
    /// What is another now.
    Change(Box<LiveChange>),
    /// What happened. An id that is left out was lost to this stream, which was
    /// read too slowly: `GET /v1/events` has it.
    Event(EventView),
}

impl Live {
    /// Reads the data of a server-sent event. `None` for a name that is not
    /// known: others may come.
    pub fn read(name: &str, data: &str) -> serde_json::Result<Option<Self>> {
        Ok(Some(match name {
            "snapshot" => Self::Snapshot(serde_json::from_str(data)?),
            "change" => Self::Change(serde_json::from_str(data)?),
            "event" => Self::Event(serde_json::from_str(data)?),
            _ => return Ok(None),
        }))
    }
}

/// The host and all VMs, as all that was told comes to.
#[derive(Clone, Debug, Default)]
pub struct LiveState {
    /// The host.
    pub host: HostView,
    /// All VMs, by name.
    pub vms: BTreeMap<String, VmView>,
}

impl LiveState {
    /// Takes in what was told.
    pub fn apply(&mut self, told: Live) {
        match told {
            Live::Snapshot(snapshot) => {
                self.host = snapshot.host;
                self.vms = snapshot.vms.into_iter().map(|vm| (vm.name.clone(), vm)).collect();
            }
            Live::Change(change) => {
                self.host = change.host;
                self.vms.extend(change.vms.into_iter().map(|vm| (vm.name.clone(), vm)));
                for name in &change.gone {
                    self.vms.remove(name);
                }
            }
            Live::Event(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str, vcpus: u32) -> serde_json::Value {
        serde_json::json!({
            "name": name, "state": "off", "assigned_bytes": 0, "demand_bytes": 0, "target_bytes": 0,
            "vcpus": vcpus, "integration": "none", "driver": {"state": "ok"},
            "settings": {"dynamic": false, "startup_bytes": 0, "minimum_bytes": 0, "maximum_bytes": 0,
                "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
        })
    }

    #[test]
    fn changes_upon_a_snapshot_are_the_state() {
        let mut state = LiveState::default();
        let host = serde_json::to_value(HostView::default()).expect("plain data");
        for (name, data) in [
            ("snapshot", serde_json::json!({"host": host, "vms": [vm("a", 1), vm("b", 1)]})),
            ("change", serde_json::json!({"host": host, "vms": [vm("b", 2), vm("c", 1)], "gone": ["a"]})),
            ("event", serde_json::json!({"id": 1, "time_unix_ms": 0, "kind": "grew", "message": "b grew"})),
        ] {
            let told = Live::read(name, &data.to_string()).expect("right").expect("known");
            state.apply(told);
        }
        let vms: Vec<_> = state.vms.values().map(|vm| (vm.name.as_str(), vm.vcpus)).collect();
        assert_eq!(vms, [("b", 2), ("c", 1)]);
        assert_eq!(Live::read("of-the-future", "?").expect("not read"), None);
        assert!(Live::read("change", "{}").is_err());
    }

    #[test]
    fn an_interval_has_bounds() {
        let checked = |interval_ms| LiveQuery { interval_ms }.checked_interval_ms();
        assert_eq!((checked(None), checked(Some(100)), checked(Some(60_000))), (Ok(1_000), Ok(100), Ok(60_000)));
        for interval in [0, 99, 60_001] {
            assert!(checked(Some(interval)).expect_err("out of range").contains("ask for 100 to 60000 ms"));
        }
    }
}
