//! Virtual hosts: a seeded, deterministic world in virtual time that drives the
//! real engine, and the policies of its peers on the same input.
//!
//! ```text
//! scenario ──▶ world ── facts (reports, devices, host) ──▶ policy   ours: the engine itself
//!   hosts       ▲ │                                          │      peers: written from their descriptions
//!   workloads   │ └─▶ guests: kernel, swap, balloon, …       │
//!   faults      └──────────────── effects ◀──────────────────┘
//!                 │
//!                 ├──▶ check   every invariant, at every step
//!                 ├──▶ score   what the guests lived through
//!                 └──▶ story   the last decisions, for people
//! ```
//!
//! Nothing here reads a clock or global randomness: a scenario, a policy and a
//! seed give the same run on every machine.

pub mod check;
pub mod clairvoyant;
pub mod density;
pub mod fault;
pub mod guest;
pub mod peers;
pub mod plan;
pub mod policy;
pub mod scenario;
pub mod score;
pub mod story;
pub mod trace;
pub mod workload;
pub mod world;
