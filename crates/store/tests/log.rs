//! The log of events: it keeps what it took, and always opens.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use dynmem_store::{EventLog, LogError, LogNotice, NewEvent};
use serde_json::json;
use tempfile::TempDir;

const KEPT: u64 = 1000;

fn event(vm: Option<&str>, message: &str) -> NewEvent {
    NewEvent {
        time_unix_ms: 1_700_000_000_000,
        vm: vm.map(str::to_owned),
        kind: "grew".to_owned(),
        message: message.to_owned(),
        numbers: BTreeMap::from([("assigned_bytes".to_owned(), 1 << 30), ("change_bytes".to_owned(), -5)]),
    }
}

struct State(TempDir);

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("dynmem.db")
    }

    /// Opens the log, which must need no excuse.
    fn open(&self) -> EventLog {
        let (log, notice) = EventLog::open(&self.path(), KEPT);
        assert!(notice.is_none(), "{notice:?}");
        log
    }

    /// Opens the log, which must have been moved aside; its new path and why.
    fn open_moved(&self) -> (EventLog, PathBuf, String) {
        let (log, notice) = EventLog::open(&self.path(), KEPT);
        match notice {
            Some(LogNotice::MovedAside { moved_to, reason, .. }) => (log, moved_to, reason),
            other => panic!("{other:?}"),
        }
    }
}

fn messages(log: &EventLog) -> Vec<String> {
    log.newest(1000, None).expect("readable").into_iter().map(|event| event.what.message).collect()
}

#[test]
fn events_and_states_survive_the_daemon() {
    let state = State::new();
    let mut log = state.open();
    assert_eq!(log.append(&event(Some("web01"), "one")).expect("writable"), 1);
    assert_eq!(log.append(&event(None, "two")).expect("writable"), 2);
    log.put_state("web01", &json!({"ran": true})).expect("writable");
    std::mem::forget(log); // as SIGKILL leaves it: nothing closed, the write-ahead log in place
    let mut log = state.open();
    assert!(log.is_durable());
    let events = log.after(0, 10, None).expect("readable");
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events[0].what, event(Some("web01"), "one"));
    assert_eq!(log.state("web01").expect("readable"), Some(json!({"ran": true})));
    assert_eq!(log.append(&event(None, "three")).expect("writable"), 3);
}

#[test]
fn a_query_gives_the_first_after_an_id_or_the_newest_oldest_first() {
    let state = State::new();
    let mut log = state.open();
    let events: Vec<_> =
        (1..=9).map(|n| event(Some(if n % 3 == 0 { "db01" } else { "web01" }), &n.to_string())).collect();
    assert_eq!(log.append_all(&events).expect("writable"), (1..=9).collect::<Vec<_>>());
    let ids = |events: Result<Vec<dynmem_store::Event>, LogError>| -> Vec<u64> {
        events.expect("readable").iter().map(|event| event.id).collect()
    };
    assert_eq!(ids(log.after(0, 3, None)), [1, 2, 3]);
    assert_eq!(ids(log.after(7, 100, None)), [8, 9]);
    assert_eq!(ids(log.after(3, 100, Some("db01"))), [6, 9]);
    assert_eq!(ids(log.newest(2, None)), [8, 9]);
    assert_eq!(ids(log.newest(2, Some("db01"))), [6, 9]);
    assert!(ids(log.after(u64::MAX, 100, None)).is_empty());
    assert!(ids(log.newest(100, Some("' OR 1=1 --"))).is_empty());
    assert!(log.append_all(&[]).expect("nothing to do").is_empty());
}

#[test]
fn an_answer_has_at_most_a_thousand_events() {
    let state = State::new();
    let (mut log, _) = EventLog::open(&state.path(), 5000);
    log.append_all(&vec![event(None, "x"); 1500]).expect("writable");
    assert_eq!(log.after(0, u32::MAX, None).expect("readable").len(), 1000);
    assert_eq!(log.newest(u32::MAX, None).expect("readable").len(), 1000);
}

