//! The host's own health, once a second, and what all machines really hold: read
//! together, because memory that was lent and not yet touched is still available.

use std::{sync::Arc, time::Duration};

use dynmem_core::HostFacts;
use dynmem_linux::HostReader;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{fact::Fact, groups::Groups};

const EVERY: Duration = Duration::from_secs(1);

/// Reads and tells until nobody listens. A host that can't be read is told
/// once in the daemon's own log, and tried again.
pub(crate) async fn watch(reader: HostReader, groups: Option<Arc<Groups>>, facts: mpsc::Sender<Fact>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        // The files are in memory: reading them takes some microseconds.
        match reader.sample() {
            Ok(sample) => {
                failing = false;
                let machines = groups.as_ref().and_then(|groups| groups.held());
                if facts.send(Fact::Host(HostFacts { machines, ..sample.facts })).await.is_err() {
                    return;
                }
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::error!(%error, "the host's memory can't be read; the last figures are used");
            }
            Err(_) => {}
        }
    }
}
