//! [`Meter`]: one [`Report`] out of the kernel's files.
//!
//! It remembers what single readings can't tell: rates (two readings apart in
//! time) and the reserve (a machine at rest).

use std::path::{Path, PathBuf};

use anyhow::Context;
use dynmem_agent_protocol::{MAX_SIZE, Reason, Report};
use dynmem_units::Bytes;

use crate::proc::{Meminfo, ProcFile, Vmstat, Zones, read_once, stalled_microseconds};

/// Rates look back at least this far, and less than three times as far unless
/// readings are rarer: short enough to see pressure begin.
const RATE_WINDOW_MS: u64 = 250;

/// The reserve is taken only if the managed memory has not changed for so
/// long: while memory comes or goes, the kernel's own books don't match.
const AT_REST_MS: u64 = 500;

/// The bit of `VIRTIO_BALLOON_F_DEFLATE_ON_OOM` in a device's `features`.
const DEFLATE_ON_OOM: usize = 2;

/// Measures the guest.
#[derive(Debug)]
pub struct Meter {
    root: PathBuf,
    meminfo: ProcFile,
    vmstat: ProcFile,
    pressure: Option<ProcFile>,
    page_bytes: u64,
    swap_in: Rate,
    refault: Rate,
    stall: Rate,
    reserve: Reserve,
    deflates_on_oom: Option<bool>,
    buffer: Vec<u8>,
}

impl Meter {
    /// Opens the files under `root`, which is `/` except in tests. A kernel
    /// without PSI is fine: there is just no stall to report.
    pub fn open(root: &Path, page_bytes: u64) -> anyhow::Result<Self> {
        let pressure = ProcFile::open(root, "proc/pressure/memory")
            .ok()
            .filter(|file| file.read(&mut Vec::new()).is_ok_and(|text| stalled_microseconds(text).is_some()));
        Ok(Self {
            root: root.to_owned(),
            meminfo: ProcFile::open(root, "proc/meminfo")?,
            vmstat: ProcFile::open(root, "proc/vmstat")?,
            pressure,
            page_bytes,
            swap_in: Rate::default(),
            refault: Rate::default(),
            stall: Rate::default(),
            reserve: Reserve::default(),
            deflates_on_oom: None,
            buffer: Vec::with_capacity(16 << 10),
        })
    }

    /// Whether stalls are measured.
    pub fn has_psi(&self) -> bool {
        self.pressure.is_some()
    }

    /// Reads everything. `uptime_ms` is now; sequence and reason are the
    /// caller's.
    pub fn measure(&mut self, uptime_ms: u64) -> anyhow::Result<Report> {
        let info = Meminfo::parse(self.meminfo.read(&mut self.buffer)?)?;
        let vmstat = Vmstat::parse(self.vmstat.read(&mut self.buffer)?);
        let stalled = self.stalled()?;

        let balloon = info.balloon.or(vmstat.balloon.map(|pages| self.size_of(pages)));
        let held = balloon.unwrap_or_default();
        let counted = !held.is_zero() && self.total_counts_the_balloon();
        let visible = if counted { info.total.saturating_sub(held) } else { info.total };
        if self.reserve.wants_a_look(info.total, uptime_ms) {
            self.look_at_zones(if counted { Bytes::ZERO } else { held });
        }

        let swap_in = self.swap_in.per_second(uptime_ms, vmstat.swap_in);
        let refault = self.refault.per_second(uptime_ms, vmstat.refault_file);
        // Microseconds a second are millionths; hundredths of a per cent are
        // ten-thousandths.
        let stall = self.stall.per_second(uptime_ms, stalled.unwrap_or_default()) / 100;
        Ok(Report {
            seq: 0,
            uptime_ms,
            visible_bytes: visible,
            available_bytes: info.available.min(visible),
            free_bytes: info.free.min(visible),
            committed_bytes: Some(info.committed.min(MAX_SIZE)),
            hot_file_bytes: info.active_file.min(visible),
            reserved_bytes: self.reserve.smallest,
            ballooned_bytes: balloon,
            swap_total_bytes: info.swap_total,
            swap_used_bytes: info.swap_total.saturating_sub(info.swap_free),
            swap_in_bytes_per_s: self.size_of(swap_in),
            refault_bytes_per_s: self.size_of(refault),
            stall_hundredths: u32::try_from(stall).unwrap_or(u32::MAX).min(10_000),
            psi_available: stalled.is_some(),
            reason: Reason::Periodic,
        })
    }