#[test]
fn the_oldest_events_beyond_the_bound_go_and_ids_never_come_back() {
    let state = State::new();
    let (mut log, _) = EventLog::open(&state.path(), 3);
    for n in 1..=5 {
        log.append(&event(None, &n.to_string())).expect("writable");
    }
    assert_eq!(messages(&log), ["3", "4", "5"]);
    log.append_all(&vec![event(None, "burst"); 10]).expect("writable");
    assert_eq!(messages(&log), ["burst"; 3]);
    drop(log);
    let (mut log, _) = EventLog::open(&state.path(), 1);
    assert_eq!(log.append(&event(None, "last")).expect("writable"), 16);
    assert_eq!(messages(&log), ["last"]);
}

#[test]
fn the_file_stops_growing() {
    let state = State::new();
    let (mut log, _) = EventLog::open(&state.path(), 100);
    let mut fill = || {
        for _ in 0..20 {
            log.append_all(&vec![event(Some("web01"), &"x".repeat(500)); 50]).expect("writable");
        }
        fs::metadata(state.path()).expect("there").len()
    };
    let early = fill();
    let late = fill();
    assert!(late <= early * 2, "{early} bytes, then {late}");
}

#[test]
fn an_event_beyond_its_bounds_is_cut() {
    let state = State::new();
    let mut log = state.open();
    let flood = NewEvent {
        time_unix_ms: u64::MAX,
        vm: Some("v".repeat(10_000)),
        kind: "k".repeat(10_000),
        message: "é".repeat(1 << 20),
        numbers: (0..10_000).map(|n| (n.to_string(), i64::MIN)).collect(),
    };
    log.append(&flood).expect("cut, not refused");
    let kept = log.newest(1, None).expect("readable").remove(0).what;
    assert_eq!(
        (kept.vm.map(|vm| vm.len()), kept.kind.len(), kept.message.len(), kept.numbers.len()),
        (Some(63), 64, 4096, 64)
    );
    assert_eq!(kept.time_unix_ms, i64::MAX.cast_unsigned());
}

#[test]
fn a_state_is_replaced_removed_and_bounded() {
    let state = State::new();
    let mut log = state.open();
    assert_eq!(log.state("web01").expect("readable"), None);
    log.put_state("web01", &json!({"n": 1})).expect("writable");
    log.put_state("web01", &json!([2])).expect("writable");
    assert_eq!(log.state("web01").expect("readable"), Some(json!([2])));
    let error = log.put_state("web01", &json!("x".repeat(1 << 17))).expect_err("too large");
    assert!(matches!(error, LogError::StateTooLarge { bytes: 131_074, .. }), "{error}");
    assert_eq!(log.state("web01").expect("readable"), Some(json!([2])));
    log.remove_state("web01").expect("writable");
    log.remove_state("web01").expect("gone already");
    assert_eq!(log.state("web01").expect("readable"), None);
}

/// A database with many pages, closed; its bytes.
#[test]
fn many_states_change_at_once_or_not_at_all() {
    let state = State::new();
    let mut log = state.open();
    log.put_state("gone", &json!(1)).expect("kept");
    let changes = [("a", Some(json!({"ran": true}))), ("b", Some(json!(2))), ("gone", None), ("never", None)];
    log.change_states(&changes.map(|(vm, state)| (vm.to_owned(), state)).into()).expect("kept");
    let kept = [("a", json!({"ran": true})), ("b", json!(2))].map(|(vm, state)| (vm.to_owned(), state));
    let kept = BTreeMap::from(kept);
    assert_eq!(log.states().expect("readable"), kept);
    let too_large = [("a", None), ("b", Some(json!("x".repeat(70_000))))];
    let error = log.change_states(&too_large.map(|(vm, state)| (vm.to_owned(), state)).into()).expect_err("too large");
    assert!(matches!(error, LogError::StateTooLarge { vm, .. } if vm == "b"));
    drop(log);
    assert_eq!(state.open().states().expect("readable"), kept, "the refused change has changed nothing");
}

fn filled(state: &State) -> Vec<u8> {
    let mut log = state.open();
    log.append_all(&vec![event(Some("web01"), &"x".repeat(300)); 300]).expect("writable");
    drop(log);
    fs::read(state.path()).expect("there")
}

