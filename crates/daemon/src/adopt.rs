//! Machines that an earlier daemon left running.
//!
//! Everything that runs is found and charged before the first decision is
//! made: memory that is in use must not be lent again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use dynmem_core::DeviceFacts;
use dynmem_definition::VmDefinition;
use dynmem_hypervisor::{AttachError, Hypervisor, Machine, MachineRecord, RunDir, RunState};
use dynmem_units::Bytes;
use tokio::task::JoinSet;

use crate::driver::{Attached, MachineInfo, devices_of};

/// Directories that are looked into.
const DIRECTORIES_MAX: usize = 100_000;

/// A machine that runs.
pub(crate) struct Found {
    pub(crate) devices: DeviceFacts,
    pub(crate) paused: bool,
    pub(crate) info: MachineInfo,
    pub(crate) attached: Attached,
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
}

/// Looks for machines under `run_root`; those of `definitions` can be adopted.
pub(crate) async fn look(hypervisor: &Hypervisor, run_root: &Path, definitions: &[VmDefinition]) -> Adoption {
    let mut adoption = Adoption::default();
    let mut looking = JoinSet::new();
    for (name, run_dir) in directories(run_root) {
        let definition = definitions.iter().find(|definition| definition.name == name).cloned();
        let hypervisor = hypervisor.clone();
        looking.spawn(async move {
            let outcome = take_over(&hypervisor, &run_dir, definition.as_ref()).await;
            (name, run_dir, definition.is_some(), outcome)
        });
    }
    while let Some(looked) = looking.join_next().await {
        match looked {
            Ok((_, _, _, Ok(None))) => {}
            Ok((name, _, true, Ok(Some(found)))) => {
                adoption.found.insert(name, found);
            }
            Ok((name, run_dir, false, Ok(Some(found)))) => {
                let pid = found.info.pid.map_or_else(String::new, |pid| format!(" as process {pid}"));
                let held = found.devices.assigned().saturating_add(found.devices.overhead);
                adoption.out_of_reach = adoption.out_of_reach.saturating_add(held);
                adoption.complaints.push(format!(
                    "A machine of {name} runs{pid} in {}, and no definition of {name} can be read: it is left alone, and its {} MiB are kept out of the pool until the daemon's next start",
                    run_dir.display(),
                    held.mib()
                ));
            }
            Ok((name, _, _, Err(error))) => {
                adoption.complaints.push(format!("Could not look for a machine of {name}: {error}"));
            }
            Err(error) => adoption.complaints.push(format!("Could not look for a machine: {error}")),
        }
    }
    adoption
}

fn directories(run_root: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(run_root) else { return Vec::new() };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .take(DIRECTORIES_MAX)
        .collect()
}

async fn take_over(
    hypervisor: &Hypervisor,
    run_dir: &Path,
    definition: Option<&VmDefinition>,
) -> Result<Option<Found>, AttachError> {
    match hypervisor.attach(run_dir).await {
        Ok(Some(machine)) => Ok(Some(with_facts(machine, definition).await)),
        Ok(None) => Ok(None),
        Err(AttachError::Unresponsive { run_dir, pid, source, record }) => {
            let info = MachineInfo::new(&record, &RunDir::new(&run_dir), Some(pid));
            let attached = Attached::Lost { run_dir, reason: source.to_string() };
            Ok(Some(Found { devices: at_worst(&record, definition), paused: false, info, attached }))
        }
        Err(error) => Err(error),
    }
}

async fn with_facts(mut machine: Machine, definition: Option<&VmDefinition>) -> Found {
    let devices = machine.facts().await.unwrap_or_else(|_| at_worst(machine.record(), definition));
    let paused = matches!(machine.state().await, Ok(RunState::Paused | RunState::Stopped));
    Found { devices, paused, info: MachineInfo::of(&machine), attached: Attached::Control(Box::new(machine)) }
}

/// What a machine that can't be asked may hold: all that its VM may have.
fn at_worst(record: &MachineRecord, definition: Option<&VmDefinition>) -> DeviceFacts {
    let devices = devices_of(record);
    let maximum = definition.map_or(devices.boot, |definition| definition.memory.maximum);
    let plugged = maximum.saturating_sub(devices.boot).min(devices.plug_max).align_down(devices.plug_block);
    DeviceFacts { plugged, ..devices }
}
