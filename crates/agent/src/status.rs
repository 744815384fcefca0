//! What `dynmem-agent status` shows, and how it gets there: the running agent
//! answers each connection to a Unix socket with one JSON document.

use std::{
    fmt::{self, Write as _},
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    time::Duration,
};

use anyhow::Context;
use dynmem_agent_protocol::{Assigned, Report};
use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

/// Where the running agent answers.
pub const SOCKET_PATH: &str = "/run/dynmem-agent.sock";

/// The longest status document.
const MAX_STATUS_BYTES: u64 = 64 << 10;
/// A status is there at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What the agent knows, with the age of each part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the host has the port open.
    pub host_connected: bool,
    /// What the agent measured.
    pub report: Option<Aged<Report>>,
    /// What the host said.
    pub assigned: Option<Aged<Assigned>>,
}

/// Something and how old it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aged<T> {
    /// Milliseconds since it was true.
    pub age_ms: u64,
    /// The thing.
    pub value: T,
}

/// The agent's side.
#[derive(Debug)]
pub struct StatusServer {
    listener: UnixListener,
}

impl StatusServer {
    /// Listens at `path`, in place of a socket that an earlier agent left.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let naming = || format!("Cannot listen at {}", path.display());
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(naming),
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(naming)?;
        // Sizes are no secret inside the guest: `free` shows most of them.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).with_context(naming)?;
        listener.set_nonblocking(true).with_context(naming)?;
        Ok(Self { listener })
    }

    /// Answers one waiting connection, if there is one. A client that does not
    /// read gets nothing: the agent waits for nobody.
    pub fn answer(&self, status: &Status) {
        let Ok((mut client, _)) = self.listener.accept() else { return };
        if client.set_nonblocking(true).is_ok() {
            let _ = serde_json::to_vec(status).map(|document| client.write_all(&document));
        }
    }
}

impl AsFd for StatusServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Asks the agent that answers at `path`.
pub fn ask(path: &Path) -> anyhow::Result<Status> {
    let client = UnixStream::connect(path)
        .with_context(|| format!("No agent answers at {}: is dynmem-agent running?", path.display()))?;
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut document = Vec::new();
    client.take(MAX_STATUS_BYTES).read_to_end(&mut document).context("The agent does not answer")?;
    serde_json::from_slice(&document).context("The agent's answer is damaged")
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &str| writeln!(f, "{name:<16}{value}");
        row("Host", if self.host_connected { "connected" } else { "not connected" })?;
        match &self.report {
            None => row("Measured", "nothing yet")?,
            Some(Aged { age_ms, value }) => {
                row("Visible", &size(value.visible_bytes))?;
                row("Available", &size(value.available_bytes))?;
                row("In the balloon", &value.ballooned_bytes.map_or_else(|| "unknown".to_owned(), size))?;
                let swap = format!("{} of {} used", size(value.swap_used_bytes), size(value.swap_total_bytes));
                row("Swap", &swap)?;
                row("Stalled", &stall(value))?;
                row("Measured", &format!("{} ago", age(*age_ms)))?;
            }
        }
        match &self.assigned {
            None => row("Assigned", "unknown: the host has not said"),
            Some(Aged { age_ms, value }) => {
                row("Assigned", &size(value.assigned_bytes))?;
                row("Demand", &size(value.demand_bytes))?;
                row("Target", &size(value.target_bytes))?;
                row("Minimum", &size(value.minimum_bytes))?;
                row("Maximum", &size(value.maximum_bytes))?;
                row("Host said so", &format!("{} ago", age(*age_ms)))
            }
        }
    }
}

fn size(bytes: Bytes) -> String {
    format!("{} MiB", bytes.mib())
}

fn stall(report: &Report) -> String {
    if report.psi_available {
        format!("{}.{:02} % of the time", report.stall_hundredths / 100, report.stall_hundredths % 100)
    } else {
        "unknown: this kernel does not measure it (boot with psi=1)".to_owned()
    }
}

fn age(ms: u64) -> String {
    let mut text = String::new();
    let _ = if ms < 60_000 {
        write!(text, "{}.{} s", ms / 1000, ms % 1000 / 100)
    } else {
        write!(text, "{} min", ms / 60_000)
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        let report = Report {
            visible_bytes: Bytes::from_mib(300),
            available_bytes: Bytes::from_mib(200),
            ballooned_bytes: Some(Bytes::from_mib(64)),
            stall_hundredths: 105,
            psi_available: true,
            ..Report::default()
        };
        let assigned = Assigned { assigned_bytes: Bytes::from_mib(384), ..Assigned::default() };
        Status {
            host_connected: true,
            report: Some(Aged { age_ms: 1250, value: report }),
            assigned: Some(Aged { age_ms: 120_000, value: assigned }),
        }
    }

    #[test]
    fn a_person_sees_sizes_and_how_old_they_are() {
        let text = example().to_string();
        for line in [
            "Visible         300 MiB",
            "In the balloon  64 MiB",
            "Stalled         1.05 % of the time",
            "Measured        1.2 s ago",
            "Assigned        384 MiB",
            "Host said so    2 min ago",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
        assert!(Status::default().to_string().contains("not connected"));
    }

    #[test]
    fn the_agent_answers_each_who_asks_even_after_a_crash_left_its_socket() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("agent.sock");
        drop(StatusServer::bind(&path).expect("a fresh socket"));
        let server = StatusServer::bind(&path).expect("the stale socket is replaced");
        server.answer(&example()); // nobody waits: returns at once
        let client = std::thread::spawn(move || ask(&path));
        let mut fds = [rustix::event::PollFd::new(&server, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).expect("a client comes");
        server.answer(&example());
        assert_eq!(client.join().expect("no panic").expect("an answer"), example());
    }

    #[test]
    fn without_an_agent_the_error_says_so() {
        let error = ask(Path::new("/nonexistent/agent.sock")).expect_err("nobody there");
        assert_eq!(error.to_string(), "No agent answers at /nonexistent/agent.sock: is dynmem-agent running?");
    }
}
