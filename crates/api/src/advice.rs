//! What could be set better: [`AdviceView`].

use serde::{Deserialize, Serialize};

/// A piece of advice about a VM or the host. It decides nothing: whoever knows
/// better leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AdviceView {
    /// What it is about, in kebab-case: `no-swap`. Of each VM there is one of a
    /// kind at most; others may come.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen, a sentence with its figures.
    pub sentence: String,
    /// What to do about it, a sentence.
    pub remedy: String,
}

/// How much a piece of advice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Memory could be used better.
    Hint,
    /// Something will not work as it was meant, or a guest may be harmed.
    Warning,
}

impl Severity {
    /// The word, as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::Warning => "warning",
        }
    }
}
