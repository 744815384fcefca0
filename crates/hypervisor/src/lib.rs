//! Machines: QEMU launched, attached and ordered about; and a fake of it that
//! speaks real QMP.
//!
//! ```text
//!  VmDefinition ──plan()──▶ MachinePlan ──command_line()──▶ QEMU process ─┐
//!                                           (or a task of fake::FakeHost) │ qmp.sock
//!  engine's effects ──▶ Machine (one owner, the VM's driver) ◀──────QMP───┘
//!                          ├─ facts(), statistics()  ──▶ engine's events
//!                          └─ next_event()
//! ```
//!
//! A [`Machine`] is the same whether a [`Qemu`] or a [`fake::FakeHost`] made
//! it: only how its process is born and dies differs. Everything about a
//! machine lives in its [`RunDir`], so that the next daemon finds it again
//! with [`Hypervisor::attach`]; QEMU runs in a session of its own and outlives
//! the daemon.
//!
//! The rooms: `plan` (what a machine will take), `command_line` (pure),
//! `probe` (which QEMU) and `kvm_proof`, `launch` (with `files`, `bridge`,
//! `spawn` and `user`) and `attach`, `process` (exit without zombies), `machine` with `events`, `reset` and `statistics`,
//! `record` (`machine.json`) and `rebuild` (without it), `save` and `saved` (machines
//! in files), and `fake`.

mod attach;
mod bridge;
mod command_line;
mod error;
mod events;
pub mod fake;
mod files;
mod kvm_proof;
mod launch;
mod machine;
mod paths;
mod plan;
mod probe;
mod process;
mod rebuild;
mod record;
mod reset;
mod save;
mod saved;
mod spawn;
mod statistics;
mod user;

use std::path::{Path, PathBuf};

use dynmem_definition::VmDefinition;

pub use error::{AttachError, LaunchError, MachineError, ProbeError, SaveError};
pub use events::MachineEvent;
pub use machine::{Machine, Ordered, RunState};
pub use paths::RunDir;
pub use plan::{ChosenAccelerator, MachinePlan};
pub use probe::Qemu;
pub use process::MachineExit;
pub use record::MachineRecord;
pub use save::Written;
pub use saved::{SavedDir, SavedRecord};
pub use statistics::Statistics;

/// What to launch, and where.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The VM, checked.
    pub definition: VmDefinition,
    /// The machine's run-time directory; made if absent.
    pub run_dir: PathBuf,
    /// Directories of control groups that the process joins before it is
    /// QEMU, so that every page it takes is counted there.
    pub cgroups: Vec<PathBuf>,
}

/// Whatever makes machines. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Hypervisor {
    /// QEMU on this host.
    Qemu(Qemu),
    /// Machines inside this process, for tests and load.
    Fake(fake::FakeHost),
}

impl Hypervisor {
    /// The version, such as `7.2.22`.
    pub fn version(&self) -> &str {
        match self {
            Self::Qemu(qemu) => qemu.version(),
            Self::Fake(_) => fake::VERSION,
        }
    }

    /// Whether its machines are processes of their own.
    pub fn has_processes(&self) -> bool {
        matches!(self, Self::Qemu(_))
    }

    /// What `accelerator = "auto"` means here.
    pub fn accelerator(&self) -> ChosenAccelerator {
        match self {
            Self::Qemu(qemu) => qemu.accelerator(),
            Self::Fake(_) => ChosenAccelerator::Tcg,
        }
    }

    /// A sentence: what was chosen, and why.
    pub fn description(&self) -> &str {
        match self {
            Self::Qemu(qemu) => qemu.description(),
            Self::Fake(_) => "Machines are imitated; no guest runs",
        }
    }

    /// What a machine of this definition will take: known before the launch,
    /// so that it can be charged before anything is spent.
    pub fn plan(&self, definition: &VmDefinition) -> Result<MachinePlan, LaunchError> {
        match self {
            Self::Qemu(qemu) => qemu.plan(definition),
            Self::Fake(host) => Ok(host.plan(definition)),
        }
    }

    /// Starts a machine. When this returns, its processors run. If it fails,
    /// nothing is left behind.
    pub async fn launch(&self, launch: &Launch) -> Result<Machine, LaunchError> {
        match self {
            Self::Qemu(qemu) => qemu.launch(launch).await,
            Self::Fake(host) => host.launch(launch).await,
        }
    }

    /// Makes a machine of what was saved. When this returns, its processors run,
    /// and what was saved is void; if it fails, that is still there. Of `launch`
    /// the definition does not matter: the hardware is what was saved.
    pub async fn restore(&self, launch: &Launch, saved: &SavedDir) -> Result<Machine, LaunchError> {
        let name = launch.definition.name.clone();
        let not_saved = |reason| LaunchError::NotSaved { name, path: saved.path().to_owned(), reason };
        let record = match saved.read() {
            Ok(Some(record)) => record,
            Ok(None) => return Err(not_saved("there is none".to_owned())),
            Err(error) => return Err(not_saved(error.to_string())),
        };
        let machine = match self {
            Self::Qemu(qemu) => qemu.restore(launch, saved, record).await?,
            Self::Fake(host) => host.restore(launch, saved, record).await?,
        };
        tokio::spawn(save::forget(saved));
        Ok(machine)
    }

    /// Ends what machine there is in `run_dir`, and removes that.
    pub async fn end(&self, run_dir: &Path) -> Result<(), AttachError> {
        let dir = RunDir::new(run_dir);
        if let Self::Fake(host) = self {
            host.end(&dir).await;
        }
        attach::end(&dir).await
    }

    /// Finds the machine that an earlier daemon left in `run_dir`. `None` if
    /// it has ended meanwhile; what it left is then removed.
    pub async fn attach(&self, run_dir: &Path) -> Result<Option<Machine>, AttachError> {
        match self {
            Self::Qemu(_) => attach::attach(&RunDir::new(run_dir)).await,
            Self::Fake(host) => host.attach(run_dir).await,
        }
    }
}
