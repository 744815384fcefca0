//! The host's own health, once a second.

use std::time::Duration;

use dynmem_linux::HostReader;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::fact::Fact;

const EVERY: Duration = Duration::from_secs(1);

/// Reads and tells until nobody listens. A host that can't be read is told
/// once in the daemon's own log, and tried again.
pub(crate) async fn watch(reader: HostReader, facts: mpsc::Sender<Fact>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        // The files are in memory: reading them takes some microseconds.
        match reader.sample() {
            Ok(sample) => {
                failing = false;
                if facts.send(Fact::Host(sample.facts)).await.is_err() {
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
