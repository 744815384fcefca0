//! [`EventLog`]: what happened, and a little state for each VM, in SQLite.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    Event, NewEvent,
    database::{self, Aside},
    schema,
};

const QUERY_MAX: u32 = 1000;
const STATE_BYTES_MAX: usize = 64 << 10;
const PUT_STATE: &str = "INSERT INTO vm_state (vm, state) VALUES (?1, ?2)
                         ON CONFLICT (vm) DO UPDATE SET state = excluded.state";
const REMOVE_STATE: &str = "DELETE FROM vm_state WHERE vm = ?1";

/// The log. One owner, which blocks on the disk: give it a thread of its own.
///
/// After an error nothing of that call is in the log, and the next call may
/// succeed: a full disk that was cleared needs no new start.
#[derive(Debug)]
pub struct EventLog {
    connection: Connection,
    path: PathBuf,
    events_max: u64,
    is_durable: bool,
}

/// What a person should know of how the log was opened.
#[derive(Debug, thiserror::Error)]
pub enum LogNotice {
    /// The database could not be read or used, and a fresh one was begun.
    #[error(
        "The event log {} can't be used ({reason}): it was moved to {} and a new log was begun",
        path.display(),
        moved_to.display()
    )]
    MovedAside {
        /// The database.
        path: PathBuf,
        /// Where it is kept.
        moved_to: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// Nothing can be written there.
    #[error(
        "The event log {} can't be opened ({reason}): events are kept in memory and lost at the end of the daemon",
        path.display()
    )]
    InMemory {
        /// The database.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
}

impl LogError {
    /// True if the database itself is broken: nothing helps but
    /// [`EventLog::open_again`].
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Database { source, .. } if schema::is_damage(source))
    }
}

/// Why the log did not do what it was asked. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Disk full, read-only, locked, damaged.
    #[error("Can't {action} the event log {}: {source}", path.display())]
    Database {
        /// What was tried, as a verb.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A state too large to be a state.
    #[error("State of {vm} has {bytes} bytes: at most 65536 are kept")]
    StateTooLarge {
        /// The VM.
        vm: String,
        /// Its state's size.
        bytes: usize,
    },
}

impl EventLog {
    /// Opens the log at `path`, or begins one. Keeps the newest `events_max`
    /// events, at least one. Always gives a log that works; the notice says if
    /// it is not the one that was there, or not on disk.
    pub fn open(path: &Path, events_max: u64) -> (Self, Option<LogNotice>) {
        let log = |connection, is_durable| Self {
            connection,
            path: path.to_owned(),
            events_max: events_max.max(1),
            is_durable,
        };
        match database::open(path, &schema::EVENTS) {
            Ok((connection, None)) => (log(connection, true), None),
            Ok((connection, Some(Aside { moved_to, reason }))) => {
                (log(connection, true), Some(LogNotice::MovedAside { path: path.to_owned(), moved_to, reason }))
            }
            Err(reason) => in_memory(log, path, reason),
        }
    }

    /// Tries again where [`EventLog::open`] did not succeed, and where the
    /// database was damaged since. The notice says if it was moved aside. What
    /// was in memory only is appended to what is on the disk.
    pub fn open_again(&mut self) -> Option<LogNotice> {
        let (mut log, notice) = Self::open(&self.path, self.events_max);
        if !log.is_durable {
            return None; // as before
        }
        if !self.is_durable && self.copy_to(&mut log).is_err() {
            return None; // no room yet
        }
        *self = log;
        notice
    }

    fn copy_to(&self, other: &mut Self) -> Result<(), LogError> {
        let states = self.states()?.into_iter().map(|(vm, state)| (vm, Some(state)));
        other.change_states(&states.collect())?;
        let events: Vec<NewEvent> = self.newest(QUERY_MAX, None)?.into_iter().map(|event| event.what).collect();
        other.append_all(&events).map(drop)
    }

    /// False if the log is in memory only.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Appends an event; it is on the disk when this returns its id.
    pub fn append(&mut self, event: &NewEvent) -> Result<u64, LogError> {
        self.append_all(std::slice::from_ref(event)).map(|ids| ids[0])
    }

