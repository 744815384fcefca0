//! [`Client`]: typed calls to a daemon over its Unix socket.
//!
//! Each call opens a connection, sends one request, reads one bounded answer
//! within a deadline, and closes: nothing is kept, so a daemon that was
//! restarted between two calls is not noticed.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use dynmem_definition::VmDefinition;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes as Chunk, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time};

use crate::{
    AutostartPatch, EventView, EventsQuery, ExplanationView, HistoryQuery, HostHistory, HostView, MemoryPatch,
    MeterView, Problem, StopRequest, VersionView, VmHistory, VmView,
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

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("No daemon listens on {socket}: start dynmemd, or name its socket with --socket or DYNMEM_SOCKET")]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is not for this user.
    #[error("Permission to use {socket} was denied: be in the group dynmem, or be root")]
    PermissionDenied {
        /// The socket.
        socket: PathBuf,
    },
    /// Anything else that keeps us from connecting.
    #[error("Could not connect to {socket}: {source}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection ended early or does not speak HTTP.
    #[error("The connection to {socket} broke: {source}. The request may have been carried out")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What the transport says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{socket} gave no answer within {seconds} s. The request may still be carried out")]
    TimedOut {
        /// The socket.
        socket: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// An answer above [`MAX_RESPONSE_BYTES`].
    #[error("{socket} answered with more than {MAX_RESPONSE_BYTES} bytes: is it dynmemd's socket?")]
    TooLarge {
        /// The socket.
        socket: PathBuf,
    },
    /// An answer that is not what this call gives.
    #[error("{socket} gave an answer that is not understood ({status}): {reason}. Is it dynmemd's, of this version?")]
    Garbage {
        /// The socket.
        socket: PathBuf,
        /// The HTTP status of the answer.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon refused, and says why.
    #[error(transparent)]
    Refused(#[from] Problem),
}

impl ClientError {
    /// True if no daemon could be asked at all, so that nothing was done.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::PermissionDenied { .. } | Self::Connect { .. })
    }
}

/// Typed calls to the daemon that listens on a Unix socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client for the daemon at `socket`. Nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The daemon's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
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

    /// Defines a VM; it is off.
    pub async fn create(&self, definition: &VmDefinition) -> Result<VmView, ClientError> {
        self.call(Method::POST, "/v1/vms", Some(definition), QUICK).await
    }

    /// Forgets a VM that is off. Its disks stay.
    pub async fn delete(&self, name: &str) -> Result<(), ClientError> {
        let (status, body) = self.exchange(Method::DELETE, &vm_path(name, ""), None, QUICK).await?;
        self.success(status, &body)
    }

    /// Starts a VM, from what was saved if it is, and waits until it is
    /// launched.
    pub async fn start(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/start", LONG).await
    }

    /// Stops a VM and waits until it is off.
    pub async fn stop(&self, name: &str, request: &StopRequest) -> Result<VmView, ClientError> {
        let patience = QUICK + Duration::from_secs(u64::from(request.timeout_seconds));
        self.call(Method::POST, &vm_path(name, "/stop"), Some(request), patience).await
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
        self.call(Method::DELETE, &vm_path(name, "/saved"), None::<&()>, SLOW).await
    }

    /// Changes memory settings, all of `patch` or nothing.
    pub async fn set_memory(&self, name: &str, patch: &MemoryPatch) -> Result<VmView, ClientError> {
        self.call(Method::PATCH, &vm_path(name, "/memory"), Some(patch), QUICK).await
    }

    /// Changes what becomes of a VM when its host has come up.
    pub async fn set_autostart(&self, name: &str, patch: &AutostartPatch) -> Result<VmView, ClientError> {
        self.call(Method::PATCH, &vm_path(name, "/autostart"), Some(patch), QUICK).await
    }

    /// What was metered of a VM.
    pub async fn meter(&self, name: &str) -> Result<MeterView, ClientError> {
        self.get(&vm_path(name, "/meter")).await
    }

    /// Begins to meter a VM; one that is metered already goes on.
    pub async fn enable_meter(&self, name: &str) -> Result<VmView, ClientError> {
        self.call(Method::PUT, &vm_path(name, "/meter"), None::<&()>, QUICK).await
    }

    /// Forgets what was metered of a VM, and begins anew.
    pub async fn reset_meter(&self, name: &str) -> Result<VmView, ClientError> {
        self.post(name, "/meter/reset", QUICK).await
    }

    /// Ends metering a VM, and forgets what was metered.
    pub async fn disable_meter(&self, name: &str) -> Result<VmView, ClientError> {
        self.call(Method::DELETE, &vm_path(name, "/meter"), None::<&()>, QUICK).await
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

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>, QUICK).await
    }

    async fn post(&self, name: &str, action: &str, patience: Duration) -> Result<VmView, ClientError> {
        self.call(Method::POST, &vm_path(name, action), None::<&()>, patience).await
    }

    /// One request, one answer in JSON.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| self.garbage(0, error.to_string()))?;
        let (status, body) = self.exchange(method, path, body, patience).await?;
        self.success(status, &body)?;
        serde_json::from_slice(&body).map_err(|error| self.garbage(status.as_u16(), error.to_string()))
    }

    /// `Ok` for a success, the daemon's problem or our surprise otherwise.
    fn success(&self, status: StatusCode, body: &[u8]) -> Result<(), ClientError> {
        if status.is_success() {
            return Ok(());
        }
        Err(match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => self.garbage(status.as_u16(), "an error without a reason".to_owned()),
        })
    }

    fn garbage(&self, status: u16, reason: String) -> ClientError {
        ClientError::Garbage { socket: self.socket.clone(), status, reason }
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), source: source.into() }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> Result<(StatusCode, Chunk), ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "dynmem")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.unwrap_or_default()))
            .map_err(|error| self.broken(error))?;
        time::timeout(patience, self.send(request))
            .await
            .map_err(|_| ClientError::TimedOut { socket: self.socket.clone(), seconds: patience.as_secs() })?
    }

    async fn send(&self, request: Request<Full<Chunk>>) -> Result<(StatusCode, Chunk), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let status = response.status();
            Ok((status, self.read(response.into_body()).await?))
        };
        // The connection moves the bytes; it may end before the answer is
        // read to its end, but never answers by itself.
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    async fn read(&self, body: Incoming) -> Result<Chunk, ClientError> {
        match Limited::new(body, MAX_RESPONSE_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge { socket: self.socket.clone() }),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { socket },
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied { socket },
            _ => ClientError::Connect { socket, source },
        }
    }
}

fn history_fields(query: &HistoryQuery) -> String {
    let HistoryQuery { from, to, step, format: _ } = query;
    let field = |name: &str, value: &Option<u64>| value.map(|value| format!("{name}={value}"));
    [field("from", from), field("to", to), field("step", step)].into_iter().flatten().collect::<Vec<_>>().join("&")
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
