//! [`History`]: chunks in SQLite, and which of them go.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    codec::{decode, encode},
    columns::{Column, Point, Sample, Subject},
    fold::{Piece, fold},
};
use crate::{
    database::{self, Aside},
    schema,
};

/// Points of one length, and how many of their chunks are kept.
#[derive(Clone, Copy, Debug)]
struct Tier {
    number: i64,
    /// Seconds from one point to the next.
    period: u64,
    /// Seconds from one chunk to the next.
    span: u64,
    /// Chunks of a subject that are always kept: one more than what is
    /// promised, because the newest is not full.
    kept: u64,
    /// When there are so many more, all of them go on at once: the chunk that
    /// they go to is written once then.
    slack: u64,
}

const HOUR: u64 = 3600;
const WEEK: u64 = 7 * 24 * HOUR;
const TIERS: [Tier; 3] = [
    Tier { number: 0, period: 1, span: 60, kept: 61, slack: 10 },
    Tier { number: 1, period: 60, span: HOUR, kept: 169, slack: 12 },
    Tier { number: 2, period: HOUR, span: WEEK, kept: 54, slack: 1 },
];

/// The history on the disk. One owner, which blocks on the disk: give it a
/// thread of its own. After an error nothing of that call is kept.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    path: PathBuf,
}

/// The history could not be read or used, and a fresh one was begun.
#[derive(Debug, thiserror::Error)]
#[error(
    "The history {} can't be used ({reason}): it was moved to {} and a new one was begun",
    path.display(),
    moved_to.display()
)]
pub struct HistoryNotice {
    path: PathBuf,
    moved_to: PathBuf,
    reason: String,
}

/// Why the history did not do what it was asked. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// There is no way to keep one at this place.
    #[error("The history {} can't be opened: {reason}", path.display())]
    Unreachable {
        /// The database.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// Disk full, read-only, locked, damaged.
    #[error("Can't {action} the history {}: {source}", path.display())]
    Database {
        /// What was tried, as a verb.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl HistoryError {
    /// True if the database itself is broken: nothing helps but to open it
    /// again.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Database { source, .. } if schema::is_damage(source))
    }
}

impl History {
    /// Opens the history at `path`, or begins one. What is damaged is moved
    /// aside, and the notice says so.
    pub fn open(path: &Path) -> Result<(Self, Option<HistoryNotice>), HistoryError> {
        let unreachable = |reason| HistoryError::Unreachable { path: path.to_owned(), reason };
        let (connection, aside) = database::open(path, &schema::HISTORY).map_err(unreachable)?;
        let notice = aside.map(|Aside { moved_to, reason }| HistoryNotice { path: path.to_owned(), moved_to, reason });
        Ok((Self { connection, path: path.to_owned() }, notice))
    }

    /// Takes samples in, all or none of them.
    pub fn write(&mut self, batch: &[(Subject, Vec<Sample>)]) -> Result<(), HistoryError> {
        self.transaction("write to", |connection| {
            for (subject, samples) in batch {
                let columns = subject.columns();
                let subject = id_of(connection, subject.key())?;
                add(connection, subject, columns, TIERS[0], samples.iter().map(Point::from).collect())?;
                for (tier, next) in TIERS.iter().zip(TIERS.iter().skip(1).map(Some).chain([None])) {
                    pass_on(connection, subject, columns, *tier, next.copied())?;
                }
            }
            Ok(())
        })
    }

    /// What is kept of a subject that has to do with this span, `to` excluded.
    /// A chunk that can't be read is a gap.
    pub fn read(&self, subject: &Subject, from_unix_s: u64, to_unix_s: u64) -> Result<Vec<Piece>, HistoryError> {
        let read = || {
            let mut pieces = Vec::new();
            for tier in TIERS {
                let mut select = self.connection.prepare_cached(
                    "SELECT start, points FROM chunk
                     WHERE subject = (SELECT id FROM subject WHERE name = ?1) AND tier = ?2 AND start > ?3 AND start < ?4
                     ORDER BY start",
                )?;
                let from = signed(from_unix_s) - signed(tier.span);
                let rows = select.query_map(params![subject.key(), tier.number, from, signed(to_unix_s)], row)?;
                for row in rows {
                    let points = tier.points(&row?, subject.columns());
                    pieces.push(Piece { period_seconds: tier.period, points });
                }
            }
            Ok(pieces)
        };
        read().map_err(|source| self.failed("read", source))
    }

    /// Forgets a VM's history, and gives its room back to the disk.
    pub fn forget(&mut self, vm: &str) -> Result<(), HistoryError> {
        self.transaction("remove a VM from", |connection| remove(connection, vm))?;
        self.give_back()
    }

