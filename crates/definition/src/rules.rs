//! The rules of a definition: [`VmDefinition::check`].
//!
//! A refusal names the setting by its path in the file (`disk[1].path`), the
//! value, and what is allowed. The first broken rule is told.

use std::{collections::HashSet, ffi::OsStr, net::Ipv4Addr, os::unix::ffi::OsStrExt, path::Path};

use dynmem_core::SettingsError;

use crate::{Boot, Disk, Network, START_DELAY_SECONDS_MAX, VmDefinition};

const VCPUS: std::ops::RangeInclusive<u32> = 1..=255;
const NAME_BYTES_MAX: usize = 63;
const DISKS_MAX: usize = 32;
const NETWORKS_MAX: usize = 16;
const FORWARDS_MAX: usize = 64;
const EXTRA_ARGS_MAX: usize = 256;
const EXTRA_ARG_BYTES_MAX: usize = 4096;
const PATH_BYTES_MAX: usize = 4095; // Linux's PATH_MAX, less the final zero
const CMDLINE_BYTES_MAX: usize = 2047; // Linux on x86 silently cuts what is longer
const INTERFACE_BYTES_MAX: usize = 15; // Linux's IFNAMSIZ, less the final zero
const VNC_DISPLAY_MAX: u32 = 65_535 - 5_900; // display n is TCP port 5900 + n

/// QEMU options that would contradict a setting or take the machine out of
/// our hands, and what to use instead.
const TAKEN_OPTIONS: [(&str, &str); 10] = [
    ("-m", "set memory.startup and memory.maximum instead"),
    ("-smp", "set vcpus instead"),
    ("-accel", "set accelerator instead"),
    ("-enable-kvm", "set accelerator instead"),
    ("-name", "set name instead"),
    ("-daemonize", "the daemon looks after QEMU's process itself"),
    ("-pidfile", "the daemon looks after QEMU's process itself"),
    ("-incoming", "the daemon saves and restores machines itself"),
    ("-no-reboot", "the daemon decides what happens on a reboot or a power-off"),
    ("-action", "the daemon decides what happens on a reboot or a power-off"),
];

