//! Readers for the kernel's memory files. Each takes the text and gives the
//! numbers; [`ProcFile`] gets the text without allocating on each read.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use dynmem_units::Bytes;

/// The longest file that is read: `zoneinfo` of a machine with many nodes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// A file under `/proc`, kept open and read again and again.
#[derive(Debug)]
pub struct ProcFile {
    file: File,
    path: PathBuf,
}

impl ProcFile {
    /// Opens `root/path`; `root` is `/` except in tests.
    pub fn open(root: &Path, path: &str) -> anyhow::Result<Self> {
        let path = root.join(path);
        let file = File::open(&path).with_context(|| format!("Cannot open {}", path.display()))?;
        Ok(Self { file, path })
    }

    /// The file's text as of now, in `buffer`, whose memory is used again.
    pub fn read<'buffer>(&self, buffer: &'buffer mut Vec<u8>) -> anyhow::Result<&'buffer str> {
        self.fill(buffer).with_context(|| format!("Cannot read {}", self.path.display()))?;
        std::str::from_utf8(buffer).with_context(|| format!("{} is not a text", self.path.display()))
    }

    fn fill(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut length = 0;
        loop {
            if length == buffer.len() {
                buffer.resize(length + 4096, 0);
            }
            match self.file.read_at(&mut buffer[length..], length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if length > MAX_FILE_BYTES {
                return Err(io::Error::other("the file is longer than 1MiB"));
            }
        }
        buffer.truncate(length);
        Ok(())
    }
}

/// Reads a small file once; `None` if it isn't there or can't be read.
pub fn read_once(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES as u64).read_to_string(&mut text).ok()?;
    Some(text)
}

/// What the agent wants of `/proc/meminfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    /// Memory that the kernel manages.
    pub total: Bytes,
    /// Memory that nothing uses.
    pub free: Bytes,
    /// Memory that programs can get without swapping.
    pub available: Bytes,
    /// File pages in active use.
    pub active_file: Bytes,
    /// Memory promised to programs.
    pub committed: Bytes,
    /// Size of the swap.
    pub swap_total: Bytes,
    /// Part of it that is free.
    pub swap_free: Bytes,
    /// What balloons hold; only kernels since 6.16 say so.
    pub balloon: Option<Bytes>,
}

impl Meminfo {
    /// Parses the file; the first two sizes must be there.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut info = Self::default();
        let (mut has_total, mut has_available) = (false, false);
        for line in text.lines() {
            let Some((key, rest)) = line.split_once(':') else { continue };
            let Some(size) = rest.split_ascii_whitespace().next().and_then(kib) else { continue };
            match key {
                "MemTotal" => (info.total, has_total) = (size, true),
                "MemFree" => info.free = size,
                "MemAvailable" => (info.available, has_available) = (size, true),
                "Active(file)" => info.active_file = size,
                "Committed_AS" => info.committed = size,
                "SwapTotal" => info.swap_total = size,
                "SwapFree" => info.swap_free = size,
                "Balloon" => info.balloon = Some(size),
                _ => {}
            }
        }
        if !has_total || !has_available {
            bail!("/proc/meminfo has no MemTotal or MemAvailable: the agent needs Linux 3.14 or newer");
        }
        Ok(info)
    }
}

fn kib(digits: &str) -> Option<Bytes> {
    digits.parse::<u64>().ok()?.checked_mul(1024).map(Bytes::new)
}

/// What the agent wants of `/proc/vmstat`, in pages since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vmstat {
    /// Pages that came back from swap.
    pub swap_in: u64,
    /// File pages read again soon after they were dropped.
    pub refault_file: u64,
    /// Pages that balloons hold now; `None` without a balloon in the kernel.
    pub balloon: Option<u64>,
}

