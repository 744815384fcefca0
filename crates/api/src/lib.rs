//! The words of the HTTP API: what the daemon answers and what it is asked.
//!
//! Views ([`VmView`], [`HostView`], [`EventView`], [`VmHistory`]) go from the daemon to
//! people and programs; requests ([`MemoryPatch`], [`AutostartPatch`], [`StopRequest`],
//! [`EventsQuery`], and `VmDefinition` of `dynmem-definition`) come back. A
//! refusal is a [`Problem`]. [`Client`] speaks all of it over the daemon's
//! Unix socket or, with the feature `tls`, from another machine. Sizes are whole bytes in fields that end in `_bytes`;
//! requests also accept text such as `"512MB"`.
//!
//! A [`SettingsTag`] stands for a VM's settings: a change can say which ones it
//! was made for ([`IfMatch`]).
//!
//! Requests refuse unknown fields, so that a misspelt setting is an error and
//! not silence. Views ignore them, so that an old client reads a new daemon.

mod advice;
mod autostart;
mod client;
pub mod counters;
mod dry_run;
mod event;
mod explanation;
mod history;
mod host;
mod live;
mod memory;
mod meter;
mod problem;
mod stop;
mod tag;
#[cfg(feature = "tls")]
mod token;
mod vm;

pub use advice::{AdviceView, Severity};
pub use autostart::{AutostartPatch, AutostartView};
#[cfg(feature = "tls")]
pub use client::RemoteError;
pub use client::{Client, ClientError, LiveStream, MAX_RESPONSE_BYTES};
pub use dry_run::{ChangeQuery, DryRunView, DryRunVm};
pub use event::{DEFAULT_EVENTS, EventView, EventsQuery, MAX_EVENTS};
pub use explanation::{ExplanationView, OwedView, SharerView, ShortageView};
pub use history::{
    DEFAULT_HISTORY_SECONDS, HistoryFormat, HistoryQuery, HostHistory, HostPoint, MAX_HISTORY_POINTS,
    MAX_HISTORY_SECONDS, VmHistory, VmPoint, history_csv,
};
pub use host::{DamagedDefinition, HostCounters, HostPagingView, HostView, MemoryLimits, ReserveBy, VersionView};
pub use live::{
    LIVE_INTERVAL_MAX_MS, LIVE_INTERVAL_MIN_MS, LIVE_INTERVAL_MS, Live, LiveChange, LiveQuery, LiveSnapshot, LiveState,
};
pub use memory::MemoryPatch;
pub use meter::{MeterPool, MeterView};
pub use problem::Problem;
pub use stop::{MAX_STOP_TIMEOUT_SECONDS, StopMode, StopRequest};
pub use tag::{IfMatch, SettingsTag};
#[cfg(feature = "tls")]
pub use token::{NewToken, TokenDigest, TokenEntry, TokenRole};
pub use vm::{
    DriverView, Integration, MemoryStatus, SettingsView, SmartPagingView, TroubleView, VmCounters, VmState, VmView,
};

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/dynmem/dynmem.sock";
/// The environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "DYNMEM_SOCKET";
/// Where the daemon listens for other machines unless it is told otherwise.
pub const DEFAULT_PORT: u16 = 7473;
/// The environment variable that names a daemon on another machine,
/// `https://HOST:PORT`.
pub const URL_VARIABLE: &str = "DYNMEM_URL";
/// The environment variable with the secret of a token.
pub const TOKEN_VARIABLE: &str = "DYNMEM_TOKEN";
/// The environment variable that names a file with the secret of a token.
pub const TOKEN_FILE_VARIABLE: &str = "DYNMEM_TOKEN_FILE";
/// The environment variable that names the certificate of the CA to trust.
pub const CA_VARIABLE: &str = "DYNMEM_CA";
