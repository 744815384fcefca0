//! The first page of a swap file, version 1, as the kernel's
//! `union swap_header` has it.

use dynmem_units::Bytes;

const MAGIC: &[u8; 10] = b"SWAPSPACE2";
/// Behind 1 KiB for a boot sector.
const INFO_AT: usize = 1024;
/// Behind version, last page, number of bad pages and UUID.
const LABEL_AT: usize = INFO_AT + 3 * 4 + 16;
/// At most 16 bytes; shown by `file` and `blkid`.
const LABEL: &[u8] = b"dynmem-paging";

/// The header of a file of `length`, in whole pages of `page_bytes`, itself
/// included. `None` if the kernel has no number for so many pages.
pub(super) fn header(length: Bytes, page_bytes: usize) -> Option<Vec<u8>> {
    let last_page = u32::try_from(length.get() / page_bytes as u64 - 1).ok()?;
    let mut page = vec![0; page_bytes];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(INFO_AT, &1_u32.to_ne_bytes());
    put(INFO_AT + 4, &last_page.to_ne_bytes());
    put(LABEL_AT, LABEL);
    put(page_bytes - MAGIC.len(), MAGIC);
    Some(page)
}
