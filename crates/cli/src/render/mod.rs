//! How things look: a model goes in, text for people or JSON for programs
//! comes out.
//!
//! Every model that a command shows implements [`Show`]; [`Output`] picks the
//! form and writes it. A further form (CSV, say) is one more arm in
//! [`Output::show`]. Text from the daemon may stem from a guest, so control
//! characters are made harmless on the way out ([`printable`]).

use std::{
    borrow::Cow,
    env,
    io::{self, IsTerminal, Write},
};

use rustix::termios::tcgetwinsize;
use serde::Serialize;

mod advice;
mod counters;
mod dry_run;
mod event;
mod explanation;
mod history;
mod host;
mod meter;
mod result;
#[cfg(test)]
mod samples;
mod sentences;
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
pub(crate) use result::OperationResult;
pub(crate) use sentences::resize_sentence;
pub(crate) use time::now_unix_ms;
pub(crate) use vm::{MemoryList, Vm, VmList};
pub(crate) use watch::Frame;

/// A model that people and programs can read.
pub(crate) trait Show: Serialize {
    /// The text for people, without the last line's end.
    fn text(&self, style: &Style) -> String;
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
    json: bool,
    stdout: io::Stdout,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stdout: io::stdout() }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// True if a person looks on: text to a terminal.
    pub(crate) fn is_live(&self) -> bool {
        !self.json && self.stdout.is_terminal()
    }

    /// The style of text now; the terminal may change its size at any time.
    pub(crate) fn style(&self) -> Style {
        let live = self.is_live();
        let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let measured = || if live { self.screen().map(|(width, _)| width) } else { None };
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = dumb || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style { width: asked.or_else(measured), colour: live && !plain }
    }

    /// Columns and rows of the terminal.
    pub(crate) fn screen(&self) -> Option<(usize, usize)> {
        let size = tcgetwinsize(&self.stdout).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)?;
        Some((size.ws_col.into(), size.ws_row.into()))
    }

    /// One document: text, or JSON over several lines.
    pub(crate) fn show(&mut self, model: &impl Show) -> io::Result<()> {
        if self.json {
            let json = serde_json::to_string_pretty(model)?;
            return self.line(&json);
        }
        let text = model.text(&self.style());
        self.line(&text)
    }

    /// One of many: text, or JSON on one line.
    pub(crate) fn show_next(&mut self, model: &impl Show) -> io::Result<()> {
        if self.json {
            let json = serde_json::to_string(model)?;
            return self.line(&json);
        }
        self.show(model)
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
    fn pairs_line_up_and_leave_out_what_is_empty() {
        let rows = [("Name", "web01".to_owned()), ("Reason", String::new()), ("Assigned", "0".to_owned())];
        assert_eq!(pairs(&rows), "Name      web01\nAssigned  0");
    }
}
