//! The databases' shapes, and the way from older shapes to them.

use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode};

/// What a database looks like.
pub(crate) struct Shape {
    /// Each step takes the database from version *n* (its place) to *n* + 1.
    /// Steps are only ever added: what has been released stays as it is.
    migrations: &'static [&'static str],
    /// They are understood by a database of the newest version only.
    probes: &'static [&'static str],
    /// SQLite's `synchronous`.
    synchronous: &'static str,
    /// SQLite's `auto_vacuum`, for a database that is begun.
    auto_vacuum: &'static str,
}

/// The events, and what is kept of each VM: on the disk when it is said to be.
pub(crate) const EVENTS: Shape = Shape {
    migrations: &[
        "
    CREATE TABLE event (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        time_unix_ms INTEGER NOT NULL,
        vm           TEXT,
        kind         TEXT NOT NULL,
        message      TEXT NOT NULL,
        numbers      TEXT NOT NULL  -- a JSON object: name → integer
    ) STRICT;
    CREATE INDEX event_of_vm ON event (vm, id) WHERE vm IS NOT NULL;
    CREATE TABLE vm_state (
        vm    TEXT PRIMARY KEY,
        state TEXT NOT NULL         -- JSON
    ) STRICT, WITHOUT ROWID;
    ",
        "CREATE INDEX event_at ON event (time_unix_ms);",
    ],
    probes: &["SELECT id, time_unix_ms, vm, kind, message, numbers FROM event", "SELECT vm, state FROM vm_state"],
    synchronous: "FULL",
    auto_vacuum: "NONE",
};

/// The history. A power failure may take its last minutes, and no more.
pub(crate) const HISTORY: Shape = Shape {
    migrations: &["
    CREATE TABLE subject (
        id   INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE   -- of a VM; empty for the host
    ) STRICT;
    CREATE TABLE chunk (
        id      INTEGER PRIMARY KEY,
        subject INTEGER NOT NULL,
        tier    INTEGER NOT NULL,
        start   INTEGER NOT NULL,   -- seconds since 1970
        points  BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX chunk_of ON chunk (subject, tier, start);
    "],
    probes: &["SELECT id, name FROM subject", "SELECT id, subject, tier, start, points FROM chunk"],
    synchronous: "NORMAL",
    auto_vacuum: "INCREMENTAL",
};

/// How long to wait for a person's `sqlite3` that holds the lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// The write-ahead log is cut back to this many bytes after a burst.
const WAL_BYTES_KEPT: i64 = 4 << 20;

/// Why a database can't be used as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Its content is broken, or not ours: a fresh one is needed.
    #[error("{0}")]
    Damaged(String),
    /// It was written by a later version: ours must not touch it.
    #[error("it has version {version}, and this program knows versions up to {known}")]
    Newer { version: i64, known: usize },
    /// It can't be reached: no right, no space, locked.
    #[error(transparent)]
    Unreachable(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        match error {
            error if !is_damage(&error) => Self::Unreachable(error),
            // Its text would repeat the whole statement.
            Error::SqlInputError { msg, .. } => Self::Damaged(format!("its tables are not ours: {msg}")),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// Whether the database is broken or not ours, and not merely out of reach.
pub(crate) fn is_damage(error: &Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, NoLargeFileSupport, OutOfMemory,
        PermissionDenied, ReadOnly, SystemIoFailure,
    };
    let Error::SqliteFailure(failure, _) = error else { return true };
    !matches!(
        failure.code,
        CannotOpen
            | DatabaseBusy
            | DatabaseLocked
            | DiskFull
            | FileLockingProtocolFailed
            | NoLargeFileSupport
            | OutOfMemory
            | PermissionDenied
            | ReadOnly
            | SystemIoFailure
    )
}

/// Sets a connection up, checks the whole database, and brings it to the
/// newest version.
pub(crate) fn prepare(connection: &mut Connection, shape: &Shape) -> Result<(), Unusable> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(Unusable::Damaged(check));
    }
    connection.pragma_update(None, "auto_vacuum", shape.auto_vacuum)?;
    // In memory there is no write-ahead log, and the answer says so.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", shape.synchronous)?;
    migrate(connection, shape.migrations)?;
    // A foreign database that claims our version is found out here.
    for probe in shape.probes {
        connection.prepare(probe)?;
    }
    Ok(())
}

fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Unusable> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).map_err(|_| Unusable::Damaged(format!("version {version} is negative")))?;
    if done > migrations.len() {
        return Err(Unusable::Newer { version, known: migrations.len() });
    }
    for (version, sql) in (1_i64..).zip(migrations).skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
