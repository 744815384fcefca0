//! What people ask of the supervisor ([`Command`]), and how they ask
//! ([`Commands`]): each request waits for its outcome.

use dynmem_api::{AutostartPatch, ExplanationView, IfMatch, MemoryPatch, Problem, VmView};
use dynmem_definition::VmDefinition;
use tokio::sync::{mpsc, oneshot};

use super::{
    dry_run::{Preview, Trial},
    metering::MeterAction,
};

/// Requests that wait for the supervisor. Beyond that, requests wait in their
/// connections, of which there is a bounded number.
const COMMANDS_MAX: usize = 64;

/// Where the outcome goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Problem>>;

/// A request.
#[derive(Debug)]
pub(crate) enum Command {
    /// Define a VM.
    Create(Box<VmDefinition>, Reply<VmView>),
    /// Forget a VM.
    Delete(String, Reply<()>),
    /// Delete what was saved of a VM.
    Discard(String, Reply<VmView>),
    /// Say why a VM has what it has.
    Explain(String, Reply<ExplanationView>),
    /// Begin, end or reset the metering of a VM.
    Meter(String, MeterAction, Reply<VmView>),
    /// Change a VM's settings.
    Set(Target, SettingsPatch, Reply<VmView>),
    /// Say what a change would come to.
    Preview(Trial, Reply<Preview>),
    /// Change a VM's state.
    Act(String, Action, Reply<VmView>),
}

/// Whose settings are to change, and which ones they must be until then.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `None`: whichever they are.
    pub(crate) condition: Option<IfMatch>,
}

/// A change of settings.
#[derive(Debug)]
pub(crate) enum SettingsPatch {
    /// Of its memory.
    Memory(MemoryPatch),
    /// Of what becomes of it when the host has come up.
    Autostart(AutostartPatch),
}

/// A change of state that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    /// With the milliseconds that the guest may take; at once without.
    Stop {
        grace_ms: Option<u64>,
    },
    Restart {
        grace_ms: Option<u64>,
    },
    Pause,
    Resume,
    Save,
}

/// Asks the supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Commands(mpsc::Sender<Command>);

impl Commands {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self(sender), receiver)
    }

    /// Asks, and waits for the outcome.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Problem> {
        let (reply, outcome) = oneshot::channel();
        self.0.send(command(reply)).await.map_err(|_| shutting_down())?;
        outcome.await.unwrap_or_else(|_| Err(shutting_down()))
    }
}

/// The supervisor is gone.
pub(crate) fn shutting_down() -> Problem {
    Problem::new(503, "The daemon is shutting down; VMs go on running. Try again when it is back")
}
