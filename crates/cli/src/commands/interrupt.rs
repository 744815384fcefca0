//! [`Interrupt`]: the signals that ask us to end, as something to wait for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, a termination or a hang-up. While one of these exists, the signals
/// do not end the process by themselves, so the terminal can be put in order
/// first.
pub(super) struct Interrupt {
    signals: [Signal; 3],
}

impl Interrupt {
    pub(super) fn new() -> io::Result<Self> {
        let signals =
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        Ok(Self { signals })
    }

    /// Waits until we are asked to end.
    pub(super) async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
