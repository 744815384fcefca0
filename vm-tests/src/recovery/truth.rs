//! [`Truth`]: what there is, by the daemon's word, by QEMU's, and by what lies
//! and runs on the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use dynmem_api::{VmState, VmView};
use dynmem_units::Bytes;
use serde_json::json;

use super::expectation::Expectation;
use crate::Lab;

/// One look at everything.
#[derive(Debug)]
pub(super) struct Truth {
    /// The daemon's word.
    pub(super) vms: BTreeMap<String, VmView>,
    /// What QEMU says of each machine that the daemon says is on.
    machines: BTreeMap<String, Result<Machine, String>>,
    processes: BTreeSet<u32>,
    /// Machines with a directory that has more than a log in it.
    run_dirs: BTreeSet<String>,
    /// What is in the folder of definitions.
    definitions: BTreeSet<String>,
    /// VMs with something in the folder of what is saved.
    saved: BTreeSet<String>,
    /// Machines with a memory group.
    groups: BTreeSet<String>,
}

#[derive(Debug)]
struct Machine {
    assigned: Bytes,
    status: String,
}

pub(super) async fn look(lab: &Lab) -> Result<Truth> {
    let vms: BTreeMap<String, VmView> = lab.client().vms().await?.into_iter().map(|vm| (vm.name.clone(), vm)).collect();
    let mut machines = BTreeMap::new();
    for name in vms.values().filter(|vm| vm.pid.is_some()).map(|vm| &vm.name) {
        machines.insert(name.clone(), ask(lab, name).await.map_err(|error| format!("{error:#}")));
    }
    let is_qemu = |(pid, program): (u32, String)| program.starts_with("qemu").then_some(pid);
    Ok(Truth {
        vms,
        machines,
        processes: dynmem_footprint::processes(lab.root()).into_iter().filter_map(is_qemu).collect(),
        run_dirs: names(&lab.state_dir().join("run"), has_more_than_a_log),
        definitions: names(&lab.state_dir().join("vms"), |_| true),
        saved: names(&lab.state_dir().join("saved"), |_| true),
        groups: dynmem_footprint::groups(lab.root()).iter().filter_map(|group| machine_of(group)).collect(),
    })
}

async fn ask(lab: &Lab, name: &str) -> Result<Machine> {
    let mut monitor = lab.monitor(name).await?;
    let assigned = monitor.lent().await?.assigned();
    let status = monitor.ask("query-status", json!({})).await?;
    Ok(Machine { assigned, status: status["status"].as_str().unwrap_or_default().to_owned() })
}

fn names(folder: &Path, counts: impl Fn(&Path) -> bool) -> BTreeSet<String> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let name = |path: PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    paths.filter(|path| counts(path)).filter_map(name).collect()
}

/// A log without a machine is for people to read.
fn has_more_than_a_log(run_dir: &Path) -> bool {
    let left: Vec<_> = fs::read_dir(run_dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    left != [OsStr::new("qemu.log")]
}

fn machine_of(group: &Path) -> Option<String> {
    Some(group.file_name()?.to_str()?.strip_prefix("vm-")?.to_owned())
}

impl Truth {
    /// Sentences about what is not as it should be.
    pub(super) fn against(&self, expected: &BTreeMap<&'static str, Expectation>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, its) in expected {
            wrong.extend(its.against(self.vms.get(*name)).into_iter().map(|what| format!("{name}: {what}")));
        }
        for vm in self.vms.values() {
            wrong.extend(self.machine_of(vm).err().map(|what| format!("{}: {what}", vm.name)));
        }
        let on: BTreeSet<String> = self.vms.values().filter(|vm| vm.pid.is_some()).map(|vm| vm.name.clone()).collect();
        let pids: BTreeSet<u32> = self.vms.values().filter_map(|vm| vm.pid).collect();
        if pids != self.processes {
            wrong.push(format!("QEMU's processes are {:?}, the VMs' {pids:?}", self.processes));
        }
        let definitions: BTreeSet<String> = self.vms.keys().map(|name| format!("{name}.toml")).collect();
        let saved = self.vms.values().filter(|vm| vm.state == VmState::Saved).map(|vm| vm.name.clone()).collect();
        for (what, there, should) in [
            ("run-time directories", &self.run_dirs, &on),
            ("definitions", &self.definitions, &definitions),
            ("saved machines", &self.saved, &saved),
        ] {
            if there != should {
                wrong.push(format!("there are {what} of {there:?}, and should be of {should:?}"));
            }
        }
        if !self.groups.is_subset(&on) {
            wrong.push(format!("there are memory groups of {:?}, and {on:?} are on", self.groups));
        }
        wrong
    }

    /// The daemon's word against QEMU's.
    fn machine_of(&self, vm: &VmView) -> Result<(), String> {
        let Some(machine) = self.machines.get(&vm.name) else { return Ok(()) };
        let machine = machine.as_ref().map_err(Clone::clone)?;
        // After a save that was given up, QEMU has another word for a machine that stands still.
        let statuses: &[&str] = if vm.state == VmState::Paused { &["paused", "postmigrate"] } else { &["running"] };
        if !statuses.contains(&machine.status.as_str()) {
            return Err(format!("it is {} for the daemon, and {} for QEMU", vm.state, machine.status));
        }
        if machine.assigned != vm.assigned_bytes {
            return Err(format!("it holds {} for the daemon, and {} for QEMU", vm.assigned_bytes, machine.assigned));
        }
        if !vm.warnings.is_empty() {
            return Err(format!("there are warnings: {:?}", vm.warnings));
        }
        Ok(())
    }
}
