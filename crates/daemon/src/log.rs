//! The event log's thread: it owns the database, and nobody waits for a disk.
//!
//! ```text
//!  supervisor ──Entry──▶ ┌────────┐
//!                        │ thread │──▶ EventLog (SQLite)
//!  GET /v1/events ─query▶└────────┘
//! ```
//!
//! The channel is bounded. When it is full, entries are lost, counted, and an
//! entry about that is written as soon as there is room. So it is with a disk
//! that is full: see [`writer`].

mod writer;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use axum::body::Bytes;
use dynmem_api::{EventView, EventsQuery, MAX_EVENTS, Problem};
use dynmem_store::{Event, EventLog, LogError, NewEvent};
use serde_json::Value;
use tokio::sync::{broadcast, oneshot};

use crate::{clock::unix_ms, supervisor::shutting_down};
use writer::Writer;

/// Messages under way to the thread.
const MESSAGES_MAX: usize = 1024;
/// Entries that are told and not heard yet; a live stream that is slower loses
/// the oldest.
const TOLD_MAX: usize = 256;
/// Entries that are written at once.
const BATCH_MAX: usize = 256;

enum Message {
    Record(Box<NewEvent>),
    Keep(BTreeMap<String, Option<Value>>),
    Query(Query, oneshot::Sender<Result<Vec<EventView>, Problem>>),
}

/// Which events are wanted.
enum Query {
    ByNumber(EventsQuery),
    /// The newest of a span of time, in milliseconds since 1970.
    OfSpan {
        from_unix_ms: u64,
        to_unix_ms: u64,
        vm: Option<String>,
    },
}

/// Writes entries.
#[derive(Debug)]
pub(crate) struct Log {
    thread: SyncSender<Message>,
    /// Entries lost since the last one that was taken.
    lost: u64,
    /// Entries that were to be written.
    logged: u64,
    /// All entries that were lost, here and by the thread.
    lost_in_all: Arc<AtomicU64>,
    /// States of VMs that have yet to be taken: they are never lost.
    states: BTreeMap<String, Option<Value>>,
}

/// Reads entries.
#[derive(Clone, Debug)]
pub(crate) struct LogReader {
    thread: SyncSender<Message>,
    told: broadcast::WeakSender<Told>,
}

/// An entry that was written just now, as a server-sent event.
pub(crate) type Told = Bytes;

/// Starts the thread. It ends when the last [`Log`] and [`LogReader`] are
/// dropped and all is written.
pub(crate) fn start(events: EventLog) -> std::io::Result<(Log, LogReader, JoinHandle<()>)> {
    let (thread, messages) = sync_channel(MESSAGES_MAX);
    let lost_in_all = Arc::new(AtomicU64::new(0));
    let (teller, _) = broadcast::channel(TOLD_MAX);
    let told = teller.downgrade();
    let writer = Writer::new(events, Arc::clone(&lost_in_all), teller);
    let handle = thread::Builder::new().name("events".to_owned()).spawn(move || keep(writer, &messages))?;
    let log = Log { thread: thread.clone(), lost: 0, logged: 0, lost_in_all, states: BTreeMap::new() };
    Ok((log, LogReader { thread, told }, handle))
}

impl Log {
    /// Writes an entry, some time soon. Never waits.
    pub(crate) fn record(&mut self, vm: Option<String>, kind: &str, message: String, numbers: &[(&str, u64)]) {
        tracing::info!(kind, "{message}");
        self.logged += 1;
        if self.lost > 0 {
            let message = format!("{} events were lost: the disk was too slow for them", self.lost);
            let lost = [("lost_events", self.lost)];
            if self.send(entry(None, "events-lost", message, &lost)) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.send(entry(vm, kind, message, numbers)) {
            self.lost += 1;
            self.lost_in_all.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Another way to write to the same log, for somebody else.
    pub(crate) fn another(&self) -> Self {
        let lost_in_all = Arc::clone(&self.lost_in_all);
        Self { thread: self.thread.clone(), lost: 0, logged: 0, lost_in_all, states: BTreeMap::new() }
    }

    /// How many entries were to be written.
    pub(crate) fn logged(&self) -> u64 {
        self.logged
    }

    /// How many of them were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost_in_all.load(Ordering::Relaxed)
    }

    /// Keeps a VM's state, some time soon, or forgets it. Never waits, and
    /// loses nothing while the daemon lives: see [`Log::flush`].
    pub(crate) fn keep(&mut self, vm: String, state: Option<Value>) {
        self.keep_later(vm, state);
        self.flush();
    }

    /// The same, handed over with the next [`Log::flush`].
    pub(crate) fn keep_later(&mut self, vm: String, state: Option<Value>) {
        self.states.insert(vm, state);
    }

    /// Hands over the states that did not go through before.
    pub(crate) fn flush(&mut self) {
        if self.states.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(Message::Keep(states))) =
            self.thread.try_send(Message::Keep(std::mem::take(&mut self.states)))
        {
            self.states = states;
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
    /// Entries from now on, as they are written. Nothing comes if the log's
    /// thread is gone.
    pub(crate) fn told(&self) -> broadcast::Receiver<Told> {
        self.told.upgrade().map_or_else(|| broadcast::channel(1).1, |told| told.subscribe())
    }

    /// Events, oldest first.
    pub(crate) async fn query(&self, query: EventsQuery) -> Result<Vec<EventView>, Problem> {
        self.ask(Query::ByNumber(query)).await
    }

    /// The newest events of a span in seconds, as many as an answer may have,
    /// oldest first; of one VM if `vm` names it.
    pub(crate) async fn of_span(&self, span: (u64, u64), vm: Option<String>) -> Result<Vec<EventView>, Problem> {
        let (from_unix_ms, to_unix_ms) = (span.0.saturating_mul(1000), span.1.saturating_mul(1000));
        self.ask(Query::OfSpan { from_unix_ms, to_unix_ms, vm }).await
    }

    async fn ask(&self, query: Query) -> Result<Vec<EventView>, Problem> {
        let (reply, outcome) = oneshot::channel();
        self.thread.try_send(Message::Query(query, reply)).map_err(|error| match error {
            TrySendError::Full(_) => Problem::new(503, "The event log is busy: try again"),
            TrySendError::Disconnected(_) => shutting_down(),
        })?;
        outcome.await.unwrap_or_else(|_| Err(shutting_down()))
    }
}

/// The thread: entries in batches, each written once.
fn keep(mut writer: Writer, messages: &Receiver<Message>) {
    while let Ok(first) = writer.wait(messages) {
        let (mut batch, mut states, mut queries) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut sort = |message| match message {
            Message::Record(entry) => batch.push(*entry),
            Message::Keep(newer) => states.extend(newer),
            Message::Query(query, reply) => queries.push((query, reply)),
        };
        first.into_iter().for_each(&mut sort);
        messages.try_iter().take(BATCH_MAX).for_each(&mut sort);
        writer.write(batch, states);
        for (query, reply) in queries {
            let outcome = find(writer.events(), &query).map_err(|error| Problem::new(500, error.to_string()));
            let _ = reply.send(outcome); // whoever asked may have gone
        }
    }
    writer.write(Vec::new(), BTreeMap::new()); // the last chance of what waits
}

fn find(events: &EventLog, query: &Query) -> Result<Vec<EventView>, LogError> {
    let query = match query {
        Query::ByNumber(query) => query,
        Query::OfSpan { from_unix_ms, to_unix_ms, vm } => {
            let found = events.between(*from_unix_ms, *to_unix_ms, MAX_EVENTS, vm.as_deref());
            return Ok(found?.into_iter().map(view).collect());
        }
    };
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
