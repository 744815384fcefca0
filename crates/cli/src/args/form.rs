//! `--output`: the form in which something is shown.

/// The form in which something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people, as wide as the terminal.
    #[default]
    Table,
    /// The same with all columns, however wide that is.
    Wide,
    /// For programs: sizes in bytes.
    Json,
    /// The same as YAML.
    Yaml,
    /// The same for spreadsheets: a row for each item.
    Csv,
}

impl Form {
    pub(crate) const ALL: [Self; 5] = [Self::Table, Self::Wide, Self::Json, Self::Yaml, Self::Csv];

    /// The word, as it is typed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Csv => "csv",
        }
    }

    /// The form that is called so.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.as_str() == word)
    }

    /// True for the forms that people read.
    pub(crate) const fn is_text(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// True where a sentence on standard error is data, too.
    pub(crate) const fn has_structured_errors(self) -> bool {
        matches!(self, Self::Json | Self::Yaml) // JSON is YAML
    }

    /// The form that `words` ask for, as far as that can be told before they
    /// are understood.
    pub(crate) fn among(words: &[String]) -> Self {
        let pairs = words.iter().zip(words.iter().skip(1).map(Some).chain([None]));
        let asked = pairs.filter_map(|(word, next)| match word.as_str() {
            "--json" => Some(Self::Json),
            "--output" | "-o" => next.and_then(|form| Self::named(form)),
            word => word.strip_prefix("--output=").and_then(Self::named),
        });
        asked.last().unwrap_or_default()
    }
}