#[test]
fn a_truncated_database_is_moved_aside_and_a_fresh_one_begun() {
    let whole = filled(&State::new());
    for kept in [2, 15, 16, 99, 100, 511, 512, 4095, 4096, 4097, 8192, whole.len() / 2, whole.len() - 4096] {
        let state = State::new();
        fs::write(state.path(), &whole[..kept]).expect("writable");
        let (mut log, moved_to, reason) = state.open_moved();
        assert_eq!(fs::read(&moved_to).expect("kept"), &whole[..kept], "{kept} bytes");
        let prefix = format!("{}.damaged-", state.path().display());
        assert!(moved_to.to_string_lossy().starts_with(&prefix), "{moved_to:?}");
        assert!(!reason.is_empty());
        assert!(log.is_durable());
        assert_eq!(log.append(&event(None, "a new beginning")).expect("writable"), 1);
        drop(log);
        assert_eq!(messages(&state.open()), ["a new beginning"]);
    }
}

#[test]
fn a_database_torn_within_its_last_page_still_takes_events() {
    let whole = filled(&State::new());
    for missing in [1, 100, 4095] {
        let state = State::new();
        fs::write(state.path(), &whole[..whole.len() - missing]).expect("writable");
        let (mut log, _) = EventLog::open(&state.path(), KEPT); // SQLite may take the rest for zeros
        assert!(log.is_durable());
        log.append(&event(None, "goes on")).expect("writable");
        assert_eq!(messages(&log).last().map(String::as_str), Some("goes on"));
    }
}

#[test]
fn an_empty_file_is_an_empty_log() {
    for content in ["", "x"] {
        let state = State::new();
        fs::write(state.path(), content).expect("writable"); // SQLite takes a single byte for none
        assert!(messages(&state.open()).is_empty());
    }
}

#[test]
fn garbage_anywhere_ends_in_a_working_log() {
    let whole = filled(&State::new());
    for at in (0..whole.len()).step_by(2039) {
        let state = State::new();
        let mut bytes = whole.clone();
        let end = bytes.len().min(at + 64);
        bytes[at..end].fill(0xA5);
        fs::write(state.path(), bytes).expect("writable");
        let (mut log, _) = EventLog::open(&state.path(), KEPT);
        assert!(log.is_durable(), "garbage at {at}");
        let _ = log.newest(1000, None); // an answer or an error
        log.append(&event(None, "goes on")).unwrap_or_else(|error| panic!("garbage at {at}: {error}"));
    }
}

#[test]
fn a_damaged_log_moves_together_with_its_write_ahead_log() {
    let state = State::new();
    let whole = filled(&state);
    let mut log = state.open();
    log.append(&event(None, "not in the database yet")).expect("writable");
    std::mem::forget(log);
    fs::write(state.path(), &whole[..whole.len() / 2]).expect("writable");
    let with = |path: &Path, suffix| PathBuf::from(format!("{}{suffix}", path.display()));
    let wal = fs::read(with(&state.path(), "-wal")).expect("there");
    assert!(!wal.is_empty());
    let (log, moved_to, _) = state.open_moved();
    assert_eq!(fs::read(with(&moved_to, "-wal")).expect("kept"), wal);
    assert!(messages(&log).is_empty());
    drop(log);
    // Twice within a second: neither is overwritten.
    fs::write(state.path(), "x".repeat(5000)).expect("writable");
    let (_, moved_again, _) = state.open_moved();
    assert_ne!(moved_to, moved_again);
    assert!(moved_to.exists());
}

#[test]
fn a_write_ahead_log_cut_at_any_point_loses_its_end_only() {
    let state = State::new();
    let mut log = state.open();
    for n in 1..=20 {
        log.append(&event(None, &n.to_string())).expect("writable");
    }
    let wal = PathBuf::from(format!("{}-wal", state.path().display()));
    let (main, wal) = (fs::read(state.path()).expect("there"), fs::read(wal).expect("there"));
    drop(log);
    let mut seen = 0;
    for cut in (0..=wal.len()).step_by(997).chain([wal.len()]) {
        let state = State::new();
        fs::write(state.path(), &main).expect("writable");
        fs::write(format!("{}-wal", state.path().display()), &wal[..cut]).expect("writable");
        let mut log = state.open();
        let kept = messages(&log);
        assert_eq!(kept, (1..=kept.len()).map(|n| n.to_string()).collect::<Vec<_>>(), "cut at {cut}");
        assert!(kept.len() >= seen, "cut at {cut}");
        seen = kept.len();
        log.append(&event(None, "goes on")).expect("writable");
    }
    assert_eq!(seen, 20);
}

