//! [`Guest`]: what a test guest is, as a definition that the daemon accepts.

use std::{fs::File, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use dynmem_api::{Integration, VmState, VmView};
use dynmem_core::MemorySettings;
use dynmem_definition::{Accelerator, Boot, Disk, DiskFormat, VmDefinition};
use dynmem_guest_image::Image;
use dynmem_units::Bytes;
use dynmem_workload::PORT_NAME;

use crate::{Lab, Workload};

/// An emulated guest boots in 4 s alone; with neighbours on two cores, later.
pub const BOOT_LIMIT: Duration = Duration::from_mins(2);

/// A guest to be made.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The VM's name.
    pub name: String,
    /// Its memory.
    pub memory: MemorySettings,
    /// Whether its agent runs. Without, the balloon's statistics must do.
    pub agent: bool,
    /// Swap, as every server has some: a burst that is faster than the host
    /// slows the guest down then, and kills nothing in it.
    pub swap: Bytes,
    /// Whether its kernel writes to all of its memory while it boots. Others
    /// leave most of it untouched until somebody needs it.
    pub touches_all: bool,
}

impl Guest {
    /// A dynamic guest with agent; sizes in MiB.
    pub fn new(name: &str, startup: u64, minimum: u64, maximum: u64) -> Self {
        let [startup, minimum, maximum] = [startup, minimum, maximum].map(Bytes::from_mib);
        let memory = MemorySettings { dynamic: true, startup, minimum, maximum, ..MemorySettings::default() };
        Self { name: name.to_owned(), memory, agent: true, swap: Bytes::from_mib(512), touches_all: false }
    }

    /// Its definition in `lab`. Without an image there is nothing to boot:
    /// the machine runs, and no guest ever comes up.
    pub fn definition(&self, lab: &Lab, image: Option<&Image>) -> VmDefinition {
        let socket = lab.workload_socket(&self.name);
        let touch = if self.touches_all { " init_on_free=1" } else { "" };
        let boot = image.map(|image| Boot {
            kernel: Some(image.kernel.clone()),
            initrd: Some(image.initrd.clone()),
            cmdline: Some(format!("{} dynmem.swap=vda{touch}", image.cmdline(self.agent))),
            ..Boot::default()
        });
        VmDefinition {
            name: self.name.clone(),
            vcpus: 1,
            accelerator: Accelerator::Auto,
            boot: boot.unwrap_or_default(),
            disks: vec![Disk { path: lab.swap_file(&self.name), format: DiskFormat::Raw, read_only: false }],
            networks: Vec::new(),
            vnc: None,
            extra_args: [
                "-chardev",
                &format!("socket,id=workload,path={},server=on,wait=off", socket.display()),
                "-device",
                &format!("virtserialport,chardev=workload,name={PORT_NAME}"),
            ]
            .map(str::to_owned)
            .to_vec(),
            memory: self.memory.clone(),
            ..VmDefinition::new(&self.name)
        }
    }
}

impl Lab {
    /// The host's end of a guest's workload port.
    pub fn workload_socket(&self, vm: &str) -> PathBuf {
        self.guests_dir().join(format!("{vm}.workload"))
    }

    /// The file behind a guest's swap; it takes no more space than is used.
    fn swap_file(&self, vm: &str) -> PathBuf {
        self.guests_dir().join(format!("{vm}.swap"))
    }

    /// Defines the guest; it is off.
    pub async fn define(&self, guest: &Guest, image: Option<&Image>) -> Result<VmView> {
        let swap = self.swap_file(&guest.name);
        File::create(&swap)?.set_len(guest.swap.get())?;
        self.hand_over(&swap)?;
        let created = self.client().create(&guest.definition(self, image)).await;
        created.with_context(|| format!("Could not create {}", guest.name))
    }

    /// Starts a guest and waits until its workload answers.
    pub async fn boot(&self, vm: &str) -> Result<Workload> {
        self.client().start(vm).await.with_context(|| format!("Could not start {vm}"))?;
        self.workload(vm).await
    }

    /// Waits until the workload of a started guest answers.
    pub async fn workload(&self, vm: &str) -> Result<Workload> {
        Workload::connect(vm, &self.workload_socket(vm), BOOT_LIMIT).await
    }

    /// Waits until the guest's agent reports.
    pub async fn until_agent_reports(&self, vm: &str) -> Result<VmView> {
        self.until_vm(vm, "the agent reports", BOOT_LIMIT, |vm| {
            vm.state == VmState::Running && vm.integration == Integration::Agent && !vm.demand_bytes.is_zero()
        })
        .await
    }
}
