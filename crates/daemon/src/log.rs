//! The event log's thread: it owns the database, and nobody waits for a disk.
//!
//! ```text
//!  supervisor ──Entry──▶ ┌────────┐
//!                        │ thread │──▶ EventLog (SQLite)
//!  GET /v1/events ─query▶└────────┘
//! ```
//!
//! The channel is bounded. When it is full, entries are lost, counted, and an
//! entry about that is written as soon as there is room.

use std::{
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

use dynmem_api::{EventView, EventsQuery, MAX_EVENTS, Problem};
use dynmem_store::{Event, EventLog, LogError, NewEvent};
use tokio::sync::oneshot;

use crate::{clock::unix_ms, supervisor::shutting_down};

/// Messages under way to the thread.
const MESSAGES_MAX: usize = 1024;
/// Entries that are written at once.
const BATCH_MAX: usize = 256;

enum Message {
    Record(Box<NewEvent>),
    Query(EventsQuery, oneshot::Sender<Result<Vec<EventView>, Problem>>),
}

/// Writes entries.
#[derive(Debug)]
pub(crate) struct Log {
    thread: SyncSender<Message>,
    /// Entries lost since the last one that was taken.
    lost: u64,
}

/// Reads entries.
#[derive(Clone, Debug)]
pub(crate) struct LogReader {
    thread: SyncSender<Message>,
}

/// Starts the thread. It ends when the last [`Log`] and [`LogReader`] are
/// dropped and all is written.
pub(crate) fn start(events: EventLog) -> std::io::Result<(Log, LogReader, JoinHandle<()>)> {
    let (thread, messages) = sync_channel(MESSAGES_MAX);
    let handle = thread::Builder::new().name("events".to_owned()).spawn(move || keep(events, &messages))?;
    Ok((Log { thread: thread.clone(), lost: 0 }, LogReader { thread }, handle))
}

impl Log {
    /// Writes an entry, some time soon. Never waits.
    pub(crate) fn record(&mut self, vm: Option<String>, kind: &str, message: String, numbers: &[(&str, u64)]) {
        tracing::info!(kind, "{message}");
        if self.lost > 0 {
            let message = format!("{} events were lost: the disk was too slow for them", self.lost);
            let lost = [("lost_events", self.lost)];
            if self.send(entry(None, "events-lost", message, &lost)) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.send(entry(vm, kind, message, numbers)) {
            self.lost += 1;
        }
    }

    fn send(&self, entry: NewEvent) -> bool {
        match self.thread.try_send(Message::Record(Box::new(entry))) {
            Err(TrySendError::Full(_)) => false,
            // A thread that broke down said so; nothing can be kept then.
            Ok(()) | Err(TrySendError::Disconnected(_)) => true,
        }
    }
}

fn entry(vm: Option<String>, kind: &str, message: String, numbers: &[(&str, u64)]) -> NewEvent {
    NewEvent {
        time_unix_ms: unix_ms(),
        vm,
        kind: kind.to_owned(),
        message,
        numbers: numbers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), i64::try_from(*value).unwrap_or(i64::MAX)))
            .collect(),
    }
}

impl LogReader {
    /// Events, oldest first.
    pub(crate) async fn query(&self, query: EventsQuery) -> Result<Vec<EventView>, Problem> {
        let (reply, outcome) = oneshot::channel();
        self.thread.try_send(Message::Query(query, reply)).map_err(|error| match error {
            TrySendError::Full(_) => Problem::new(503, "The event log is busy: try again"),
            TrySendError::Disconnected(_) => shutting_down(),
        })?;
        outcome.await.unwrap_or_else(|_| Err(shutting_down()))
    }
}

/// The thread: entries in batches, each written once.
fn keep(mut events: EventLog, messages: &Receiver<Message>) {
    while let Ok(first) = messages.recv() {
        let (mut batch, mut queries) = (Vec::new(), Vec::new());
        let mut sort = |message| match message {
            Message::Record(entry) => batch.push(*entry),
            Message::Query(query, reply) => queries.push((query, reply)),
        };
        sort(first);
        messages.try_iter().take(BATCH_MAX).for_each(sort);
        if let Err(error) = events.append_all(&batch) {
            tracing::error!(%error, events = batch.len(), "events could not be written");
        }
        for (query, reply) in queries {
            let outcome = find(&events, &query).map_err(|error| Problem::new(500, error.to_string()));
            let _ = reply.send(outcome); // whoever asked may have gone
        }
    }
}

fn find(events: &EventLog, query: &EventsQuery) -> Result<Vec<EventView>, LogError> {
    let (limit, vm) = (query.checked_limit().unwrap_or(MAX_EVENTS), query.vm.as_deref());
    let found = match query.after {
        Some(after) => events.after(after, limit, vm),
        None => events.newest(limit, vm),
    };
    Ok(found?.into_iter().map(view).collect())
}

fn view(Event { id, what }: Event) -> EventView {
    let NewEvent { time_unix_ms, vm, kind, message, numbers } = what;
    EventView { id, time_unix_ms, vm, kind, message, numbers }
}
