//! Machines that an earlier daemon left running.
//!
//! Everything that runs is found and charged before the first decision is
//! made: memory that is in use must not be lent again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use dynmem_core::{DeviceFacts, Paged};
use dynmem_definition::VmDefinition;
use dynmem_hypervisor::{AttachError, Hypervisor, Machine, RunDir, RunState};
use dynmem_units::Bytes;
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use crate::{
    driver::{Attached, Lost, MachineInfo, devices_of, overhead_of_found},
    groups::Groups,
    paging::{Place, remembered},
};

/// Directories that are looked into.
const DIRECTORIES_MAX: usize = 100_000;
/// Directories that are looked into at once: each takes a few open files.
const LOOKS_MAX: usize = 64;

/// A machine that runs.
pub(crate) struct Found {
    pub(crate) devices: DeviceFacts,
    pub(crate) paused: bool,
    /// Whether `devices` is what it holds, or the most that it may hold.
    pub(crate) known: bool,
    /// How its memory is parted, if its smart paging file is still in use.
    pub(crate) paging: Option<Paged>,
    pub(crate) info: MachineInfo,
    pub(crate) attached: Attached,
}

impl Found {
    /// Charges what QEMU really holds for itself, and not what was estimated
    /// at its launch: else another daemon would take memory back that the one
    /// before has lent.
    pub(crate) fn measure(&mut self, groups: Option<&Groups>) {
        if let Attached::Control(machine) = &self.attached {
            self.devices.overhead = overhead_of_found(groups, machine);
        }
    }
}

/// What was found.
#[derive(Default)]
pub(crate) struct Adoption {
    /// Machines by the name of their VM.
    pub(crate) found: BTreeMap<String, Found>,
    /// Sentences about what was found and can't be adopted.
    pub(crate) complaints: Vec<String>,
    /// Memory that is in use by machines that can't be adopted.
    pub(crate) out_of_reach: Bytes,
    /// The names of their VMs.
    left_alone: BTreeSet<String>,
}

/// Looks for machines under `run_root`; those of `definitions` can be adopted.
/// Smart paging files (`paging_root`) whose machines are gone are given up.
pub(crate) async fn look(
    hypervisor: &Hypervisor,
    run_root: &Path,
    paging_root: &Path,
    definitions: &[VmDefinition],
) -> Adoption {
    let mut adoption = Adoption::default();
    let mut looking = JoinSet::new();
    for (name, run_dir) in directories(run_root) {
        if looking.len() >= LOOKS_MAX
            && let Some(looked) = looking.join_next().await
        {
            adoption.take(looked);
        }
        let definition = definitions.iter().find(|definition| definition.name == name);
        let known = definition.map(|definition| (definition.clone(), most(definition, &run_dir)));
        let hypervisor = hypervisor.clone();
        looking.spawn(async move {
            let most = known.as_ref().map_or(Bytes::ZERO, |(_, most)| *most);
            let outcome = take_over(&hypervisor, &run_dir, most).await;
            let reach = known.map(|(definition, most)| reach(&hypervisor, &definition, most));
            Looked { name, run_dir, reach, outcome }
        });
    }
    while let Some(looked) = looking.join_next().await {
        adoption.take(looked);
    }
    for name in remembered(paging_root) {
        adoption.take_paging(&name, Place::new(paging_root, None, &name)).await;
    }
    adoption
}

/// What one directory came to.
struct Looked {
    name: String,
    run_dir: PathBuf,
    /// The most that a machine of this VM holds, if the VM is defined.
    reach: Option<Bytes>,
    outcome: Result<Option<Found>, AttachError>,
}

