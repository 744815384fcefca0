//! Traces: what real guests used over days, read from a file and believed only
//! where it makes sense.
//!
//! ```text
//! sample,unix_s,web_4096,db_16384      a VM's column is its name and its size in MiB
//! 0,1376265600,812,9120.5              MiB in active use at that second
//! 1,1376265900,799,9121                each row the same time after the last
//!
//! file ──▶ limits ──▶ header: VMs ──▶ rows: time, values ──▶ Trace
//! ```
//!
//! The first fault ends the reading and says where it is, what the rule is and
//! what to do. Nothing is guessed: a gap that was filled silently would be
//! scored as memory that a guest never needed.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path, sync::Arc};

use csv::{ByteRecord, ReaderBuilder, Trim};
use dynmem_units::Bytes;

pub use self::error::{CellRule, HeaderRule, TraceError};

mod error;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// The most columns that are read; a host has fewer VMs.
const COLUMNS_MAX: usize = 10_000;
/// Columns before the first VM: `sample` and `unix_s`.
const FIRST_VM: usize = 2;
/// The longest name of a VM.
const NAME_BYTES_MAX: usize = 63;
/// The largest VM, and the largest value.
const SIZE_MAX: Bytes = Bytes::from_mib(32 << 20);
/// A VM may use more than it was configured with where it was resized later,
/// but a value above so many times its size is a fault.
const ABSURD_FACTOR: u64 = 16;
/// The last second of the year 9999: what is larger is not in seconds.
const UNIX_S_MAX: u64 = 253_402_300_799;

/// What a set of VMs used over time, in even steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// From one sample to the next, milliseconds; more than 0.
    pub interval_ms: u64,
    /// The VMs, at least one, in the file's order.
    pub vms: Vec<TracedVm>,
}

/// One VM of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedVm {
    /// Its name: 1 to 63 letters, digits, `-`, `_` and `.`, unlike any other's.
    pub name: String,
    /// Its size at the time, 1 MiB to 32 TiB.
    pub configured: Bytes,
    /// Memory in active use, one value for each interval, at least two; as long
    /// as every other VM's. A value may lie above `configured`.
    pub samples: Arc<[Bytes]>,
}

impl Trace {
    /// Reads the trace at `path`.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::read(file, &name),
            Err(reason) => Err(TraceError::Read { file: name, reason }),
        }
    }

    /// Reads a trace to its end; errors call it `name_of_file`.
    pub fn read(reader: impl Read, name_of_file: &str) -> Result<Self, TraceError> {
        let file = || name_of_file.to_owned();
        let unreadable = |reason| TraceError::Read { file: file(), reason };
        let mut text = Vec::new();
        reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(TraceError::TooLarge { file: file() });
        }
        check_width(&text, name_of_file)?;

        let mut rows = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true) // we say which row is too short or long, and by how much
            .trim(Trim::All)
            .from_reader(text.as_slice());
        let mut row = ByteRecord::new();
        let mut next = |row: &mut ByteRecord| rows.read_byte_record(row).map_err(|error| unreadable(error.into()));

        next(&mut row)?;
        let mut reading = Reading::begin(&row, name_of_file)?;
        while next(&mut row)? {
            reading.take(&row, line_of(&row, &text))?;
        }
        reading.finish()
    }
}

/// Refuses a line with too many columns before any is taken apart: where they
/// begin and end needs memory, too.
fn check_width(text: &[u8], file: &str) -> Result<(), TraceError> {
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        let columns = line.split(|byte| *byte == b',').count();
        if columns > COLUMNS_MAX {
            return Err(TraceError::TooManyColumns { file: file.to_owned(), line: number, columns });
        }
    }
    Ok(())
}

/// The line on which a row of `text` begins, from 1: its position is where the
/// row before ended, and empty lines may lie between.
fn line_of(row: &ByteRecord, text: &[u8]) -> u64 {
    let Some(position) = row.position() else { return 0 };
    let rest = usize::try_from(position.byte()).ok().and_then(|byte| text.get(byte..)).unwrap_or_default();
    let between = rest.iter().take_while(|byte| b"\r\n".contains(byte)).filter(|byte| **byte == b'\n');
    position.line() + between.map(|_| 1).sum::<u64>()
}

/// A trace of which some rows have been read.
struct Reading<'a> {
    file: &'a str,
    /// The header's cells.
    names: Vec<String>,
    columns: Vec<Column>,
    /// When the rows were sampled: the last one, and the distance to its
    /// predecessor, seconds.
    last: Option<u64>,
    interval: Option<u64>,
}

/// The column of a VM.
struct Column {
    name: String,
    configured: Bytes,
    samples: Vec<Bytes>,
}

