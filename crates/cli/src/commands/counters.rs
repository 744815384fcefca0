//! `dynmem counters`.

use std::time::Duration;

use anyhow::Result;
use dynmem_api::Client;
use tokio::time::{self, MissedTickBehavior};

use super::{events::Patience, interrupt::Interrupt};
use crate::{
    args::CountersArgs,
    render::{CounterList, Counters, Output},
};

const USUAL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &CountersArgs, client: &Client, output: &mut Output) -> Result<()> {
    if args.list {
        output.show(&CounterList::new(&args.patterns)?)?;
        return Ok(());
    }
    let query = args.query();
    let counters = client.counters(&query).await?;
    let mut left = args.looks();
    if left == Some(1) {
        output.show(&Counters(&counters))?;
        return Ok(());
    }
    output.show_next(&Counters(&counters))?;
    let mut interrupt = Interrupt::new()?;
    let mut patience = Patience::default();
    let mut ticks = time::interval(args.interval.unwrap_or(USUAL_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // the first is at once, and we have looked
    loop {
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Ok(());
        }
        let next = async {
            loop {
                ticks.tick().await;
                if let Some(counters) = patience.judge(client.counters(&query).await)? {
                    break Ok::<_, anyhow::Error>(counters);
                }
            }
        };
        let counters = tokio::select! {
            () = interrupt.asked() => return Ok(()),
            counters = next => counters?,
        };
        if output.is_text() {
            output.raw("\n")?;
        }
        output.show_next(&Counters(&counters))?;
    }
}
