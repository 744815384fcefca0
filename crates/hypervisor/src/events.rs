//! [`MachineEvent`], and how QEMU's events become one ([`Translator`]).

use dynmem_qmp::{Event, ShutdownReason};

use crate::MachineExit;

/// Something that happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// The balloon has moved: ask for [`crate::Machine::facts`].
    BalloonChanged,
    /// Memory was plugged or unplugged: ask for [`crate::Machine::facts`].
    PlugChanged,
    /// The machine is about to be reset, by its guest or by
    /// [`crate::Machine::hold_for_reset`], and is held before it: arrange its
    /// memory, then [`crate::Machine::continue_reset`].
    ResetHeld,
    /// The guest has switched itself off; the machine is held. Nothing is left
    /// to do but [`crate::Machine::quit`].
    PoweredOff,
    /// The processors stand still.
    Paused,
    /// The processors go on.
    Resumed,
    /// The guest's kernel has panicked; the machine is held.
    Panicked,
    /// The process is gone, and its directory is cleaned. The last event.
    Exited(MachineExit),
    /// Events were missed, or the control connection was lost and is back: ask
    /// for [`crate::Machine::facts`] and [`crate::Machine::state`].
    Lagged,
}

/// Why a machine is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Before a reset.
    Reset,
    /// After the guest's power-off.
    PoweredOff,
    /// After a panic.
    Panicked,
}

/// Remembers what of QEMU's events belongs together.
#[derive(Debug, Default)]
pub(crate) struct Translator {
    pub(crate) held: Option<Held>,
    /// The STOP that follows a SHUTDOWN is not news.
    pub(crate) swallow_stop: bool,
    /// The RESUME that follows our own first `cont` is not news.
    pub(crate) swallow_resume: bool,
}

impl Translator {
    /// The machine's event for QEMU's, if it is news.
    pub(crate) fn translate(&mut self, event: &Event) -> Option<MachineEvent> {
        match event {
            // A reset that was not held: somebody changed `-action` behind our
            // back. The balloon is empty now.
            Event::BalloonChange { .. } | Event::Reset { .. } => Some(MachineEvent::BalloonChanged),
            Event::MemoryDeviceSizeChange { .. } => Some(MachineEvent::PlugChanged),
            Event::Shutdown(reason) => self.shutdown(*reason),
            Event::Stop => (!std::mem::take(&mut self.swallow_stop)).then_some(MachineEvent::Paused),
            Event::Resume => {
                self.held = None;
                self.swallow_stop = false;
                (!std::mem::take(&mut self.swallow_resume)).then_some(MachineEvent::Resumed)
            }
            Event::Powerdown => None,
            Event::GuestPanicked => self.hold(Held::Panicked),
            Event::Lagged(_) => Some(MachineEvent::Lagged),
        }
    }

    fn shutdown(&mut self, reason: ShutdownReason) -> Option<MachineEvent> {
        match reason {
            ShutdownReason::GuestReset | ShutdownReason::HostReset => self.hold(Held::Reset),
            ShutdownReason::GuestShutdown => self.hold(Held::PoweredOff),
            ShutdownReason::GuestPanic => self.hold(Held::Panicked),
            ShutdownReason::Host => None, // the process exits: that is the news
        }
    }

    fn hold(&mut self, held: Held) -> Option<MachineEvent> {
        self.swallow_stop = true;
        let news = self.held != Some(held);
        self.held = Some(held);
        news.then_some(held.event())
    }
}

impl Held {
    pub(crate) fn event(self) -> MachineEvent {
        match self {
            Self::Reset => MachineEvent::ResetHeld,
            Self::PoweredOff => MachineEvent::PoweredOff,
            Self::Panicked => MachineEvent::Panicked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(events: &[Event]) -> Vec<MachineEvent> {
        let mut translator = Translator::default();
        events.iter().filter_map(|event| translator.translate(event)).collect()
    }

    #[test]
    fn a_held_reset_is_one_event_and_no_pause() {
        let events = [Event::Shutdown(ShutdownReason::GuestReset), Event::Stop, Event::Resume, Event::Stop];
        assert_eq!(translate(&events), [MachineEvent::ResetHeld, MachineEvent::Resumed, MachineEvent::Paused]);
    }

    #[test]
    fn a_power_off_is_one_event_and_no_pause() {
        assert_eq!(
            translate(&[Event::Shutdown(ShutdownReason::GuestShutdown), Event::Stop]),
            [MachineEvent::PoweredOff]
        );
    }

    #[test]
    fn a_panic_is_told_once_however_qemu_tells_it() {
        let events = [Event::GuestPanicked, Event::Stop, Event::Shutdown(ShutdownReason::GuestPanic)];
        assert_eq!(translate(&events), [MachineEvent::Panicked]);
    }

    #[test]
    fn a_persons_pause_is_told() {
        assert_eq!(translate(&[Event::Stop, Event::Resume]), [MachineEvent::Paused, MachineEvent::Resumed]);
        assert_eq!(translate(&[Event::Shutdown(ShutdownReason::Host)]), []);
    }
}
