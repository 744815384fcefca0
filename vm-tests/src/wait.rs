//! [`until`]: conditions are awaited, never slept for.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};

/// Often enough for people and tests, rarely enough for a busy machine.
const POLL: Duration = Duration::from_millis(50);

/// What one look found.
#[derive(Debug)]
pub enum Seen<T> {
    /// The condition holds.
    Ready(T),
    /// Not yet; this is how things stand, for the error message.
    NotYet(String),
}

/// Looks until the condition holds. Gives up after `limit`, and then says
/// what was awaited and how things stood last; an error of `look` ends the
/// waiting at once.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<Seen<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match look().await.with_context(|| format!("While waiting for {what}"))? {
            Seen::Ready(value) => return Ok(value),
            Seen::NotYet(last) => last,
        };
        if Instant::now() >= deadline {
            bail!("Waited {} s in vain for {what}. Last seen: {last}", limit.as_secs());
        }
        sleep(POLL).await;
    }
}
