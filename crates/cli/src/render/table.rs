//! [`Table`]: aligned columns that fit the screen.
//!
//! A row is never wrapped: while the table is too wide, the least important
//! column goes, and at last the first column is cut.

use super::{Style, printable};

/// A column's title and manners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// The title.
    pub(super) title: &'static str,
    /// Which end of the cell its text is at.
    pub(super) align: Align,
    /// The higher, the sooner it goes when room is short; 0 always stays.
    pub(super) rank: u8,
}

/// Which end of the cell its text is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Text, and what it means for the reader. The words alone say all of it;
/// colour only helps to find them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

/// What a text means for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Attention,
    Bad,
    Quiet,
}

impl Cell {
    pub(super) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Columns and rows; each row has a cell for every column.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

const GAP: usize = 2;

impl Table {
    pub(super) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a row has a cell for every column");
        self.rows.push(cells);
    }

    /// The table as text: a line of titles, then a line for each row.
    pub(super) fn text(&self, style: &Style) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.title.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let shown = self.fit(&mut widths, style.width.unwrap_or(usize::MAX));
        let titles: Vec<Cell> = self.columns.iter().map(|column| Cell::new(column.title, Tone::Quiet)).collect();
        let lines: Vec<String> = std::iter::once(&titles)
            .chain(&self.rows)
            .map(|row| {
                let cells = shown.iter().map(|index| (self.columns[*index].align, widths[*index], &row[*index]));
                line(cells, style.colour)
            })
            .collect();
        lines.join("\n")
    }

    /// Which columns are shown on `room` characters. Narrows the first one if
    /// nothing else is left to give.
    fn fit(&self, widths: &mut [usize], room: usize) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let needed = |shown: &[usize], widths: &[usize]| {
            shown.iter().map(|index| widths[*index] + GAP).sum::<usize>().saturating_sub(GAP)
        };
        while needed(&shown, widths) > room {
            let droppable = shown.iter().copied().filter(|index| self.columns[*index].rank > 0);
            let Some(least) = droppable.max_by_key(|index| (self.columns[*index].rank, *index)) else { break };
            shown.retain(|index| *index != least);
        }
        let excess = needed(&shown, widths).saturating_sub(room);
        if let (Some(first), 1..) = (shown.first(), excess) {
            widths[*first] = widths[*first].saturating_sub(excess).max(8);
        }
        shown
    }
}

fn line<'c>(cells: impl Iterator<Item = (Align, usize, &'c Cell)>, colour: bool) -> String {
    let mut line = String::new();
    let mut owed = 0; // spaces are written only if something follows
    for (align, width, cell) in cells {
        let text = cut(&cell.text, width);
        let slack = width - text.chars().count();
        let (before, after) = if align == Align::Right { (slack, 0) } else { (0, slack) };
        if text.is_empty() {
            owed += width + GAP;
            continue;
        }
        line.push_str(&" ".repeat(owed + before));
        line.push_str(&painted(&text, if colour { cell.tone } else { Tone::Plain }));
        owed = after + GAP;
    }
    line
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn painted(text: &str, tone: Tone) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => 32,
        Tone::Attention => 33,
        Tone::Bad => 31,
        Tone::Quiet => 2,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |title, align, rank| Column { title, align, rank };
        let mut table = Table::new([
            column("NAME", Align::Left, 0),
            column("SIZE", Align::Right, 0),
            column("NOTE", Align::Left, 2),
            column("WHY", Align::Left, 1),
        ]);
        table.row(vec!["web01".into(), "512 MiB".into(), "fine".into(), Cell::new("ok", Tone::Good)]);
        table.row(vec!["database-primary".into(), "8 GiB".into(), "".into(), "".into()]);
        table
    }

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let text = table().text(&Style::default());
        assert_eq!(
            text,
            "NAME                 SIZE  NOTE  WHY\n\
             web01             512 MiB  fine  ok\n\
             database-primary    8 GiB"
        );
    }

    #[test]
    fn the_least_important_columns_go_first_and_names_are_cut_last() {
        let width = |width| table().text(&Style { width: Some(width), colour: false });
        assert_eq!(width(35).lines().next(), Some("NAME                 SIZE  WHY"));
        assert_eq!(width(29).lines().next(), Some("NAME                 SIZE"));
        assert_eq!(width(20).lines().nth(2), Some("database-p…    8 GiB"));
        assert_eq!(width(1).lines().nth(2), Some("databas…    8 GiB")); // a name of eight is the least
    }

    #[test]
    fn colour_does_not_move_anything() {
        let text = table().text(&Style { width: None, colour: true });
        assert!(text.contains("\u{1b}[32mok\u{1b}[0m"), "{text:?}");
        let mut plain = text;
        for code in [0, 2, 32] {
            plain = plain.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(plain, table().text(&Style::default()));
    }
}
