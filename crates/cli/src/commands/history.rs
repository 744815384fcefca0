//! `dynmem vm history`.

use anyhow::{Result, ensure};
use dynmem_api::{Client, HistoryFormat, HistoryQuery, history_csv};

use crate::{
    args::HistoryArgs,
    render::{History, Output, now_unix_ms},
};

pub(super) async fn run(args: &HistoryArgs, client: &Client, output: &mut Output) -> Result<()> {
    ensure!(!(args.csv && output.is_json()), "--csv and --json are two forms of the same: leave one out");
    // The daemon's clock may be another's: only the span is ours to say. But
    // both are on one host, where a clock is the same for all.
    let to = now_unix_ms() / 1000 + 1;
    let query = HistoryQuery {
        from: Some(to.saturating_sub(args.last.as_secs())),
        to: Some(to),
        step: args.step.map(|step| step.as_secs()),
        format: HistoryFormat::Json,
    };
    let history = client.vm_history(&args.name, &query).await?;
    if args.csv {
        return Ok(output.bytes(&history_csv(&history.points)?)?);
    }
    Ok(output.show(&History { name: &args.name, history: &history })?)
}
