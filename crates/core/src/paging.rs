//! Smart Paging of one machine: a part of its memory is in a file.
//!
//! ```text
//!   held, and short of boot memory ──BeginPaging──▶ beginning ──began──▶ active ──EndPaging──▶ ending ──ended──▶ (none)
//!                                                       │ failed            ▲                    │ failed
//!                                                       ▼                   └────────────────────┘
//!                                                  held, as before
//! ```
//! While a machine pages, its *promise* is what it may hold in memory: that is
//! all it is charged for, and what the host limits it to. Its devices hold more:
//! the rest is in the file. Once the guest has booted, the balloon takes that
//! rest from it; then nothing needs the file any more.

use dynmem_units::Bytes;

use crate::Instant;

/// A file that is in use for longer than this is overdue (spec section 4).
pub(crate) const OVERDUE_MS: u64 = 600_000;
/// A file that could not be made, or not be emptied, is tried again after this.
pub(crate) const RETRY_MS: u64 = 30_000;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The file is being made; the machine is held.
    Beginning,
    /// The file is there.
    Active,
    /// The file is being emptied.
    Ending,
}

/// A machine's file.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    pub(crate) phase: Phase,
    pub(crate) since: Instant,
    /// Its size.
    pub(crate) file: Bytes,
    /// The part in use, as last told.
    pub(crate) used: Bytes,
    /// Whether it was told that it takes too long.
    pub(crate) overdue: bool,
    /// Ending it is not tried before this.
    pub(crate) retry_at: Instant,
    /// When its balloon was last told what it may hold.
    pub(crate) ordered_at: Instant,
}

impl Paging {
    pub(crate) fn new(now: Instant, phase: Phase, file: Bytes) -> Self {
        Self { phase, since: now, file, used: Bytes::ZERO, overdue: false, retry_at: now, ordered_at: now }
    }
}
