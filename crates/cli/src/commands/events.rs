//! `dynmem events`.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::Result;
use dynmem_api::{Client, ClientError, EventView, EventsQuery, MAX_EVENTS};
use tokio::time;

use super::{interrupt::Interrupt, select::one};
use crate::{
    args::EventsArgs,
    render::{Events, Output, printable},
};

/// How often we look for more.
const PERIOD: Duration = Duration::from_millis(500);

pub(super) async fn run(args: &EventsArgs, client: &Client, output: &mut Output) -> Result<()> {
    if args.follow {
        output.refuse_endless_csv()?;
    }
    let mut query = EventsQuery { after: None, limit: args.limit, vm: args.vm.clone() };
    let mut events = client.events(&query).await?;
    if let (Some(name), []) = (&args.vm, &events[..]) {
        one(client.vms().await?, name)?; // it may be misspelt
    }
    if !args.follow {
        output.show(&Events(&events))?;
        return Ok(());
    }
    let mut interrupt = Interrupt::new()?;
    let mut patience = Patience::default();
    query.limit = Some(MAX_EVENTS);
    loop {
        for event in &events {
            output.show_next(event)?;
        }
        query.after = Some(last_id(&events).or(query.after).unwrap_or(0));
        events = tokio::select! {
            () = interrupt.asked() => return Ok(()),
            events = next(client, &query, &mut patience) => events?,
        };
    }
}

async fn next(client: &Client, query: &EventsQuery, patience: &mut Patience) -> Result<Vec<EventView>> {
    time::sleep(PERIOD).await;
    Ok(patience.judge(client.events(query).await)?.unwrap_or_default())
}

fn last_id(events: &[EventView]) -> Option<u64> {
    events.iter().map(|event| event.id).max()
}

/// A daemon that was there comes back: it is being restarted, and whoever
/// looks on wants to see that too. So an outage is told once and waited for.
#[derive(Debug, Default)]
pub(super) struct Patience {
    waiting: bool,
}

impl Patience {
    /// The answer; `None` while the daemon is away; an error if it refuses.
    pub(super) fn judge<T>(&mut self, answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
        match answer {
            Ok(answer) => {
                self.waiting = false;
                Ok(Some(answer))
            }
            Err(ClientError::Refused(problem)) if problem.status != 503 => Err(problem.into()),
            Err(error) => {
                if !self.waiting {
                    let _ = writeln!(io::stderr(), "{}. Waiting for it …", printable(&error.to_string()));
                }
                self.waiting = true;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dynmem_api::Problem;

    use super::*;

    #[test]
    fn an_outage_is_waited_for_and_a_refusal_is_not() {
        let mut patience = Patience::default();
        let gone = || Err::<(), _>(ClientError::NotRunning { socket: "/x".into() });
        assert_eq!(patience.judge(gone()).expect("an outage"), None);
        assert!(patience.waiting);
        assert_eq!(patience.judge(Ok(5)).expect("an answer"), Some(5));
        assert!(!patience.waiting);
        let shutting_down = Err::<(), _>(ClientError::Refused(Problem::new(503, "Shutting down")));
        assert_eq!(patience.judge(shutting_down).expect("an outage"), None);
        let unknown = Err::<(), _>(ClientError::Refused(Problem::new(404, "No such VM")));
        assert!(patience.judge(unknown).is_err());
    }
}
