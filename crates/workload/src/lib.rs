//! A workload for test guests: it grows, shrinks, holds and *verifies* memory
//! as the host says, for the demo, the tests and the benches.
//!
//! ```text
//!  host: Client ──Call──▶ port org.dynmem.workload.0 ──▶ controller ──goal──▶ holder
//!               ◀─Answer─                                           ◀─progress─
//! ```
//!
//! In the guest there are two processes. The [`controller`] answers at once,
//! whatever happens: it is small, locked into memory and out of the OOM
//! killer's reach. The [`holder`] holds the memory, each page filled with a
//! pattern of its own ([`pages`]), and is the first to be killed; the
//! controller then counts what was lost.
//!
//! [`message::Request`] has mischief in it, too: what a guest can do to its
//! agent and its balloon. And a trial: what this guest's kernel does with the
//! limits of memory groups ([`groups`]).
//!
//! On the host, [`client`] speaks to the port's socket; [`message`] says what
//! there is to say.

pub mod client;
pub mod controller;
pub mod groups;
pub mod holder;
pub mod message;
mod mischief;
pub mod pages;

/// The name of the virtio-serial port, the same on both sides.
pub const PORT_NAME: &str = "org.dynmem.workload.0";
