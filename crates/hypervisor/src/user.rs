//! [`Identity`]: a user of its own for QEMU.
//!
//! QEMU is not told to change its user (`-runas`): it would open everything as
//! root before. It is that user from its first instruction on, and gets what
//! only the daemon may open (sockets, interfaces, its log) as open files.

use std::{io, os::unix::process::CommandExt, process::Command};

use dynmem_linux::Account;
use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

/// A user, ready to be taken on where no memory can be allocated.
#[derive(Debug)]
pub(crate) struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    pub(crate) fn of(account: &Account) -> Self {
        Self {
            uid: Uid::from_raw(account.uid),
            gid: Gid::from_raw(account.gid),
            groups: account.groups.iter().copied().map(Gid::from_raw).collect(),
        }
    }

    /// Makes the calling thread this user's, for good; with root's user go all
    /// of its capabilities. Only system calls: fit for a child before its
    /// exec.
    pub(crate) fn take_on(&self) -> io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_gid(self.gid)?;
        Ok(set_thread_uid(self.uid)?)
    }

    /// Lets a command run as this user.
    #[expect(unsafe_code, reason = "the standard library drops the groups that a user is in")]
    pub(crate) fn run(self, command: &mut Command) {
        // SAFETY: system calls alone; nothing is allocated and no lock taken.
        unsafe {
            command.pre_exec(move || self.take_on());
        }
    }
}
