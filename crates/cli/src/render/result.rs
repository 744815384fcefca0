//! What became of an operation on one VM, a line each.

use dynmem_api::VmView;
use serde::Serialize;

use super::{Show, Style, printable};

/// What became of an operation on one VM.
#[derive(Debug, Serialize)]
pub(crate) struct OperationResult {
    /// The VM.
    pub(crate) name: String,
    /// Whether it was done.
    pub(crate) ok: bool,
    /// What was done, or why not.
    pub(crate) detail: String,
    /// The VM afterwards, unless it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vm: Option<Box<VmView>>,
}

impl Show for OperationResult {
    fn text(&self, _: &Style) -> String {
        format!("{}: {}", self.name, printable(&self.detail))
    }
}

impl Show for Vec<OperationResult> {
    fn text(&self, style: &Style) -> String {
        self.iter().map(|result| result.text(style)).collect::<Vec<_>>().join("\n")
    }
}