    fn stalled(&mut self) -> anyhow::Result<Option<u64>> {
        let Some(file) = &self.pressure else { return Ok(None) };
        let text = file.read(&mut self.buffer)?;
        stalled_microseconds(text).context("/proc/pressure/memory has no line `some … total=`").map(Some)
    }

    fn size_of(&self, pages: u64) -> Bytes {
        Bytes::new(pages.saturating_mul(self.page_bytes)).min(MAX_SIZE)
    }

    /// A balloon that deflates on OOM leaves its pages in `MemTotal`; others
    /// take them out. Asked only of a balloon that holds something: then its
    /// driver is there to ask.
    fn total_counts_the_balloon(&mut self) -> bool {
        *self.deflates_on_oom.get_or_insert_with(|| {
            let drivers = self.root.join("sys/bus/virtio/drivers/virtio_balloon");
            let devices = std::fs::read_dir(drivers).into_iter().flatten().flatten();
            devices
                .filter_map(|device| read_once(&device.path().join("features")))
                .any(|features| features.as_bytes().get(DEFLATE_ON_OOM) == Some(&b'1'))
        })
    }

    fn look_at_zones(&mut self, uncounted_balloon: Bytes) {
        let Some(text) = read_once(&self.root.join("proc/zoneinfo")) else { return };
        let zones = Zones::parse(&text);
        let unmanaged = self.size_of(zones.present.saturating_sub(zones.managed));
        self.reserve.saw(unmanaged.saturating_sub(uncounted_balloon));
    }
}

/// The pace of a counter, over the last [`RATE_WINDOW_MS`] or a bit more.
#[derive(Debug, Default)]
struct Rate {
    older: Option<(u64, u64)>,
    newer: Option<(u64, u64)>,
}

impl Rate {
    /// Takes a reading; gives the counter's growth a second. Zero at the first
    /// reading, and if the counter ran backwards.
    fn per_second(&mut self, now_ms: u64, counter: u64) -> u64 {
        let age = self.newer.map_or(u64::MAX, |(at, _)| now_ms.saturating_sub(at));
        if age >= RATE_WINDOW_MS {
            self.older = self.newer.or(Some((now_ms, counter)));
            self.newer = Some((now_ms, counter));
        }
        let (since, count) = self.older.unwrap_or((now_ms, counter));
        let elapsed = now_ms.saturating_sub(since);
        counter.saturating_sub(count).saturating_mul(1000).checked_div(elapsed).unwrap_or_default()
    }
}

/// Memory that the machine has and the kernel doesn't manage: its image, its
/// page structs.
///
/// The smallest value seen counts. The true one doesn't grow after the boot,
/// but a memory block that virtio-mem has filled only partly looks reserved
/// until the rest is plugged.
#[derive(Debug, Default)]
struct Reserve {
    smallest: Option<Bytes>,
    total: Bytes,
    since_ms: u64,
    looked: bool,
}

impl Reserve {
    /// Whether to look now: once for each size that the memory rests at.
    fn wants_a_look(&mut self, total: Bytes, now_ms: u64) -> bool {
        if total != self.total {
            *self = Self { smallest: self.smallest, total, since_ms: now_ms, looked: false };
        }
        !self.looked && now_ms.saturating_sub(self.since_ms) >= AT_REST_MS
    }

    fn saw(&mut self, unmanaged: Bytes) {
        self.looked = true;
        self.smallest = Some(self.smallest.map_or(unmanaged, |smallest| smallest.min(unmanaged)));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A guest's `/proc`, as files that a test writes.
    struct Guest {
        root: tempfile::TempDir,
    }

    impl Guest {
        fn new() -> Self {
            let guest = Self { root: tempfile::tempdir().expect("a temporary directory") };
            guest.meminfo(262_144, 131_072);
            guest.vmstat("pswpin 100\nworkingset_refault_file 0\nballoon_inflate 0\nballoon_deflate 0");
            guest.write("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000\n");
            guest.write("proc/zoneinfo", "Node 0, zone DMA32\n  present 68000\n  managed 65536\n");
            guest
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().expect("a file in a directory")).expect("a directory");
            fs::write(path, text).expect("a written file");
        }

        fn meminfo(&self, total_kib: u64, available_kib: u64) {
            self.write(
                "proc/meminfo",
                &format!(
                    "MemTotal: {total_kib} kB\nMemFree: 1024 kB\nMemAvailable: {available_kib} kB\n\
                     Active(file): 2048 kB\nCommitted_AS: 999 kB\nSwapTotal: 4096 kB\nSwapFree: 1024 kB\n"
                ),
            );
        }

        fn vmstat(&self, text: &str) {
            self.write("proc/vmstat", text);
        }

        fn meter(&self) -> Meter {
            Meter::open(self.root.path(), 4096).expect("a complete tree")
        }
    }