    /// Forgets the history of every VM that `is_known` does not know.
    pub fn forget_unknown(&mut self, is_known: impl Fn(&str) -> bool) -> Result<(), HistoryError> {
        let forgot = self.transaction("remove VMs from", |connection| {
            let mut select = connection.prepare_cached("SELECT name FROM subject WHERE name != ''")?;
            let names = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
            let unknown: Vec<_> = names.iter().filter(|name| !is_known(name)).collect();
            unknown.iter().try_for_each(|name| remove(connection, name))?;
            Ok(!unknown.is_empty())
        })?;
        if forgot { self.give_back() } else { Ok(()) }
    }

    fn give_back(&self) -> Result<(), HistoryError> {
        let vacuum = || {
            let mut vacuum = self.connection.prepare_cached("PRAGMA incremental_vacuum")?;
            let mut pages = vacuum.query([])?; // each step gives back one
            while pages.next()?.is_some() {}
            Ok(())
        };
        vacuum().map_err(|source| self.failed("shrink", source))
    }

    fn transaction<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        let done = self.connection.transaction().and_then(|transaction| {
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        done.map_err(|source| self.failed(action, source))
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> HistoryError {
        HistoryError::Database { action, path: self.path.clone(), source }
    }
}

/// A chunk as it lies in the table.
type Row = (i64, Vec<u8>);

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok((row.get(0)?, row.get(1)?))
}

impl Tier {
    /// The points of a chunk; none of one that is damaged.
    fn points(self, (start, bytes): &Row, columns: &[Column]) -> Vec<Point> {
        let Ok(start) = u64::try_from(*start) else { return Vec::new() };
        decode(bytes, columns, start, self.period, self.span / self.period).unwrap_or_default()
    }
}

/// Seconds as SQLite has them.
fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn id_of(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let mut select = connection.prepare_cached("SELECT id FROM subject WHERE name = ?1")?;
    if let Some(id) = select.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    connection.prepare_cached("INSERT INTO subject (name) VALUES (?1)")?.insert([name])
}

fn remove(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let chunks = "DELETE FROM chunk WHERE subject = (SELECT id FROM subject WHERE name = ?1)";
    connection.prepare_cached(chunks)?.execute([name])?;
    connection.prepare_cached("DELETE FROM subject WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Puts points into their chunks of a tier, beside what is there.
fn add(
    connection: &Connection,
    subject: i64,
    columns: &[Column],
    tier: Tier,
    points: Vec<Point>,
) -> rusqlite::Result<()> {
    let mut points = fold(points, columns, tier.period);
    // What a clock tells that is off by ages could not be found again.
    points.retain(|point| i64::try_from(point.at_unix_s).is_ok());
    let start_of = |point: &Point| point.at_unix_s / tier.span * tier.span;
    for chunk in points.chunk_by(|a, b| start_of(a) == start_of(b)) {
        let start = start_of(&chunk[0]);
        let mut select = connection
            .prepare_cached("SELECT start, points FROM chunk WHERE subject = ?1 AND tier = ?2 AND start = ?3")?;
        let there = select.query_row(params![subject, tier.number, signed(start)], row).optional()?;
        let bytes = match there {
            None => encode(chunk, columns, start, tier.period),
            Some(there) => {
                let mut all = tier.points(&there, columns);
                all.extend_from_slice(chunk);
                encode(&fold(all, columns, tier.period), columns, start, tier.period)
            }
        };
        let mut put = connection.prepare_cached(
            "INSERT INTO chunk (subject, tier, start, points) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (subject, tier, start) DO UPDATE SET points = excluded.points",
        )?;
        put.execute(params![subject, tier.number, signed(start), bytes])?;
    }
    Ok(())
}

/// Folds what a tier has too much of into the next, or deletes it in the last.
/// The oldest are those that were begun first, whatever the clock said.
fn pass_on(
    connection: &Connection,
    subject: i64,
    columns: &[Column],
    tier: Tier,
    next: Option<Tier>,
) -> rusqlite::Result<()> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM chunk WHERE subject = ?1 AND tier = ?2")?;
    let chunks: i64 = count.query_row(params![subject, tier.number], |row| row.get(0))?;
    let excess = chunks - signed(tier.kept);
    if excess < signed(tier.slack) {
        return Ok(());
    }
    let mut select = connection
        .prepare_cached("SELECT id, start, points FROM chunk WHERE subject = ?1 AND tier = ?2 ORDER BY id LIMIT ?3")?;
    let oldest = select.query_map(params![subject, tier.number, excess], |row| {
        Ok((row.get::<_, i64>(0)?, (row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)))
    })?;
    let oldest = oldest.collect::<rusqlite::Result<Vec<_>>>()?;
    if let Some(next) = next {
        let points = oldest.iter().flat_map(|(_, chunk)| tier.points(chunk, columns)).collect();
        add(connection, subject, columns, next, points)?;
    }
    let mut delete = connection.prepare_cached("DELETE FROM chunk WHERE id = ?1")?;
    oldest.iter().try_for_each(|(id, _)| delete.execute([id]).map(drop))
}
