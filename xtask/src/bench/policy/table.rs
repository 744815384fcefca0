//! A table for people: names on the left, numbers on the right.

use std::fmt;

/// Rows under a heading; each as long as the heading.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<T: Into<String>>(heading: impl IntoIterator<Item = T>) -> Self {
        Self { rows: vec![heading.into_iter().map(Into::into).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                if column == 0 {
                    write!(f, "  {cell:width$}")?;
                } else {
                    write!(f, "  {cell:>width$}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_below_each_other_and_names_begin_so() {
        let mut table = Table::new(["policy", "GiB·s"]);
        table.row(["dynmem".to_owned(), "0.50".to_owned()]);
        table.row(["mom".to_owned(), "1234.00".to_owned()]);
        assert_eq!(
            table.to_string(),
            "  policy    GiB·s\n  \
               dynmem     0.50\n  \
               mom     1234.00\n"
        );
    }
}
