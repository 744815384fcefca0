//! What a VM is: its hardware and its memory settings, as a person writes them
//! in a TOML file, as the API carries them, and as the store keeps them.
//!
//! A file goes text → [`VmDefinition::from_toml`] → a value that keeps every
//! rule. A JSON body goes through the same serde types and then
//! [`VmDefinition::check`]. Nothing downstream checks again, with one
//! exception: **paths and names may hold commas, which part QEMU's options**.
//! Whoever builds an option such as `file=…` must double each comma of a path
//! (`a,b` → `a,,b`). Everything else that ends in an option list (`vnc`,
//! `forward`, `mac`, device and bridge names, the VM's name) is checked to
//! hold none.
//!
//! | module | what it is for |
//! |---|---|
//! | [`rules`](RuleError) | what a definition may say, whatever it came in |
//! | [`text`](DefinitionError) | TOML in and out, faults with line and column |
//! | [`pattern`](NamePattern) | naming several VMs at once: `Dev-*` |
//! | [`autostart`](Autostart) | what the daemon does with a VM when the host has come up |

mod autostart;
mod nearest;
mod pattern;
mod rules;
mod text;

use std::path::PathBuf;

use dynmem_core::MemorySettings;
use serde::{Deserialize, Serialize};

pub use autostart::{Autostart, START_DELAY_SECONDS_MAX};
pub use nearest::nearest;
pub use pattern::{NamePattern, NamePatternError, wildcard};
pub use rules::{RuleError, check_name};
pub use text::{DefinitionError, Problem};

/// One VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VmDefinition {
    /// 1–63 letters, digits, `-`, `_` and `.`, starting with a letter or digit.
    pub name: String,
    /// What is done with it when the host has come up.
    #[serde(default, skip_serializing_if = "Autostart::is_default")]
    pub autostart: Autostart,
    /// So long after the daemon's start, in seconds: 0–86400.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "schema", schema(maximum = 86_400))]
    pub start_delay: u32,
    /// Virtual processors, 1–255.
    #[serde(default = "one")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 255))]
    pub vcpus: u32,
    /// KVM, emulation, or what works.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// What the machine boots.
    #[serde(default, skip_serializing_if = "Boot::is_default")]
    pub boot: Boot,
    /// Disks in boot order, at most 32.
    #[serde(default, rename = "disk", skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Network interfaces, at most 16.
    #[serde(default, rename = "network", skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// A VNC display such as `127.0.0.1:5`, or a socket such as
    /// `unix:/run/web01.vnc`; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc: Option<String>,
    /// Passed to QEMU as they are, after everything else. At most 256, and
    /// none that this definition has a setting for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_args: Vec<String>,
    /// Memory.
    #[serde(default)]
    pub memory: MemorySettings,
}

impl VmDefinition {
    /// A VM of this name with the defaults: static, without disks or
    /// networks. Nothing is checked.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            autostart: Autostart::default(),
            start_delay: 0,
            vcpus: one(),
            accelerator: Accelerator::default(),
            boot: Boot::default(),
            disks: Vec::new(),
            networks: Vec::new(),
            vnc: None,
            extra_args: Vec::new(),
            memory: MemorySettings::default(),
        }
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How the machine's processors run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM where it is proven to work, emulation otherwise.
    #[default]
    Auto,
    /// Hardware virtualisation; an error where it does not work.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// What the machine boots: a kernel given directly, else firmware and disks.
/// With both, the given firmware starts the given kernel, as QEMU does it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// A firmware image instead of QEMU's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub firmware: Option<PathBuf>,
    /// A Linux kernel to boot directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub initrd: Option<PathBuf>,
    /// Its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
}

impl Boot {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A disk image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its file, an absolute path.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub path: PathBuf,
    /// Its format.
    #[serde(default)]
    pub format: DiskFormat,
    /// Whether the guest may only read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Format of a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// QEMU's own.
    #[default]
    Qcow2,
    /// The bare bytes.
    Raw,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub enum Network {
    /// QEMU's own network translation; needs no privileges.
    User {
        /// Port forwards as QEMU writes them: `tcp:127.0.0.1:2222-:22`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        forward: Vec<String>,
        /// The interface's address, chosen by QEMU if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    },
    /// A tap device that exists already.
    Tap {
        /// Its name.
        device: String,
        /// The interface's address, chosen by QEMU if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    },
    /// A host bridge, through QEMU's bridge helper.
    Bridge {
        /// Its name.
        bridge: String,
        /// The interface's address, chosen by QEMU if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    },
}
