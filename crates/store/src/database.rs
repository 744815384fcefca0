//! An SQLite file that always opens: connected to, or moved aside because it
//! is damaged and begun anew.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OpenFlags};

use crate::schema::{self, Shape, Unusable};

const FILE_MODE: u32 = 0o640;

/// Where a database went that could not be used, and why.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) moved_to: PathBuf,
    pub(crate) reason: String,
}

/// Opens the database at `path`, or begins one; what is damaged or of a later
/// version is moved aside first. An error is a sentence's part that says why
/// nothing can be written there.
pub(crate) fn open(path: &Path, shape: &Shape) -> Result<(Connection, Option<Aside>), String> {
    let (suffix, reason) = match connect(path, shape) {
        Ok(connection) => return Ok((connection, None)),
        Err(error @ Unusable::Damaged(_)) => ("damaged", error.to_string()),
        Err(error @ Unusable::Newer { .. }) => ("newer", error.to_string()),
        Err(Unusable::Unreachable(error)) => return Err(error.to_string()),
    };
    let moved_to = move_aside(path, suffix).map_err(|error| format!("{reason}; it can't be moved either: {error}"))?;
    let connection = connect(path, shape).map_err(|error| error.to_string())?;
    Ok((connection, Some(Aside { moved_to, reason })))
}

fn connect(path: &Path, shape: &Shape) -> Result<Connection, Unusable> {
    // SQLite gives its other files the mode that it finds here. If this fails
    // SQLite will say why, in more words.
    let _ = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    schema::prepare(&mut connection, shape)?;
    Ok(connection)
}

/// Renames a database and the files that belong to it; returns its new path.
fn move_aside(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = loop {
        let aside = with(path, &format!(".{suffix}-{unix}"));
        if !aside.try_exists()? {
            break aside;
        }
        unix += 1;
    };
    for part in ["-wal", "-shm", ""] {
        match fs::rename(with(path, part), with(&aside, part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    Ok(aside)
}
