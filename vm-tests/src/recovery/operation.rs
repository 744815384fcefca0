//! [`Operation`]: what is under way when the daemon dies.

use std::{future::Future, time::Duration};

use anyhow::Result;
use dynmem_api::{Client, ClientError, MemoryPatch, StopMode, StopRequest};
use dynmem_definition::VmDefinition;
use dynmem_units::{Bytes, Percent, Weight};
use fastrand::Rng;
use serde_json::json;

use super::expectation::{Expectation, Is};
use crate::{Lab, Monitor};

/// One thing that is asked of the daemon, or of QEMU past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Delete,
    /// A change of the memory settings; the new weight tells which.
    Set(u16),
    Start,
    Stop,
    /// The power button, which nobody here hears, and force a second later.
    PowerDown,
    Restart,
    Pause,
    Resume,
    /// Into a file, which a start goes on from.
    Save,
    Discard,
    /// The machine is reset from inside: held, arranged, let go on.
    ResetFromInside,
}

impl Operation {
    /// Something that can be done with a VM that is like this.
    pub(super) fn choose(its: &Expectation, rng: &mut Rng) -> Self {
        let set = Self::Set(rng.u16(1..=10_000));
        let choices: &[Self] = match its.is() {
            Is::Absent => &[Self::Create],
            Is::Off => &[Self::Start, Self::Start, Self::Start, Self::Delete, set],
            Is::On => &[
                Self::Stop,
                Self::PowerDown,
                Self::Restart,
                Self::Pause,
                Self::ResetFromInside,
                Self::Save,
                Self::Save,
                set,
            ],
            Is::Paused => &[Self::Resume, Self::Resume, Self::Stop, Self::Save, set],
            Is::Saved => &[Self::Start, Self::Start, Self::Start, Self::Discard],
        };
        choices[rng.usize(..choices.len())]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Set(_) => "set",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::PowerDown => "power-down",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Save => "save",
            Self::Discard => "discard",
            Self::ResetFromInside => "reset-from-inside",
        }
    }

    /// About how long it takes, on a busy machine.
    pub(super) fn takes(self) -> Duration {
        Duration::from_millis(match self {
            Self::Create | Self::Delete | Self::Set(_) | Self::Pause | Self::Resume | Self::Discard => 60,
            Self::Stop => 200,
            Self::Start | Self::Save => 600,
            Self::ResetFromInside => 800,
            Self::Restart | Self::PowerDown => 1500,
        })
    }

    /// Does it; the answer, if the daemon lives to give one.
    pub(super) fn perform(self, lab: &Lab, vm: &'static str) -> impl Future<Output = Result<(), ClientError>> + use<> {
        let (client, monitor) = (lab.client().clone(), lab.run_dir(vm).join("monitor.sock"));
        async move {
            if self == Self::ResetFromInside {
                if let Ok(mut monitor) = Monitor::connect(&monitor).await {
                    let _ = monitor.ask("system_reset", json!({})).await; // the daemon has its word with the rest
                }
                return Ok(());
            }
            self.ask(&client, vm).await
        }
    }

    async fn ask(self, client: &Client, vm: &str) -> Result<(), ClientError> {
        match self {
            Self::Create => client.create(&definition(vm)).await.map(drop),
            Self::Delete => client.delete(vm).await,
            Self::Set(weight) => client.set_memory(vm, &patch(weight)).await.map(drop),
            Self::Start => client.start(vm).await.map(drop),
            Self::Stop => {
                client.stop(vm, &StopRequest { mode: StopMode::Force, ..StopRequest::default() }).await.map(drop)
            }
            Self::PowerDown => {
                client.stop(vm, &StopRequest { mode: StopMode::Graceful, timeout_seconds: 1 }).await.map(drop)
            }
            Self::Restart => client.restart(vm).await.map(drop),
            Self::Pause => client.pause(vm).await.map(drop),
            Self::Resume => client.resume(vm).await.map(drop),
            Self::Save => client.save(vm).await.map(drop),
            Self::Discard => client.discard(vm).await.map(drop),
            Self::ResetFromInside => Ok(()),
        }
    }
}

/// Without anything to boot: the machine runs, and no guest ever comes up.
fn definition(name: &str) -> VmDefinition {
    let mut definition = VmDefinition::new(name);
    definition.memory.dynamic = true;
    definition.memory.startup = Bytes::from_mib(64);
    definition.memory.minimum = Bytes::from_mib(32);
    definition.memory.maximum = Bytes::from_mib(128);
    definition
}

fn patch(weight: u16) -> MemoryPatch {
    MemoryPatch {
        weight: Weight::new(weight.into()).ok(),
        buffer: Some(Percent::new(5 + u32::from(weight % 100))),
        ..MemoryPatch::default()
    }
}
