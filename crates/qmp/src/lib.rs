//! A tolerant QMP client: QEMU's machine protocol over a Unix socket.
//!
//! ```text
//!  Client (clone it) ──requests──▶ one connection task ──JSON lines──▶ QEMU
//!  caller ◀──reply, by id──────────┘        └──events──▶ Events (bounded, drops the oldest)
//! ```
//!
//! One task owns the socket. It never waits for anybody but the socket:
//! replies go to whoever still wants them, events into a ring that tells its
//! reader how many it missed ([`Event::Lagged`]). Nothing that the peer sends
//! ends the connection: unknown events, unknown fields, late replies, garbage
//! and lines that are too long are skipped. A call that takes too long fails
//! alone.
//!
//! [`commands`] has the commands that dynmem uses, with their types, and
//! [`Event`] the events. [`Lines`] and [`Message`] are how bytes become them:
//! pure, and open to whoever wants to try them (`fuzz/`).

mod client;
pub mod commands;
mod connection;
mod error;
mod event;
mod line;
mod message;

pub use client::{Client, Events, connect};
pub use commands::Command;
pub use error::QmpError;
pub use event::{Event, ShutdownReason};
pub use line::Lines;
pub use message::{Message, Outcome};

/// The longest line that is read from QEMU. Its longest honest one, the
/// answer to `query-qmp-schema`, has about 200 KiB, and we never ask for that.
pub const MAX_LINE_BYTES: usize = 1 << 20;
