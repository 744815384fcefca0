//! [`command_line`]: a machine's arguments for QEMU. Pure.
//!
//! Choices that are not obvious:
//! - `deflate-on-oom=off`. With it on, a guest in need empties its balloon
//!   without asking: memory that the ledger has lent to others is then used
//!   twice, and the host, not the guest, runs out. Tried with Linux 6.1, 512
//!   MiB ballooned to 200: a program that wanted 300 MiB got them, and the
//!   balloon gave up 181 MiB of others' memory. It also hides the balloon from
//!   the guest's `MemTotal`, so that programs size themselves by memory that
//!   they do not have. With it off, that program was killed, as in a machine
//!   of 200 MiB: a guest's spikes are what its buffer, its swap and our quick
//!   relief are for.
//! - `reserve=off` for hot-added memory: the device is as large as the host,
//!   so that the maximum can be raised live; what is not plugged costs the host
//!   nothing. (Linux sets 64 MiB aside for bounce buffers in a machine that may
//!   grow beyond 4 GiB; `swiotlb=noforce` on its command line spares them.)
//! - `merge=off`: pages merged by the host's KSM come apart when the guest
//!   writes to them, that is, without asking.
//! - `-action`: see [`crate::Machine::continue_reset`]. `-trace` logs a
//!   power-off for a daemon that was not there to see it.
//! - `-S`: the guest starts when everything around it stands.
//! - `fd=` for sockets and interfaces on bridges, `-sandbox` without exception:
//!   QEMU makes no file, starts no program and gains no right.
//! - `-add-fd … opaque=` does nothing: it says on the command line whose QEMU
//!   this is, so that [`crate::Hypervisor::attach`] can tell it from another.

use std::{ffi::OsString, os::fd::RawFd, path::Path};

use dynmem_definition::{DiskFormat, Network, VmDefinition};
use dynmem_units::Bytes;

use crate::{ChosenAccelerator, MachinePlan, launch::SHUTDOWN_TRACE, plan::TRANSLATION_CACHE};

/// What QEMU finds open when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Inherited<'a> {
    /// Whose it is.
    pub(crate) run_dir: &'a Path,
    /// Any file; QEMU closes it.
    pub(crate) mark: RawFd,
    /// Listening sockets: QMP, QMP for others, serial console, agent.
    pub(crate) sockets: [RawFd; 4],
    /// Interfaces on bridges, in the order of the definition's.
    pub(crate) taps: Vec<RawFd>,
}

/// The arguments, without the program. `sandbox` says whether this QEMU can
/// give up rights that it does not need.
pub(crate) fn command_line(
    definition: &VmDefinition,
    plan: &MachinePlan,
    inherited: &Inherited<'_>,
    sandbox: bool,
) -> Vec<OsString> {
    let mut arguments = Arguments::default();
    arguments.process(definition, inherited);
    if sandbox && !definition.extra_args.iter().any(|argument| argument == "-sandbox") {
        arguments.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }
    arguments.processors(definition, plan);
    arguments.memory(plan);
    arguments.sockets(inherited.sockets);
    arguments.boot(definition);
    arguments.disks(definition);
    arguments.networks(definition, &inherited.taps);
    match &definition.vnc {
        Some(display) => arguments.options(&[("-vnc", display), ("-device", "VGA")]),
        None => arguments.option("-display", "none"),
    }
    arguments.list.extend(definition.extra_args.iter().map(OsString::from));
    arguments.list
}

#[derive(Default)]
struct Arguments {
    list: Vec<OsString>,
}

impl Arguments {
    fn flag(&mut self, flag: &str) {
        self.list.push(flag.into());
    }

    fn option(&mut self, flag: &str, value: impl Into<OsString>) {
        self.list.extend([flag.into(), value.into()]);
    }

    fn options(&mut self, options: &[(&str, &str)]) {
        for (flag, value) in options {
            self.option(flag, *value);
        }
    }

    fn process(&mut self, definition: &VmDefinition, inherited: &Inherited<'_>) {
        self.option("-name", format!("guest={}", definition.name));
        self.options(&[("-action", "reboot=shutdown,shutdown=pause,panic=pause")]);
        let mut file = OsString::from(format!("fd={},set=0,", inherited.mark));
        file.push(mark(inherited.run_dir));
        self.option("-add-fd", file);
        self.option("-trace", format!("enable={SHUTDOWN_TRACE}"));
        for flag in ["-no-user-config", "-nodefaults", "-S"] {
            self.flag(flag);
        }
    }

