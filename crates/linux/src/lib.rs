//! The host as Linux shows it: memory, pressure stalls, processes, a memory
//! cgroup for each VM, and swap files.
//!
//! Data goes file → bounded read ([`HostReader`]) → a small pure parser in the
//! module of its subject → a value in the project's units. The root folder is
//! the reader's only state, so that tests lay out a host in a temporary tree.
//! Nothing here decides anything and nothing is kept between two readings.
//!
//! | module | reads | gives |
//! |---|---|---|
//! | `meminfo` | `/proc/meminfo` | [`MemoryInfo`] |
//! | `pressure` | `/proc/pressure/memory` | [`MemoryPressure`] |
//! | `process` | `/proc/PID/stat`, `/proc/PID/status` | [`ProcessFacts`] |
//! | `own_memory` | `/proc/PID/maps`, `/proc/PID/pagemap` | [`Bytes`](dynmem_units::Bytes) |
//! | `account` | `/etc/passwd`, `/etc/group` | [`Account`] |
//! | `boot` | `/proc/uptime`, `boot_id` | a [`Duration`](std::time::Duration), a text |
//! | `cgroup` | `/proc/self/mountinfo`, the memory controller | [`Cgroups`], [`MemoryGroup`] |
//! | `swap` | `/proc/swaps`, swap files of our own | [`SwapArea`], [`SwapFile`] |

mod account;
mod boot;
mod cgroup;
mod meminfo;
mod own_memory;
mod pressure;
mod process;
mod reader;
mod swap;

pub use account::Account;
pub use cgroup::{Cgroups, GroupError, GroupEvents, GroupLimit, GroupUsage, MemoryGroup};
pub use meminfo::MemoryInfo;
pub use pressure::{MemoryPressure, Stall};
pub use process::ProcessFacts;
pub use reader::{HostReader, HostSample, ReadError};
pub use swap::{SwapArea, SwapError, SwapFile, may_swap};
