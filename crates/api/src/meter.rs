//! Resource metering: how much memory a VM had over a period, on average, at
//! least and at most ([`MeterView`]); and what several VMs had together
//! ([`MeterPool`]).

use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::VmView;

/// What was metered of one VM: the answer of `GET /v1/vms/{name}/meter`.
///
/// Only the time counts in which the VM holds memory and the daemon runs: a VM
/// that is off has no average of zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MeterView {
    /// When the period began, in milliseconds since 1970-01-01 UTC.
    pub since_unix_ms: u64,
    /// How long it has lasted.
    pub period_seconds: u64,
    /// The part of it in which the VM was seen to hold memory.
    pub measured_seconds: u64,
    /// Assigned memory on average, weighted by time. Absent, as the other two,
    /// while the VM has not held any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_bytes: Option<Bytes>,
    /// The least that it was assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_bytes: Option<Bytes>,
    /// The most that it was assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_bytes: Option<Bytes>,
}

/// What several VMs had together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterPool {
    /// How many VMs were metered, and held memory.
    pub vms: u64,
    /// The sum of their averages.
    pub average_bytes: Bytes,
}

impl MeterPool {
    /// The pool of those of `vms` that are metered.
    pub fn of(vms: &[VmView]) -> Self {
        let averages = || vms.iter().filter_map(|vm| vm.meter.as_ref()?.average_bytes);
        Self { vms: averages().count() as u64, average_bytes: averages().sum() }
    }
}