    /// Appends all of these events or none, with a single wait for the disk.
    /// Returns their ids in order. The oldest events beyond the bound go.
    pub fn append_all(&mut self, events: &[NewEvent]) -> Result<Vec<u64>, LogError> {
        let events_max = self.events_max;
        self.transaction("append to", |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO event (time_unix_ms, vm, kind, message, numbers) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            let mut ids = Vec::with_capacity(events.len());
            for event in events.iter().map(NewEvent::bounded) {
                let time = i64::try_from(event.time_unix_ms).unwrap_or(i64::MAX);
                let numbers = serde_json::to_string(&event.numbers).expect("text keys and integers are JSON");
                ids.push(insert.insert(params![time, event.vm, event.kind, event.message, numbers])?.cast_unsigned());
            }
            // Ids have no gaps: the bound in ids is the bound in events.
            let newest = ids.last().copied().unwrap_or_default();
            let gone = newest.saturating_sub(events_max).cast_signed();
            transaction.prepare_cached("DELETE FROM event WHERE id <= ?1")?.execute([gone])?;
            Ok(ids)
        })
    }

    /// The first `limit` (at most 1000) events after id `after`, oldest first;
    /// of one VM if `vm` names it.
    pub fn after(&self, after: u64, limit: u32, vm: Option<&str>) -> Result<Vec<Event>, LogError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.query("id > ?1", "ASC", after, limit, vm)
    }

    /// The newest `limit` (at most 1000) events, oldest first; of one VM if
    /// `vm` names it.
    pub fn newest(&self, limit: u32, vm: Option<&str>) -> Result<Vec<Event>, LogError> {
        let mut events = self.query("id <= ?1", "DESC", i64::MAX, limit, vm)?;
        events.reverse();
        Ok(events)
    }

    /// The newest `limit` (at most 1000) events of a span of wall-clock time,
    /// `to` excluded, oldest first; of one VM if `vm` names it.
    pub fn between(
        &self,
        from_unix_ms: u64,
        to_unix_ms: u64,
        limit: u32,
        vm: Option<&str>,
    ) -> Result<Vec<Event>, LogError> {
        let of_vm = if vm.is_some() { "AND vm = ?4" } else { "AND ?4 IS NULL" };
        let sql = format!(
            "SELECT id, time_unix_ms, vm, kind, message, numbers FROM event
             WHERE time_unix_ms >= ?1 AND time_unix_ms < ?2 {of_vm} ORDER BY time_unix_ms DESC, id DESC LIMIT ?3"
        );
        let [from, to] = [from_unix_ms, to_unix_ms].map(|time| i64::try_from(time).unwrap_or(i64::MAX));
        let select = || {
            let mut select = self.connection.prepare_cached(&sql)?;
            select
                .query_map(params![from, to, limit.min(QUERY_MAX), vm], read_event)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut events = select().map_err(|source| self.failed("read", source))?;
        events.reverse();
        Ok(events)
    }

    /// What was kept for a VM with [`EventLog::put_state`]. What is no JSON
    /// any more counts as nothing.
    pub fn state(&self, vm: &str) -> Result<Option<serde_json::Value>, LogError> {
        let get = || {
            let mut select = self.connection.prepare_cached("SELECT state FROM vm_state WHERE vm = ?1")?;
            select.query_row([vm], |row| row.get::<_, String>(0)).optional()
        };
        let text = get().map_err(|source| self.failed("read", source))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Keeps a small state for a VM, such as whether it ran, in place of the
    /// one before. On the disk when this returns.
    pub fn put_state(&mut self, vm: &str, state: &serde_json::Value) -> Result<(), LogError> {
        self.change_states(&BTreeMap::from([(vm.to_owned(), Some(state.clone()))]))
    }

    /// What is kept for each VM. What is no JSON any more is left out.
    pub fn states(&self) -> Result<BTreeMap<String, serde_json::Value>, LogError> {
        let get = || {
            let mut select = self.connection.prepare_cached("SELECT vm, state FROM vm_state")?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
        };
        let rows = get().map_err(|source| self.failed("read", source))?;
        Ok(rows.into_iter().filter_map(|(vm, text)| Some((vm, serde_json::from_str(&text).ok()?))).collect())
    }

    /// Keeps these states, or forgets those that are `None`: all or nothing,
    /// with a single wait for the disk.
    pub fn change_states(&mut self, states: &BTreeMap<String, Option<serde_json::Value>>) -> Result<(), LogError> {
        let mut texts = Vec::with_capacity(states.len());
        for (vm, state) in states {
            let text = state.as_ref().map(serde_json::Value::to_string);
            if let Some(bytes) = text.as_ref().map(String::len).filter(|bytes| *bytes > STATE_BYTES_MAX) {
                return Err(LogError::StateTooLarge { vm: vm.clone(), bytes });
            }
            texts.push((vm, text));
        }
        self.transaction("write to", |transaction| {
            for (vm, text) in &texts {
                match text {
                    Some(text) => transaction.prepare_cached(PUT_STATE)?.execute([vm.as_str(), text])?,
                    None => transaction.prepare_cached(REMOVE_STATE)?.execute([vm])?,
                };
            }
            Ok(())
        })
    }

    /// Forgets the state of a VM, if there is one.
    pub fn remove_state(&mut self, vm: &str) -> Result<(), LogError> {
        self.change_states(&BTreeMap::from([(vm.to_owned(), None)]))
    }

    fn transaction<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        let done = self.connection.transaction().and_then(|transaction| {
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        done.map_err(|source| self.failed(action, source))
    }

    fn query(&self, bound: &str, order: &str, id: i64, limit: u32, vm: Option<&str>) -> Result<Vec<Event>, LogError> {
        let of_vm = if vm.is_some() { "AND vm = ?3" } else { "AND ?3 IS NULL" };
        let sql = format!(
            "SELECT id, time_unix_ms, vm, kind, message, numbers FROM event
             WHERE {bound} {of_vm} ORDER BY id {order} LIMIT ?2"
        );
        let select = || {
            let mut select = self.connection.prepare_cached(&sql)?;
            select.query_map(params![id, limit.min(QUERY_MAX), vm], read_event)?.collect::<rusqlite::Result<_>>()
        };
        select().map_err(|source| self.failed("read", source))
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> LogError {
        LogError::Database { action, path: self.path.clone(), source }
    }
}

/// Numbers that a person has edited into nonsense are left out, the sentence
/// still tells.
fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let numbers: String = row.get(5)?;
    let what = NewEvent {
        time_unix_ms: row.get::<_, i64>(1)?.max(0).cast_unsigned(),
        vm: row.get(2)?,
        kind: row.get(3)?,
        message: row.get(4)?,
        numbers: serde_json::from_str(&numbers).unwrap_or_default(),
    };
    Ok(Event { id: row.get::<_, i64>(0)?.cast_unsigned(), what })
}

fn in_memory(
    log: impl FnOnce(Connection, bool) -> EventLog,
    path: &Path,
    reason: String,
) -> (EventLog, Option<LogNotice>) {
    let mut connection = Connection::open_in_memory().expect("SQLite needs no file for a database in memory");
    schema::prepare(&mut connection, &schema::EVENTS).expect("an empty database takes the newest shape");
    (log(connection, false), Some(LogNotice::InMemory { path: path.to_owned(), reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> NewEvent {
        NewEvent { kind: "grew".to_owned(), message: message.to_owned(), ..NewEvent::default() }
    }

    fn open(folder: &tempfile::TempDir) -> EventLog {
        let (log, notice) = EventLog::open(&folder.path().join("dynmem.db"), 1000);
        assert!(notice.is_none(), "{notice:?}");
        log
    }

    #[test]
    fn a_full_disk_refuses_events_until_there_is_room_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut log = open(&folder);
        let set_pages = |log: &EventLog, pages: i64| {
            log.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).expect("a pragma");
        };
        set_pages(&log, 20);
        let large = event(&"x".repeat(4096));
        let accepted = (0..100).take_while(|_| log.append(&large).is_ok()).count();
        let error = log.append(&large).expect_err("still full").to_string();
        assert!(error.starts_with("Can't append to the event log ") && error.contains("full"), "{error}");
        assert_eq!(log.newest(1000, None).expect("readable").len(), accepted);
        set_pages(&log, 10_000);
        assert_eq!(log.append(&large).expect("room again"), accepted as u64 + 1);
    }

    #[test]
    fn a_disk_that_became_read_only_refuses_events_and_still_tells_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut log = open(&folder);
        log.append(&event("before")).expect("writable");
        log.connection.pragma_update(None, "query_only", true).expect("a pragma");
        assert!(log.append(&event("after")).is_err());
        assert!(log.put_state("web01", &true.into()).is_err());
        assert_eq!(log.newest(10, None).expect("readable").len(), 1);
    }

    #[test]
    fn each_query_walks_an_index() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = open(&folder);
        for (vm, index) in [("AND vm = 'a'", "event_of_vm"), ("", "PRIMARY KEY")] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM event WHERE id > 5 {vm} ORDER BY id LIMIT 9");
            let plan: String = log.connection.query_row(&sql, [], |row| row.get(3)).expect("a plan");
            assert!(plan.contains(index), "{plan}");
        }
        let sql = "EXPLAIN QUERY PLAN SELECT * FROM event WHERE time_unix_ms >= 1 AND time_unix_ms < 9
                   ORDER BY time_unix_ms DESC, id DESC LIMIT 9";
        let plan: String = log.connection.query_row(sql, [], |row| row.get(3)).expect("a plan");
        assert!(plan.contains("event_at"), "{plan}");
    }
}