    #[test]
    fn a_report_carries_what_the_kernel_says() {
        let guest = Guest::new();
        let report = guest.meter().measure(5000).expect("readable");
        assert_eq!((report.visible_bytes.mib(), report.available_bytes.mib()), (256, 128));
        assert_eq!((report.free_bytes.mib(), report.hot_file_bytes.mib()), (1, 2));
        assert_eq!((report.swap_total_bytes.mib(), report.swap_used_bytes.mib()), (4, 3));
        assert_eq!(report.committed_bytes, Some(Bytes::new(999 << 10)));
        assert_eq!((report.uptime_ms, report.psi_available, report.ballooned_bytes), (5000, true, Some(Bytes::ZERO)));
        assert_eq!((report.swap_in_bytes_per_s, report.stall_hundredths), (Bytes::ZERO, 0), "rates need two readings");
    }

    #[test]
    fn rates_are_of_the_last_moments() {
        let guest = Guest::new();
        let mut meter = guest.meter();
        meter.measure(1000).expect("readable");
        guest.vmstat("pswpin 600\nworkingset_refault_file 50\n");
        guest.write("proc/pressure/memory", "some avg10=0 avg60=0 avg300=0 total=126000\n");
        let report = meter.measure(1500).expect("readable");
        assert_eq!(report.swap_in_bytes_per_s, Bytes::new(1000 * 4096));
        assert_eq!(report.refault_bytes_per_s, Bytes::new(100 * 4096));
        assert_eq!(report.stall_hundredths, 2500, "125 ms of 500 ms");
        // Calm again: within two windows nothing is left of it.
        meter.measure(1800).expect("readable");
        let report = meter.measure(2100).expect("readable");
        assert_eq!((report.swap_in_bytes_per_s, report.stall_hundredths), (Bytes::ZERO, 0));
    }

    #[test]
    fn the_reserve_is_taken_at_rest_and_never_grows() {
        let guest = Guest::new();
        let mut meter = guest.meter();
        assert_eq!(meter.measure(0).expect("readable").reserved_bytes, None, "not at rest yet");
        let reserve = Some(Bytes::new((68_000 - 65_536) * 4096));
        assert_eq!(meter.measure(600).expect("readable").reserved_bytes, reserve);
        // virtio-mem fills half of a memory block: the other half isn't reserve.
        guest.write("proc/zoneinfo", "present 100768\n managed 81920\n");
        guest.meminfo(327_680, 200_000);
        meter.measure(700).expect("readable");
        assert_eq!(meter.measure(1300).expect("readable").reserved_bytes, reserve);
    }

    #[test]
    fn ballooned_pages_are_neither_visible_nor_reserve() {
        let guest = Guest::new();
        guest.vmstat("balloon_inflate 600\nballoon_deflate 100\n");
        let mut meter = guest.meter();
        meter.measure(0).expect("readable");
        let report = meter.measure(600).expect("readable");
        assert_eq!(report.ballooned_bytes, Some(Bytes::new(500 * 4096)));
        assert_eq!(report.visible_bytes.mib(), 256);
        assert_eq!(report.reserved_bytes, Some(Bytes::new((68_000 - 65_536 - 500) * 4096)));
    }

    #[test]
    fn a_balloon_that_deflates_on_oom_is_taken_out_of_the_total() {
        let guest = Guest::new();
        guest.vmstat("balloon_inflate 512\nballoon_deflate 0\n");
        guest.write("sys/bus/virtio/drivers/virtio_balloon/virtio2/features", "0010011000000\n");
        let report = guest.meter().measure(0).expect("readable");
        assert_eq!(report.visible_bytes.mib(), 254);
    }

    #[test]
    fn without_psi_there_is_no_stall_and_no_error() {
        let guest = Guest::new();
        fs::remove_file(guest.root.path().join("proc/pressure/memory")).expect("removable");
        let mut meter = guest.meter();
        assert!(!meter.has_psi());
        assert!(!meter.measure(0).expect("readable").psi_available);
    }

    #[test]
    fn a_missing_file_is_named() {
        let empty = tempfile::tempdir().expect("a temporary directory");
        let error = Meter::open(empty.path(), 4096).expect_err("nothing there");
        assert!(error.to_string().contains("proc/meminfo"), "{error}");
    }
}
