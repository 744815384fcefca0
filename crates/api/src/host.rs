//! The host as people see it: [`HostView`].

use std::path::PathBuf;

use dynmem_units::{Bytes, Percent};
use serde::{Deserialize, Serialize};

use crate::AdviceView;

/// The host's memory and who has it: the answer of `GET /v1/host`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct HostView {
    /// Memory that there is to lend, the reserve included.
    pub memory_bytes: Bytes,
    /// Memory kept for the host itself.
    pub reserve_bytes: Bytes,
    /// Where that figure comes from.
    pub reserve_by: ReserveBy,
    /// The part of the reserve that machines hold which were found running and
    /// that this daemon can't take over.
    pub out_of_reach_bytes: Bytes,
    /// The most that may be lent now: memory − reserve, or less while others
    /// use the host's memory.
    pub lendable_bytes: Bytes,
    /// Available memory that the host keeps while others use it: 1/50 of its
    /// memory, 128 MiB to 2 GiB, and twice that while it stalls.
    pub floor_bytes: Bytes,
    /// What all machines' processes really hold, QEMU's own memory included.
    /// Memory that was lent and not touched is not in it. Absent where there
    /// are no memory groups to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machines_hold_bytes: Option<Bytes>,
    /// Why less may be lent now than memory − reserve, if it may: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protection: Option<String>,
    /// Everything charged to VMs: held or promised, and overhead.
    pub charged_bytes: Bytes,
    /// What can still be lent: lendable − charged.
    pub available_bytes: Bytes,
    /// Available, and what VMs hold beyond their targets.
    pub available_for_balancing_bytes: Bytes,
    /// Sum of what VMs hold.
    pub assigned_bytes: Bytes,
    /// Sum of the hypervisor's own memory.
    pub overhead_bytes: Bytes,
    /// VMs that are on.
    pub vms_running: u64,
    /// VMs that are defined.
    pub vms_total: u64,
    /// Average pressure of the VMs that report one.
    pub average_pressure_percent: Percent,
    /// Sum of demands ÷ sum of assigned.
    pub system_pressure_percent: Percent,
    /// What the host's kernel says is available to programs.
    pub host_available_bytes: Bytes,
    /// Share of the last ten seconds in which some task of the host waited
    /// for memory.
    pub stall_percent: Percent,
    /// What was done since the daemon was started.
    pub counters: HostCounters,
    /// `kvm` or `tcg`: what `auto` chooses here.
    pub accelerator: String,
    /// QEMU's version.
    pub qemu_version: String,
    /// Whether the host is short of memory and takes some back.
    pub under_pressure: bool,
    /// Whether machines are limited to what they were lent.
    pub memory_limits: MemoryLimits,
    /// Whether restarts without memory get through.
    pub smart_paging: HostPagingView,
    /// Definitions that could not be read. The other VMs are not affected.
    pub damaged_definitions: Vec<DamagedDefinition>,
    /// What could be set better.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<AdviceView>,
}

/// Where the size of the host's reserve comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ReserveBy {
    /// 384 MiB, and 30 MiB for each GiB of memory.
    #[default]
    Formula,
    /// `host.reserve` in the daemon's settings.
    Setting,
}

/// Whether machines are limited to what they were lent: `{"state":"off"}`,
/// `{"state":"on","folder":"/sys/fs/cgroup/dynmem/…"}`, or
/// `{"state":"unavailable","reason":"…"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum MemoryLimits {
    /// They are not, as the settings want it.
    #[default]
    Off,
    /// Each has a memory group.
    On {
        /// The folder of the groups.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        folder: PathBuf,
    },
    /// They should be, and can't.
    Unavailable {
        /// Why, a sentence.
        reason: String,
    },
}

/// Whether a VM can restart on a file where there is no memory for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct HostPagingView {
    /// Whether this host can do it.
    pub possible: bool,
    /// Where the files are made, unless a VM has a folder of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub folder: Option<PathBuf>,
    /// Why it is not possible, or what deserves attention; a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// What was done for all VMs since the daemon was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct HostCounters {
    /// Memory given, in sum.
    pub added_bytes: Bytes,
    /// Memory taken back, in sum.
    pub removed_bytes: Bytes,
    /// How often memory was given.
    pub add_operations: u64,
    /// How often memory was taken back.
    pub remove_operations: u64,
}

/// A definition that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DamagedDefinition {
    /// The file.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub path: PathBuf,
    /// What is wrong, and where.
    pub error: String,
}

/// Who answers: `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VersionView {
    /// The daemon's version, such as `0.1.0`.
    pub version: String,
}
