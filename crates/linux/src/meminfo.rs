//! `/proc/meminfo`: how much memory the host has, and how much of it is to be
//! had.

use dynmem_units::Bytes;

use crate::{HostReader, ReadError, reader::kib_line};

/// The host's memory as its kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Memory that the kernel manages (`MemTotal`).
    pub total: Bytes,
    /// Memory that programs can get without swapping (`MemAvailable`). Guests'
    /// memory never counts here, even where it shows up as page cache (memfd,
    /// shmem), and neither do huge pages.
    pub available: Bytes,
    /// Size of all swap.
    pub swap_total: Bytes,
    /// The part of it that is free.
    pub swap_free: Bytes,
    /// Memory set apart in pools of huge pages of every size, used or not.
    pub huge_pages: Bytes,
}

impl HostReader {
    /// Reads `/proc/meminfo`.
    pub fn memory_info(&self) -> Result<MemoryInfo, ReadError> {
        self.parse("/proc/meminfo", parse)
    }
}

fn parse(text: &str) -> Result<MemoryInfo, &'static str> {
    Ok(MemoryInfo {
        total: kib_line(text, "MemTotal").ok_or("MemTotal")?,
        available: kib_line(text, "MemAvailable").ok_or("MemAvailable")?,
        swap_total: kib_line(text, "SwapTotal").unwrap_or_default(),
        swap_free: kib_line(text, "SwapFree").unwrap_or_default(),
        huge_pages: kib_line(text, "Hugetlb").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemTotal:       24684092 kB\nMemFree:        24428716 kB\nMemAvailable:   24382820 kB\n\
                        SwapTotal:       2097148 kB\nSwapFree:        2097144 kB\nHugePages_Total:       2\n\
                        Hugepagesize:       2048 kB\nHugetlb:         1052672 kB\n";

    #[test]
    fn sizes_are_kibibytes() {
        let info = parse(TEXT).expect("well-formed");
        assert_eq!(info.total, Bytes::new(24_684_092 * 1024));
        assert_eq!(info.available, Bytes::new(24_382_820 * 1024));
        assert_eq!(info.swap_total.saturating_sub(info.swap_free), Bytes::new(4 * 1024));
        assert_eq!(info.huge_pages, Bytes::from_mib(1028));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parse(&TEXT.replace("MemAvailable", "MemAvail")), Err("MemAvailable"));
        assert_eq!(parse("MemTotal: -5 kB"), Err("MemTotal"));
        assert_eq!(parse("MemTotal: 5 MB"), Err("MemTotal"));
        assert_eq!(parse(""), Err("MemTotal"));
    }

    #[test]
    fn a_host_without_swap_or_huge_pages_has_none() {
        let info = parse("MemTotal: 2 kB\nMemAvailable: 1 kB\n").expect("enough");
        assert_eq!((info.swap_total, info.huge_pages), (Bytes::ZERO, Bytes::ZERO));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in "((Mem(Total|Available)|Hugetlb): *[0-9]{0,25} ?(kB)?\n|.{0,20}\n){0,6}") {
            let _ = parse(&text);
        }
    }
}