#[test]
fn what_a_later_version_wrote_is_kept_from_us() {
    let state = State::new();
    drop(state.open());
    let later = rusqlite::Connection::open(state.path()).expect("ours");
    later.pragma_update(None, "user_version", 99).expect("ours");
    drop(later);
    let (_, moved_to, reason) = state.open_moved();
    assert!(moved_to.to_string_lossy().contains("dynmem.db.newer-"), "{moved_to:?}");
    assert_eq!(reason, "it has version 99, and this program knows versions up to 2");
}

#[test]
fn a_database_of_somebody_else_is_moved_aside() {
    for sql in ["CREATE TABLE event (x)", "PRAGMA user_version = 1", "PRAGMA user_version = -1"] {
        let state = State::new();
        rusqlite::Connection::open(state.path()).expect("ours").execute_batch(sql).expect("ours");
        let (mut log, _, _) = state.open_moved();
        log.append(&event(None, "goes on")).expect("writable");
    }
}

#[test]
fn where_nothing_can_be_written_the_log_is_in_memory_and_says_so() {
    let state = State::new();
    fs::create_dir(state.path()).expect("writable");
    for path in [state.path(), state.0.path().join("no/such/folder/dynmem.db")] {
        let (mut log, notice) = EventLog::open(&path, KEPT);
        let notice = notice.expect("something to say").to_string();
        assert!(notice.starts_with(&format!("The event log {} can't be opened (", path.display())), "{notice}");
        assert!(!log.is_durable());
        log.append(&event(None, "kept for now")).expect("memory");
        assert_eq!(messages(&log), ["kept for now"]);
    }
}

#[test]
fn a_log_in_memory_moves_to_the_disk_when_that_can_be_written() {
    let state = State::new();
    fs::create_dir(state.path()).expect("writable");
    let (mut log, _) = EventLog::open(&state.path(), KEPT);
    log.append(&event(None, "one")).expect("memory");
    log.put_state("web01", &json!(1)).expect("memory");
    assert!(log.open_again().is_none() && !log.is_durable());
    fs::remove_dir(state.path()).expect("empty");
    assert!(log.open_again().is_none() && log.is_durable());
    log.append(&event(None, "two")).expect("writable");
    drop(log);
    assert_eq!(messages(&state.open()), ["one", "two"]);
    assert_eq!(state.open().state("web01").expect("readable"), Some(json!(1)));
}

#[test]
fn a_database_that_breaks_while_it_is_open_is_moved_aside_then() {
    let state = State::new();
    let mut log = state.open();
    log.append(&event(None, "one")).expect("writable");
    let other = rusqlite::Connection::open(state.path()).expect("ours");
    other.execute_batch("DROP TABLE event").expect("ours");
    drop(other);
    let error = log.append(&event(None, "lost")).expect_err("it is noticed");
    assert!(error.is_damage(), "{error}");
    assert!(matches!(log.open_again(), Some(LogNotice::MovedAside { .. })));
    log.append(&event(None, "goes on")).expect("writable");
    assert_eq!(messages(&log), ["goes on"]);
}

#[test]
fn a_person_may_read_along() {
    let state = State::new();
    let mut log = state.open();
    log.append(&event(None, "one")).expect("writable");
    let reader = rusqlite::Connection::open(state.path()).expect("readable");
    let mut select = reader.prepare("SELECT message FROM event").expect("readable");
    let mut rows = select.query([]).expect("readable");
    assert!(rows.next().expect("readable").is_some());
    log.append(&event(None, "while the other reads")).expect("not blocked by a reader");
}

#[test]
fn others_can_not_read_it() {
    let state = State::new();
    let mut log = state.open();
    log.append(&event(None, "one")).expect("writable");
    for entry in fs::read_dir(state.0.path()).expect("listable") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.metadata().expect("there").permissions().mode() & 0o007, 0, "{:?}", entry.path());
    }
}
