//! *Static*: what a person without dynamic memory does.
//!
//! Each VM gets its maximum if all maximums fit the host together; otherwise the
//! host is divided in proportion to them, which is what an administrator does
//! who wants to run them all. The size is chosen when a VM starts and never
//! moves. Its best configuration: all VMs are known before the first starts.

use dynmem_core::{HostConfig, Instant, MemorySettings};
use dynmem_units::Bytes;

use super::{Balancer, HostView, VmView, ceiling};
use crate::policy::MachineShape;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    lendable: Bytes,
    maximums: Bytes,
}

impl Fixed {
    fn size(&self, settings: &MemorySettings) -> Bytes {
        let maximum = ceiling(settings);
        if self.maximums <= self.lendable {
            return maximum;
        }
        let share = maximum.scale(self.lendable.get(), self.maximums.get());
        share.align_down(Bytes::BLOCK).clamp(Bytes::BLOCK, maximum.max(Bytes::BLOCK))
    }
}

impl Balancer for Fixed {
    fn period_ms(&self, _waiting: bool) -> u64 {
        1_000
    }

    fn defined(&mut self, lendable: Bytes, maximums: Bytes) {
        (self.lendable, self.maximums) = (lendable, maximums);
    }

    fn machine(&self, _config: &HostConfig, settings: &MemorySettings) -> MachineShape {
        MachineShape { boot: self.size(settings), plug_max: Bytes::ZERO }
    }

    fn at_start(&self, settings: &MemorySettings) -> Bytes {
        self.size(settings)
    }

    /// A machine found half-way, by a restarted manager, gets the size that it
    /// was started for.
    fn balance(&mut self, _now: Instant, _host: &HostView, vms: &mut [VmView]) {
        for vm in vms {
            vm.target = vm.boot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{mib, settings};

    fn fixed(lendable: u64, maximums: u64) -> Fixed {
        let mut fixed = Fixed::default();
        fixed.defined(mib(lendable), mib(maximums));
        fixed
    }

    #[test]
    fn everybody_gets_the_maximum_if_that_fits() {
        assert_eq!(fixed(8_000, 8_000).at_start(&settings(256, 512, 6_000)), mib(6_000));
    }

    /// 8000 MiB for maximums of 6000 + 4000 + 2000 = 12000: two thirds each.
    #[test]
    fn otherwise_the_host_is_divided_in_proportion() {
        let fixed = fixed(8_000, 12_000);
        let sizes = [6_000, 4_000, 2_000].map(|maximum| fixed.at_start(&settings(256, 512, maximum)).mib());
        assert_eq!(sizes, [4_000, 2_666, 1_332]); // in whole blocks of 2 MiB
    }

    #[test]
    fn a_machine_is_built_as_large_as_it_will_ever_be() {
        let fixed = fixed(8_000, 16_000);
        let config = HostConfig { memory: mib(9_000), reserve: mib(1_000) };
        let settings = settings(256, 512, 4_000);
        let shape = MachineShape { boot: mib(2_000), plug_max: Bytes::ZERO };
        assert_eq!(fixed.machine(&config, &settings), shape);
        assert_eq!(fixed.at_start(&settings), mib(2_000));
    }
}
