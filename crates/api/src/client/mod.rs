//! [`Client`]: typed calls to a daemon over its Unix socket or, with the feature
//! `tls`, over TCP.
//!
//! Each call opens a connection, sends one request, reads one bounded answer
//! within a deadline, and closes: nothing is kept, so a daemon that was
//! restarted between two calls is not noticed.

mod error;
mod exchange;
mod live;
#[cfg(feature = "tls")]
mod remote;

#[cfg(feature = "tls")]
use std::sync::Arc;
use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use dynmem_definition::VmDefinition;
use hyper::{Method, header::HeaderValue};
use serde::de::DeserializeOwned;

pub use error::ClientError;
use exchange::Question;
pub use live::LiveStream;
#[cfg(feature = "tls")]
pub use remote::RemoteError;

use crate::{
    AutostartPatch, DryRunView, EventView, EventsQuery, ExplanationView, HistoryQuery, HostHistory, HostView,
    MemoryPatch, MeterView, SettingsTag, StopRequest, VersionView, VmHistory, VmView,
    counters::{CountersQuery, CountersView},
};

/// The largest answer that is read.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// For what the daemon answers from memory.
const QUICK: Duration = Duration::from_secs(30);
/// For what waits for memory or for a guest.
const SLOW: Duration = Duration::from_mins(10);
/// For what moves a whole machine to a disk, or from one.
const LONG: Duration = Duration::from_hours(1);

/// Typed calls to a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    place: Place,
}

/// Where a daemon listens.
#[derive(Clone, Debug)]
enum Place {
    Socket(PathBuf),
    #[cfg(feature = "tls")]
    Remote(Arc<remote::Remote>),
}

impl Place {
    /// The head `Host` of a request.
    fn authority(&self) -> &str {
        match self {
            Self::Socket(_) => "dynmem",
            #[cfg(feature = "tls")]
            Self::Remote(remote) => &remote.authority,
        }
    }

