//! The QMP commands that dynmem uses, typed.
//!
//! A command is a value that serialises to its `arguments`; its
//! [`Command::Reply`] reads only the fields that we need, so that newer QEMUs
//! may say more.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A QMP command: its arguments are the value itself.
pub trait Command: Serialize {
    /// Its name on the wire.
    const NAME: &'static str;
    /// What comes back.
    type Reply: DeserializeOwned;
}

/// The answer of a command that only says that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done;

impl<'de> Deserialize<'de> for Done {
    /// Anything at all: what is in it does not matter.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

macro_rules! plain_commands {
    ($($(#[$doc:meta])* $type:ident = $name:literal -> $reply:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Serialize)]
        pub struct $type {}

        impl Command for $type {
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    )*};
}

plain_commands! {
    /// Ends the negotiation; the client sends it while connecting.
    Capabilities = "qmp_capabilities" -> Done;
    /// Which QEMU this is.
    QueryVersion = "query-version" -> Version;
    /// Whether the machine runs.
    QueryStatus = "query-status" -> Status;
    /// What the balloon leaves of the boot memory.
    QueryBalloon = "query-balloon" -> Balloon;
    /// The memory devices (virtio-mem).
    QueryMemoryDevices = "query-memory-devices" -> Vec<MemoryDevice>;
    /// How much memory the machine was started with.
    QueryMemorySize = "query-memory-size-summary" -> MemorySize;
    /// Whether KVM is used.
    QueryKvm = "query-kvm" -> Kvm;
    /// The virtual processors and their threads.
    QueryCpus = "query-cpus-fast" -> Vec<Cpu>;
    /// Lets the processors stand still.
    Stop = "stop" -> Done;
    /// Lets them go on.
    Cont = "cont" -> Done;
    /// Presses the power button.
    SystemPowerdown = "system_powerdown" -> Done;
    /// Resets the machine, or whatever `-action reboot=` says.
    SystemReset = "system_reset" -> Done;
    /// Ends QEMU.
    Quit = "quit" -> Done;
    /// How far a migration is, outgoing or incoming.
    QueryMigrate = "query-migrate" -> Migration;
    /// Gives an outgoing migration up; the machine can go on.
    MigrateCancel = "migrate_cancel" -> Done;
}

/// Sets the balloon's target.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SetBalloon {
    /// Boot memory less the balloon, in bytes. 0 is ignored by QEMU, and more
    /// than the boot memory is taken as all of it.
    pub value: u64,
}

impl Command for SetBalloon {
    const NAME: &'static str = "balloon";
    type Reply = Done;
}

/// Reads a property of an object.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct QomGet<'a> {
    /// The object's path, such as `/machine/peripheral/vmem0`.
    pub path: &'a str,
    /// The property's name.
    pub property: &'a str,
}

impl Command for QomGet<'_> {
    const NAME: &'static str = "qom-get";
    type Reply = Value;
}

/// Sets a property of an object.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct QomSet<'a> {
    /// The object's path.
    pub path: &'a str,
    /// The property's name.
    pub property: &'a str,
    /// The new value; all that we set are numbers.
    pub value: u64,
}

impl Command for QomSet<'_> {
    const NAME: &'static str = "qom-set";
    type Reply = Done;
}

/// What QEMU does when the guest reboots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RebootAction {
    /// The machine is reset and goes on.
    Reset,
    /// The machine is shut down: with `shutdown=pause`, it is held.
    Shutdown,
}

/// What QEMU does when the machine is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownAction {
    /// QEMU exits.
    Poweroff,
    /// The machine is held.
    Pause,
}

/// Chooses what happens on a reboot and on a shutdown.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SetAction {
    /// On a reboot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reboot: Option<RebootAction>,
    /// On a shutdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ShutdownAction>,
}

impl Command for SetAction {
    const NAME: &'static str = "set-action";
    type Reply = Done;
}

/// Hands QEMU a file under a name; the file goes with the call:
/// [`crate::Client::call_with_file`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GetFd {
    /// The name, which doesn't start with a digit.
    pub fdname: &'static str,
}

impl Command for GetFd {
    const NAME: &'static str = "getfd";
    type Reply = Done;
}

