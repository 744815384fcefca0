//! What a machine is charged for, and how a wish becomes device orders.
//!
//! The ledger's rule: **a byte counts for as long as anybody could use it.** A
//! machine is charged, for each of its two devices, the larger of what it holds
//! and what it has been promised: memory given counts from the promise on,
//! memory asked back counts until the device says that it is back.

use dynmem_units::Bytes;

use crate::DeviceFacts;

/// What a machine has been promised: the last orders given to its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    /// Boot memory less the balloon.
    pub(crate) balloon: Bytes,
    /// Memory plugged by virtio-mem.
    pub(crate) plugged: Bytes,
}

impl Promise {
    /// What the devices hold now, as a promise.
    pub(crate) fn held(devices: &DeviceFacts) -> Self {
        Self { balloon: devices.balloon_actual, plugged: devices.plugged }
    }

    /// For each device the larger promise of the two.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { balloon: self.balloon.max(other.balloon), plugged: self.plugged.max(other.plugged) }
    }

    /// For each device the promise, if that is more than the device holds.
    pub(crate) fn beyond(self, devices: &DeviceFacts) -> Self {
        let beyond = |promised, held| if promised > held { promised } else { Bytes::ZERO };
        Self { balloon: beyond(self.balloon, devices.balloon_actual), plugged: beyond(self.plugged, devices.plugged) }
    }

    /// The memory promised in all.
    pub(crate) fn assigned(self) -> Bytes {
        self.balloon.saturating_add(self.plugged)
    }

    /// The charge for a machine with these devices: hypervisor's own overhead
    /// included.
    pub(crate) fn charge(self, devices: &DeviceFacts) -> Bytes {
        let balloon = self.balloon.max(devices.balloon_actual);
        let plugged = self.plugged.max(devices.plugged);
        balloon.saturating_add(plugged).saturating_add(devices.overhead)
    }

    /// Splits `wanted` between the two devices.
    ///
    /// Growing: deflate, then plug. Shrinking: unplug (no work page by page, and
    /// the page structs come back too), then inflate; below boot memory only
    /// the balloon reaches. Both lead to the same split: hot-added memory only
    /// while the balloon is empty. `pinned`: virtio-mem has found no more
    /// blocks to unplug, so the balloon takes what it can't.
    pub(crate) fn plan(devices: &DeviceFacts, wanted: Bytes, pinned: bool) -> Self {
        let above_boot = wanted.saturating_sub(devices.boot).align_down(devices.plug_block);
        let least = if pinned { devices.plugged } else { Bytes::ZERO };
        let plugged = above_boot.max(least).min(devices.plug_max.align_down(devices.plug_block));
        // QEMU ignores a balloon order of zero.
        Self { balloon: wanted.saturating_sub(plugged).clamp(Bytes::BLOCK, devices.boot.max(Bytes::BLOCK)), plugged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    fn devices(balloon_actual: u64, plugged: u64) -> DeviceFacts {
        DeviceFacts {
            boot: mib(512),
            balloon_actual: mib(balloon_actual),
            plugged: mib(plugged),
            plug_max: mib(4096),
            plug_block: mib(2),
            overhead: mib(50),
        }
    }

    fn promise(balloon: u64, plugged: u64) -> Promise {
        Promise { balloon: mib(balloon), plugged: mib(plugged) }
    }

    #[test]
    fn growing_deflates_before_it_plugs() {
        assert_eq!(Promise::plan(&devices(300, 0), mib(400), false), promise(400, 0));
        assert_eq!(Promise::plan(&devices(300, 0), mib(700), false), promise(512, 188));
    }

    #[test]
    fn shrinking_unplugs_before_it_inflates() {
        assert_eq!(Promise::plan(&devices(512, 500), mib(800), false), promise(512, 288));
        assert_eq!(Promise::plan(&devices(512, 500), mib(400), false), promise(400, 0));
    }

    #[test]
    fn the_balloon_takes_what_can_not_be_unplugged() {
        assert_eq!(Promise::plan(&devices(512, 500), mib(800), true), promise(300, 500));
        assert_eq!(Promise::plan(&devices(512, 500), mib(1100), true), promise(512, 588));
    }

    #[test]
    fn no_order_goes_beyond_the_device() {
        assert_eq!(Promise::plan(&devices(512, 0), mib(1 << 20), false), promise(512, 4096));
        let odd = DeviceFacts { plug_block: mib(4), ..devices(512, 0) };
        assert_eq!(Promise::plan(&odd, mib(518), false), promise(512, 4));
    }

    #[test]
    fn memory_counts_from_the_promise_until_the_return() {
        let growing = promise(512, 100);
        assert_eq!(growing.charge(&devices(300, 0)), mib(512 + 100 + 50));
        let shrinking = promise(200, 0);
        assert_eq!(shrinking.charge(&devices(512, 64)), mib(512 + 64 + 50));
        assert_eq!(promise(200, 90).or(promise(100, 100)), promise(200, 100));
        // One device gives while the other takes: both count in full.
        assert_eq!(promise(512, 0).charge(&devices(300, 200)), mib(512 + 200 + 50));
    }
}
