//! What a power failure leaves: files that end early, end in zeros, end in
//! what lay on the disk before, and files that were being written. Tried at
//! every byte there is.
//!
//! The folders are in memory where that is possible: a disk would be asked to
//! sync some ten thousand times.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dynmem_definition::VmDefinition;
use dynmem_store::{Definitions, EventLog, NewEvent};
use tempfile::TempDir;

fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

/// What may lie on the disk where the rest of a file should be, over and over.
const ENDS: [(&str, &[u8]); 3] =
    [("zeros", &[0]), ("garbage", &[0xA5, 0x5A, 0xFF, 0x01, 0x7F]), ("old text", b"name = \"web02\"\nvcpus = 7\n")];

/// The file as a power failure may leave it after `kept` bytes: short, or as
/// long as it was to be with something else in its end.
fn torn(whole: &[u8], kept: usize) -> Vec<(&'static str, Vec<u8>)> {
    let with_end = |end: &[u8]| {
        let rest = end.iter().cycle().take(whole.len() - kept);
        whole[..kept].iter().chain(rest).copied().collect()
    };
    let mut variants = vec![("short", whole[..kept].to_vec())];
    variants.extend(ENDS.map(|(name, end)| (name, with_end(end))));
    variants
}

/// The file with a block of it lost: zeros in its place.
fn with_lost_block(whole: &[u8], start: usize, length: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let end = bytes.len().min(start + length);
    bytes[start..end].fill(0);
    bytes
}

fn vm(name: &str) -> VmDefinition {
    VmDefinition::from_toml(&format!("name = {name:?}\nvcpus = 3"), Path::new("test.toml")).expect("a definition")
}

#[test]
fn a_definition_that_is_damaged_at_any_byte_is_named_and_hides_no_other() {
    let state = folder();
    let definitions = Definitions::open(state.path().join("vms")).expect("creatable");
    for name in ["a", "web01", "z"] {
        definitions.create(&vm(name)).expect("new");
    }
    let path = definitions.folder().join("web01.toml");
    let whole = fs::read(&path).expect("there");
    let check = |what: &str, bytes: &[u8]| {
        fs::write(&path, bytes).expect("writable");
        let loaded = Definitions::open(definitions.folder()).and_then(|opened| opened.load_all()).expect("it opens");
        let names: Vec<&str> = loaded.definitions.iter().map(|definition| definition.name.as_str()).collect();
        assert!(names.starts_with(&["a"]) && names.ends_with(&["z"]), "{what}: {names:?}");
        match &loaded.damaged[..] {
            [] => assert_eq!(names, ["a", "web01", "z"], "{what}: it is neither there nor damaged"),
            [damaged] => {
                assert_eq!(damaged.path, path, "{what}");
                assert!(damaged.to_string().contains("web01.toml"), "{what}: {damaged}");
                assert_eq!(names, ["a", "z"], "{what}");
            }
            more => panic!("{what}: {more:?}"),
        }
        assert_eq!(fs::read(&path).expect("there"), bytes, "{what}: it is left as it is");
    };
    for kept in 0..whole.len() {
        for (how, bytes) in torn(&whole, kept) {
            check(&format!("{how} after {kept} bytes"), &bytes);
        }
        check(&format!("sixteen bytes lost at {kept}"), &with_lost_block(&whole, kept, 16));
    }
    // Damage takes nothing but the file: its name can be freed and used again.
    fs::remove_file(&path).expect("there");
    definitions.create(&vm("web01")).expect("new again");
    assert_eq!(definitions.load_all().expect("listable").definitions.len(), 3);
}

#[test]
fn a_write_that_broke_off_at_any_byte_leaves_the_old_text_and_nothing_else() {
    let state = folder();
    let definitions = Definitions::open(state.path().join("vms")).expect("creatable");
    definitions.create(&vm("web01")).expect("new");
    let newer = VmDefinition { vcpus: 8, ..vm("web01") }.to_toml().expect("a definition").into_bytes();
    let temporary = definitions.folder().join(".web01.toml.4711-0.tmp");
    for kept in 0..=newer.len() {
        fs::write(&temporary, &newer[..kept]).expect("writable");
        let again = Definitions::open(definitions.folder()).expect("it opens");
        let loaded = again.load_all().expect("listable");
        assert_eq!(loaded.definitions, [vm("web01")], "after {kept} bytes");
        assert!(loaded.damaged.is_empty(), "after {kept} bytes");
        assert!(!temporary.exists(), "after {kept} bytes");
    }
}

const EVENTS: usize = 4;

fn event(message: &str) -> NewEvent {
    NewEvent {
        kind: "grew".to_owned(),
        vm: Some("web01".to_owned()),
        message: message.to_owned(),
        ..NewEvent::default()
    }
}

