//! What goes into the engine ([`Event`]) and what comes out ([`Effect`]).
//!
//! Events are facts or requests, already typed and bounded by whoever read
//! them. Effects are requests to the outside; none of them is ever a question,
//! so the engine never waits.

use std::fmt;

use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::{DeviceFacts, GuestReport, HostFacts, MemorySettings, TroubleKind};

/// A VM's number: small, dense and stable while it is defined. The caller
/// chooses it (0, 1, 2 …) and may use it again after [`Event::Forgotten`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VmId(pub u32);

/// Where a VM is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmState {
    /// No machine; holds nothing.
    #[default]
    Off,
    /// Asked to start (or to restart) and waiting for memory or for QEMU.
    Starting,
    /// The machine runs; its guest has not spoken yet.
    Booting,
    /// The guest has spoken.
    Running,
    /// Stopped in place by a person; keeps its memory.
    Paused,
    /// Asked to shut down.
    Stopping,
    /// Its memory is written to a file; the machine stands still.
    Saving,
    /// As off, and all that its machine was is in a file: it goes on from there.
    Saved,
    /// As off, and not by anybody's wish.
    Failed,
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Saving => "saving",
            Self::Saved => "saved",
            Self::Failed => "failed",
        })
    }
}

/// How a machine's boot memory is parted while it pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paged {
    /// What it may hold in memory, its overhead excluded.
    pub memory: Bytes,
    /// The size of its file: at least the rest.
    pub file: Bytes,
}

/// What is known about a guest's balloon driver, which is asked for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverWord {
    /// It gives them.
    Answers,
    /// It has not given any since its machine began.
    Mute,
    /// It gave them, and does not any more.
    Gone,
}

/// Something that happened, or that a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A VM exists, off.
    Defined {
        /// Its name, for messages.
        name: String,
        /// Its settings, checked.
        settings: MemorySettings,
    },
    /// The VM is gone. Ignored unless it is off.
    Forgotten,
    /// The VM has new settings, checked against [`crate::Engine::check_settings`].
    Configured(MemorySettings),
    /// A person wants the VM to run.
    Start {
        /// The hypervisor's own memory for it, as estimated before launch.
        overhead: Bytes,
    },
    /// The machine runs. Answers [`Effect::Launch`].
    Launched(DeviceFacts),
    /// The machine could not be started. Answers [`Effect::Launch`].
    LaunchFailed(String),
    /// The host has come up again, and the VM ran when it went down: as
    /// [`Event::Start`], and a restart in the sense of Smart Paging.
    StartAgain {
        /// The hypervisor's own memory for it, as estimated before launch.
        overhead: Bytes,
    },
    /// A machine of this VM was found running.
    Adopted {
        /// Its devices.
        devices: DeviceFacts,
        /// Whether it is paused.
        paused: bool,
        /// False if it does not answer and `devices` is the worst case: that is
        /// charged, nothing is ordered, and the first [`Event::Devices`] is
        /// the truth.
        known: bool,
        /// Set if it was restarted with a part of its memory in a file, which
        /// is still in use.
        paging: Option<Paged>,
    },
    /// What the machine's devices hold now.
    Devices(DeviceFacts),
    /// What the guest says of itself.
    Report(GuestReport),
    /// What is known about its balloon driver has changed.
    Driver(DriverWord),
    /// Something is wrong with the guest: what, said of it. `None`: it is over.
    Trouble(TroubleKind, Option<String>),
    /// A person wants the guest to shut down; `None` means at once.
    Stop {
        /// Milliseconds that the guest may take before it is switched off.
        grace_ms: Option<u64>,
    },
    /// A person wants the guest to restart; `None` means at once.
    Restart {
        /// Milliseconds that the guest may take before it is reset.
        grace_ms: Option<u64>,
    },
    /// The machine is held before a reset; no memory has moved yet.
    ResetHeld,
    /// The file is there, in use by this machine alone, and its memory is
    /// limited. Answers [`Effect::BeginPaging`].
    PagingBegan,
    /// So much of the file is in use now.
    PagingUsed(Bytes),
    /// The file could not be made, or not be emptied. Answers
    /// [`Effect::BeginPaging`] (then nothing is left of it) or
    /// [`Effect::EndPaging`] (then it is still in use).
    PagingFailed(String),
    /// The file is gone. Answers [`Effect::EndPaging`].
    PagingEnded,
    /// The guest has shut itself down; the machine is held.
    PoweredOff,
    /// A person wants the machine to stand still.
    Pause,
    /// A person wants the machine to go on.
    Resume,
    /// The machine stands still.
    Paused,
    /// The machine goes on.
    Resumed,
    /// A person wants the VM's memory in a file, and its machine gone.
    Save,
    /// Its memory could not be written; nothing is left of the file. Answers
    /// [`Effect::Save`]. If the machine ran before, [`Event::Resumed`] follows.
    SaveFailed(String),
    /// The VM was found saved, with devices that hold this.
    FoundSaved(DeviceFacts),
    /// What was saved has been deleted.
    Discarded,
    /// The machine is gone. The last event of a machine.
    Exited(Exit),
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked, or by the guest's own shutdown.
    Clean,
    /// All of it is in a file, on the disk. Answers [`Effect::Save`]. This is
    /// what its devices held.
    Saved(DeviceFacts),
    /// Otherwise; the text says how.
    Failed(String),
}

