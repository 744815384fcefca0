//! One VM as people see it: [`VmView`].

use std::{fmt, path::PathBuf};

use dynmem_core::{DemandModel, MemorySettings};
use dynmem_units::{Bytes, Percent, Weight};
use serde::{Deserialize, Serialize};

use crate::{AdviceView, AutostartView, MeterView};

/// One VM: the answer of `GET /v1/vms/{name}` and of everything that changes a
/// VM. A VM that is off has zero sizes and none of the optional fields that
/// describe a running machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VmView {
    /// Its name.
    pub name: String,
    /// What it does now.
    pub state: VmState,
    /// Why it is in this state, a sentence; always there for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    /// Memory that the host lends to it now.
    pub assigned_bytes: Bytes,
    /// Memory that the guest needs now, without buffer.
    pub demand_bytes: Bytes,
    /// Demand and buffer, between minimum and maximum.
    pub target_bytes: Bytes,
    /// Demand ÷ assigned; 100 is exactly enough. Absent without a demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure_percent: Option<Percent>,
    /// Whether demand and buffer are met. Absent for off and static VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_status: Option<MemoryStatus>,
    /// (assigned − demand) ÷ assigned; negative when short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_available_percent: Option<i64>,
    /// Buffer held ÷ the buffer that the settings ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_percent_held: Option<Percent>,
    /// What the guest's memory manager says it has. With a balloon this is a
    /// high-water mark: `assigned_bytes` is right where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_visible_bytes: Option<Bytes>,
    /// What the guest's programs can get without swapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_available_bytes: Option<Bytes>,
    /// Share of the last moments in which some task of the guest waited for
    /// memory (PSI `some`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_stall_percent: Option<Percent>,
    /// Size of the guest's swap, if its agent tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_swap_bytes: Option<Bytes>,
    /// Memory that the balloon holds for the host.
    #[serde(default)]
    pub ballooned_bytes: Bytes,
    /// Memory that was hot-added and is still there.
    #[serde(default)]
    pub plugged_bytes: Bytes,
    /// The hypervisor's own memory for this VM, charged on top of assigned.
    #[serde(default)]
    pub overhead_bytes: Bytes,
    /// Whether `overhead_bytes` was measured; else it is an estimate.
    #[serde(default)]
    pub overhead_measured: bool,
    /// What the ledger counts for this VM: the larger of what it holds and what
    /// it was promised, and overhead.
    #[serde(default)]
    pub charged_bytes: Bytes,
    /// Guest memory that the host really backs, read every ten seconds. Less
    /// than assigned where the guest has not touched it, or has given it back by
    /// free page reporting. Absent where it can't be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<Bytes>,
    /// The most that the hypervisor's process may hold, guest and overhead and
    /// some room; what takes more is killed by the kernel. Absent without a
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<Bytes>,
    /// Seconds since the machine was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// Processor time used lately; 100 is one host processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<Percent>,
    /// Virtual processors.
    pub vcpus: u32,
    /// `kvm` or `tcg`, for a machine that was launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Who reports from inside the guest.
    pub integration: Integration,
    /// Whether the guest's memory drivers do what they are asked.
    pub driver: DriverView,
    /// All that is wrong with its guest, in the order in which it began. Each
    /// is an event when it begins, and one when it is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<TroubleView>,
    /// What it held when it was saved, and holds again once it is started.
    /// Absent unless it is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_bytes: Option<Bytes>,
    /// What a person set.
    pub settings: SettingsView,
    /// What becomes of it when its host has come up.
    #[serde(default)]
    pub autostart: AutostartView,
    /// The file that backs a restart when memory is short.
    #[serde(default)]
    pub smart_paging: SmartPagingView,
    /// Unix socket of the serial console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub console_path: Option<PathBuf>,
    /// Unix socket of a QMP monitor for other tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub monitor_path: Option<PathBuf>,
    /// QEMU's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What was done for it since it was started.
    #[serde(default)]
    pub counters: VmCounters,
    /// Its memory over a period, while that is metered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<MeterView>,
    /// Sentences about what deserves attention.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What could be set better, the most important first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<AdviceView>,
}

