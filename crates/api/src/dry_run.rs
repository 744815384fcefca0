//! What would happen: [`DryRunView`], the answer to a change that is asked with
//! `?dry_run=true`.

use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::MemoryStatus;

/// The query of a change that can be tried: `PATCH /v1/vms/{name}/memory`,
/// `POST /v1/vms/{name}/start`, `POST /v1/vms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct ChangeQuery {
    /// Says what would happen, and changes nothing.
    pub dry_run: bool,
}

/// What would come of a change, if guests give and take what they are asked and
/// need what they need now. Nothing was changed, written or told to anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DryRunView {
    /// Whether the change would be accepted.
    pub accepted: bool,
    /// Why not, the sentence that the change itself would be refused with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What can be lent now.
    pub available_bytes: Bytes,
    /// What could be lent afterwards.
    pub available_after_bytes: Bytes,
    /// Whether it would have to wait until other VMs have given memory back.
    pub waits: bool,
    /// Memory that other VMs would give back, in sum.
    pub reclaimed_bytes: Bytes,
    /// The VMs whose memory would be another one than without the change.
    pub vms: Vec<DryRunVm>,
}

/// A VM whose memory would be another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DryRunVm {
    /// Its name.
    pub name: String,
    /// Memory that it is promised now.
    pub now_bytes: Bytes,
    /// Memory that it would be promised.
    pub then_bytes: Bytes,
    /// Whether it would have what it needs. Absent for static VMs and such as
    /// do not run yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_status: Option<MemoryStatus>,
    /// The size of the file to which a part of its memory would be paged.
    /// Absent if none would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paged_bytes: Option<Bytes>,
}