/// A rule that a definition breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A value that is not allowed.
    #[error("Setting {field} can't be {value}: {rule}")]
    Value {
        /// The setting's path in the file, such as `disk[1].path`.
        field: String,
        /// What was asked, quoted and cut to a readable length.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// A list with too many entries.
    #[error("Setting {field} has {count} entries: at most {most} are allowed")]
    TooMany {
        /// The list's path in the file.
        field: String,
        /// How many it has.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// A rule of the memory settings.
    #[error(transparent)]
    Memory(#[from] SettingsError),
}

impl RuleError {
    fn new(field: impl Into<String>, value: &str, rule: &'static str) -> Self {
        let mut shown: String = value.chars().take(80).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self::Value { field: field.into(), value: format!("{shown:?}"), rule }
    }

    /// The path of the setting that breaks the rule, as in the file.
    pub fn field(&self) -> String {
        match self {
            Self::Value { field, .. } | Self::TooMany { field, .. } => field.clone(),
            Self::Memory(
                SettingsError::Unaligned { setting, .. }
                | SettingsError::SizeRange { setting, .. }
                | SettingsError::Running { setting, .. }
                | SettingsError::Now { setting, .. },
            ) => format!("memory.{}", setting.to_ascii_lowercase()),
            Self::Memory(SettingsError::BufferRange(_)) => "memory.buffer".to_owned(),
        }
    }
}

/// Checks a VM's name: 1–63 ASCII letters, digits, `-`, `_` and `.`, starting
/// with a letter or digit. Such a name is also a safe file name.
pub fn check_name(name: &str) -> Result<(), RuleError> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if starts_well && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(RuleError::new(
        "name",
        name,
        "a name is 1 to 63 letters, digits, `-`, `_` and `.`, and starts with a letter or digit",
    ))
}

impl VmDefinition {
    /// Checks every rule. What passes can be written, read back and launched;
    /// whether files and devices exist is seen at the start.
    pub fn check(&self) -> Result<(), RuleError> {
        check_name(&self.name)?;
        if !VCPUS.contains(&self.vcpus) {
            return Err(RuleError::Value {
                field: "vcpus".to_owned(),
                value: self.vcpus.to_string(),
                rule: "it must be a whole number from 1 to 255",
            });
        }
        if self.start_delay > START_DELAY_SECONDS_MAX {
            return Err(RuleError::Value {
                field: "start_delay".to_owned(),
                value: self.start_delay.to_string(),
                rule: "it must be from 0 to 86400 seconds, which is a day",
            });
        }
        check_boot(&self.boot)?;
        check_disks(&self.disks)?;
        check_networks(&self.networks)?;
        self.vnc.as_deref().map_or(Ok(()), check_vnc)?;
        check_extra_args(&self.extra_args)?;
        self.memory.check()?;
        self.memory
            .smart_paging_folder
            .as_deref()
            .map_or(Ok(()), |folder| check_folder("memory.smart_paging_folder", folder))
    }
}

fn check_count(field: impl Into<String>, count: usize, most: usize) -> Result<(), RuleError> {
    if count > most {
        return Err(RuleError::TooMany { field: field.into(), count, most });
    }
    Ok(())
}

fn check_path(field: &str, path: &Path) -> Result<(), RuleError> {
    check_any_path(
        field,
        path,
        "it must be an absolute path of a file, because the daemon works in a folder of its own",
    )
}

fn check_folder(field: &str, path: &Path) -> Result<(), RuleError> {
    check_any_path(field, path, "it must be the absolute path of a folder, and not of the whole file system")
}

fn check_any_path(field: &str, path: &Path, must_be: &'static str) -> Result<(), RuleError> {
    let refuse = |rule| Err(RuleError::new(field, &path.to_string_lossy(), rule));
    let bytes = path.as_os_str().as_bytes();
    if path.to_str().is_none() {
        return refuse("a path must be UTF-8, because the file it is written in is");
    }
    if bytes.iter().any(u8::is_ascii_control) {
        return refuse("a path can't hold line breaks or other control characters");
    }
    if !path.is_absolute() || path.file_name().is_none() {
        return refuse(must_be);
    }
    if bytes.len() > PATH_BYTES_MAX {
        return refuse("a path has at most 4095 bytes");
    }
    Ok(())
}

fn check_boot(boot: &Boot) -> Result<(), RuleError> {
    let paths = [("boot.firmware", &boot.firmware), ("boot.kernel", &boot.kernel), ("boot.initrd", &boot.initrd)];
    for (field, path) in paths {
        path.as_deref().map_or(Ok(()), |path| check_path(field, path))?;
    }
    let only_with_kernel = "it goes with a kernel: set boot.kernel, or leave it out";
    if let (None, Some(initrd)) = (&boot.kernel, &boot.initrd) {
        return Err(RuleError::new("boot.initrd", &initrd.to_string_lossy(), only_with_kernel));
    }
    let Some(cmdline) = &boot.cmdline else { return Ok(()) };
    let refuse = |rule| Err(RuleError::new("boot.cmdline", cmdline, rule));
    if boot.kernel.is_none() {
        return refuse(only_with_kernel);
    }
    if cmdline.bytes().any(|byte| byte.is_ascii_control()) {
        return refuse("a kernel command line is one line without control characters");
    }
    if cmdline.len() > CMDLINE_BYTES_MAX {
        return refuse("a kernel command line has at most 2047 bytes; Linux would cut off the rest");
    }
    Ok(())
}

fn check_disks(disks: &[Disk]) -> Result<(), RuleError> {
    check_count("disk", disks.len(), DISKS_MAX)?;
    for (index, disk) in disks.iter().enumerate() {
        let field = format!("disk[{index}].path");
        check_path(&field, &disk.path)?;
        let clash = |other: &Disk| other.path == disk.path && !(other.read_only && disk.read_only);
        if disks[..index].iter().any(clash) {
            return Err(RuleError::new(
                field,
                &disk.path.to_string_lossy(),
                "another disk is the same file; only disks that are all read_only may share one",
            ));
        }
    }
    Ok(())
}

fn check_networks(networks: &[Network]) -> Result<(), RuleError> {
    check_count("network", networks.len(), NETWORKS_MAX)?;
    let mut macs = HashSet::new();
    for (index, network) in networks.iter().enumerate() {
        let field = |name: &str| format!("network[{index}].{name}");
        let mac = match network {
            Network::User { forward, mac } => {
                check_count(field("forward"), forward.len(), FORWARDS_MAX)?;
                for (nth, forward) in forward.iter().enumerate() {
                    check_forward(field(&format!("forward[{nth}]")), forward)?;
                }
                mac
            }
            Network::Tap { device, mac } => {
                check_interface(field("device"), device)?;
                mac
            }
            Network::Bridge { bridge, mac } => {
                check_interface(field("bridge"), bridge)?;
                mac
            }
        };
        let Some(mac) = mac else { continue };
        check_mac(field("mac"), mac)?;
        if !macs.insert(mac.to_ascii_lowercase()) {
            return Err(RuleError::new(field("mac"), mac, "another interface of this VM has the same address"));
        }
    }
    Ok(())
}

fn check_mac(field: String, mac: &str) -> Result<(), RuleError> {
    let octet = |text: &str| (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten();
    // `from_str_radix` takes a sign, an address doesn't.
    let octets: Option<Vec<u8>> = (!mac.contains('+')).then(|| mac.split(':').map(octet).collect()).flatten();
    match octets.as_deref() {
        Some([first, _, _, _, _, _]) if first % 2 == 1 => Err(RuleError::new(
            field,
            mac,
            "it is a multicast address; the first pair of an interface's own is even, such as 52",
        )),
        Some([0, 0, 0, 0, 0, 0]) => Err(RuleError::new(field, mac, "an interface's address can't be all zeros")),
        Some([_, _, _, _, _, _]) => Ok(()),
        _ => Err(RuleError::new(field, mac, "an address is six pairs of hexadecimal digits: 52:54:00:12:34:56")),
    }
}

fn check_interface(field: String, name: &str) -> Result<(), RuleError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    let fits = (1..=INTERFACE_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
    if fits && !name.starts_with('-') && name != "." && name != ".." {
        return Ok(());
    }
    Err(RuleError::new(
        field,
        name,
        "the name of a network interface is 1 to 15 letters, digits, `-`, `_`, `.` and `@`, and doesn't start with `-`",
    ))
}

/// A forward goes into an option list, where anything but its own syntax could
/// smuggle in an option (`guestfwd=…-cmd:…` runs a program).
fn check_forward(field: String, forward: &str) -> Result<(), RuleError> {
    let address = |text: &str| text.is_empty() || text.parse::<Ipv4Addr>().is_ok();
    let port =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0);
    let end = |text: &str| text.rsplit_once(':').is_some_and(|(host, number)| address(host) && port(number));
    let well_formed = forward.split_once(':').is_some_and(|(protocol, rest)| {
        matches!(protocol, "tcp" | "udp") && rest.split_once('-').is_some_and(|(host, guest)| end(host) && end(guest))
    });
    if well_formed {
        return Ok(());
    }
    Err(RuleError::new(
        field,
        forward,
        "a forward is tcp or udp, then [HOST ADDRESS]:PORT-[GUEST ADDRESS]:PORT: tcp:127.0.0.1:2222-:22",
    ))
}

fn check_vnc(vnc: &str) -> Result<(), RuleError> {
    if let Some(socket) = vnc.strip_prefix("unix:") {
        if socket.contains(',') {
            return Err(RuleError::new("vnc", vnc, "the path of a VNC socket can't hold a comma"));
        }
        return check_path("vnc", Path::new(OsStr::new(socket)));
    }
    let host = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    let display = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|n: u32| n <= VNC_DISPLAY_MAX)
    };
    if vnc.len() <= 255 && vnc.rsplit_once(':').is_some_and(|(address, number)| host(address) && display(number)) {
        return Ok(());
    }
    Err(RuleError::new(
        "vnc",
        vnc,
        "it must be ADDRESS:DISPLAY, such as 127.0.0.1:5 (that is TCP port 5905), or unix:PATH",
    ))
}

fn check_extra_args(args: &[String]) -> Result<(), RuleError> {
    check_count("extra_args", args.len(), EXTRA_ARGS_MAX)?;
    for (index, arg) in args.iter().enumerate() {
        let refuse = |rule| Err(RuleError::new(format!("extra_args[{index}]"), arg, rule));
        if arg.contains('\0') {
            return refuse("an argument can't hold a zero byte");
        }
        if arg.len() > EXTRA_ARG_BYTES_MAX {
            return refuse("an argument has at most 4096 bytes");
        }
        // QEMU takes `--m` for `-m`.
        let option = arg.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(arg);
        if let Some((_, instead)) = TAKEN_OPTIONS.iter().find(|(taken, _)| *taken == option) {
            return refuse(instead);
        }
    }
    Ok(())
}