    fn processors(&mut self, definition: &VmDefinition, plan: &MachinePlan) {
        match plan.accelerator {
            ChosenAccelerator::Kvm => self.options(&[("-accel", "kvm"), ("-cpu", "host")]),
            ChosenAccelerator::Tcg => {
                self.option("-accel", format!("tcg,tb-size={}", TRANSLATION_CACHE.mib()));
                // `rep movsb` in one go is slow to emulate: without ERMS the kernel
                // clears and copies pages with plain stores, 128 MiB in 0.7 s, not 1.1.
                self.option("-cpu", "max,-erms");
            }
        }
        self.option("-smp", definition.vcpus.to_string());
    }

    fn memory(&mut self, plan: &MachinePlan) {
        self.option("-machine", "q35,memory-backend=ram0,dump-guest-core=off");
        self.option("-object", format!("memory-backend-ram,id=ram0,merge=off,size={}", plan.boot.get()));
        self.option("-device", "virtio-balloon-pci,id=balloon0,free-page-reporting=on,deflate-on-oom=off".to_owned());
        if plan.plug_max.is_zero() {
            self.option("-m", kib(plan.boot));
            return;
        }
        let most = plan.boot.saturating_add(plan.plug_max);
        self.option("-m", format!("{},maxmem={}", kib(plan.boot), kib(most)));
        self.option(
            "-object",
            format!("memory-backend-ram,id=vmem0-ram,reserve=off,merge=off,size={}", plan.plug_max.get()),
        );
        self.option(
            "-device",
            format!("virtio-mem-pci,id=vmem0,memdev=vmem0-ram,block-size={},requested-size=0", plan.plug_block.get()),
        );
    }

    fn sockets(&mut self, [qmp, monitor, console, agent]: [RawFd; 4]) {
        for (id, socket) in [("qmp0", qmp), ("qmp1", monitor)] {
            self.option("-chardev", server(id, socket));
            self.option("-mon", format!("chardev={id},mode=control"));
        }
        self.option("-chardev", server("console0", console));
        self.option("-serial", "chardev:console0");
        self.option("-device", "virtio-serial-pci,id=serial0");
        self.option("-chardev", server("agent0", agent));
        self.option("-device", "virtserialport,bus=serial0.0,chardev=agent0,name=org.dynmem.agent.0");
    }

    fn boot(&mut self, definition: &VmDefinition) {
        let boot = &definition.boot;
        for (flag, path) in [("-bios", &boot.firmware), ("-kernel", &boot.kernel), ("-initrd", &boot.initrd)] {
            if let Some(path) = path {
                self.option(flag, path);
            }
        }
        if let Some(cmdline) = &boot.cmdline {
            self.option("-append", cmdline);
        }
    }

    fn disks(&mut self, definition: &VmDefinition) {
        // A kernel that is booted directly takes the first place in QEMU's boot
        // order, so disks begin at the second.
        for ((index, place), disk) in (0_usize..).zip(1_usize..).zip(&definition.disks) {
            let format = match disk.format {
                DiskFormat::Qcow2 => "qcow2",
                DiskFormat::Raw => "raw",
            };
            let access = if disk.read_only { "on" } else { "off" };
            let mut drive = OsString::from(format!("if=none,id=disk{index},format={format},read-only={access},file="));
            drive.push(escaped(&disk.path));
            self.option("-drive", drive);
            self.option("-device", format!("virtio-blk-pci,drive=disk{index},bootindex={place}"));
        }
    }

