//! What a guest is made of, and what can be wrong with it.

use dynmem_units::Bytes;

/// How fast memory moves between host and guest. The defaults were measured
/// with stock QEMU 7.2 and 10.0 in software emulation with one vCPU; with
/// hardware virtualisation all of them are quicker.
#[derive(Clone, Copy, Debug)]
pub struct Mechanism {
    /// The balloon takes this much a second from free memory.
    pub inflate_per_second: Bytes,
    /// The balloon gives this much a second.
    pub deflate_per_second: Bytes,
    /// virtio-mem plugs this much a second.
    pub plug_per_second: Bytes,
    /// virtio-mem unplugs this much a second.
    pub unplug_per_second: Bytes,
    /// Milliseconds from an order to the first movement of a device at rest.
    pub order_delay_ms: u64,
}

impl Mechanism {
    /// Devices that move any amount within a step: for the clairvoyant bound.
    pub const INSTANT: Self = Self {
        inflate_per_second: Bytes::from_mib(1 << 30),
        deflate_per_second: Bytes::from_mib(1 << 30),
        plug_per_second: Bytes::from_mib(1 << 30),
        unplug_per_second: Bytes::from_mib(1 << 30),
        order_delay_ms: 0,
    };
}

impl Default for Mechanism {
    /// Inflate 0.3 GiB/s, deflate 1.5–2 GiB/s, plug 1 GiB in 0.09 s, unplug
    /// 3–3.5 GiB in 8–10 s, first movement after 3–15 ms.
    fn default() -> Self {
        Self {
            inflate_per_second: Bytes::from_mib(307),
            deflate_per_second: Bytes::from_mib(1536),
            plug_per_second: Bytes::from_mib(12 << 10),
            unplug_per_second: Bytes::from_mib(410),
            order_delay_ms: 10,
        }
    }
}

/// A guest as it is installed.
#[derive(Clone, Copy, Debug)]
pub struct GuestConfig {
    /// Memory that the kernel keeps out of `MemTotal` or needs itself.
    pub kernel_bytes: Bytes,
    /// Size of its swap; may be zero.
    pub swap_bytes: Bytes,
    /// Speed of its swap, each way.
    pub swap_per_second: Bytes,
    /// How fast its programs can allocate and touch memory; above zero.
    pub touch_per_second: Bytes,
    /// How fast its memory devices are.
    pub mechanism: Mechanism,
}

impl Default for GuestConfig {
    /// A small Linux server: 64 MiB for the kernel, a swap file of 1 GiB on an
    /// ordinary SSD at 200 MiB/s, programs that touch 4 GiB a second.
    fn default() -> Self {
        Self {
            kernel_bytes: Bytes::from_mib(64),
            swap_bytes: Bytes::GIB,
            swap_per_second: Bytes::from_mib(200),
            touch_per_second: Bytes::from_mib(4 << 10),
            mechanism: Mechanism::default(),
        }
    }
}

/// What is wrong with a guest's devices; set by faults, nothing by default.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own, in any combination")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    /// The balloon does not move.
    pub balloon_stuck: bool,
    /// The guest takes no hot-added memory.
    pub plug_refused: bool,
    /// The guest gives no hot-added memory back.
    pub unplug_refused: bool,
    /// All devices work a page at a time: 1 MiB/s.
    pub slow: bool,
    /// Share of the hot-added memory that holds unmovable pages and can't be
    /// unplugged: 0–100.
    pub unmovable_percent: u8,
}