/// The database and its write-ahead log after a few events; `merged` when the
/// daemon had time to merge the one into the other.
fn database(merged: bool) -> (Vec<u8>, Vec<u8>) {
    let state = folder();
    let path = state.path().join("dynmem.db");
    let (mut log, notice) = EventLog::open(&path, 1000);
    assert!(notice.is_none(), "{notice:?}");
    for number in 1..=EVENTS {
        log.append(&event(&number.to_string())).expect("writable");
    }
    log.put_state("web01", &true.into()).expect("writable");
    if merged {
        drop(log);
        return (fs::read(&path).expect("there"), Vec::new());
    }
    let (main, wal) = (fs::read(&path).expect("there"), fs::read(wal_of(&path)).expect("there"));
    (main, wal)
}

fn wal_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", path.display()))
}

/// Opens a log over these files, which works afterwards; the messages that it
/// still tells, and whether it said what was wrong.
fn reopened(state: &Path, what: &str, main: &[u8], wal: &[u8]) -> (Vec<String>, bool) {
    for entry in fs::read_dir(state).expect("listable").flatten() {
        fs::remove_file(entry.path()).expect("ours");
    }
    let path = state.join("dynmem.db");
    fs::write(&path, main).expect("writable");
    fs::write(wal_of(&path), wal).expect("writable");
    let (mut log, notice) = EventLog::open(&path, 1000);
    assert!(log.is_durable(), "{what}: {notice:?}");
    let told = log.newest(1000, None).map(|events| events.into_iter().map(|event| event.what.message).collect());
    let id = log.append(&event("goes on")).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(id > 0, "{what}");
    (told.unwrap_or_else(|error| vec![format!("not readable: {error}")]), notice.is_some())
}

/// Where to cut a file of `length` bytes: at every byte of its head, at every
/// byte around each boundary of a page or a frame (`step` bytes, from `start`
/// on), and here and there between them. With `DYNMEM_TORN=all`
/// at every byte there is, which takes minutes.
fn cuts(length: usize, start: usize, step: usize) -> Vec<usize> {
    const NEAR: usize = 16;
    let all = std::env::var("DYNMEM_TORN").is_ok_and(|which| which == "all");
    let is_near_boundary = |at: usize| at < start + NEAR || (at - start + NEAR) % step < 2 * NEAR;
    (0..=length).filter(|&at| all || at < 128 || is_near_boundary(at) || at % 251 == 0).collect()
}

#[test]
fn a_database_cut_at_any_byte_opens_and_takes_events() {
    let state = folder();
    let (main, _) = database(true);
    let all: Vec<String> = (1..=EVENTS).map(|number| number.to_string()).collect();
    assert_eq!(reopened(state.path(), "whole", &main, &[]), (all.clone(), false));
    for kept in cuts(main.len(), 0, 4096) {
        let (told, _) = reopened(state.path(), &format!("{kept} bytes"), &main[..kept], &[]);
        assert!(told.is_empty() || told == all, "{kept} bytes: {told:?}");
    }
}

#[test]
fn a_database_with_a_lost_or_foreign_end_or_block_opens_and_takes_events() {
    let state = folder();
    let (main, _) = database(true);
    for kept in (0..main.len()).step_by(397) {
        for (how, bytes) in torn(&main, kept) {
            reopened(state.path(), &format!("{how} after {kept} bytes"), &bytes, &[]);
        }
    }
    for start in (0..main.len()).step_by(512) {
        for length in [16, 512, 4096] {
            let bytes = with_lost_block(&main, start, length);
            reopened(state.path(), &format!("{length} bytes lost at {start}"), &bytes, &[]);
        }
    }
}

/// What is told is a beginning of what was: nothing is skipped or made up.
fn is_beginning(told: &[String]) -> bool {
    told.iter().eq((1..=told.len()).map(|number| number.to_string()).collect::<Vec<_>>().iter())
}

#[test]
fn a_write_ahead_log_cut_at_any_byte_loses_its_end_only() {
    let state = folder();
    let (main, wal) = database(false);
    let mut most = 0;
    for kept in cuts(wal.len(), 32, 4096 + 24) {
        let (told, damaged) = reopened(state.path(), &format!("{kept} bytes"), &main, &wal[..kept]);
        assert!(!damaged, "{kept} bytes: a log's missing end is no damage");
        assert!(is_beginning(&told) && told.len() >= most, "{kept} bytes: {told:?}, and {most} before");
        most = told.len();
    }
    assert_eq!(most, EVENTS);
}

#[test]
fn a_write_ahead_log_with_a_lost_or_foreign_end_or_block_loses_its_end_only() {
    let state = folder();
    let (main, wal) = database(false);
    let mut variants = Vec::new();
    for kept in (0..wal.len()).step_by(401) {
        variants.extend(torn(&wal, kept).into_iter().map(|(how, bytes)| (format!("{how} after {kept} bytes"), bytes)));
    }
    for start in (0..wal.len()).step_by(512) {
        variants.push((format!("512 bytes lost at {start}"), with_lost_block(&wal, start, 512)));
    }
    for (what, bytes) in variants {
        let (told, _) = reopened(state.path(), &what, &main, &bytes);
        assert!(is_beginning(&told), "{what}: {told:?}");
    }
}