    fn networks(&mut self, definition: &VmDefinition, taps: &[RawFd]) {
        let mut taps = taps.iter();
        for (index, network) in definition.networks.iter().enumerate() {
            let (backend, mac) = match network {
                Network::User { forward, mac } => {
                    let mut backend = format!("user,id=net{index}");
                    for rule in forward {
                        backend.push_str(",hostfwd=");
                        backend.push_str(&escape(rule));
                    }
                    (backend, mac)
                }
                Network::Tap { device, mac } => {
                    (format!("tap,id=net{index},ifname={},script=no,downscript=no", escape(device)), mac)
                }
                Network::Bridge { mac, .. } => {
                    let tap = taps.next().expect("an interface for each bridge");
                    (format!("tap,id=net{index},fd={tap}"), mac)
                }
            };
            let mac = mac.as_ref().map(|mac| format!(",mac={}", escape(mac))).unwrap_or_default();
            self.option("-netdev", backend);
            self.option("-device", format!("virtio-net-pci,netdev=net{index}{mac},romfile="));
        }
    }
}

/// `-m` reads a plain number as MiB.
fn kib(size: Bytes) -> String {
    format!("{}K", size.get() / 1024)
}

/// A socket that listens already and that nobody has to be connected to.
fn server(id: &str, socket: RawFd) -> String {
    format!("socket,id={id},fd={socket},server=on,wait=off")
}

/// QEMU splits options at commas; a doubled comma is one.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

/// What a command line has at the end of an argument if it is that of the QEMU
/// that works in `run_dir`.
pub(crate) fn mark(run_dir: &Path) -> OsString {
    let mut mark = OsString::from("opaque=");
    mark.push(escaped(run_dir));
    mark
}

fn escaped(path: &Path) -> OsString {
    escape(&path.to_string_lossy()).into()
}

#[cfg(test)]
mod tests {
    use dynmem_core::MemorySettings;
    use dynmem_definition::{Accelerator, Boot, Disk};

    use super::*;

    fn definition() -> VmDefinition {
        VmDefinition {
            name: "web01".to_owned(),
            vcpus: 2,
            accelerator: Accelerator::Tcg,
            boot: Boot::default(),
            disks: Vec::new(),
            networks: Vec::new(),
            vnc: None,
            extra_args: Vec::new(),
            memory: MemorySettings { dynamic: true, ..MemorySettings::default() },
            ..VmDefinition::new("web01")
        }
    }

    fn lines(definition: &VmDefinition, accelerator: ChosenAccelerator, sandbox: bool) -> Vec<String> {
        let plan = MachinePlan::new(definition, accelerator, Bytes::from_mib(4096));
        let inherited =
            Inherited { run_dir: Path::new("/run/web,01"), mark: 9, sockets: [3, 4, 5, 6], taps: vec![7, 8] };
        let arguments = command_line(definition, &plan, &inherited, sandbox);
        let mut lines: Vec<String> = Vec::new();
        for argument in arguments.iter().map(|argument| argument.to_string_lossy()) {
            match lines.last_mut() {
                Some(line) if !argument.starts_with('-') => *line = format!("{line} {argument}"),
                _ => lines.push(argument.into_owned()),
            }
        }
        lines
    }

    #[test]
    fn a_dynamic_machine_under_emulation() {
        assert_eq!(
            lines(&definition(), ChosenAccelerator::Tcg, true),
            [
                "-name guest=web01",
                "-action reboot=shutdown,shutdown=pause,panic=pause",
                "-add-fd fd=9,set=0,opaque=/run/web,,01",
                "-trace enable=qemu_system_shutdown_request",
                "-no-user-config",
                "-nodefaults",
                "-S",
                "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
                "-accel tcg,tb-size=32",
                "-cpu max,-erms",
                "-smp 2",
                "-machine q35,memory-backend=ram0,dump-guest-core=off",
                "-object memory-backend-ram,id=ram0,merge=off,size=536870912",
                "-device virtio-balloon-pci,id=balloon0,free-page-reporting=on,deflate-on-oom=off",
                "-m 524288K,maxmem=4194304K",
                "-object memory-backend-ram,id=vmem0-ram,reserve=off,merge=off,size=3758096384",
                "-device virtio-mem-pci,id=vmem0,memdev=vmem0-ram,block-size=2097152,requested-size=0",
                "-chardev socket,id=qmp0,fd=3,server=on,wait=off",
                "-mon chardev=qmp0,mode=control",
                "-chardev socket,id=qmp1,fd=4,server=on,wait=off",
                "-mon chardev=qmp1,mode=control",
                "-chardev socket,id=console0,fd=5,server=on,wait=off",
                "-serial chardev:console0",
                "-device virtio-serial-pci,id=serial0",
                "-chardev socket,id=agent0,fd=6,server=on,wait=off",
                "-device virtserialport,bus=serial0.0,chardev=agent0,name=org.dynmem.agent.0",
                "-display none",
            ]
        );
    }

