//! The host daemon: turns the outside world into the engine's events, and the
//! engine's effects into actions.
//!
//! ```text
//!  http ─────────Command (reply)──▶ ┌────────────┐ ──Order──▶ driver of each VM ──Fact──┐
//!  host (meminfo, PSI) ──────Fact─▶ │ supervisor │ ──Entry──▶ log thread (SQLite)       │
//!  agent links, drivers ─────Fact─▶ │  (Engine)  │ ──Snapshot (watch)──▶ http GETs      │
//!                                   └────────────┘ ◀───────────────────────────────────-┘
//! ```
//!
//! One thread runs all of it but the talk with clients, which has a thread of
//! its own (`http`): the supervisor owns every piece of state that matters,
//! everybody else sends messages through
//! bounded channels. The rooms, in the order in which data goes through them:
//! `agent_link`, `driver`, `host` (facts) → `supervisor` → `driver` (orders),
//! `log` (events), `history` (samples) and `advice`, `views` and `http` (people). `adopt` finds machines that an
//! earlier daemon left, `instance` makes sure that there is one daemon,
//! `paging` keeps the smart paging files.
//!
//! Ending the daemon, in whatever way, ends no machine.

mod adopt;
mod advice;
mod agent_link;
mod autostart;
mod clock;
pub mod config;
mod driver;
mod fact;
mod groups;
mod history;
mod host;
mod http;
mod instance;
mod internals;
mod log;
mod meter;
mod paging;
mod saved;
mod serve;
mod supervisor;
mod systemd;
mod views;

pub use http::{AccessError, Reload, openapi};
pub use instance::InstanceError;
pub use serve::{Daemon, probe};
