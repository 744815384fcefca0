//! One operation on several VMs: each stands for itself, and each gets its
//! line of result, in the order asked. Meanwhile, a person is told what goes on.

use std::io::{self, Write};

use dynmem_api::{Client, ClientError, VmView};
use futures_util::{StreamExt, stream};

use super::{Outcome, progress::Progress};
use crate::render::{OperationResult, Output, printable};

/// How many VMs are operated on at a time where their order does not matter.
pub(super) const AT_ONCE: usize = 16;

/// Does `operation` for all of `names`, `at_once` of them at a time. It gives
/// what was done, and the VM afterwards unless it is gone.
pub(super) async fn operate<F>(
    names: &[String],
    at_once: usize,
    client: &Client,
    output: &mut Output,
    operation: impl Fn(String) -> F,
) -> anyhow::Result<Outcome>
where
    F: Future<Output = Result<(String, Option<VmView>), ClientError>>,
{
    let mut results = Vec::new();
    let mut written = Ok(());
    let mut ongoing = stream::iter(names)
        .map(|name| {
            let ongoing = operation(name.clone());
            async move { to_result(name.clone(), ongoing.await) }
        })
        .buffered(at_once);
    let mut progress = Progress::new(client);
    loop {
        let next = tokio::select! {
            biased;
            next = ongoing.next() => next,
            line = progress.next(&names[results.len()..]) => {
                progress.draw(&line);
                continue;
            }
        };
        progress.clear();
        let Some(result) = next else { break };
        // Whoever stops reading does not thereby stop the work.
        if written.is_ok() && output.is_text() {
            written = tell(&result, names.len() == 1, output);
        }
        results.push(result);
    }
    if !output.is_text() {
        written = output.show(&results);
    }
    written?;
    Ok(if results.iter().all(|result| result.ok) { Outcome::Done } else { Outcome::SomeFailed })
}

fn to_result(name: String, ended: Result<(String, Option<VmView>), ClientError>) -> OperationResult {
    match ended {
        Ok((detail, vm)) => OperationResult { name, ok: true, detail, vm: vm.map(Box::new) },
        Err(error) => OperationResult { name, ok: false, detail: error.to_string(), vm: None },
    }
}

fn tell(result: &OperationResult, alone: bool, output: &mut Output) -> io::Result<()> {
    if result.ok {
        return output.show(result);
    }
    // The daemon's sentence, as it is; among several, with the name before it.
    let name = if alone { String::new() } else { format!("{}: ", result.name) };
    writeln!(io::stderr(), "{name}{}", printable(&result.detail))
}