    /// The head that lets a request in, where one is asked for.
    fn authorization(&self) -> Option<&HeaderValue> {
        match self {
            Self::Socket(_) => None,
            #[cfg(feature = "tls")]
            Self::Remote(remote) => Some(&remote.authorization),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => socket.display().fmt(f),
            #[cfg(feature = "tls")]
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}

impl Client {
    /// A client for the daemon at `socket`. Nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { place: Place::Socket(socket.into()) }
    }

    /// A client for the daemon at `https://HOST:PORT` (port 7473 if none is
    /// named), with the secret of a token. Its certificate must come from `ca`,
    /// a PEM file, or from who the system trusts. Nothing is connected yet.
    #[cfg(feature = "tls")]
    pub fn over_tls(url: &str, token: &str, ca: Option<&Path>) -> Result<Self, RemoteError> {
        Ok(Self { place: Place::Remote(Arc::new(remote::Remote::new(url, token, ca)?)) })
    }

    /// The daemon's socket; none if it is reached over TCP.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Socket(socket) => Some(socket),
            #[cfg(feature = "tls")]
            Place::Remote(_) => None,
        }
    }

    /// The daemon's version.
    pub async fn version(&self) -> Result<VersionView, ClientError> {
        self.get("/v1/version").await
    }

    /// The host's memory and who has it.
    pub async fn host(&self) -> Result<HostView, ClientError> {
        self.get("/v1/host").await
    }

    /// All VMs.
    pub async fn vms(&self) -> Result<Vec<VmView>, ClientError> {
        self.get("/v1/vms").await
    }

    /// One VM.
    pub async fn vm(&self, name: &str) -> Result<VmView, ClientError> {
        self.get(&vm_path(name, "")).await
    }

    /// Why a VM has the memory that it has.
    pub async fn explain(&self, name: &str) -> Result<ExplanationView, ClientError> {
        self.get(&vm_path(name, "/explanation")).await
    }

    /// What was metered of a VM.
    pub async fn meter(&self, name: &str) -> Result<MeterView, ClientError> {
        self.get(&vm_path(name, "/meter")).await
    }

    /// Begins to meter a VM; one that is metered already goes on.
    pub async fn enable_meter(&self, name: &str) -> Result<VmView, ClientError> {
        self.ask(Question::new(Method::PUT, vm_path(name, "/meter"), QUICK)).await
    }

    /// Forgets what was metered of a VM, and begins anew.
    pub async fn reset_meter(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/meter/reset", QUICK).await
    }

    /// Ends metering a VM, and forgets what was metered.
    pub async fn disable_meter(&self, name: &str) -> Result<VmView, ClientError> {
        self.ask(Question::new(Method::DELETE, vm_path(name, "/meter"), QUICK)).await
    }

    /// What a VM was, and what happened to it. As JSON, whatever `query.format`
    /// says.
    pub async fn vm_history(&self, name: &str, query: &HistoryQuery) -> Result<VmHistory, ClientError> {
        self.get(&format!("{}?{}", vm_path(name, "/history"), history_fields(query))).await
    }

    /// What the host was, and what happened. As JSON, whatever `query.format`
    /// says.
    pub async fn host_history(&self, query: &HistoryQuery) -> Result<HostHistory, ClientError> {
        self.get(&format!("/v1/host/history?{}", history_fields(query))).await
    }

    /// One VM, and the tag of its settings: for a change of them that is only
    /// wanted while they are these.
    pub async fn vm_with_tag(&self, name: &str) -> Result<(VmView, SettingsTag), ClientError> {
        self.ask_tagged(Question::new(Method::GET, vm_path(name, ""), QUICK)).await
    }

    /// Defines a VM; it is off.
    pub async fn create(&self, definition: &VmDefinition) -> Result<VmView, ClientError> {
        self.ask(Question::new(Method::POST, "/v1/vms", QUICK).with(definition)).await
    }

    /// What defining a VM would come to. Nothing is changed, as with all dry
    /// runs.
    pub async fn dry_run_create(&self, definition: &VmDefinition) -> Result<DryRunView, ClientError> {
        self.ask(Question::new(Method::POST, dry("/v1/vms"), QUICK).with(definition)).await
    }

    /// What starting a VM would come to.
    pub async fn dry_run_start(&self, name: &str) -> Result<DryRunView, ClientError> {
        self.ask(Question::new(Method::POST, dry(&vm_path(name, "/start")), QUICK)).await
    }

    /// What a change of memory settings would come to.
    pub async fn dry_run_memory(&self, name: &str, patch: &MemoryPatch) -> Result<DryRunView, ClientError> {
        self.ask(Question::new(Method::PATCH, dry(&vm_path(name, "/memory")), QUICK).with(patch)).await
    }

    /// Forgets a VM that is off. Its disks stay.
    pub async fn delete(&self, name: &str) -> Result<(), ClientError> {
        self.exchange(Question::new(Method::DELETE, vm_path(name, ""), QUICK)).await.map(drop)
    }

    /// Starts a VM, from what was saved if it is, and waits until it is
    /// launched.
    pub async fn start(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/start", LONG).await
    }

    /// Stops a VM and waits until it is off.
    pub async fn stop(&self, name: &str, request: &StopRequest) -> Result<VmView, ClientError> {
        let patience = QUICK + Duration::from_secs(u64::from(request.timeout_seconds));
        self.ask(Question::new(Method::POST, vm_path(name, "/stop"), patience).with(request)).await
    }

    /// Restarts a VM and waits until it is launched again.
    pub async fn restart(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/restart", SLOW).await
    }

    /// Halts a VM; it keeps its memory.
    pub async fn pause(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/pause", QUICK).await
    }

    /// Lets a paused VM go on.
    pub async fn resume(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/resume", QUICK).await
    }

    /// Writes a VM's memory to a file, and waits until that is done and the
    /// memory is free.
    pub async fn save(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/save", LONG).await
    }

    /// Deletes what was saved of a VM: it is off then.
    pub async fn discard(&self, name: &str) -> Result<VmView, ClientError> {
        self.ask(Question::new(Method::DELETE, vm_path(name, "/saved"), SLOW)).await
    }

    /// Changes memory settings, all of `patch` or nothing.
    pub async fn set_memory(&self, name: &str, patch: &MemoryPatch) -> Result<VmView, ClientError> {
        self.ask(Question::new(Method::PATCH, vm_path(name, "/memory"), QUICK).with(patch)).await
    }

    /// The same, if the VM's settings are still those of `tag`; else it is
    /// refused with status 412. Gives their new tag.
    pub async fn set_memory_if_match(
        &self,
        name: &str,
        patch: &MemoryPatch,
        tag: &SettingsTag,
    ) -> Result<(VmView, SettingsTag), ClientError> {
        let question = Question::new(Method::PATCH, vm_path(name, "/memory"), QUICK).with(patch);
        self.ask_tagged(Question { if_match: Some(tag.clone()), ..question }).await
    }

    /// Changes what becomes of a VM when its host has come up.
    pub async fn set_autostart(&self, name: &str, patch: &AutostartPatch) -> Result<VmView, ClientError> {
        self.ask(Question::new(Method::PATCH, vm_path(name, "/autostart"), QUICK).with(patch)).await
    }

    /// The same, if the VM's settings are still those of `tag`; else it is
    /// refused with status 412. Gives their new tag.
    pub async fn set_autostart_if_match(
        &self,
        name: &str,
        patch: &AutostartPatch,
        tag: &SettingsTag,
    ) -> Result<(VmView, SettingsTag), ClientError> {
        let question = Question::new(Method::PATCH, vm_path(name, "/autostart"), QUICK).with(patch);
        self.ask_tagged(Question { if_match: Some(tag.clone()), ..question }).await
    }

    /// Counters, now. `pattern` as in [`CountersQuery`]; all without one.
    pub async fn counters(&self, query: &CountersQuery) -> Result<CountersView, ClientError> {
        let pattern = query.pattern.as_deref().map(|pattern| format!("?pattern={}", escape(pattern)));
        self.get(&format!("/v1/counters{}", pattern.unwrap_or_default())).await
    }

    /// Events, oldest first.
    pub async fn events(&self, query: &EventsQuery) -> Result<Vec<EventView>, ClientError> {
        let EventsQuery { after, limit, vm } = query;
        let mut fields = Vec::new();
        fields.extend(after.map(|id| format!("after={id}")));
        fields.extend(limit.map(|count| format!("limit={count}")));
        fields.extend(vm.as_deref().map(|name| format!("vm={}", escape(name))));
        self.get(&format!("/v1/events?{}", fields.join("&"))).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Question::new(Method::GET, path, QUICK)).await
    }

    async fn post(&self, name: &str, action: &str, patience: Duration) -> Result<VmView, ClientError> {
        self.ask(Question::new(Method::POST, vm_path(name, action), patience)).await
    }
}

fn history_fields(query: &HistoryQuery) -> String {
    let HistoryQuery { from, to, step, format: _ } = query;
    let field = |name: &str, value: &Option<u64>| value.map(|value| format!("{name}={value}"));
    [field("from", from), field("to", to), field("step", step)].into_iter().flatten().collect::<Vec<_>>().join("&")
}

fn dry(path: &str) -> String {
    format!("{path}?dry_run=true")
}

fn vm_path(name: &str, action: &str) -> String {
    format!("/v1/vms/{}{action}", escape(name))
}

/// `text` as one segment of a path or value of a query: everything but
/// RFC 3986's unreserved characters as `%XX`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}"); // a String takes everything
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_leave_its_place_in_the_path() {
        assert_eq!(vm_path("web-01.a_b", "/start"), "/v1/vms/web-01.a_b/start");
        assert_eq!(vm_path("../host?x#y", ""), "/v1/vms/..%2Fhost%3Fx%23y");
        assert_eq!(vm_path("a b\r\nü%", ""), "/v1/vms/a%20b%0D%0A%C3%BC%25");
    }
}