impl<'a> Reading<'a> {
    fn begin(header: &ByteRecord, file: &'a str) -> Result<Self, TraceError> {
        let names: Vec<String> = header.iter().map(text).collect();
        if header.get(0) != Some(b"sample") || header.get(1) != Some(b"unix_s") || header.len() <= FIRST_VM {
            return Err(TraceError::NoHeader { file: file.to_owned(), found: excerpt(&names.join(",")) });
        }
        let mut columns = Vec::new();
        let mut column_of: BTreeMap<&str, usize> = BTreeMap::new();
        for (cell, number) in names.iter().zip(1..).skip(FIRST_VM) {
            let refuse =
                |rule| TraceError::Header { file: file.to_owned(), column: number, value: excerpt(cell), rule };
            let (name, configured) = vm_of(cell).map_err(refuse)?;
            if let Some(first) = column_of.insert(name, number) {
                return Err(refuse(HeaderRule::Duplicate { name: name.to_owned(), first }));
            }
            columns.push(Column { name: name.to_owned(), configured, samples: Vec::new() });
        }
        Ok(Self { file, names, columns, last: None, interval: None })
    }

    fn take(&mut self, row: &ByteRecord, line: u64) -> Result<(), TraceError> {
        if row.len() != self.names.len() {
            let (file, cells, columns) = (self.file.to_owned(), row.len(), self.names.len());
            return Err(TraceError::RowLength { file, line, cells, columns });
        }
        let (file, names) = (self.file, &self.names);
        let refuse = |index: usize, rule| TraceError::Cell {
            file: file.to_owned(),
            line,
            column: index + 1,
            name: names[index].clone(),
            value: excerpt(&text(&row[index])),
            rule,
        };
        let time = time_of(&row[1], self.last, self.interval).map_err(|rule| refuse(1, rule))?;
        self.interval = self.interval.or_else(|| self.last.map(|last| time - last));
        self.last = Some(time);
        for (column, index) in self.columns.iter_mut().zip(FIRST_VM..) {
            let value = value_of(&row[index], column.configured).map_err(|rule| refuse(index, rule))?;
            column.samples.push(value);
        }
        Ok(())
    }

    fn finish(self) -> Result<Trace, TraceError> {
        let Some(interval) = self.interval else {
            return Err(TraceError::TooFewRows { file: self.file.to_owned(), rows: usize::from(self.last.is_some()) });
        };
        let traced = |column: Column| TracedVm {
            name: column.name,
            configured: column.configured,
            samples: column.samples.into(),
        };
        Ok(Trace { interval_ms: interval * 1000, vms: self.columns.into_iter().map(traced).collect() })
    }
}

/// The name and size that a column's header says.
fn vm_of(cell: &str) -> Result<(&str, Bytes), HeaderRule> {
    let (name, size) = cell.rsplit_once('_').ok_or(HeaderRule::NoSize)?;
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HeaderRule::NoSize);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(HeaderRule::Name);
    }
    let configured = size.parse().map_or(Bytes::MAX, Bytes::from_mib);
    if configured.is_zero() || configured > SIZE_MAX {
        return Err(HeaderRule::Size);
    }
    Ok((name, configured))
}

/// The time in a row's cell, seconds; `interval` after `last` once they are known.
fn time_of(cell: &[u8], last: Option<u64>, interval: Option<u64>) -> Result<u64, CellRule> {
    if cell.is_empty() {
        return Err(CellRule::Empty);
    }
    let time = text(cell).parse().ok().filter(|time| *time <= UNIX_S_MAX).ok_or(CellRule::Time)?;
    match (last, interval) {
        (Some(last), _) if time <= last => Err(CellRule::Unordered { last }),
        (Some(last), Some(interval)) if time - last != interval => {
            Err(CellRule::Uneven { distance: time - last, interval })
        }
        _ => Ok(time),
    }
}

/// The size in a VM's cell, MiB with a fraction if need be.
fn value_of(cell: &[u8], configured: Bytes) -> Result<Bytes, CellRule> {
    if cell.is_empty() {
        return Err(CellRule::Empty);
    }
    let mib: f64 = text(cell).parse().ok().filter(|mib: &f64| !mib.is_nan()).ok_or(CellRule::NotANumber)?;
    if mib < 0.0 {
        return Err(CellRule::Negative);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; `as` saturates")]
    let value = Bytes::new((mib * 1_048_576.0).round() as u64);
    let most = Bytes::new(configured.get().saturating_mul(ABSURD_FACTOR)).min(SIZE_MAX);
    if value > most { Err(CellRule::Absurd { configured, most }) } else { Ok(value) }
}

fn text(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).into_owned()
}

/// What an error shows of a text that may be as long as the file.
fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
