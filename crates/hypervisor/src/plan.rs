//! [`MachinePlan`]: what a machine will take, known before it is started.

use std::fmt;

use dynmem_core::MemorySettings;
use dynmem_definition::VmDefinition;
use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

/// How the processors really run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChosenAccelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation.
    Tcg,
}

impl fmt::Display for ChosenAccelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// What a machine will take. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachinePlan {
    /// How its processors run.
    pub accelerator: ChosenAccelerator,
    /// Memory that it boots with; the balloon reaches this much.
    pub boot: Bytes,
    /// The most that can be hot-added: the rest of the host, so that the
    /// maximum can be raised while the machine runs. For a static VM no more than
    /// seven times its startup.
    pub plug_max: Bytes,
    /// The step of hot-adding.
    pub plug_block: Bytes,
    /// The most that the hypervisor itself is estimated to take for it.
    pub overhead: Bytes,
}

/// Translated code of an emulated guest, fixed with `tb-size`: QEMU's default
/// is up to 1 GiB per machine, all of it memory that nobody was promised.
/// Debian's kernel boots as fast with 32 MiB as with 512.
pub(crate) const TRANSLATION_CACHE: Bytes = Bytes::from_mib(32);
/// QEMU itself: code, heap, device state, firmware, a kernel image. Measured
/// with QEMU 7.2, one processor and 2 GiB plugged, translation cache included:
/// 76 to 87 MiB, growing with use.
const BASE: Bytes = Bytes::from_mib(48);
/// A virtual processor: its thread's stack, softmmu's TLBs under emulation.
const PER_VCPU: Bytes = Bytes::from_mib(4);
/// A VNC display: its frame buffer (16 MiB of video memory) and QEMU's copies.
const DISPLAY: Bytes = Bytes::from_mib(40);
/// A disk or a network interface: caches, queues.
const PER_DEVICE: Bytes = Bytes::from_mib(2);

/// A static VM that runs can be made larger by so many times its startup.
/// QEMU's own tables for memory that may once be plugged are not free: 25 MiB
/// for 255 GiB (resident, QEMU 7.2, emulated), 100 KiB for each GiB.
const STATIC_GROWTH: u64 = 7;

impl MachinePlan {
    /// The plan for a definition on a host with so much memory.
    pub(crate) fn new(definition: &VmDefinition, accelerator: ChosenAccelerator, host_memory: Bytes) -> Self {
        let boot = definition.memory.startup;
        let rest = host_memory.saturating_sub(boot);
        let rest = if definition.memory.dynamic { rest } else { rest.min(boot.scale(STATIC_GROWTH, 1)) };
        Self {
            accelerator,
            boot,
            plug_max: rest.align_down(Bytes::BLOCK),
            plug_block: Bytes::BLOCK,
            overhead: overhead_estimate(definition, accelerator, boot.saturating_add(rest)),
        }
    }
}

/// An upper estimate of the memory that the hypervisor takes for a machine of
/// this definition besides the guest's own, which `reach` bounds: a maximum
/// beyond the host (1 TiB by default) needs no page tables.
fn overhead_estimate(definition: &VmDefinition, accelerator: ChosenAccelerator, reach: Bytes) -> Bytes {
    let devices = (definition.disks.len() + definition.networks.len()) as u64;
    // The page tables that map the guest: 8 bytes for each 4 KiB page, twice
    // (QEMU's own; KVM's second-level tables, or the dirty bitmaps of TCG).
    let page_tables = definition.memory.most().min(reach).scale(2 * 8, 4096).min(Bytes::from_mib(256));
    let parts = [
        BASE,
        Bytes::new(PER_VCPU.get() * u64::from(definition.vcpus)),
        Bytes::new(PER_DEVICE.get() * devices),
        if accelerator == ChosenAccelerator::Tcg { TRANSLATION_CACHE } else { Bytes::ZERO },
        if definition.vnc.is_some() { DISPLAY } else { Bytes::ZERO },
        page_tables,
    ];
    parts.into_iter().sum::<Bytes>().align_up(Bytes::BLOCK)
}

/// The same for a machine whose definition is not known.
pub(crate) fn overhead_at_most(accelerator: ChosenAccelerator, vcpus: u32, reach: Bytes) -> Bytes {
    const DEVICES: u64 = 16;
    let memory = MemorySettings { dynamic: true, maximum: reach, ..MemorySettings::default() };
    let definition = VmDefinition { vcpus, vnc: Some(String::new()), memory, ..VmDefinition::new(String::new()) };
    overhead_estimate(&definition, accelerator, reach).saturating_add(Bytes::new(DEVICES * PER_DEVICE.get()))
}

#[cfg(test)]
mod tests {
    use dynmem_core::MemorySettings;
    use dynmem_definition::Accelerator;

    use super::*;

    const HOST: Bytes = Bytes::from_mib(256 << 10);

    fn definition(dynamic: bool) -> VmDefinition {
        let memory = MemorySettings { dynamic, maximum: Bytes::GIB, ..MemorySettings::default() };
        VmDefinition {
            name: "web01".to_owned(),
            vcpus: 1,
            accelerator: Accelerator::Auto,
            boot: dynmem_definition::Boot::default(),
            disks: Vec::new(),
            networks: Vec::new(),
            vnc: None,
            extra_args: Vec::new(),
            memory,
            ..VmDefinition::new("web01")
        }
    }

    #[test]
    fn hot_add_reaches_to_the_hosts_end_and_not_beyond() {
        let plan = |dynamic, host| MachinePlan::new(&definition(dynamic), ChosenAccelerator::Tcg, host).plug_max;
        assert_eq!(plan(true, Bytes::from_mib(4097)), Bytes::from_mib(4096 - 512), "whole blocks");
        assert_eq!(plan(true, Bytes::from_mib(256)), Bytes::ZERO, "a host that is smaller than the VM");
        assert_eq!(plan(false, Bytes::from_mib(1024)), Bytes::from_mib(512));
        assert_eq!(plan(false, HOST), Bytes::from_mib(7 * 512), "a static VM has no use for all of a large host");
    }

    #[test]
    fn the_overhead_covers_what_was_measured_and_grows_with_the_machine() {
        let small = definition(true);
        let tcg = overhead_estimate(&small, ChosenAccelerator::Tcg, HOST);
        assert!(tcg >= Bytes::from_mib(87) && tcg <= Bytes::from_mib(128), "{tcg}");
        assert!(overhead_estimate(&small, ChosenAccelerator::Kvm, HOST) < tcg);
        for grow in [
            (|larger| larger.vcpus = 8) as fn(&mut VmDefinition),
            |larger| larger.vnc = Some("127.0.0.1:1".to_owned()),
            |larger| larger.memory.maximum = Bytes::from_mib(64 << 10),
        ] {
            let mut larger = small.clone();
            grow(&mut larger);
            assert!(overhead_estimate(&larger, ChosenAccelerator::Tcg, HOST) > tcg);
        }
        let mut boundless = small;
        boundless.memory.maximum = Bytes::from_mib(1 << 20);
        let on_a_small_host = overhead_estimate(&boundless, ChosenAccelerator::Tcg, Bytes::from_mib(1024));
        assert_eq!(on_a_small_host, tcg, "the default maximum costs nothing that the host does not have");
    }
}