/// How a migration is done.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrateSetParameters {
    /// Bytes a second; 128 MiB by default.
    pub max_bandwidth: u64,
}

impl Command for MigrateSetParameters {
    const NAME: &'static str = "migrate-set-parameters";
    type Reply = Done;
}

/// Begins to write the machine, all that it is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Migrate {
    /// Where to: `fd:` and the name that [`GetFd`] gave.
    pub uri: &'static str,
}

impl Command for Migrate {
    const NAME: &'static str = "migrate";
    type Reply = Done;
}

/// Begins to read what [`Migrate`] wrote, in a QEMU that was started for that.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MigrateIncoming {
    /// Where from: as in [`Migrate`].
    pub uri: &'static str,
}

impl Command for MigrateIncoming {
    const NAME: &'static str = "migrate-incoming";
    type Reply = Done;
}

/// Answer to [`QueryMigrate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Migration {
    /// `setup`, `active`, `device`, `completed`, `failed`, `cancelling`,
    /// `cancelled` …; none if there never was one.
    pub status: Option<String>,
    /// Why it failed.
    pub error_desc: Option<String>,
    /// The memory's part of it.
    pub ram: Option<MigrationRam>,
}

/// How far the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct MigrationRam {
    /// Bytes written.
    pub transferred: u64,
    /// Bytes of the machine's memory to be looked at yet.
    pub remaining: u64,
}

impl Migration {
    /// True while it is under way.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.status.as_deref(), None | Some("none" | "completed" | "failed" | "cancelled"))
    }

    /// True once all is written, or read.
    pub fn is_completed(&self) -> bool {
        self.status.as_deref() == Some("completed")
    }
}

/// Answer to [`QueryVersion`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// The upstream version.
    pub qemu: VersionNumber,
    /// The packager's addition.
    #[serde(default)]
    pub package: String,
}

/// A QEMU version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[expect(missing_docs, reason = "a version number's parts explain themselves")]
pub struct VersionNumber {
    pub major: u32,
    pub minor: u32,
    pub micro: u32,
}

/// Answer to [`QueryStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// `running`, `paused`, `prelaunch`, `shutdown`, `guest-panicked` …
    pub status: String,
}

/// Answer to [`QueryBalloon`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Balloon {
    /// Boot memory less the balloon, in bytes, as the guest's driver claims.
    /// A lying guest can make it negative, which reads as 0.
    #[serde(deserialize_with = "lenient_size")]
    pub actual: u64,
}

/// Answer to [`QueryMemorySize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemorySize {
    /// Boot memory, whatever the balloon holds of it, in bytes.
    pub base_memory: u64,
}

/// Answer to [`QueryKvm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Kvm {
    /// Whether this machine uses it.
    pub enabled: bool,
}

/// Answer to [`QueryCpus`]: one per virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    /// Its number.
    pub cpu_index: u32,
    /// The host's thread that runs it.
    pub thread_id: u32,
}

/// Answer to [`QueryMemoryDevices`]: one per device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MemoryDevice {
    /// `virtio-mem`, `dimm` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Its properties.
    #[serde(default)]
    pub data: Map<String, Value>,
}

/// The figures of one virtio-mem device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtioMem {
    /// The device's id.
    pub id: String,
    /// What is plugged, in bytes.
    pub size: u64,
    /// What was last asked for, in bytes.
    pub requested_size: u64,
    /// The most that can be plugged, in bytes.
    pub max_size: u64,
    /// The smallest step, in bytes.
    pub block_size: u64,
}

impl MemoryDevice {
    /// The device's figures, if it is a virtio-mem device.
    pub fn virtio_mem(&self) -> Option<VirtioMem> {
        let figure = |name| self.data.get(name).and_then(Value::as_u64);
        (self.kind == "virtio-mem").then_some(())?;
        Some(VirtioMem {
            id: self.data.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            size: figure("size")?,
            requested_size: figure("requested-size")?,
            max_size: figure("max-size")?,
            block_size: figure("block-size")?,
        })
    }
}

