//! The HTTP API on the Unix socket.
//!
//! ```text
//!  connection (bounded number, slow ones are ended) ──▶ routes ──Command──▶ supervisor
//!                                                        │ ◀────outcome───────┘
//!                                                        ├── Snapshot (GETs need nobody)
//!                                                        └── log thread (events)
//! ```

mod answer;
mod counters;
mod history;
mod meter;
mod metrics;
mod routes;
mod serve;
mod stall;

pub(crate) use routes::{Shared, router};
pub(crate) use serve::serve;
