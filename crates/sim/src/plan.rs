//! Plans: what a world is made of, before it begins.
//!
//! A [`HostPlan`] is plain data: a host, its VMs, what runs in them, and how
//! long. Whoever makes one (a named scenario, a trace, a test) says nothing of
//! policies, so every policy lives through the same plan.

use dynmem_core::{HostConfig, MemorySettings};
use dynmem_units::{Bytes, Percent, Weight};

use crate::{guest::GuestConfig, workload::Workload};

/// One VM of a plan.
#[derive(Clone, Debug)]
pub struct VmPlan {
    /// Its name, for tables and stories.
    pub name: String,
    /// Its memory settings.
    pub settings: MemorySettings,
    /// What machine and kernel it has.
    pub guest: GuestConfig,
    /// What its programs need.
    pub workload: Workload,
    /// The hypervisor's own memory for it.
    pub overhead: Bytes,
    /// When it is started, in milliseconds; none: it runs already.
    pub starts_at_ms: Option<u64>,
    /// What it holds when the plan begins, if it runs; startup by default.
    pub begins_with: Option<Bytes>,
}

impl VmPlan {
    /// A VM that runs already, with defaults for all but its memory.
    pub fn new(name: impl Into<String>, settings: MemorySettings, workload: Workload) -> Self {
        Self {
            name: name.into(),
            settings,
            guest: GuestConfig::default(),
            workload,
            overhead: Bytes::from_mib(64),
            starts_at_ms: None,
            begins_with: None,
        }
    }

    /// The same, holding `begins_with` when the plan begins.
    #[must_use]
    pub fn holding(self, begins_with: Bytes) -> Self {
        Self { begins_with: Some(begins_with), ..self }
    }

    /// The same, with another weight.
    #[must_use]
    pub fn weighing(mut self, weight: u64) -> Self {
        self.settings.weight = Weight::new(weight).unwrap_or_default();
        self
    }

    /// The same, with a swap of another size.
    #[must_use]
    pub fn swapping(mut self, swap: Bytes) -> Self {
        self.guest.swap_bytes = swap;
        self
    }

    /// The same, off at first and started after `at_ms`.
    #[must_use]
    pub fn starting_at(self, at_ms: u64) -> Self {
        Self { starts_at_ms: Some(at_ms), ..self }
    }
}

/// Settings of a dynamic VM, sizes in MiB, buffer 20 %.
pub fn dynamic(minimum_mib: u64, startup_mib: u64, maximum_mib: u64) -> MemorySettings {
    MemorySettings {
        dynamic: true,
        minimum: Bytes::from_mib(minimum_mib),
        startup: Bytes::from_mib(startup_mib),
        maximum: Bytes::from_mib(maximum_mib),
        buffer: Percent::new(20),
        ..MemorySettings::default()
    }
}

/// A host and what happens on it.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// The host's memory and reserve.
    pub host: HostConfig,
    /// Its VMs; a VM's number is its place here.
    pub vms: Vec<VmPlan>,
    /// How long it goes on, warm-up included.
    pub length_ms: u64,
    /// How long nothing counts: the policy finds its way from where it begins.
    pub warm_up_ms: u64,
    /// The world's step.
    pub step_ms: u64,
    /// From a guest's reading until the policy has it, beyond the step.
    pub report_delay_ms: u64,
    /// Whether machines can be paged to files here.
    pub smart_paging: bool,
    /// Whether it can be read what machines really use.
    pub reads_machines: bool,
}

impl HostPlan {
    /// An empty host of `memory`, of which `reserve` is never lent; an hour in
    /// steps of 100 ms, of which the first minute does not count.
    pub fn new(memory: Bytes, reserve: Bytes) -> Self {
        Self {
            host: HostConfig { memory, reserve },
            vms: Vec::new(),
            length_ms: 3_660_000,
            warm_up_ms: 60_000,
            step_ms: 100,
            report_delay_ms: 0,
            smart_paging: false,
            reads_machines: false,
        }
    }

    /// The same with one more VM.
    #[must_use]
    pub fn with(mut self, vm: VmPlan) -> Self {
        self.vms.push(vm);
        self
    }

    /// The same, going on for `seconds` after the warm-up.
    #[must_use]
    pub fn lasting(self, seconds: u64) -> Self {
        Self { length_ms: self.warm_up_ms + seconds * 1000, ..self }
    }
}