/// What a VM does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// No machine and no memory.
    #[default]
    Off,
    /// Memory is made available and QEMU launched.
    Starting,
    /// The guest boots; its memory does not move yet.
    Booting,
    /// The guest is up.
    Running,
    /// Halted, with its memory kept.
    Paused,
    /// Asked to end.
    Stopping,
    /// Its memory is written to a file; it stands still.
    Saving,
    /// Off, with all that its machine was in a file: a start goes on from there.
    Saved,
    /// The machine could not be started or ended by itself with an error.
    Failed,
}

impl VmState {
    /// The word, as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Saving => "saving",
            Self::Saved => "saved",
            Self::Failed => "failed",
        }
    }

    /// True if a machine exists, or is about to.
    pub const fn is_on(self) -> bool {
        !matches!(self, Self::Off | Self::Saved | Self::Failed)
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a dynamic VM has the memory it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MemoryStatus {
    /// Demand and buffer are met.
    Ok,
    /// Demand is met, the buffer is not.
    Warning,
    /// Demand exceeds what is assigned.
    Low,
}

impl MemoryStatus {
    /// The word, as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for MemoryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who reports from inside the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Integration {
    /// `dynmem-agent`: complete and immediate.
    #[serde(rename = "agent")]
    Agent,
    /// The balloon driver alone: slower, and less is known.
    #[serde(rename = "balloon statistics (degraded)")]
    BalloonStatistics,
    /// Nobody.
    #[default]
    #[serde(rename = "none")]
    None,
}

impl Integration {
    /// The words, as JSON has them.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::BalloonStatistics => "balloon statistics (degraded)",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Integration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether the guest's memory drivers do what they are asked:
/// `{"state":"ok"}`, or
/// `{"state":"frozen","reason":"The balloon does not move","since_seconds":12}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum DriverView {
    /// They do, or the VM is off.
    #[default]
    Ok,
    /// They do not: the VM is treated as static at what it holds until they
    /// respond.
    Frozen {
        /// A sentence.
        reason: String,
        /// For how long.
        since_seconds: u64,
    },
}

/// Something that is wrong with a guest:
/// `{"kind":"stuck","since_seconds":12,"detail":"It does not move its memory: …"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TroubleView {
    /// What, in a word, as the event when it begins: `no-driver`, `stuck`,
    /// `pinned`, `silent`, `implausible`, `agent-refused`, `agent-floods`,
    /// `at-memory-limit`, `balloon-emptied`; others may come.
    pub kind: String,
    /// For how long.
    pub since_seconds: u64,
    /// A sentence.
    pub detail: String,
}

/// What a person set for a VM's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SettingsView {
    /// Whether memory moves at all.
    pub dynamic: bool,
    /// Memory that the VM boots with.
    pub startup_bytes: Bytes,
    /// Memory that a booted VM is always guaranteed.
    pub minimum_bytes: Bytes,
    /// Memory that the VM never exceeds.
    pub maximum_bytes: Bytes,
    /// Per cent of demand kept on top of demand, 5–2000.
    pub buffer_percent: Percent,
    /// Relative claim when not everybody can be served, 1–10000.
    pub weight: Weight,
    /// How demand is estimated.
    pub demand_model: DemandModel,
    /// Where the smart paging file is made when it is needed, if a person
    /// chose a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub smart_paging_folder: Option<PathBuf>,
}

impl From<&MemorySettings> for SettingsView {
    fn from(settings: &MemorySettings) -> Self {
        let MemorySettings { dynamic, startup, minimum, maximum, buffer, weight, demand_model, smart_paging_folder } =
            settings;
        Self {
            dynamic: *dynamic,
            startup_bytes: *startup,
            minimum_bytes: *minimum,
            maximum_bytes: *maximum,
            buffer_percent: *buffer,
            weight: *weight,
            demand_model: *demand_model,
            smart_paging_folder: smart_paging_folder.clone(),
        }
    }
}