/// The balloon driver's statistics (`guest-stats`). A figure that the guest
/// does not give is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestStats {
    /// When the guest last answered, seconds since 1970 by the host's clock; 0
    /// for never.
    pub last_update_seconds: u64,
    /// Memory that the guest's memory manager has, bytes.
    pub total: Option<u64>,
    /// Memory that programs can get without swapping, bytes.
    pub available: Option<u64>,
    /// Memory that nothing uses, bytes.
    pub free: Option<u64>,
    /// Memory that caches of file contents use, bytes.
    pub disk_caches: Option<u64>,
    /// Read back from swap since boot, bytes.
    pub swap_in: Option<u64>,
    /// Page faults that needed the disk, since boot.
    pub major_faults: Option<u64>,
}

impl GuestStats {
    /// Reads the value of the balloon's property `guest-stats`.
    pub fn from_value(value: &Value) -> Option<Self> {
        let stats = value.get("stats")?;
        // QEMU prints "unknown" as −1 or as 2⁶⁴ − 1, by version.
        let figure = |name| stats.get(name).and_then(Value::as_u64).filter(|figure| *figure != u64::MAX);
        Some(Self {
            last_update_seconds: value.get("last-update").and_then(Value::as_u64)?,
            total: figure("stat-total-memory"),
            available: figure("stat-available-memory"),
            free: figure("stat-free-memory"),
            disk_caches: figure("stat-disk-caches"),
            swap_in: figure("stat-swap-in"),
            major_faults: figure("stat-major-faults"),
        })
    }
}

fn lenient_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    Ok(number.as_u64().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_its_arguments() {
        let arguments = |value: Value| serde_json::to_string(&value).expect("plain data");
        assert_eq!(arguments(json!(Stop {})), "{}");
        let action = SetAction { reboot: Some(RebootAction::Shutdown), shutdown: None };
        assert_eq!(arguments(json!(action)), r#"{"reboot":"shutdown"}"#);
    }

    #[test]
    fn a_migration_is_under_way_until_it_has_come_to_an_end() {
        let read = |value| serde_json::from_value::<Migration>(value).expect("an answer");
        for status in ["setup", "active", "device", "cancelling", "a-new-word"] {
            assert!(read(json!({"status": status})).is_under_way(), "{status}");
        }
        for value in [json!({}), json!({"status": "none"}), json!({"status": "completed", "x": 1})] {
            assert!(!read(value).is_under_way());
        }
        let failed =
            read(json!({"status": "failed", "error-desc": "No space", "ram": {"transferred": 7, "remaining": 9}}));
        assert_eq!((failed.is_under_way(), failed.error_desc.as_deref()), (false, Some("No space")));
        assert_eq!(failed.ram, Some(MigrationRam { transferred: 7, remaining: 9 }));
    }

    #[test]
    fn unknown_statistics_are_none_whichever_way_qemu_prints_them() {
        let value = json!({"last-update": 7, "stats": {
            "stat-total-memory": 1000, "stat-free-memory": -1, "stat-swap-in": u64::MAX, "stat-new": 1,
        }});
        let stats = GuestStats::from_value(&value).expect("statistics");
        assert_eq!(stats, GuestStats { last_update_seconds: 7, total: Some(1000), ..GuestStats::default() });
        assert_eq!(GuestStats::from_value(&json!("garbage")), None);
    }

    #[test]
    fn a_guest_that_claims_an_impossible_balloon_reads_as_nothing_left() {
        let balloon: Balloon = serde_json::from_value(json!({"actual": -4096})).expect("a balloon");
        assert_eq!(balloon.actual, 0);
    }

    #[test]
    fn a_virtio_mem_device_is_found_among_others() {
        let devices: Vec<MemoryDevice> = serde_json::from_value(json!([
            {"type": "dimm", "data": {"size": 1}},
            {"type": "sgx-epc"},
            {"type": "virtio-mem", "data": {"id": "vmem0", "size": 4, "requested-size": 6, "max-size": 8, "block-size": 2, "node": 0}},
        ]))
        .expect("devices");
        let found: Vec<_> = devices.iter().filter_map(MemoryDevice::virtio_mem).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].size, found[0].requested_size, found[0].max_size), (4, 6, 8));
    }
}
