//! Workloads: what a guest's programs need over time.
//!
//! A workload is a pure function of time, so a world may step as finely as it
//! likes and two policies see the same need at the same instant.

use dynmem_units::Bytes;

/// What a guest's programs want at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Anonymous memory in use: lost memory must be swapped in again.
    pub anonymous: Bytes,
    /// File pages in constant use: lost pages must be read again.
    pub hot_file: Bytes,
    /// Files read once: fills the page cache, and is not missed.
    pub file_read_per_second: Bytes,
    /// Memory promised to programs beyond what they use (`Committed_AS` less
    /// what is anonymous).
    pub committed_beyond: Bytes,
}

impl Need {
    /// What must be resident for the guest to run at full speed, its kernel
    /// excluded.
    pub fn working_set(&self) -> Bytes {
        self.anonymous.saturating_add(self.hot_file)
    }
}
