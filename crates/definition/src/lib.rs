//! What a VM is: its hardware and its memory settings, as a person writes them
//! in a TOML file and as the store keeps them.
//!
//! Reading goes text → [`VmDefinition::from_toml`] → a value that keeps every
//! rule; nothing downstream checks again.

use std::path::PathBuf;

use dynmem_core::MemorySettings;
use serde::{Deserialize, Serialize};

/// One VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmDefinition {
    /// 1–63 letters, digits, `-`, `_` and `.`, starting with a letter or digit.
    pub name: String,
    /// Virtual processors, 1–255.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// KVM, emulation, or what works.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// What the machine boots.
    #[serde(default)]
    pub boot: Boot,
    /// Disks in boot order.
    #[serde(default, rename = "disk", skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Network interfaces.
    #[serde(default, rename = "network", skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// A VNC display such as `127.0.0.1:5`; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc: Option<String>,
    /// Passed to QEMU as they are, after everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_args: Vec<String>,
    /// Memory.
    #[serde(default)]
    pub memory: MemorySettings,
}

fn one() -> u32 {
    1
}

/// How the machine's processors run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// A firmware image instead of QEMU's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<PathBuf>,
    /// A Linux kernel to boot directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// Its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
}

/// A disk image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its file.
    pub path: PathBuf,
    /// Its format.
    #[serde(default)]
    pub format: DiskFormat,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// Format of a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
