//! The two system calls, which no safe wrapper offers.

use std::{
    ffi::{CString, c_int},
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Our areas come before the host's own: what we let a machine swap has to be
/// in its file, which can be emptied and deleted, and not where it stays for
/// as long as the host runs.
pub(super) const PRIORITY: i32 = 0x7fff;
const SWAP_FLAG_PREFER: c_int = 0x8000;

/// Lets the kernel swap to an open file.
#[expect(unsafe_code, reason = "neither the standard library nor rustix has this call")]
pub(super) fn swap_on(file: BorrowedFd<'_>) -> io::Result<()> {
    let path = path_of(file)?;
    // SAFETY: the path ends with a zero and lives until the call returns.
    done(unsafe { libc::swapon(path.as_ptr(), SWAP_FLAG_PREFER | PRIORITY) })
}

/// Brings every page back and lets go of the file. Takes as long as reading
/// them does.
#[expect(unsafe_code, reason = "neither the standard library nor rustix has this call")]
pub(super) fn swap_off(file: BorrowedFd<'_>) -> io::Result<()> {
    let path = path_of(file)?;
    // SAFETY: the path ends with a zero and lives until the call returns.
    done(unsafe { libc::swapoff(path.as_ptr()) })
}

/// A path that means this very file, wherever it is by now.
fn path_of(file: BorrowedFd<'_>) -> io::Result<CString> {
    Ok(CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?)
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
