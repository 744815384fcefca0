//! *Static*: what a person without dynamic memory does.
//!
//! Each VM gets its maximum if all maximums fit the host together; otherwise the
//! host is divided in proportion to them, which is what an administrator does
//! who wants to run them all. The size is chosen when a VM is first seen running
//! and never moves. Its best configuration: all VMs are known before that.

use std::collections::BTreeMap;

use dynmem_core::{Instant, MemorySettings, VmId};
use dynmem_units::Bytes;

use super::{Balancer, HostView, VmView};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    lendable: Bytes,
    maximums: Bytes,
    sizes: BTreeMap<VmId, Bytes>,
}

impl Fixed {
    fn size(&self, maximum: Bytes) -> Bytes {
        if self.maximums <= self.lendable {
            return maximum;
        }
        maximum.scale(self.lendable.get(), self.maximums.get()).align_down(Bytes::BLOCK).min(maximum)
    }
}

impl Balancer for Fixed {
    fn period_ms(&self, _waiting: bool) -> u64 {
        1_000
    }

    fn defined(&mut self, lendable: Bytes, maximums: Bytes) {
        (self.lendable, self.maximums) = (lendable, maximums);
    }

    fn at_start(&self, settings: &MemorySettings) -> Bytes {
        let whole = settings.most();
        if settings.dynamic { self.size(whole) } else { whole }
    }

    fn balance(&mut self, _now: Instant, _host: &HostView, vms: &mut [VmView]) {
        self.sizes.retain(|id, _| vms.iter().any(|vm| vm.id == *id));
        for vm in vms {
            let size = self.size(vm.maximum);
            vm.target = *self.sizes.entry(vm.id).or_insert(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::sample::{host, mib, settings, targets, vm};

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
    fn a_size_never_moves() {
        let mut fixed = fixed(8_000, 16_000);
        let mut vms = [vm(0, 256, 4_000, 512, 100)];
        assert_eq!(targets(&mut fixed, 0, &host(9_000, 0), &mut vms), [2_000]);
        fixed.defined(mib(8_000), mib(32_000));
        assert_eq!(targets(&mut fixed, 1_000, &host(9_000, 0), &mut vms), [2_000]);
    }

    #[test]
    fn a_vm_without_dynamic_memory_has_what_it_was_given() {
        let small = MemorySettings { dynamic: false, ..settings(512, 512, 8_000) };
        assert_eq!(fixed(1_000, 8_000).at_start(&small), mib(512));
    }
}
