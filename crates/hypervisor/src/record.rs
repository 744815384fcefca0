//! [`MachineRecord`]: `machine.json`, what the next daemon must know of a
//! machine and can't ask QEMU.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::ChosenAccelerator;

/// What a machine was launched with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// The VM's name.
    pub name: String,
    /// QEMU's version.
    pub qemu_version: String,
    /// How its processors run.
    pub accelerator: ChosenAccelerator,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory that it was booted with.
    pub boot_bytes: Bytes,
    /// The most that can be hot-added.
    pub plug_max_bytes: Bytes,
    /// The step of hot-adding.
    pub plug_block_bytes: Bytes,
    /// What is charged for the hypervisor itself.
    pub overhead_bytes: Bytes,
    /// The process; 0 for a machine without one.
    pub pid: u32,
    /// When the process was made, in clock ticks since the host booted: tells
    /// it apart from a later process of the same number.
    pub process_start_ticks: u64,
    /// When the machine was launched, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Set between a reset and the guest's balloon driver coming back: the
    /// figure that QEMU still reports from before the reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_balloon_bytes: Option<Bytes>,
    /// How long QEMU's log was at the last reset: what it says of a power-off
    /// before that is history.
    #[serde(default)]
    pub log_bytes_at_reset: u64,
}

/// The longest `machine.json` that is read.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// How much of the parser's complaint is told.
const COMPLAINT_CHARACTERS_MAX: usize = 200;

impl MachineRecord {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let length = fs::metadata(path)?.len();
        if length > RECORD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "file is too large to be a machine's record"));
        }
        Self::from_json(&fs::read(path)?)
    }

    /// Reads a record's text.
    pub fn from_json(text: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(text).map_err(|error| {
            // It quotes what it doesn't know: of any length, and of any characters.
            let complaint = error.to_string();
            let shown = complaint.chars().map(|character| if character.is_control() { '?' } else { character });
            io::Error::new(io::ErrorKind::InvalidData, shown.take(COMPLAINT_CHARACTERS_MAX).collect::<String>())
        })
    }

    /// The record's text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("plain data")
    }

    /// Replaces the file, whole or not at all, even if the host dies.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("json.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&self.to_json())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_record_is_refused_in_a_short_sentence_that_no_terminal_obeys() {
        let text = format!(r#"{{"accelerator":"\u001b[2J\u007f{}"}}"#, "x".repeat(10_000));
        let error = MachineRecord::from_json(text.as_bytes()).expect_err("no such accelerator").to_string();
        assert!(error.starts_with("unknown variant `?[2J?xxx") && error.len() <= 200, "{error}");
    }
}
