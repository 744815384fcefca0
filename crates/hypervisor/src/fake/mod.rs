//! Machines that are imitated: the same sockets, the same QMP, the same agent
//! protocol, and no guest behind them. For tests and load.
//!
//! ```text
//!  Machine ──qmp.sock──▶ ┐                      ┌─ model (a guest's memory, stepped)
//!  people ─monitor.sock─▶├─ one task a machine ─┤
//!  daemon ◀─agent.sock──▶┘        ▲             └─ behaviour (what goes wrong, set by the test)
//!  test ──FakeGuest───────────────┘
//! ```
//!
//! A [`FakeHost`] launches and attaches machines as [`crate::Qemu`] does; it
//! outlives the daemon of a test, so that adoption can be tried. A test takes
//! a machine's [`FakeGuest`] by name and changes its [`Behaviour`].

mod agent;
mod behaviour;
mod connection;
mod host;
mod machine;
mod migration;
mod model;
mod qmp;

pub use behaviour::{AgentMood, Behaviour, DeviceMood, QmpMood, SaveMood};
pub(crate) use host::FakeProcess;
pub use host::{FakeGuest, FakeHost};
pub use machine::Snapshot;

/// The QEMU version that fake machines claim to be.
pub const VERSION: &str = "7.2.0";
