//! Proves that KVM works, by getting somewhere with it.
//!
//! `/dev/kvm` may open, and even run a few instructions, on hosts where no
//! guest ever gets to its kernel (nested and half-implemented KVMs). So the
//! proof is a machine of the kind that we launch (q35, the host's processor)
//! that boots a disk sector through the firmware and virtio, takes timer
//! interrupts, switches to long mode and uses paging. Then it says so through
//! QEMU's exit code. It takes about a quarter of a second, and a temporary
//! file that is removed.

use std::{
    fs::{OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use dynmem_linux::Account;
use tokio::{process::Command, time};

use crate::{ChosenAccelerator, user::Identity};

/// The boot sector writes this to the debug port …
const SIGN: u8 = 0x2a;
/// … and QEMU exits with 2 × sign + 1.
const PROVEN: i32 = 2 * SIGN as i32 + 1;
/// How long it may take. Where KVM hangs, that is how long a daemon's start
/// is delayed.
const PATIENCE: Duration = Duration::from_secs(5);
/// `SeaBIOS` does not boot from virtio disks smaller than a cylinder.
const DISK_BYTES: u64 = 16 << 20;

/// Code that runs at 0x7c00. In the assembler's words on the right.
#[rustfmt::skip]
const CODE: &[u8] = &[
    // 16 bits: segments and a stack
    0xfa,                               // cli
    0x31, 0xc0,                         // xor ax, ax
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // mov ds, ax; mov es, ax; mov ss, ax
    0xbc, 0x00, 0x7c,                   // mov sp, 0x7c00
    // sleep until the firmware's clock has ticked three times
    0xfb,                               // sti
    0xb9, 0x03, 0x00,                   // mov cx, 3
    0x8a, 0x1e, 0x6c, 0x04,             // next: mov bl, [0x46c]
    0xf4,                               // wait: hlt
    0x3a, 0x1e, 0x6c, 0x04,             // cmp bl, [0x46c]
    0x74, 0xf9,                         // je wait
    0xe2, 0xf3,                         // loop next
    0xfa,                               // cli
    // page tables from 0x1000: the first 2 MiB, mapped at 0 and at 2 MiB
    0xbf, 0x00, 0x10,                   // mov di, 0x1000
    0x31, 0xc0,                         // xor ax, ax
    0xb9, 0x00, 0x18,                   // mov cx, 0x1800
    0xf3, 0xab,                         // rep stosw
    0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, // mov word [0x1000], 0x2003
    0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, // mov word [0x2000], 0x3003
    0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, // mov word [0x3000], 0x0083
    0xc7, 0x06, 0x08, 0x30, 0x83, 0x00, // mov word [0x3008], 0x0083
    // long mode
    0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, // mov eax, 0x1000
    0x0f, 0x22, 0xd8,                   // mov cr3, eax
    0x66, 0xb8, 0x20, 0x00, 0x00, 0x00, // mov eax, PAE
    0x0f, 0x22, 0xe0,                   // mov cr4, eax
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, EFER
    0x0f, 0x32,                         // rdmsr
    0x0d, 0x00, 0x01,                   // or ax, LME
    0x0f, 0x30,                         // wrmsr
    0x0f, 0x01, 0x16, 0xa8, 0x7c,       // lgdt [descriptor]
    0x0f, 0x20, 0xc0,                   // mov eax, cr0
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, // or eax, PG | PE
    0x0f, 0x22, 0xc0,                   // mov cr0, eax
    0xea, 0x75, 0x7c, 0x08, 0x00,       // jmp 8:long
    // 64 bits: what is written through one mapping is read through the other
    0xc7, 0x04, 0x25, 0x00, 0x90, 0x00, 0x00, 0xfe, 0xca, 0x0d, 0x60, // long: mov dword [0x9000], 0x600dcafe
    0x8b, 0x04, 0x25, 0x00, 0x90, 0x20, 0x00,                         // mov eax, [0x209000]
    0x3d, 0xfe, 0xca, 0x0d, 0x60,                                     // cmp eax, 0x600dcafe
    0x75, 0x04,                         // jne halt
    0xb0, SIGN,                         // mov al, SIGN
    0xe6, 0xf4,                         // out 0xf4, al
    0xf4,                               // halt: hlt
    0xeb, 0xfd,                         // jmp halt
    0x90, 0x90, 0x90,                   // (aligned to 8)
    0, 0, 0, 0, 0, 0, 0, 0,             // descriptors: none,
    0, 0, 0, 0, 0, 0x9a, 0x20, 0,       // 64-bit code
    0x0f, 0x00, 0x98, 0x7c, 0x00, 0x00, // descriptor: 16 bytes at 0x7c98
];

/// Runs the proof with this accelerator. The error is a reason for people.
pub(crate) async fn prove(
    program: &Path,
    accelerator: ChosenAccelerator,
    user: Option<&Account>,
) -> Result<(), String> {
    let disk = Disk::create().map_err(|error| format!("the trial's disk can't be written: {error}"))?;
    let processor = match accelerator {
        ChosenAccelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        ChosenAccelerator::Tcg => ["-accel", "tcg", "-cpu", "max"],
    };
    let mut command = Command::new(program);
    command
        .args(["-no-user-config", "-nodefaults", "-machine", "q35", "-display", "none", "-m", "64"])
        .args(processor)
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-device", "virtio-blk-pci,drive=trial"])
        .args(["-drive", &format!("if=none,id=trial,format=raw,read-only=on,file={}", disk.0)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(user) = user {
        Identity::of(user).run(command.as_std_mut());
    }
    match time::timeout(PATIENCE, command.output()).await {
        Err(_) => Err(format!("a trial machine got nowhere within {}s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(format!("a trial machine did not start: {error}")),
        Ok(Ok(output)) if output.status.code() == Some(PROVEN) => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or("it said nothing").trim().chars().take(200).collect::<String>();
            Err(format!("a trial machine failed ({}): {first}", output.status))
        }
    }
}

/// The trial's disk, gone with its owner.
struct Disk(String);

impl Disk {
    fn create() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0); // two trials may run at once
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("dynmem-kvm-trial-{}-{number}.img", std::process::id());
        let path = std::env::temp_dir().join(name);
        // A leftover of a daemon that was killed; anybody else's file makes
        // the next step fail.
        let _ = std::fs::remove_file(&path);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.set_permissions(Permissions::from_mode(0o644))?; // QEMU's user reads it
        let disk = Self(path.to_string_lossy().replace(',', ",,"));
        let mut sector = [0; 512];
        sector[..CODE.len()].copy_from_slice(CODE);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        file.write_all(&sector)?;
        file.set_len(DISK_BYTES)?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.replace(",,", ","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_where_its_own_addresses_say() {
        let (long, descriptors, descriptor) = (0x75, 0x98, 0xa8);
        assert_eq!(CODE[long..long + 3], [0xc7, 0x04, 0x25]);
        assert_eq!(CODE[descriptors + 13], 0x9a);
        assert_eq!(CODE[descriptor], 0x0f);
        assert_eq!(CODE.len(), descriptor + 6);
    }

    #[tokio::test]
    async fn the_trial_succeeds_where_a_machine_works() {
        // Emulation always works: this shows that a failure blames KVM alone.
        assert_eq!(prove(Path::new("qemu-system-x86_64"), ChosenAccelerator::Tcg, None).await, Ok(()));
    }

    #[tokio::test]
    async fn the_trial_fails_with_a_reason_where_nothing_runs() {
        let reason = prove(Path::new("/bin/false"), ChosenAccelerator::Kvm, None).await.expect_err("it is no QEMU");
        assert!(reason.contains("exit status: 1"), "{reason}");
    }
}
