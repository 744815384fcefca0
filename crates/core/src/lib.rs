//! The pure engine of dynmem: who gets how much memory, and why.
//!
//! No I/O, clock, thread or randomness is in here. The daemon and the simulator
//! hand in facts ([`Input`]) with the time at which they learned them and carry
//! out what comes back ([`Effect`]); the same inputs always give the same
//! effects.
//!
//! ```text
//!            facts          settings
//!              │               │
//!   Input ──▶ engine ──────────┴──▶ Effect
//!              ├ lifecycle   state of each VM
//!              ├ demand      report ──▶ what the guest needs
//!              ├ growth      reports ──▶ what it will need soon
//!              ├ rebalance   needs ──▶ who gets what   (share: weighted max-min)
//!              ├ ledger      promises ──▶ what is charged; wish ──▶ device orders
//!              ├ paging      a restart without memory for it: a part of it in a file
//!              ├ stall       devices that do not do what they were asked
//!              ├ doubt       reports that can't be true
//!              ├ trouble     what is wrong with a guest, and since when
//!              ├ explain     the same decision once more ──▶ why a VM has what it has
//!              └ host        what may be lent at all
//! ```
//!
//! The invariants that hold at every step are listed in `docs/architecture.md`
//! and asserted where they could break.

mod demand;
mod doubt;
mod engine;
mod event;
mod explain;
mod facts;
mod growth;
mod host;
mod ledger;
mod moment;
mod paging;
mod settings;
mod share;
mod stall;
mod trouble;
mod vm;

pub use engine::{
    DriverSnapshot, Engine, Foreseen, Foresight, HostSnapshot, PagingSnapshot, TroubleSnapshot, VmSnapshot,
};
pub use event::{DriverWord, Effect, Event, Exit, Input, Notice, NoticeKind, Paged, Refusal, VmId, VmState};
pub use explain::{Explanation, NAMED_MAX, Owed, Rank, Remedy, Sharer, Shortage, Why};
pub use facts::{DeviceFacts, GuestReport, HostFacts, Instant, ReportSource};
pub use host::HostConfig;
pub use settings::{BUFFER_RANGE, DemandModel, MAXIMUM_CEILING, MINIMUM_FLOOR, MemorySettings, SettingsError};
pub use share::{Claim, share};
pub use trouble::TroubleKind;
pub use vm::{Counters, MemoryStatus, PressureHistory};