    #[test]
    fn a_static_machine_with_kvm_has_hot_add_for_a_resize() {
        let memory = MemorySettings { dynamic: false, ..MemorySettings::default() };
        let lines = lines(&VmDefinition { memory, ..definition() }, ChosenAccelerator::Kvm, true);
        assert!(lines.contains(&"-m 524288K,maxmem=4194304K".to_owned()), "{lines:?}");
        assert!(lines.contains(&"-accel kvm".to_owned()) && lines.contains(&"-cpu host".to_owned()));
        assert!(lines.iter().any(|line| line.starts_with("-device virtio-mem-pci,id=vmem0,")), "{lines:?}");
    }

    #[test]
    fn disks_networks_and_boot_become_devices() {
        let full = VmDefinition {
            boot: Boot {
                firmware: Some("/usr/share/OVMF.fd".into()),
                kernel: Some("/boot/vmlinuz".into()),
                initrd: Some("/boot/initrd".into()),
                cmdline: Some("console=ttyS0 quiet".to_owned()),
            },
            disks: vec![
                Disk { path: "/srv/a,b.qcow2".into(), format: DiskFormat::Qcow2, read_only: false },
                Disk { path: "/srv/data".into(), format: DiskFormat::Raw, read_only: true },
            ],
            networks: vec![
                Network::User { forward: vec!["tcp:127.0.0.1:2222-:22".to_owned()], mac: None },
                Network::Tap { device: "tap0".to_owned(), mac: Some("52:54:00:12:34:56".to_owned()) },
                Network::Bridge { bridge: "br0".to_owned(), mac: None },
                Network::Bridge { bridge: "br1".to_owned(), mac: None },
            ],
            vnc: Some("127.0.0.1:5".to_owned()),
            extra_args: vec!["-device".to_owned(), "virtio-rng-pci".to_owned()],
            ..definition()
        };
        let lines = lines(&full, ChosenAccelerator::Tcg, true);
        let after = lines.iter().position(|line| line.starts_with("-bios")).expect("firmware");
        assert_eq!(
            lines[after..],
            [
                "-bios /usr/share/OVMF.fd",
                "-kernel /boot/vmlinuz",
                "-initrd /boot/initrd",
                "-append console=ttyS0 quiet",
                "-drive if=none,id=disk0,format=qcow2,read-only=off,file=/srv/a,,b.qcow2",
                "-device virtio-blk-pci,drive=disk0,bootindex=1",
                "-drive if=none,id=disk1,format=raw,read-only=on,file=/srv/data",
                "-device virtio-blk-pci,drive=disk1,bootindex=2",
                "-netdev user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22",
                "-device virtio-net-pci,netdev=net0,romfile=",
                "-netdev tap,id=net1,ifname=tap0,script=no,downscript=no",
                "-device virtio-net-pci,netdev=net1,mac=52:54:00:12:34:56,romfile=",
                "-netdev tap,id=net2,fd=7",
                "-device virtio-net-pci,netdev=net2,romfile=",
                "-netdev tap,id=net3,fd=8",
                "-device virtio-net-pci,netdev=net3,romfile=",
                "-vnc 127.0.0.1:5",
                "-device VGA",
                "-device virtio-rng-pci",
            ]
        );
    }

    #[test]
    fn rights_are_given_up_unless_a_person_or_qemu_decides_otherwise() {
        let own = VmDefinition { extra_args: vec!["-sandbox".to_owned(), "off".to_owned()], ..definition() };
        let lines_of = |definition: &VmDefinition, sandbox| lines(definition, ChosenAccelerator::Tcg, sandbox);
        let sandboxes = |lines: Vec<String>| lines.into_iter().filter(|line| line.starts_with("-sandbox")).count();
        assert_eq!(sandboxes(lines_of(&own, true)), 1, "a person's own choice stands");
        assert_eq!(sandboxes(lines_of(&definition(), false)), 0);
    }
}
