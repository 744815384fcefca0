//! `--dry-run`: what a command would come to, for each VM by itself.

use std::io::{self, Write};

use dynmem_api::{ClientError, DryRunView};

use super::Outcome;
use crate::render::{DryRun, Output, printable};

/// Tries `operation`, called `done` once it is, for each of `names`, each as if
/// the others were not asked. Fails if one of them would be refused.
pub(super) async fn try_each(
    names: &[String],
    done: &str,
    output: &mut Output,
    operation: impl AsyncFn(&str) -> Result<DryRunView, ClientError>,
) -> anyhow::Result<Outcome> {
    let mut runs = Vec::new();
    for name in names {
        runs.push(match operation(name).await {
            Ok(view) => DryRun::new(name.clone(), done, view),
            Err(error) => DryRun { name: name.clone(), ok: false, detail: error.to_string(), outcome: None },
        });
    }
    output.show(&runs)?;
    if names.len() > 1 && output.is_text() {
        let note = "Each by itself: as if the others were not asked. Nothing was changed";
        writeln!(io::stderr(), "\n{}", printable(note))?;
    }
    Ok(if runs.iter().all(|run| run.ok) { Outcome::Done } else { Outcome::SomeFailed })
}