impl Vmstat {
    /// Parses the file; what it lacks counts as zero.
    pub fn parse(text: &str) -> Self {
        let mut stat = Self::default();
        let (mut refault_any, mut inflated, mut deflated, mut held) = (0, None, 0, None);
        let mut refault_file = None;
        for line in text.lines() {
            let Some((key, value)) = line.split_once(' ') else { continue };
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            match key {
                "pswpin" => stat.swap_in = value,
                "workingset_refault_file" => refault_file = Some(value),
                "workingset_refault" => refault_any = value,
                "balloon_inflate" => inflated = Some(value),
                "balloon_deflate" => deflated = value,
                "nr_balloon_pages" => held = Some(value),
                _ => {}
            }
        }
        stat.refault_file = refault_file.unwrap_or(refault_any);
        stat.balloon = held.or(inflated.map(|inflated| inflated.saturating_sub(deflated)));
        stat
    }
}

/// Pages that the machine has and pages that the kernel manages, from
/// `/proc/zoneinfo`, all zones together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    /// Pages that exist.
    pub present: u64,
    /// Those among them that the kernel may give to somebody.
    pub managed: u64,
}

impl Zones {
    /// Parses the file.
    pub fn parse(text: &str) -> Self {
        let mut zones = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(key), Some(Ok(pages))) = (words.next(), words.next().map(str::parse::<u64>)) else { continue };
            match key {
                "present" => zones.present = zones.present.saturating_add(pages),
                "managed" => zones.managed = zones.managed.saturating_add(pages),
                _ => {}
            }
        }
        zones
    }
}

/// Microseconds since boot in which some task waited for memory, from
/// `/proc/pressure/memory`.
pub fn stalled_microseconds(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_gives_bytes_and_knows_what_older_kernels_lack() {
        let text = "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:  500 kB\nActive(file): 7 kB\n\
                    HugePages_Total:  0\nCommitted_AS: 2000 kB\nSwapTotal: 9 kB\nSwapFree: 4 kB\n";
        let info = Meminfo::parse(text).expect("complete");
        assert_eq!(info.total, Bytes::new(1000 << 10));
        assert_eq!(info.available, Bytes::new(500 << 10));
        assert_eq!(info.active_file, Bytes::new(7 << 10));
        assert_eq!(info.committed, Bytes::new(2000 << 10));
        assert_eq!((info.swap_total.get(), info.swap_free.get()), (9 << 10, 4 << 10));
        assert_eq!(info.balloon, None);
        assert_eq!(Meminfo::parse(&format!("{text}Balloon: 3 kB")).expect("complete").balloon, Some(Bytes::new(3072)));
    }

    #[test]
    fn meminfo_without_its_main_fields_is_an_error_that_says_what_to_do() {
        let error = Meminfo::parse("MemTotal: 5 kB\nMemFree: x kB\n:\n").expect_err("no MemAvailable");
        assert!(error.to_string().contains("Linux 3.14"), "{error}");
    }

    #[test]
    fn vmstat_reads_both_old_and_new_names() {
        let new =
            "workingset_refault_anon 5\nworkingset_refault_file 6\npswpin 7\nballoon_inflate 9\nballoon_deflate 4";
        assert_eq!(Vmstat::parse(new), Vmstat { swap_in: 7, refault_file: 6, balloon: Some(5) });
        assert_eq!(Vmstat::parse("workingset_refault 8\n").refault_file, 8);
        assert_eq!(Vmstat::parse("nr_balloon_pages 2\nballoon_inflate 9").balloon, Some(2));
        assert_eq!(Vmstat::parse("junk\n\npswpin -1\n"), Vmstat::default());
    }

    #[test]
    fn zones_add_up() {
        let text = "Node 0, zone DMA\n  pages free 3977\n        spanned  4095\n        present  3998\n        managed  3840\n\
                    Node 0, zone Movable\n        present  100\n        managed  50\n  pagesets\n";
        assert_eq!(Zones::parse(text), Zones { present: 4098, managed: 3890 });
    }

    #[test]
    fn pressure_is_the_some_line() {
        let text = "some avg10=0.10 avg60=0.00 avg300=0.00 total=4711\nfull avg10=0.00 avg60=0 avg300=0 total=11\n";
        assert_eq!(stalled_microseconds(text), Some(4711));
        assert_eq!(stalled_microseconds("full total=1"), None);
    }
}
