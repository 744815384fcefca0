//! How things look: a model goes in, text for people or JSON for programs
//! comes out.
//!
//! ```text
//!                 ┌─▶ text          table, wide
//!  model: Show ───┤
//!                 └─▶ serialised ─┬─▶ json
//!                                 └─▶ Data ──▶ yaml, csv
//! ```
//! Every model that a command shows implements [`Show`]; [`Output`] picks the
//! form and writes it. Text from the daemon may stem from a guest, so control
//! characters are made harmless on the way out ([`printable`]).

use std::{
    borrow::Cow,
    env,
    io::{self, IsTerminal, Write},
};

use rustix::termios::tcgetwinsize;
use serde::Serialize;

use crate::{args::Form, usage::Usage};
use data::Data;
use sheet::Sheet;

mod advice;
mod counters;
mod data;
mod dry_run;
mod event;
mod explanation;
mod history;
mod host;
mod meter;
mod progress;
mod result;
#[cfg(test)]
mod samples;
mod sentences;
mod sheet;
mod size;
mod table;
mod time;
mod vm;
mod watch;

pub(crate) use advice::Advice;
pub(crate) use counters::{CounterList, Counters};
pub(crate) use dry_run::DryRun;
pub(crate) use event::Events;
pub(crate) use explanation::{Explanation, Explanations};
pub(crate) use history::History;
pub(crate) use host::Host;
pub(crate) use meter::{MeterList, meter_sentence};
pub(crate) use progress::progress_line;
pub(crate) use result::OperationResult;
pub(crate) use sentences::{lost_by_delete, lost_by_discard, lost_by_force, lost_by_metering, resize_sentence};
pub(crate) use size::human;
pub(crate) use time::now_unix_ms;
pub(crate) use vm::{MemoryList, Vm, VmList};
pub(crate) use watch::Frame;

/// A model that people and programs can read.
pub(crate) trait Show: Serialize {
    /// Where its items are, for a form with a row for each.
    const ITEMS: Items = Items::Itself;

    /// The text for people, without the last line's end.
    fn text(&self, style: &Style) -> String;
}

/// Where the items of a model are.
pub(crate) enum Items {
    /// It is a list of them, or the only one.
    Itself,
    /// In a field; each has those other fields of the model, too.
    In { field: &'static str, with: &'static [&'static str] },
}

/// What the text may use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// Columns of the screen; `None` if there is no such bound.
    pub(crate) width: Option<usize>,
    /// Whether the words that matter may be coloured.
    pub(crate) colour: bool,
}

/// Standard output, and the form that was asked for.
pub(crate) struct Output {
    form: Form,
    sheet: Sheet,
    stdout: io::Stdout,
}

impl Output {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, sheet: Sheet::default(), stdout: io::stdout() }
    }

    /// True for the forms that people read.
    pub(crate) fn is_text(&self) -> bool {
        self.form.is_text()
    }

    /// Refuses a form in which what comes can't be shown, and says why.
    pub(crate) fn refuse(&self, form: Form, why: &str) -> Result<(), Usage> {
        if self.form == form {
            return Err(Usage(format!("--output {} makes no sense here: {why}", form.as_str())));
        }
        Ok(())
    }

    /// Refuses every form but the usual: what comes is no data.
    pub(crate) fn refuse_forms(&self, what: &str) -> Result<(), Usage> {
        [Form::Wide, Form::Json, Form::Yaml, Form::Csv]
            .into_iter()
            .try_for_each(|form| self.refuse(form, &format!("{what}, and no data")))
    }

    /// Refuses to have no end as CSV.
    pub(crate) fn refuse_endless_csv(&self) -> Result<(), Usage> {
        self.refuse(
            Form::Csv,
            "its columns are those of all rows, and these rows have no end. \
             Write --output json, which has a line for each",
        )
    }

    /// True if a person looks on: text to a terminal.
    pub(crate) fn is_live(&self) -> bool {
        self.is_text() && self.stdout.is_terminal()
    }

    /// The style of text now; the terminal may change its size at any time.
    pub(crate) fn style(&self) -> Style {
        let live = self.is_live();
        let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let measured = || if live { self.screen().map(|(width, _)| width) } else { None };
        let width = if self.form == Form::Wide { None } else { asked.or_else(measured) };
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = dumb || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style { width, colour: live && !plain }
    }

    /// Columns and rows of the terminal.
    pub(crate) fn screen(&self) -> Option<(usize, usize)> {
        let size = tcgetwinsize(&self.stdout).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)?;
        Some((size.ws_col.into(), size.ws_row.into()))
    }

    /// One document; JSON over several lines.
    pub(crate) fn show<M: Show>(&mut self, model: &M) -> io::Result<()> {
        match self.form {
            Form::Json => self.line(&serde_json::to_string_pretty(model)?),
            _ => self.show_next(model),
        }
    }

    /// One of many; JSON on one line, YAML as a document of its own, and CSV with
    /// the columns of the first.
    pub(crate) fn show_next<M: Show>(&mut self, model: &M) -> io::Result<()> {
        match self.form {
            Form::Table | Form::Wide => self.line(&model.text(&self.style())),
            Form::Json => self.line(&serde_json::to_string(model)?),
            Form::Yaml => {
                let yaml = serde_saphyr::to_string(&Data::of(model)?).map_err(io::Error::other)?;
                self.raw(&format!("---\n{yaml}"))
            }
            Form::Csv => {
                let lines = self.sheet.lines(&Data::of(model)?, &M::ITEMS)?;
                self.bytes(&lines)
            }
        }
    }

    /// `text` and a line's end; nothing for no text.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.raw(&format!("{text}\n"))
    }

    /// `text` as it is, at once.
    pub(crate) fn raw(&mut self, text: &str) -> io::Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Bytes as they are, at once.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }
}

/// `text` without the characters by which it could take over a terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    // Directional overrides hide what a line says, as control characters do.
    let harmful = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.contains(harmful) {
        Cow::Owned(text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Labels and values, aligned: `Assigned   512 MiB`. Values are made
/// printable; a pair without a value is left out.
fn pairs(rows: &[(&str, String)]) -> String {
    let rows: Vec<_> = rows.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let lines: Vec<_> = rows.iter().map(|(label, value)| format!("{label:width$}  {}", printable(value))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_can_not_write_to_the_terminal_through_us() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\u{9b}c\u{202e}"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}");
        assert!(matches!(printable("Plain: grün ✓"), Cow::Borrowed(_)));
    }

    #[test]
    fn text_that_looks_like_something_else_stays_text_in_yaml() {
        let text = r#"{"a":"no","b":"5000","c":"null","d":"x: y #z","e":"\u001b[2J\n- \u009b","f":"","g":["~",7]}"#;
        let data: Data = serde_json::from_str(text).expect("JSON");
        let yaml = serde_saphyr::to_string(&data).expect("YAML");
        assert_eq!(
            yaml,
            "a: \"no\"\nb: \"5000\"\nc: \"null\"\nd: \"x: y #z\"\ne: \"\\e[2J\\n- \\x9B\"\nf: \"\"\ng:\n- \"~\"\n- 7\n"
        );
    }

    #[test]
    fn pairs_line_up_and_leave_out_what_is_empty() {
        let rows = [("Name", "web01".to_owned()), ("Reason", String::new()), ("Assigned", "0".to_owned())];
        assert_eq!(pairs(&rows), "Name      web01\nAssigned  0");
    }
}