/// In a line, with exact sizes.
impl fmt::Display for SettingsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { startup_bytes, minimum_bytes, maximum_bytes, buffer_percent, weight, demand_model, .. } = self;
        write!(
            f,
            "dynamic {}, startup {startup_bytes}, minimum {minimum_bytes}, maximum {maximum_bytes}, \
             buffer {buffer_percent}, weight {weight}, demand model {demand_model}",
            if self.dynamic { "on" } else { "off" },
        )?;
        self.smart_paging_folder.iter().try_for_each(|folder| write!(f, ", smart paging folder {}", folder.display()))
    }
}

/// The file that backs a restart when memory is short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SmartPagingView {
    /// Where it is or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub path: Option<PathBuf>,
    /// Whether the VM runs on it now.
    pub in_use: bool,
    /// Its size, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<Bytes>,
    /// The part of it that the VM's memory lies in: Hyper-V's Smart Paging
    /// Working Set Size.
    #[serde(default)]
    pub used_bytes: Bytes,
    /// For how long it has been there, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// Whether it has been there for longer than it should.
    #[serde(default)]
    pub overdue: bool,
}

/// What was done for a VM since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct VmCounters {
    /// Memory given, in sum.
    pub added_bytes: Bytes,
    /// Memory taken back, in sum.
    pub removed_bytes: Bytes,
    /// How often memory was given.
    pub add_operations: u64,
    /// How often memory was taken back.
    pub remove_operations: u64,
    /// Lowest pressure seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_minimum_percent: Option<Percent>,
    /// Average pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_average_percent: Option<Percent>,
    /// Highest pressure seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_maximum_percent: Option<Percent>,
    /// The most memory that the guest ever saw since power-on.
    pub guest_high_water_bytes: Bytes,
    /// Reports of its agent that were believed.
    pub reports_taken: u64,
    /// Messages of its agent that were refused.
    pub reports_refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_json(value: &impl Serialize) -> String {
        serde_json::to_string(value).expect("plain data")
    }

    #[test]
    fn every_word_on_the_screen_is_the_word_in_json() {
        for state in [
            VmState::Off,
            VmState::Starting,
            VmState::Booting,
            VmState::Running,
            VmState::Paused,
            VmState::Stopping,
            VmState::Saving,
            VmState::Saved,
            VmState::Failed,
        ] {
            assert_eq!(to_json(&state), format!("\"{state}\""));
        }
        for status in [MemoryStatus::Ok, MemoryStatus::Warning, MemoryStatus::Low] {
            assert_eq!(to_json(&status), format!("\"{status}\""));
        }
        for integration in [Integration::Agent, Integration::BalloonStatistics, Integration::None] {
            assert_eq!(to_json(&integration), format!("\"{integration}\""));
        }
    }

    #[test]
    fn the_driver_is_ok_or_names_its_reason() {
        assert_eq!(to_json(&DriverView::Ok), r#"{"state":"ok"}"#);
        let frozen = DriverView::Frozen { reason: "The balloon does not move".into(), since_seconds: 12 };
        let json = to_json(&frozen);
        assert_eq!(json, r#"{"state":"frozen","reason":"The balloon does not move","since_seconds":12}"#);
        assert_eq!(serde_json::from_str::<DriverView>(&json).expect("what we wrote"), frozen);
    }

    #[test]
    fn a_vm_that_is_off_needs_few_fields_and_new_fields_are_ignored() {
        let json = r#"{"name":"web01","state":"off","assigned_bytes":0,"demand_bytes":0,"target_bytes":0,"vcpus":1,
            "integration":"none","driver":{"state":"ok"},"from_the_future":[1],
            "settings":{"dynamic":false,"startup_bytes":536870912,"minimum_bytes":536870912,
            "maximum_bytes":1073741824,"buffer_percent":20,"weight":5000,"demand_model":"working-set"}}"#;
        let vm: VmView = serde_json::from_str(json).expect("a small view");
        assert_eq!(vm.settings.startup_bytes, Bytes::from_mib(512));
        assert!(!vm.state.is_on());
        let text = to_json(&vm);
        assert_eq!(serde_json::from_str::<VmView>(&text).expect("what we wrote"), vm);
        assert_eq!(
            vm.settings.to_string(),
            "dynamic off, startup 512MiB, minimum 512MiB, maximum 1GiB, buffer 20%, weight 5000, demand model working-set"
        );
    }
}
