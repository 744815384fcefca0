//! What an emulator holds for itself, apart from its guest's memory.
//!
//! QEMU's own memory and the guest's lie side by side in one process, both
//! anonymous, so that no sum that the kernel keeps tells them apart. But the
//! guest's memory is mapped in areas of exactly the sizes that it was given.
//! So: `/proc/PID/maps` (names the areas, touches no page table) → all areas
//! but the guest's → `/proc/PID/pagemap` of those alone → pages that are
//! there. The guest's memory, which may be a thousand times as large, is never
//! walked.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use dynmem_units::Bytes;

use crate::{HostReader, ReadError};

/// Address space that is looked at, guest memory excluded. QEMU 7.2 has 160
/// MiB of it, and 8 MiB more for each thread; eight bytes are read per page.
const LOOKED_AT_MAX: u64 = 4 << 30;
/// An entry of `pagemap`: the page is in memory …
const PRESENT: u64 = 1 << 63;
/// … and belongs to a file or is shared: the kernel can drop or count it
/// elsewhere.
const FILE_OR_SHARED: u64 = 1 << 61;
const ENTRY_BYTES: usize = 8;
/// Entries that are read at once.
const CHUNK: usize = 8 << 10;

impl HostReader {
    /// Private memory that process `pid` holds besides its guest's, which is
    /// mapped in areas of these sizes. `None` if the areas can't be told apart
    /// (one of them is missing, or there is too much to look at).
    ///
    /// Errors: the process is gone, or not ours to look into.
    pub fn own_memory(&self, pid: u32, guest: &[Bytes]) -> Result<Option<Bytes>, ReadError> {
        let areas = self.parse(format!("/proc/{pid}/maps"), |text| Ok(parse_areas(text)))?;
        let Some(own) = besides(&areas, guest) else { return Ok(None) };
        let path = self.path(format!("/proc/{pid}/pagemap"));
        let present = present_pages(&path, &own).map_err(|source| ReadError::Io { path, source })?;
        Ok(Some(Bytes::new(page_bytes().saturating_mul(present))))
    }
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// A private area that can be accessed, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    /// Its pages may be the process's own.
    private: bool,
}

impl Area {
    fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Lines as `7fed27c00000-7fee07c00000 rw-p 00000000 00:00 0`. A line that was
/// cut off is none.
fn parse_areas(text: &str) -> Vec<Area> {
    let parse_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next().filter(|rights| rights.len() == 4)?;
        let private = rights.ends_with('p') && !rights.starts_with("--");
        Some(Area { start: u64::from_str_radix(start, 16).ok()?, end: u64::from_str_radix(end, 16).ok()?, private })
    };
    text.lines().filter_map(parse_line).collect()
}

/// The private areas without the guest's.
fn besides(areas: &[Area], guest: &[Bytes]) -> Option<Vec<Area>> {
    let mut missing: Vec<u64> = guest.iter().map(|size| size.get()).collect();
    let mut own = Vec::new();
    let mut total = 0_u64;
    for area in areas {
        if let Some(found) = missing.iter().position(|size| *size == area.len()) {
            missing.swap_remove(found);
        } else if area.private {
            own.push(*area);
            total = total.saturating_add(area.len());
        }
    }
    (missing.is_empty() && total <= LOOKED_AT_MAX).then_some(own)
}

fn present_pages(pagemap: &Path, areas: &[Area]) -> io::Result<u64> {
    let file = File::open(pagemap)?;
    let mut buffer = vec![0; CHUNK * ENTRY_BYTES];
    let mut present = 0;
    for area in areas {
        let (mut page, last) = (area.start / page_bytes(), area.end / page_bytes());
        while page < last {
            let entries = usize::try_from(last - page).unwrap_or(CHUNK).min(CHUNK);
            let read = file.read_at(&mut buffer[..entries * ENTRY_BYTES], page.saturating_mul(ENTRY_BYTES as u64))?;
            if read < ENTRY_BYTES {
                break; // beyond what a process can map, such as the vsyscall page
            }
            present +=
                buffer[..read].as_chunks().0.iter().filter(|entry| is_own(u64::from_ne_bytes(**entry))).count() as u64;
            page += (read / ENTRY_BYTES) as u64;
        }
    }
    Ok(present)
}

fn is_own(entry: u64) -> bool {
    entry & PRESENT != 0 && entry & FILE_OR_SHARED == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d4edad2000-55d4ede7b000 rw-p 00de3000 fe:00 10199049                   /usr/bin/qemu-system-x86_64
7fed27c00000-7fed37c00000 rw-p 00000000 00:00 0
7fed37c00000-7fed37c01000 ---p 00000000 00:00 0
7fee07e00000-7fee27e00000 rw-p 00000000 00:00 0
7fee30000000-7fee30010000 rw-s 00000000 00:01 1                          /memfd:shared (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
7fee4000";

    #[test]
    fn the_guests_areas_are_left_out_and_so_is_what_nobody_owns() {
        let areas = parse_areas(MAPS);
        assert_eq!(areas.len(), 6, "{areas:?}");
        let own = besides(&areas, &[Bytes::from_mib(512), Bytes::from_mib(256)]).expect("both are there");
        assert_eq!(own, [areas[0]]);
    }

    #[test]
    fn a_guest_that_is_mapped_otherwise_is_not_measured() {
        let areas = parse_areas(MAPS);
        assert_eq!(besides(&areas, &[Bytes::from_mib(512), Bytes::from_mib(512)]), None, "only one is so large");
        let vast = Area { start: 0, end: LOOKED_AT_MAX + 1, private: true };
        assert_eq!(besides(&[vast], &[]), None);
    }

    #[test]
    fn what_this_process_fills_is_its_own_unless_it_is_its_guests() {
        let host = HostReader::default();
        let measure = |guest: &[Bytes]| host.own_memory(std::process::id(), guest).expect("ours to look into");
        let before = measure(&[]).expect("nothing to tell apart");
        let filled = vec![7_u8; 37 << 20]; // so large an allocation is mapped by itself
        std::hint::black_box(&filled);
        let after = measure(&[]).expect("nothing to tell apart");
        let grown = after.saturating_sub(before);
        assert!((Bytes::from_mib(36)..Bytes::from_mib(40)).contains(&grown), "{before} {after}");
        let areas = parse_areas(&std::fs::read_to_string("/proc/self/maps").expect("readable"));
        let address = filled.as_ptr() as u64;
        let area = areas.iter().find(|area| (area.start..area.end).contains(&address)).expect("it is mapped");
        let without = measure(&[Bytes::new(area.len())]).expect("the area is there");
        assert!(after.saturating_sub(without) >= Bytes::from_mib(36), "{after} {without}");
    }
}
