//! TOML in and out: [`VmDefinition::from_toml`] and [`VmDefinition::to_toml`].
//!
//! Every fault is told with its place: the parser's own faults carry a span,
//! and a broken rule names its setting (`disk[1].path`), which is looked up in
//! the parsed text.

use std::path::{Path, PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{RuleError, VmDefinition};

/// A message repeats what it doesn't know, which may be as long as the file.
const MESSAGE_CHARACTERS_MAX: usize = 400;

/// Why a text is not a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("File {}, line {line}, column {column}: {problem}", path.display())]
pub struct DefinitionError {
    /// The file that the text came from.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML, an unknown key, a value of the wrong kind.
    #[error("{0}")]
    Malformed(String),
    /// It reads well, but says what is not allowed.
    #[error(transparent)]
    Rule(RuleError),
}

impl VmDefinition {
    /// Reads a definition and checks every rule. `path` is only named in
    /// errors.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, DefinitionError> {
        let fault = |offset, problem| {
            let (line, column) = position(text, offset);
            DefinitionError { path: path.to_owned(), line, column, problem }
        };
        let definition: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            fault(offset, Problem::Malformed(for_people(error.message())))
        })?;
        definition.check().map_err(|rule| fault(offset_of(text, &rule.field()), Problem::Rule(rule)))?;
        Ok(definition)
    }

    /// The definition as a person would write it. Reading it back gives the
    /// same definition, so what [`VmDefinition::check`] refuses is not
    /// written.
    pub fn to_toml(&self) -> Result<String, RuleError> {
        self.check()?;
        Ok(toml::to_string_pretty(self).expect("a checked definition holds only what TOML can say"))
    }
}

/// Line and column, from 1, of a byte offset; the end of the text for offsets
/// beyond it.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The parser's message in the words of somebody who writes the file: short,
/// fit for a terminal, and with none of our type names.
fn for_people(message: &str) -> String {
    let plain = message
        .replace("expected u32", "expected a whole number of 0 or more")
        .replace("expected u64", "expected a whole number of 0 or more")
        .replace("expected struct MemorySettings", "expected a table: [memory]")
        .replace("expected struct Boot", "expected a table: [boot]")
        .replace("expected struct Disk", "expected tables: [[disk]]");
    let printable = plain.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut characters = printable.take(MESSAGE_CHARACTERS_MAX);
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// Where the setting with this path (`disk[1].path`) stands. A setting that
/// the text leaves to its default has no place: then its table's.
fn offset_of(text: &str, field: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else { return 0 };
    let mut table = document.get_ref();
    let mut offset = 0;
    for step in field.split('.') {
        let (key, index) = match step.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (step, None),
        };
        let Some(mut value) = table.get(key) else { break };
        if let (Some(index), Some(array)) = (index, value.get_ref().as_array()) {
            let Some(item) = array.get(index) else { break };
            value = item;
        }
        offset = value.span().start;
        let Some(inner) = as_table(value) else { break };
        table = inner;
    }
    offset
}

fn as_table<'v, 'i>(value: &'v Spanned<DeValue<'i>>) -> Option<&'v DeTable<'i>> {
    value.get_ref().as_table()
}
