//! The harness that runs `dynmemd` with real guests on a private folder: for
//! the tests in `tests/`, for `cargo xtask demo` and for `cargo xtask bench`.
//!
//! ```text
//!  Lab ── starts, kills, restarts ──▶ dynmemd ──▶ QEMU ──▶ guest
//!   ├─ client()   what the daemon says (HTTP)                ▲
//!   ├─ monitor()  what QEMU itself says, past the daemon     │
//!   └─ workload() what the guest is to hold, and whether it still has it
//! ```
//!
//! Whatever happens, nothing stays behind: see [`dynmem_footprint`].

mod binaries;
mod crowd;
mod guest;
mod lab;
mod monitor;
pub mod recovery;
mod wait;
mod workload;

pub use binaries::{Binaries, GUEST_PROFILE, GUEST_TARGET, image};
pub use crowd::{Crowd, Restarted};
pub use dynmem_footprint::{groups, processes, swap_files};
pub use dynmem_guest_image::Image;
pub use dynmem_workload::message::{AgentFate, Request as WorkloadRequest};
pub use guest::{BOOT_LIMIT, Guest};
pub use lab::{Lab, LabOptions, is_served, summary};
pub use monitor::{Lent, Monitor};
pub use rustix::process::Signal;
pub use wait::{Seen, until};
pub use workload::Workload;