impl Adoption {
    fn take(&mut self, looked: Result<Looked, JoinError>) {
        let Looked { name, run_dir, reach, outcome } = match looked {
            Ok(looked) => looked,
            Err(error) => return self.complaints.push(format!("Could not look for a machine: {error}")),
        };
        match (outcome, reach) {
            (Ok(None), _) => {}
            (Ok(Some(found)), Some(_)) => {
                self.found.insert(name, found);
            }
            (Ok(Some(found)), None) => {
                let pid = found.info.pid.map_or_else(String::new, |pid| format!(" as process {pid}"));
                let held = found.devices.assigned().saturating_add(found.devices.overhead);
                self.leave_alone(name.clone(), held, &format!(
                    "A machine of {name} runs{pid} in {}, and no definition of {name} can be read: it is left alone",
                    run_dir.display()
                ));
            }
            (Err(error @ AttachError::Remains { .. }), _) => {
                self.complaints.push(format!("No machine of {name} runs any more, and it could not be cleared away: {error}"));
            }
            (Err(error), reach) => self.leave_alone(name.clone(), reach.unwrap_or_default(), &format!(
                "A machine of {name} may run in {}, and can't be taken over: {error}. If no QEMU works there, remove the directory; else end that QEMU first; then start the daemon again. Until then the machine is left alone",
                run_dir.display()
            )),
        }
    }

    /// The machine that was found has its file; one that is gone needs none.
    /// What nobody knows about is left alone with its machine.
    async fn take_paging(&mut self, name: &str, place: Place) {
        if self.left_alone.contains(name) {
            return;
        }
        let found = self.found.get_mut(name);
        let gone = found.is_none();
        let looking = spawn_blocking(move || if gone { place.clear().map(|()| None) } else { place.find() });
        match (looking.await, found) {
            (Ok(Ok(file)), Some(found)) => found.paging = file.map(|file| file.paged()),
            (Ok(Ok(_)), None) => {}
            (Ok(Err(error)), _) => {
                self.complaints.push(format!("The smart paging file of {name} is of no use and stays: {error}"));
            }
            (Err(error), _) => {
                self.complaints.push(format!("Could not look for the smart paging file of {name}: {error}"));
            }
        }
    }

    /// What nobody here can take back is not lent again.
    fn leave_alone(&mut self, name: String, held: Bytes, why: &str) {
        self.left_alone.insert(name);
        self.out_of_reach = self.out_of_reach.saturating_add(held);
        let mib = held.mib();
        self.complaints
            .push(format!("{why}, and its {mib} MiB are kept out of the pool until the daemon's next start"));
    }
}

/// The most that the machine was ever to have while it runs: what was lowered is
/// asked of its guest, which may not have given yet.
fn most(definition: &VmDefinition, run_dir: &Path) -> Bytes {
    definition.memory.most().max(RunDir::new(run_dir).former_maximum())
}

/// The most that a machine of this definition holds, if it was never to have more
/// than `most`.
fn reach(hypervisor: &Hypervisor, definition: &VmDefinition, most: Bytes) -> Bytes {
    let Ok(plan) = hypervisor.plan(definition) else { return most };
    most.min(plan.boot.saturating_add(plan.plug_max)).saturating_add(plan.overhead)
}

fn directories(run_root: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(run_root) else { return Vec::new() };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .take(DIRECTORIES_MAX)
        .collect()
}

async fn take_over(hypervisor: &Hypervisor, run_dir: &Path, most: Bytes) -> Result<Option<Found>, AttachError> {
    let (reason, pid, record) = match hypervisor.attach(run_dir).await {
        Ok(Some(machine)) => return Ok(Some(with_facts(machine, most).await)),
        Ok(None) => return Ok(None),
        Err(AttachError::Unresponsive { pid, source, record, .. }) => (source.to_string(), Some(pid), record),
        Err(AttachError::Unclear { doing, path, source, record: Some(record) }) => {
            (format!("Can't {doing} {}: {source}", path.display()), None, record)
        }
        Err(error) => return Err(error),
    };
    let info = MachineInfo::new(&record, &RunDir::new(run_dir), pid);
    let attached = Attached::Lost(Lost { run_dir: run_dir.to_owned(), reason, launching: false });
    Ok(Some(Found {
        devices: devices_of(&record).at_worst(most),
        paused: false,
        known: false,
        paging: None,
        info,
        attached,
    }))
}

async fn with_facts(mut machine: Machine, most: Bytes) -> Found {
    let (devices, known) = match machine.facts().await {
        Ok(devices) => (devices, true),
        Err(_) => (devices_of(machine.record()).at_worst(most), false),
    };
    let paused = matches!(machine.state().await, Ok(RunState::Paused | RunState::Stopped));
    let info = MachineInfo::of(&machine);
    Found { devices, paused, known, paging: None, info, attached: Attached::Control(Box::new(machine)) }
}
