//! The database's shape, and the way from older shapes to it.

use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode};

/// Each step takes the database from version *n* (its place) to *n* + 1.
/// Steps are only ever added: what has been released stays as it is.
const MIGRATIONS: [&str; 1] = ["
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
"];

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
    #[error("it has version {0}, and this program knows versions up to {known}", known = MIGRATIONS.len())]
    Newer(i64),
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
pub(crate) fn prepare(connection: &mut Connection) -> Result<(), Unusable> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(Unusable::Damaged(check));
    }
    // In memory there is no write-ahead log, and the answer says so.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    migrate(connection)?;
    // A foreign database that claims our version is found out here.
    connection.prepare("SELECT id, time_unix_ms, vm, kind, message, numbers FROM event")?;
    connection.prepare("SELECT vm, state FROM vm_state")?;
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), Unusable> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).map_err(|_| Unusable::Damaged(format!("version {version} is negative")))?;
    if done > MIGRATIONS.len() {
        return Err(Unusable::Newer(version));
    }
    for (version, sql) in (1_i64..).zip(MIGRATIONS).skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
