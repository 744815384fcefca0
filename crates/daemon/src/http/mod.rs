//! The HTTP API on the Unix socket.
//!
//! ```text
//!  connection (bounded number, slow ones are ended) ──▶ routes ──Command──▶ supervisor
//!                                                        │ ◀────outcome───────┘
//!                                                        ├── Snapshot (GETs need nobody)
//!                                                        ├── log thread (events)
//!                                                        └── live: both of these, as they change
//! ```

mod answer;
mod counters;
mod history;
mod live;
mod meter;
mod metrics;
mod openapi;
mod routes;
mod serve;
mod stall;
mod vms;

pub use openapi::openapi;
pub(crate) use routes::{Shared, router};
pub(crate) use serve::serve;
