//! `dynmem vm history` and `dynmem host history`.

use anyhow::Result;
use dynmem_api::{Client, HistoryFormat, HistoryQuery};

use super::select::known;
use crate::{
    args::Span,
    render::{History, Output, now_unix_ms},
};

pub(super) async fn of_vm(name: &str, span: &Span, client: &Client, output: &mut Output) -> Result<()> {
    let history = known(client, name, client.vm_history(name, &query(span)).await).await?;
    Ok(output.show(&History::of_vm(name, &history))?)
}

pub(super) async fn of_host(span: &Span, client: &Client, output: &mut Output) -> Result<()> {
    let history = client.host_history(&query(span)).await?;
    Ok(output.show(&History::of_host(&history))?)
}

/// The daemon's clock may be another's: only the span is ours to say. But both
/// are on one host, where a clock is the same for all.
fn query(span: &Span) -> HistoryQuery {
    let to = now_unix_ms() / 1000 + 1;
    HistoryQuery {
        from: Some(to.saturating_sub(span.last.as_secs())),
        to: Some(to),
        step: span.step.map(|step| step.as_secs()),
        format: HistoryFormat::Json,
    }
}
