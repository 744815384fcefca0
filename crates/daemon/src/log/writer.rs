//! [`Writer`]: entries and states reach the disk when it takes them.
//!
//! ```text
//!  entries, states ──▶ waiting ──▶ EventLog      full, read-only, broken: tried again
//!                        └ too many entries: lost, and counted in one of their own
//! ```
//!
//! A disk that is full for a while costs nothing: what can't be written waits
//! in memory and is written in its order when there is room, of the entries a
//! bounded number, and of each VM its newest state. A log that could only be begun in
//! memory moves to the disk as soon as that works, and one that breaks while
//! it is in use is moved aside.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvError, RecvTimeoutError},
    },
    time::Duration,
};

use dynmem_store::{Event, EventLog, LogError, NewEvent};
use serde_json::Value;
use tokio::sync::broadcast;

use super::{Message, Told, entry, view};

/// Entries that wait for a disk; a few megabytes at most.
const WAITING_MAX: usize = 1000;
/// How often a disk that takes nothing is tried.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// The log, and what could not be written to it yet.
#[derive(Debug)]
pub(super) struct Writer {
    events: EventLog,
    waiting: Vec<NewEvent>,
    states: BTreeMap<String, Option<Value>>,
    /// Entries that found no place since the last one that did.
    lost: u64,
    /// All that were ever lost.
    lost_in_all: Arc<AtomicU64>,
    /// The disk's refusal is told once.
    refused: bool,
    /// What was written is told here.
    told: broadcast::Sender<Told>,
}

impl Writer {
    /// Counts in `lost_in_all` what finds no place, and tells what is written.
    pub(super) fn new(events: EventLog, lost_in_all: Arc<AtomicU64>, told: broadcast::Sender<Told>) -> Self {
        Self { events, waiting: Vec::new(), states: BTreeMap::new(), lost: 0, lost_in_all, refused: false, told }
    }

    /// The log, for whoever asks what is in it.
    pub(super) fn events(&self) -> &EventLog {
        &self.events
    }

    /// The next message; none of it when it is time to try the disk again.
    /// An error when nobody is left who could send any.
    pub(super) fn wait(&self, messages: &Receiver<Message>) -> Result<Option<Message>, RecvError> {
        if self.waiting.is_empty() && self.states.is_empty() && self.events.is_durable() {
            return messages.recv().map(Some);
        }
        match messages.recv_timeout(RETRY_EVERY) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    /// Writes what waits, and this after it.
    pub(super) fn write(&mut self, batch: Vec<NewEvent>, states: BTreeMap<String, Option<Value>>) {
        if !self.events.is_durable() {
            self.open_again();
        }
        self.states.extend(states);
        for entry in batch {
            self.take(entry);
        }
        match self.write_all() {
            Ok(()) => {
                if std::mem::take(&mut self.refused) {
                    tracing::info!("events are written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::error!(%error, "events could not be written: they wait in memory");
                }
                if error.is_damage() {
                    self.open_again(); // the next try finds a fresh one
                }
            }
        }
    }

    fn write_all(&mut self) -> Result<(), LogError> {
        if !self.states.is_empty() {
            self.events.change_states(&self.states)?;
            self.states.clear();
        }
        if !self.waiting.is_empty() {
            let ids = self.events.append_all(&self.waiting)?;
            for (id, what) in ids.into_iter().zip(&self.waiting) {
                tell(&self.told, id, what);
            }
            self.waiting.clear();
        }
        if self.lost > 0 {
            let message = format!("{} events were lost: the disk took none for too long", self.lost);
            let lost = entry(None, "events-lost", message, &[("lost_events", self.lost)]);
            tell(&self.told, self.events.append(&lost)?, &lost);
            self.lost = 0;
        }
        Ok(())
    }

    fn take(&mut self, entry: NewEvent) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(entry);
        } else {
            self.lost += 1;
            self.lost_in_all.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn open_again(&mut self) {
        if let Some(notice) = self.events.open_again() {
            tracing::error!(%notice, "the event log was begun anew");
            self.take(entry(None, "event-log", notice.to_string(), &[]));
        }
    }
}

/// Tells whoever listens.
fn tell(told: &broadcast::Sender<Told>, id: u64, what: &NewEvent) {
    if told.receiver_count() == 0 {
        return;
    }
    // As it was written: a text that is too long was cut.
    let event = view(Event { id, what: what.bounded() });
    if let Ok(json) = serde_json::to_string(&event) {
        let _ = told.send(format!("event: event\nid: {id}\ndata: {json}\n\n").into()); // they may all have gone
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn events(writer: &Writer) -> Vec<String> {
        let events = writer.events().newest(1000, None).expect("readable");
        events.into_iter().map(|event| event.what.message).collect()
    }

    fn some(from: usize, to: usize) -> Vec<NewEvent> {
        (from..to).map(|number| entry(None, "grew", number.to_string(), &[])).collect()
    }

    #[test]
    fn what_finds_no_place_while_it_waits_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dynmem.db");
        let (log, notice) = EventLog::open(&path, 10_000);
        assert!(notice.is_none(), "{notice:?}");
        let other = Connection::open(&path).expect("ours"); // a person's, who writes for long
        other.execute_batch("BEGIN IMMEDIATE").expect("ours");
        let lost_in_all = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(log, Arc::clone(&lost_in_all), broadcast::channel(1).0);
        let ran = |vm: &str| BTreeMap::from([(vm.to_owned(), Some(Value::Bool(true)))]);
        writer.write(some(0, 600), ran("web01"));
        writer.write(some(600, 1200), ran("db01"));
        assert!(events(&writer).is_empty());
        drop(other);
        writer.write(some(1200, 1201), BTreeMap::new());
        assert_eq!(writer.events().states().expect("readable").len(), 2, "no state is ever lost");
        let told = events(&writer);
        assert_eq!(told.len(), 1000, "an answer's most");
        assert_eq!(told[..2], ["1", "2"]);
        assert_eq!(lost_in_all.load(Ordering::Relaxed), 201);
        assert_eq!(told.last().map(String::as_str), Some("201 events were lost: the disk took none for too long"));
    }
}
