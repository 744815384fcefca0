//! [`Client`] and [`Events`]: the two ends that callers hold.

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::{
    net::UnixStream,
    sync::{broadcast, mpsc, oneshot},
    time,
};

use crate::{
    Command, Event, Outcome, QmpError, commands,
    connection::{Connection, Request},
};

/// Calls that may wait for the connection task.
const REQUESTS_MAX: usize = 64;
/// Events that may wait for their reader before the oldest are dropped.
const EVENTS_MAX: usize = 256;
/// How long a call waits by default. QEMU answers in well under a
/// millisecond; a second of silence means that its main loop is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls commands. Cheap to clone; the connection ends when the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    patience: Duration,
}

/// The events of one connection, oldest first.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
}

/// Connects to the QMP socket at `path` and negotiates. Must be called inside
/// a tokio runtime. `patience` bounds the whole.
pub async fn connect(path: &Path, patience: Duration) -> Result<(Client, Events), QmpError> {
    let timeout = QmpError::Timeout { command: "greeting", waited: patience };
    time::timeout(patience, negotiate(path)).await.unwrap_or(Err(timeout))
}

async fn negotiate(path: &Path) -> Result<(Client, Events), QmpError> {
    let io = |source| QmpError::Io { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).await.map_err(io)?;
    let (requests, request_receiver) = mpsc::channel(REQUESTS_MAX);
    let (event_sender, events) = broadcast::channel(EVENTS_MAX);
    let (greeting_sender, greeting) = oneshot::channel();
    tokio::spawn(Connection::new(request_receiver, event_sender, greeting_sender).run(stream));
    greeting.await.map_err(|_| QmpError::Closed)?;
    let client = Client { requests, patience: PATIENCE };
    client.call(commands::Capabilities {}).await?;
    Ok((client, Events { events }))
}

impl Client {
    /// The same connection with another patience for each call.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { requests: self.requests.clone(), patience }
    }

    /// Calls a command and waits for its answer. If the future is dropped, the
    /// command may still be carried out; its answer is thrown away.
    pub async fn call<C: Command>(&self, command: C) -> Result<C::Reply, QmpError> {
        self.call_with(command, None).await
    }

    /// Calls a command that a file goes with, such as [`commands::GetFd`].
    /// QEMU keeps a copy of the descriptor. One such call at a time: QEMU
    /// takes the file that came last.
    pub async fn call_with_file<C: Command>(&self, command: C, file: OwnedFd) -> Result<C::Reply, QmpError> {
        self.call_with(command, Some(file)).await
    }

    async fn call_with<C: Command>(&self, command: C, file: Option<OwnedFd>) -> Result<C::Reply, QmpError> {
        let problem = |error: serde_json::Error| QmpError::Protocol { command: C::NAME, problem: error.to_string() };
        let arguments = serde_json::to_value(&command).map_err(problem)?;
        let answer = match time::timeout(self.patience, self.exchange(C::NAME, arguments, file)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(QmpError::Timeout { command: C::NAME, waited: self.patience }),
        };
        match answer {
            Outcome::Returned(value) => serde_json::from_value(value).map_err(problem),
            Outcome::Refused { class, desc } => Err(QmpError::Refused { command: C::NAME, class, desc }),
        }
    }

    async fn exchange(&self, name: &'static str, arguments: Value, file: Option<OwnedFd>) -> Result<Outcome, QmpError> {
        let (reply, answer) = oneshot::channel();
        let body = json!({ "execute": name, "arguments": arguments });
        self.requests.send(Request { body, file, reply }).await.map_err(|_| QmpError::Closed)?;
        answer.await.map_err(|_| QmpError::Closed)
    }
}

impl Events {
    /// The next event; `None` once the connection is over. May be dropped and
    /// called again without losing anything.
    pub async fn next(&mut self) -> Option<Event> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Lagged(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next event, if it is there already. QEMU tells events in order with its
    /// answers: what happened before a command was answered is.
    pub fn ready(&mut self) -> Option<Event> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Event::Lagged(missed)),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}