/// What the engine is told: about a VM, the host, or the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// About one VM.
    Vm(VmId, Event),
    /// About the host.
    Host(HostFacts),
    /// Time has passed: see [`crate::Engine::deadline`].
    Tick,
}

/// What the engine wants done. A decision makes many orders: what is larger
/// than an order, and rare, is boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start this VM's machine; its memory is charged already.
    Launch(VmId),
    /// Start this VM's machine as it was saved; its memory is charged already.
    /// Answered as [`Effect::Launch`] is. Once it runs, the file is void.
    Restore(VmId),
    /// Write the machine's memory to a file and end it: answered by
    /// [`Event::Exited`] with [`Exit::Saved`], or by [`Event::SaveFailed`].
    Save(VmId),
    /// Start this VM's machine with only a part of its boot memory; the rest is
    /// paged to a file. Answered as [`Effect::Launch`] is.
    LaunchPaged(VmId, Paged),
    /// Make the file to which the held machine may page once it is reset.
    /// Answered by [`Event::PagingBegan`] or [`Event::PagingFailed`]. A file
    /// that is there already is as large, and serves again.
    ///
    /// [`Effect::ContinueReset`] follows; with it the machine is limited to the
    /// memory that is said here. The order to the devices before that is for
    /// them alone; each one after it says anew what the machine may hold.
    BeginPaging(VmId, Paged),
    /// The machine holds no more than its memory: fetch back what is in the
    /// file, and delete it. Answered by [`Event::PagingEnded`] or
    /// [`Event::PagingFailed`].
    EndPaging(VmId),
    /// Give these orders to the memory devices, at once.
    Order {
        /// Whose devices.
        vm: VmId,
        /// Boot memory less the balloon.
        balloon: Bytes,
        /// Memory to be plugged by virtio-mem.
        plugged: Bytes,
    },
    /// Press the machine's power button.
    PowerDown(VmId),
    /// End the machine at once.
    Kill(VmId),
    /// Hold the machine for a reset; answered by [`Event::ResetHeld`].
    HoldForReset(VmId),
    /// Reset the held machine and let it go on.
    ContinueReset(VmId),
    /// Let the machine stand still.
    Pause(VmId),
    /// Let the machine go on.
    Resume(VmId),
    /// A request can't be met, and nothing has changed.
    Refused(VmId, Box<Refusal>),
    /// Keep this in the event log.
    Record(Box<Notice>),
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The spec's own sentence.
    #[error(
        "Not enough memory in the system to start the virtual machine {name}: needs {needs}, {available} available"
    )]
    NotEnoughMemory {
        /// The VM's name.
        name: String,
        /// Its startup memory and overhead.
        needs: Bytes,
        /// What could be lent, surplus of others included.
        available: Bytes,
    },
    /// The VM is in a state that does not take this request.
    #[error("Can't {request} {name}: it is {state}")]
    WrongState {
        /// What was asked, as a verb.
        request: &'static str,
        /// The VM's name.
        name: String,
        /// Its state.
        state: VmState,
    },
    /// The start was given up before it was done.
    #[error("The start of {name} was cancelled by a stop")]
    Cancelled {
        /// The VM's name.
        name: String,
    },
    /// There is no memory for the restart, and no file for the missing part.
    #[error(
        "Can't restart {name}: {missing} of its startup memory are missing and can't be paged to a file: {reason}. It is held until there is memory, and tried again"
    )]
    PagingFailed {
        /// The VM's name.
        name: String,
        /// What would have been paged.
        missing: Bytes,
        /// What is wrong with the file.
        reason: String,
    },
    /// The machine was not saved, and goes on as before.
    #[error("Can't save {name}: {reason}")]
    SaveFailed {
        /// The VM's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// QEMU could not be started.
    #[error("Can't start {name}: {reason}")]
    LaunchFailed {
        /// The VM's name.
        name: String,
        /// What QEMU or its launcher said.
        reason: String,
    },
}

