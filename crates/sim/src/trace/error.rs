//! What can be wrong with a trace. Each message says where, what was found, the
//! rule, and what to do.

use std::io;

use dynmem_units::Bytes;

/// Why a trace was not read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file can't be opened or read.
    #[error("Can't read the trace {file}: {reason}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        reason: io::Error,
    },
    /// The file is too large.
    #[error("The trace {file} is larger than 256MiB, the most that is read: leave out VMs or samples")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// A line has too many columns.
    #[error("{file}, line {line}: {columns} columns, and at most 10000 are read: leave out VMs")]
    TooManyColumns {
        /// The file.
        file: String,
        /// From 1.
        line: u64,
        /// How many it has.
        columns: usize,
    },
    /// The first line is not a trace's header.
    #[error(
        "{file}, line 1: {found:?} is no header: begin the file with `sample,unix_s` and a column `<name>_<MiB>` for \
         each VM, with commas between them"
    )]
    NoHeader {
        /// The file.
        file: String,
        /// The first line's beginning.
        found: String,
    },
    /// The header of a VM's column breaks a rule.
    #[error("{file}, line 1, column {column}: {value:?} {rule}")]
    Header {
        /// The file.
        file: String,
        /// From 1.
        column: usize,
        /// What the header says.
        value: String,
        /// The rule.
        rule: HeaderRule,
    },
    /// A row doesn't have the header's columns.
    #[error(
        "{file}, line {line}: {cells} cells, and the header has {columns}: give each column one value, with a point \
         before its fraction"
    )]
    RowLength {
        /// The file.
        file: String,
        /// From 1.
        line: u64,
        /// How many cells the row has.
        cells: usize,
        /// How many the header has.
        columns: usize,
    },
    /// A cell breaks a rule.
    #[error("{file}, line {line}, column {column} ({name}): {value:?} {rule}")]
    Cell {
        /// The file.
        file: String,
        /// From 1.
        line: u64,
        /// From 1.
        column: usize,
        /// The column's header.
        name: String,
        /// What the cell says.
        value: String,
        /// The rule.
        rule: CellRule,
    },
    /// There is nothing, or only one row, below the header.
    #[error("{file}: {rows} rows below the header, and at least 2 are needed: their distance is the interval")]
    TooFewRows {
        /// The file.
        file: String,
        /// How many there are.
        rows: usize,
    },
}

/// A rule for the header of a VM's column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderRule {
    /// There is no size.
    #[error("does not end in the VM's size: name the column `<name>_<MiB>`, for example web_4096")]
    NoSize,
    /// The size is no VM's.
    #[error("has a size that no VM has: 1 to 33554432 MiB")]
    Size,
    /// The name is none.
    #[error("has no valid name before its size: 1 to 63 letters, digits, `-`, `_` and `.`")]
    Name,
    /// There are two columns for one VM.
    #[error("is a second column for the VM {name}, after column {first}: rename one, or leave it out")]
    Duplicate {
        /// The VM.
        name: String,
        /// Its first column, from 1.
        first: usize,
    },
}

/// A rule for a cell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellRule {
    /// There is no value.
    #[error("is a gap: fill it, for example with the value before")]
    Empty,
    /// A time is none.
    #[error("is no time: write whole seconds since 1970, at most 253402300799 (the year 9999)")]
    Time,
    /// A time is not after the one before.
    #[error("is not after the row before ({last}): sort the rows by time, each only once")]
    Unordered {
        /// The time before, seconds since 1970.
        last: u64,
    },
    /// A time is not as far from the last as the others.
    #[error("is {distance} s after the row before, and the first two rows are {interval} s apart: sample evenly")]
    Uneven {
        /// How far it is, seconds.
        distance: u64,
        /// How far it should be, seconds.
        interval: u64,
    },
    /// A size is no number.
    #[error("is no number: write MiB, for example 812 or 812.5")]
    NotANumber,
    /// A size is negative.
    #[error("is negative: memory in use is 0 or more MiB")]
    Negative,
    /// A size can't be true.
    #[error("is above {most}, the most that is believed of a VM of {configured}: write MiB, or correct the VM's size")]
    Absurd {
        /// The VM's size.
        configured: Bytes,
        /// The most that is believed.
        most: Bytes,
    },
}
