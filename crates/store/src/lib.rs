//! What outlives the daemon: VM definitions, the log of events, and the history
//! of what VMs and the host were.
//!
//! # On disk
//! ```text
//! <state_dir>/                    0750
//!   vms/                          0750
//!     web01.toml                  0640  one VM; the file's name is the VM's
//!     .web01.toml.<pid>-<n>.tmp   0640  being written; swept at the next start
//!   dynmem.db                     0640  events and small state, SQLite
//!   dynmem.db-wal, dynmem.db-shm  0640  its write-ahead log; part of it
//!   dynmem.db.damaged-<unix>            what a start could not read, kept
//!   dynmem.db.newer-<unix>              what a later version left, kept
//!   history.db                    0640  the history, SQLite, with files like these
//! ```
//! Definitions are files, because people read, edit, copy and version them.
//! Events are rows, because programs ask for them by number and there are
//! many. Each stands alone: no damage to one hides the other.
//!
//! # If the power fails
//! **A definition** is written to a temporary file, synced, given its name in
//! one step (`rename`, or `link` where nothing may be replaced), and then the
//! folder is synced. So under its name there is at every instant the whole old
//! text, the whole new text, or nothing, and what was answered with "done" is
//! on the disk. A temporary file is never read and may be left over.
//!
//! **An event** is a transaction in SQLite's write-ahead log with
//! `synchronous = FULL`: `append` returns after the log is synced. `NORMAL`
//! would only lose the last moments of a power failure, but those are the ones
//! that people look for afterwards, and the table of VM states decides which
//! machines come back up. The price, one sync for each commit, is paid on the
//! log's own thread, and [`EventLog::append_all`] commits a whole burst with
//! one.
//!
//! **The history** is written with `synchronous = NORMAL`, and only once a
//! minute: a power failure may take its last minutes and leaves the rest.
//!
//! **Damage** is met as such. A definition that can't be read is reported with
//! its place, and the others load. A database that can't be read is moved
//! aside, its write-ahead log first, so that a failure in between leaves
//! something that the next start moves again; a fresh one is begun, and a
//! [`LogNotice`] says so. Where nothing can be written at all the log is kept
//! in memory. Opening never fails.

mod database;
mod definitions;
mod event;
pub mod history;
mod log;
mod schema;

pub use definitions::{Damaged, Definitions, DefinitionsError, Loaded};
pub use event::{Event, NewEvent};
pub use log::{EventLog, LogError, LogNotice};
