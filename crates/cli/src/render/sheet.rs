//! [`Sheet`]: a model as CSV (RFC 4180), for spreadsheets.
//!
//! ```text
//!  Data ──▶ items, by the model's Items ──▶ cells with dotted names ──▶ lines
//! ```
//! A row for each item, and a column for each field that a row has: what is
//! nested has its way there in its name (`settings.weight`), and a list is JSON
//! in one cell. Control characters are made harmless, as everywhere.

use std::io;

use super::{Data, Items, printable};

/// The columns, once there are some.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    columns: Vec<String>,
}

type Row = Vec<(String, String)>;

impl Sheet {
    /// The lines of a model's items; before the first of them, that of the
    /// names. Models that follow have the same columns.
    pub(super) fn lines(&mut self, data: &Data, items: &Items) -> io::Result<Vec<u8>> {
        let rows = rows(data, items);
        let mut csv = csv::WriterBuilder::new().from_writer(Vec::new());
        if self.columns.is_empty() && !rows.is_empty() {
            self.columns = columns(&rows);
            csv.write_record(&self.columns)?;
        }
        for row in &rows {
            // Mostly a row has the columns in their order: the next is found at once.
            let mut rest = row.iter().peekable();
            let cells = self.columns.iter().map(|column| match rest.next_if(|(name, _)| name == column) {
                Some((_, cell)) => cell.as_str(),
                None => row.iter().find(|(name, _)| name == column).map_or("", |(_, cell)| cell),
            });
            csv.write_record(cells)?;
        }
        csv.into_inner().map_err(csv::IntoInnerError::into_error)
    }
}

fn rows(data: &Data, items: &Items) -> Vec<Row> {
    let mut common = Row::new();
    let items = match items {
        Items::Itself => data,
        Items::In { field, with } => {
            for name in *with {
                if let Some(value) = data.field(name) {
                    flatten(name, value, &mut common);
                }
            }
            data.field(field).unwrap_or(&Data::Null)
        }
    };
    let row = |item: &Data| {
        let mut row = common.clone();
        match item {
            Data::Fields(fields) => fields.iter().for_each(|(name, value)| flatten(name, value, &mut row)),
            value => flatten("value", value, &mut row),
        }
        row
    };
    match items {
        Data::Null => Vec::new(),
        Data::List(items) => items.iter().map(row).collect(),
        item => vec![row(item)],
    }
}

fn flatten(name: &str, value: &Data, row: &mut Row) {
    let cell = match value {
        Data::Fields(fields) => {
            return fields.iter().for_each(|(field, value)| flatten(&format!("{name}.{field}"), value, row));
        }
        Data::Null => String::new(),
        Data::Bool(value) => value.to_string(),
        Data::Number(number) => number.to_string(),
        Data::Text(text) => printable(text).into_owned(),
        Data::List(items) if items.is_empty() => String::new(),
        // It was JSON, so it can be that again.
        list @ Data::List(_) => printable(&serde_json::to_string(list).unwrap_or_default()).into_owned(),
    };
    row.push((name.to_owned(), cell));
}

/// All columns of all rows. One that only some rows have is where they have it.
fn columns(rows: &[Row]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for row in rows {
        let mut place = 0;
        for (name, _) in row {
            let known = match columns.get(place) {
                Some(column) if column == name => Some(place),
                _ => columns.iter().position(|column| column == name),
            };
            place = known.unwrap_or_else(|| {
                columns.insert(place, name.clone());
                place
            }) + 1;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str, items: &Items) -> String {
        let data = serde_json::from_str(json).expect("JSON");
        String::from_utf8(Sheet::default().lines(&data, items).expect("no disk that is full")).expect("text")
    }

    #[test]
    fn a_row_has_each_item_and_a_column_each_field_that_one_of_them_has() {
        let json = r#"[
            {"name": "a", "settings": {"weight": 5}, "warnings": [], "on": true},
            {"name": "b, \"c\"", "reason": "two\nlines", "settings": {"weight": -7}, "warnings": ["x", "y"], "on": null}
        ]"#;
        assert_eq!(
            lines(json, &Items::Itself),
            "name,reason,settings.weight,warnings,on\n\
             a,,5,,true\n\
             \"b, \"\"c\"\"\",two\u{fffd}lines,-7,\"[\"\"x\"\",\"\"y\"\"]\",\n"
        );
        assert_eq!(lines(r#"{"name": "a"}"#, &Items::Itself), "name\na\n", "one item is a list of one");
        assert_eq!(lines("[]", &Items::Itself), "");
    }

    #[test]
    fn items_may_be_in_a_field_and_have_the_time_of_all() {
        let items = Items::In { field: "samples", with: &["time"] };
        assert_eq!(lines(r#"{"time": 5, "samples": [{"v": 1}, {"v": 2}]}"#, &items), "time,v\n5,1\n5,2\n");
    }

    #[test]
    fn what_follows_has_the_columns_of_what_came_first() {
        let mut sheet = Sheet::default();
        let mut next = |json: &str| {
            let data = serde_json::from_str(json).expect("JSON");
            String::from_utf8(sheet.lines(&data, &Items::Itself).expect("a sheet")).expect("text")
        };
        assert_eq!(next("[]"), "", "nothing has no columns");
        assert_eq!(next(r#"[{"a": 1, "b": 2}]"#), "a,b\n1,2\n");
        assert_eq!(next(r#"[{"b": 4, "c": 5}]"#), ",4\n");
    }
}
