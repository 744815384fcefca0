//! Facts: what the outside world measured, in the engine's own words.
//!
//! Readers (the agent's wire, QMP, `/proc`) make these values; the engine only
//! ever sees them. Everything that comes out of a guest is a claim, bounded
//! where it is used.

use dynmem_units::Bytes;
use serde::Serialize;

/// A monotonic instant in milliseconds since an origin that the caller chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Instant(pub u64);

impl Instant {
    /// Milliseconds from `earlier` to `self`; zero if time ran backwards.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant, `millis` later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// Who measured a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportSource {
    /// `dynmem-agent`: complete and immediate.
    Agent,
    /// The balloon driver's statistics: no commit figure, no stall, whole
    /// seconds. Good enough to serve a guest, marked as degraded.
    Balloon,
}

/// What a guest says of itself. All sizes are claims of the guest's kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestReport {
    /// Who measured.
    pub source: ReportSource,
    /// Memory that the guest's memory manager has (`MemTotal`).
    pub visible: Bytes,
    /// Memory that programs can get without swapping (`MemAvailable`).
    pub available: Bytes,
    /// Memory promised to programs (`Committed_AS`), if known.
    pub committed: Option<Bytes>,
    /// File pages in active use, part of `available` (`Active(file)`).
    pub hot_file: Bytes,
    /// Memory that the machine has and `visible` does not count: the kernel's
    /// image, its page structs. `None` if the guest can't tell.
    pub reserved: Option<Bytes>,
    /// Memory that the balloon holds, if the guest can tell.
    pub ballooned: Option<Bytes>,
    /// Size of the guest's swap.
    pub swap_total: Bytes,
    /// Part of it in use.
    pub swap_used: Bytes,
    /// Rate of swapping in, bytes a second.
    pub swap_in_per_second: Bytes,
    /// Rate of file pages read again soon after they were dropped, bytes a
    /// second.
    pub refault_per_second: Bytes,
    /// Share of the last moments in which some task waited for memory, in
    /// hundredths of a per cent (PSI `some`): 0–10000.
    pub stall: u32,
}

impl GuestReport {
    /// One that says this much and no more: nothing is stalled or swapped, and what
    /// it may leave out is left out. `GuestReport { stall, ..GuestReport::new(…) }`
    /// says more.
    pub const fn new(source: ReportSource, visible: Bytes, available: Bytes) -> Self {
        Self {
            source,
            visible,
            available,
            committed: None,
            hot_file: Bytes::ZERO,
            reserved: None,
            ballooned: None,
            swap_total: Bytes::ZERO,
            swap_used: Bytes::ZERO,
            swap_in_per_second: Bytes::ZERO,
            refault_per_second: Bytes::ZERO,
            stall: 0,
        }
    }
}

/// What QEMU says of a machine's memory devices. This, not the guest, is what
/// the ledger believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceFacts {
    /// Memory the machine was started with. The balloon reaches this much.
    pub boot: Bytes,
    /// `boot` less what the balloon holds (`query-balloon.actual`).
    pub balloon_actual: Bytes,
    /// Memory that virtio-mem has plugged now (its `size`).
    pub plugged: Bytes,
    /// The most that virtio-mem could plug (its memory device's size).
    pub plug_max: Bytes,
    /// virtio-mem's block size; a power of two, at least 2 MiB.
    pub plug_block: Bytes,
    /// The hypervisor's own memory for this machine, charged on top.
    pub overhead: Bytes,
}

impl DeviceFacts {
    /// The memory lent to the VM now. QEMU's balloon figure does not count
    /// virtio-mem, so the two add up.
    pub fn assigned(&self) -> Bytes {
        self.balloon_actual.saturating_add(self.plugged)
    }

    /// The same machine, if it can't be asked and was never to have more than
    /// `most`: it may hold all of its boot memory, and all that was plugged beside.
    #[must_use]
    pub fn at_worst(self, most: Bytes) -> Self {
        let plugged = most.saturating_sub(self.boot).min(self.plug_max).align_down(self.plug_block);
        Self { balloon_actual: self.boot, plugged, ..self }
    }

    /// The most memory this machine can ever hold.
    pub fn reach(&self) -> Bytes {
        self.boot.saturating_add(self.plug_max)
    }
}

/// What the host says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// Memory that programs can get without swapping (`MemAvailable`).
    pub available: Bytes,
    /// PSI memory `some` over the last 10 s, hundredths of a per cent.
    pub stall: u32,
    /// What all machines' processes really hold, read at the same instant,
    /// where that can be told. Memory that was lent and not yet touched is
    /// still part of `available`.
    pub machines: Option<Bytes>,
}
