//! [`Internals`]: what the daemon knows of itself, for whoever watches it.

use std::time::Duration;

/// The supervisor's own numbers, published with each snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Internals {
    /// Inputs that the engine was given.
    pub(crate) engine_inputs: u64,
    /// Decisions that the engine took.
    pub(crate) engine_decisions: u64,
    /// Time that the engine took for both.
    pub(crate) engine_time: Duration,
    /// Facts that waited when the snapshot was made.
    pub(crate) facts_waiting: usize,
    /// Events that were handed to the log.
    pub(crate) events_logged: u64,
    /// Events that were lost: the log did not keep up, or its disk took none.
    pub(crate) events_lost: u64,
}
