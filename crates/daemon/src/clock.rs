//! The daemon's two clocks: monotonic for decisions, the wall's for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynmem_core::Instant;

/// Milliseconds since the daemon's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// Now, as the engine counts.
    pub(crate) fn now(self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The engine's instant, as the runtime counts.
    pub(crate) fn at(self, instant: Instant) -> tokio::time::Instant {
        self.origin + Duration::from_millis(instant.0)
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