/// What kind of thing a [`Notice`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each name says it; the notices' sentences say the rest")]
pub enum NoticeKind {
    StartRefused,
    Started,
    Stopped,
    Failed,
    Grew,
    Shrank,
    Stuck,
    Pinned,
    Silent,
    NoDriver,
    Implausible,
    AgentRefused,
    AgentFloods,
    AtMemoryLimit,
    BalloonEmptied,
    Recovered,
    StatusChanged,
    SettingsChanged,
    Restarting,
    HostPressure,
    Adopted,
    DaemonStarted,
    SmartPagingBegan,
    SmartPagingEnded,
    SmartPagingOverdue,
    SmartPagingFailed,
    Saved,
    SaveFailed,
    Restored,
    Discarded,
}

impl NoticeKind {
    /// The name used in the log and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::StartRefused => "start-refused",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Grew => "grew",
            Self::Shrank => "shrank",
            Self::Stuck => "stuck",
            Self::Pinned => "pinned",
            Self::Silent => "silent",
            Self::NoDriver => "no-driver",
            Self::Implausible => "implausible",
            Self::AgentRefused => "agent-refused",
            Self::AgentFloods => "agent-floods",
            Self::AtMemoryLimit => "at-memory-limit",
            Self::BalloonEmptied => "balloon-emptied",
            Self::Recovered => "recovered",
            Self::StatusChanged => "status-changed",
            Self::SettingsChanged => "settings-changed",
            Self::Restarting => "restarting",
            Self::HostPressure => "host-pressure",
            Self::Adopted => "adopted",
            Self::DaemonStarted => "daemon-started",
            Self::SmartPagingBegan => "smart-paging-began",
            Self::SmartPagingEnded => "smart-paging-ended",
            Self::SmartPagingOverdue => "smart-paging-overdue",
            Self::SmartPagingFailed => "smart-paging-failed",
            Self::Saved => "saved",
            Self::SaveFailed => "save-failed",
            Self::Restored => "restored",
            Self::Discarded => "discarded",
        }
    }
}

/// Something worth keeping in the event log: a sentence and its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The VM that it is about; none for the host.
    pub vm: Option<VmId>,
    /// Its kind.
    pub kind: NoticeKind,
    /// A sentence for people.
    pub message: String,
    /// The numbers in it, by name; sizes in bytes.
    pub numbers: Vec<(&'static str, u64)>,
}

#[cfg(test)]
mod tests {
    use serde::de::{IntoDeserializer, value::Error};

    use super::*;

    /// What the wire's `name` means.
    fn on_the_wire<'de, T: Deserialize<'de>>(name: &'de str) -> Option<T> {
        T::deserialize(IntoDeserializer::<Error>::into_deserializer(name)).ok()
    }

    #[test]
    fn states_are_named_alike_for_people_and_programs() {
        use VmState::{Booting, Failed, Off, Paused, Running, Saved, Saving, Starting, Stopping};
        for state in [Off, Starting, Booting, Running, Paused, Stopping, Saving, Saved, Failed] {
            assert_eq!(on_the_wire(&state.to_string()), Some(state));
        }
        assert_eq!(format!("{Off:>8}|{Paused:<8}"), "     off|paused  ", "they keep a table's columns");
    }

    #[test]
    fn notices_are_named_alike_in_the_log_and_on_the_wire() {
        use NoticeKind as Kind;
        let starts = [Kind::StartRefused, Kind::Started, Kind::Stopped, Kind::Failed, Kind::Restarting, Kind::Adopted];
        let moves = [Kind::Grew, Kind::Shrank, Kind::Stuck, Kind::Recovered, Kind::StatusChanged];
        let troubles = [
            Kind::Pinned,
            Kind::Silent,
            Kind::NoDriver,
            Kind::Implausible,
            Kind::AgentRefused,
            Kind::AgentFloods,
            Kind::AtMemoryLimit,
            Kind::BalloonEmptied,
        ];
        let others = [Kind::SettingsChanged, Kind::HostPressure, Kind::DaemonStarted];
        let paging =
            [Kind::SmartPagingBegan, Kind::SmartPagingEnded, Kind::SmartPagingOverdue, Kind::SmartPagingFailed];
        let saving = [Kind::Saved, Kind::SaveFailed, Kind::Restored, Kind::Discarded];
        for kind in starts.into_iter().chain(moves).chain(others).chain(paging).chain(saving).chain(troubles) {
            assert_eq!(on_the_wire(kind.name()), Some(kind));
        }
    }
}
