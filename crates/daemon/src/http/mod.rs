//! The HTTP API on the Unix socket and, where it is asked for, over TCP with TLS
//! and tokens; and beside it the dashboard.
//!
//! ```text
//!  API thread: connection (bounded number, slow ones are ended) ──▶ routes ──Command──▶ supervisor
//!                                                                    │ ◀────outcome───────┘
//!                                                                    ├── Snapshot (GETs need nobody)
//!                                                                    ├── log thread (events)
//!                                                                    └── live: both of these, as they change
//! ```

mod access;
mod answer;
mod authority;
mod counters;
mod dashboard;
mod history;
mod live;
mod meter;
mod metrics;
mod openapi;
mod routes;
mod serve;
mod stall;
mod thread;
mod tokens;
mod vms;

pub(crate) use access::TcpApi;
pub use access::{AccessError, Reload};
pub use openapi::openapi;
pub(crate) use routes::{Shared, router};
pub(crate) use thread::ApiThread;
