//! The guest's agent: measures what memory the guest needs and pushes it to
//! the host.
//!
//! ```text
//!  /proc ──▶ proc ──▶ meter ──report──▶ pace ──"send it, because …"──▶ port ──▶ host
//!  PSI trigger ─────────────alarm────────▲                              │
//!  dynmem-agent status ◀── status ◀──────── what the host last said ◀───┘
//! ```
//!
//! One thread, one loop ([`agent`]). A calm guest costs a `sysinfo(2)` every
//! [`pace::CALM_PROBE_MS`]; only when free memory moves, a heartbeat is due or
//! tasks stall is `/proc` read, and only news is sent.
//!
//! The agent must work best when the guest is worst off. So it never blocks on
//! the port, keeps its files open and its buffers allocated, and locks itself
//! into memory.

pub mod agent;
pub mod meter;
pub mod pace;
pub mod port;
pub mod proc;
pub mod status;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the guest booted, suspended time included.
pub fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
