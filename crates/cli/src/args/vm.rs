//! `dynmem vm …`.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use dynmem_api::{AutostartPatch, MAX_STOP_TIMEOUT_SECONDS, StopMode, StopRequest};
use dynmem_core::{DemandModel, MemorySettings};
use dynmem_definition::{Accelerator, Autostart, Boot, Disk, NamePattern, Network, VmDefinition};
use dynmem_units::{Bytes, Percent, Weight};

use super::{Names, NamesToLose, Span, Yes, values};

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Define a VM; it stays off until it is started
    #[command(after_help = "\
Examples:
  dynmem vm create web01 --minimum 256M --maximum 4G --disk web01.qcow2 --network user
  dynmem vm create tiny --kernel ./vmlinuz --initrd ./initrd --cmdline console=ttyS0
  dynmem vm create --file web01.toml")]
    Create(Box<CreateArgs>),
    /// List VMs, a line each
    #[command(after_help = "\
Columns that do not fit the terminal are left out, the least important first;
`dynmem vm show NAME` and --json have everything.

Examples:
  dynmem vm list
  dynmem vm list 'Dev-*' --json
  dynmem vm list --watch      # as \"dynmem watch\"")]
    List {
        /// Go on with what changes, as `dynmem watch` does
        #[arg(long)]
        watch: bool,
        /// Only these VMs, by name or pattern
        #[arg(value_name = "NAMES")]
        names: Vec<NamePattern>,
    },
    /// Show all of one VM
    #[command(after_help = "Examples:\n  dynmem vm show web01\n  dynmem vm show web01 --output yaml")]
    Show {
        /// The VM's name
        #[arg(value_parser = values::name)]
        name: String,
    },
    /// Show what a VM was, up to a year ago
    #[command(after_help = "\
Kept is a point each second for an hour, each minute for a week, each hour for a year.
Drawn is the highest of each moment; a blank is a time in which the VM was off or
no daemon ran. --json has each point and all events of the span.

Examples:
  dynmem vm history web01
  dynmem vm history web01 --last 7d
  dynmem vm history web01 --last 1d --step 15m --csv > web01.csv")]
    History(HistoryArgs),
    /// Change what becomes of VMs when their host has come up
    #[command(
        override_usage = "dynmem vm set <NAMES>... <OPTIONS>",
        after_help = "\
Whether a VM runs or not; memory settings are changed by `dynmem memory set`.

  nothing           it stays off
  start-if-running  it is started if it ran when the host went down
  start             it is started

Examples:
  dynmem vm set db01 --autostart start
  dynmem vm set 'web*' --autostart start-if-running --start-delay 30"
    )]
    Set(SetVmArgs),
    /// Start VMs, in the order given
    #[command(after_help = "\
Examples:
  dynmem vm start web01
  dynmem vm start db01 'web*'
  dynmem vm start db01 --dry-run")]
    Start(StartArgs),
    /// Stop VMs
    #[command(after_help = "\
The guest is asked to power itself off; if it does not in time, it is switched off.
--force asks nobody in the guest, but whoever types it.

Examples:
  dynmem vm stop web01 --timeout 120
  dynmem vm stop web01 --force
  dynmem vm stop 'Dev-*' --force --yes")]
    Stop(StopArgs),
    /// Restart VMs
    #[command(after_help = "\
The guest is asked to power itself off; if it does not in time, it is switched off.

Examples:
  dynmem vm restart web01
  dynmem vm restart 'Dev-*'")]
    Restart(Names),
    /// Halt VMs; they keep their memory
    #[command(after_help = "Examples:\n  dynmem vm pause web01\n  dynmem vm pause 'Dev-*'")]
    Pause(Names),
    /// Let paused VMs go on
    #[command(after_help = "Examples:\n  dynmem vm resume web01\n  dynmem vm resume 'Dev-*'")]
    Resume(Names),
    /// Write VMs to files and free their memory; `vm start` lets them go on
    #[command(after_help = "\
Programs in the guest notice nothing but the time that has passed. What was
saved is void once the VM runs again.

Examples:
  dynmem vm save web01
  dynmem vm start web01
  dynmem vm discard web01     # instead: it is off then, as if its plug was pulled")]
    Save(Names),
    /// Delete what was saved of VMs: they are off then
    #[command(after_help = "\
It asks first.

Examples:
  dynmem vm discard web01
  dynmem vm discard 'Dev-*' --yes")]
    Discard(NamesToLose),
    /// Forget VMs that are off; their disks stay
    #[command(after_help = "\
It asks first.

Examples:
  dynmem vm delete web01
  dynmem vm delete 'Dev-*' --yes")]
    Delete(NamesToLose),
    /// Use the serial console of a VM; Ctrl-] leaves it
    #[command(after_help = "\
Without a terminal, standard input goes to the console and what it says to
standard output, until the console closes.

Example:
  dynmem vm console web01")]
    Console {
        /// The VM's name
        #[arg(value_parser = values::name)]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The VM's name
    #[arg(value_parser = values::name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) span: Span,
}

#[derive(Debug, Args)]
pub(crate) struct SetVmArgs {
    #[command(flatten)]
    pub(crate) names: Names,
    #[command(flatten)]
    changes: VmChanges,
}

/// At least one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct VmChanges {
    /// What is done with it when the host has come up
    #[arg(long, value_name = "WHAT", value_parser = values::autostart())]
    autostart: Option<Autostart>,
    /// Seconds after which that is done, 0 to 86400
    #[arg(long, value_name = "SECONDS")]
    start_delay: Option<u32>,
}

impl SetVmArgs {
    /// The change that was asked.
    pub(crate) fn patch(&self) -> AutostartPatch {
        let VmChanges { autostart, start_delay } = self.changes;
        AutostartPatch { autostart, start_delay }
    }
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) names: Names,
    /// Say what would happen to every VM, and start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) names: Names,
    /// End the machine at once, as if its plug was pulled
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) yes: Yes,
    /// Seconds a guest may take to power itself off, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = StopRequest::default().timeout_seconds,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STOP_TIMEOUT_SECONDS)))]
    timeout: u32,
}

impl StopArgs {
    /// What is asked of the daemon.
    pub(crate) fn request(&self) -> StopRequest {
        let mode = if self.force { StopMode::Force } else { StopMode::Graceful };
        StopRequest { mode, timeout_seconds: self.timeout }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The VM's name; the file's if there is one
    #[arg(value_parser = values::name, required_unless_present = "file")]
    name: Option<String>,
    /// A definition in TOML, instead of the options below
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Say whether it would be accepted, and define nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    options: CreateOptions,
}

const DISK_HELP: &str = "A disk: PATH[,format=qcow2|raw][,read_only]; may be repeated";

#[derive(Debug, Args)]
#[group(multiple = true, conflicts_with = "file")]
struct CreateOptions {
    /// What is done with it when the host has come up [default: start-if-running]
    #[arg(long, value_name = "WHAT", value_parser = values::autostart())]
    autostart: Option<Autostart>,
    /// Seconds after which that is done, 0 to 86400 [default: 0]
    #[arg(long, value_name = "SECONDS")]
    start_delay: Option<u32>,
    /// Virtual processors, 1 to 255 [default: 1]
    #[arg(long, value_name = "NUMBER")]
    vcpus: Option<u32>,
    /// Let memory move with demand; so it does where --minimum and --maximum are given and differ
    #[arg(long, conflicts_with = "is_static")]
    dynamic: bool,
    /// Keep memory at startup, whatever --minimum and --maximum are
    #[arg(long = "static")]
    is_static: bool,
    /// Memory that the VM boots with [default: 512M]
    #[arg(long, value_name = "SIZE")]
    startup: Option<Bytes>,
    /// Memory that it is always guaranteed once booted [default: 512M, at most startup]
    #[arg(long, value_name = "SIZE")]
    minimum: Option<Bytes>,
    /// Memory that it never exceeds [default: 1T, at least startup]
    #[arg(long, value_name = "SIZE")]
    maximum: Option<Bytes>,
    /// Kept on top of demand, 5 to 2000 per cent of it [default: 20]
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    buffer: Option<Percent>,
    /// Claim on memory when not everybody can be served, 1 to 10000 [default: 5000]
    #[arg(long, value_name = "NUMBER", value_parser = values::weight)]
    weight: Option<Weight>,
    /// How demand is estimated [default: working-set]
    #[arg(long, value_name = "MODEL", value_parser = values::demand_model())]
    demand_model: Option<DemandModel>,
    /// Where a restart finds room if there is no memory for it
    #[arg(long, value_name = "PATH", value_parser = values::path)]
    smart_paging_folder: Option<PathBuf>,
    /// A Linux kernel to boot directly
    #[arg(long, value_name = "PATH", value_parser = values::path)]
    kernel: Option<PathBuf>,
    /// Its initial RAM disk
    #[arg(long, value_name = "PATH", value_parser = values::path)]
    initrd: Option<PathBuf>,
    /// Its command line
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// A firmware image instead of QEMU's own
    #[arg(long, value_name = "PATH", value_parser = values::path)]
    firmware: Option<PathBuf>,
    /// A disk
    #[arg(long = "disk", value_name = "DISK", value_parser = values::disk, help = DISK_HELP)]
    disks: Vec<Disk>,
    /// A network: user, tap:DEVICE or bridge:BRIDGE, and ,mac=ADDRESS; may be repeated
    #[arg(long = "network", value_name = "NETWORK", value_parser = values::network)]
    networks: Vec<Network>,
    /// A VNC display such as 127.0.0.1:5
    #[arg(long, value_name = "DISPLAY")]
    vnc: Option<String>,
    /// How the processors run [default: auto]
    #[arg(long, value_name = "HOW", value_parser = values::accelerator())]
    accelerator: Option<Accelerator>,
    /// An argument that QEMU gets as it is; may be repeated
    #[arg(long = "extra-arg", value_name = "TEXT", allow_hyphen_values = true)]
    extra_args: Vec<String>,
}

impl CreateArgs {
    /// The definition that was asked, from the file or the options.
    pub(crate) fn definition(self) -> anyhow::Result<VmDefinition> {
        let Some(path) = self.file else {
            let Some(name) = self.name else { bail!("The VM's name is missing") };
            return Ok(self.options.definition(name));
        };
        let text = read_definition(&path)?;
        let definition = VmDefinition::from_toml(&text, &path)?;
        if let Some(name) = self.name {
            ensure!(
                name == definition.name,
                "File {} defines {:?}, not {name:?}: use the file's name, or leave the name out",
                path.display(),
                definition.name
            );
        }
        Ok(definition)
    }
}

/// The largest definition: far beyond any that a person writes.
const DEFINITION_BYTES_MAX: u64 = 1 << 20;

fn read_definition(path: &std::path::Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(path).with_context(|| format!("Could not open {}", path.display()))?;
    file.take(DEFINITION_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("Could not read {}", path.display()))?;
    ensure!(
        text.len() as u64 <= DEFINITION_BYTES_MAX,
        "File {} is larger than 1MiB: is it a definition?",
        path.display()
    );
    Ok(text)
}

impl CreateOptions {
    fn definition(self, name: String) -> VmDefinition {
        let usual = MemorySettings::default();
        let startup = self.startup.unwrap_or(usual.startup);
        // Somebody who sets the startup alone wants a VM of that size, and no
        // refusal about limits that were never mentioned.
        // And somebody who sets two different limits wants it to move between them.
        let moves = self.minimum.zip(self.maximum).is_some_and(|(minimum, maximum)| minimum != maximum);
        let memory = MemorySettings {
            dynamic: self.dynamic || (moves && !self.is_static),
            startup,
            minimum: self.minimum.unwrap_or(usual.minimum.min(startup)),
            maximum: self.maximum.unwrap_or(usual.maximum.max(startup)),
            buffer: self.buffer.unwrap_or(usual.buffer),
            weight: self.weight.unwrap_or(usual.weight),
            demand_model: self.demand_model.unwrap_or(usual.demand_model),
            smart_paging_folder: self.smart_paging_folder,
        };
        let Self { firmware, kernel, initrd, cmdline, .. } = self;
        VmDefinition {
            name,
            autostart: self.autostart.unwrap_or_default(),
            start_delay: self.start_delay.unwrap_or_default(),
            vcpus: self.vcpus.unwrap_or(1),
            accelerator: self.accelerator.unwrap_or_default(),
            boot: Boot { firmware, kernel, initrd, cmdline },
            disks: self.disks,
            networks: self.networks,
            vnc: self.vnc,
            extra_args: self.extra_args,
            memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn create(line: &[&str]) -> Result<anyhow::Result<VmDefinition>, clap::Error> {
        let cli = Cli::try_parse_from(["dynmem", "vm", "create"].iter().chain(line))?;
        match cli.command {
            Command::Vm(VmCommand::Create(create)) => Ok(create.definition()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_alone_is_the_default_vm() {
        let definition = create(&["web01"]).expect("a good line").expect("a definition");
        assert_eq!(definition.name, "web01");
        assert_eq!(definition.memory, MemorySettings::default());
        assert_eq!(definition.check(), Ok(()));
    }

    #[test]
    fn options_say_everything_a_file_could() {
        let line = "web01 --autostart start --start-delay 30 --vcpus 2 --dynamic --startup 256M --maximum 2G --buffer 30 --weight 100 --kernel /k \
            --initrd /i --cmdline -x --disk /d.img,format=raw --disk /e --network user --network tap:t0 \
            --firmware /f --vnc 127.0.0.1:5 --accelerator tcg --extra-arg -device --extra-arg sga \
            --demand-model committed --smart-paging-folder /fast";
        let line: Vec<_> = line.split_whitespace().collect();
        let definition = create(&line).expect("a good line").expect("a definition");
        assert_eq!(definition.check(), Ok(()));
        assert_eq!(definition.memory.minimum, Bytes::from_mib(256), "the default sinks with startup");
        assert_eq!((definition.disks.len(), definition.networks.len()), (2, 2));
        assert_eq!((definition.autostart, definition.start_delay), (Autostart::Start, 30));
        assert_eq!(definition.extra_args, ["-device", "sga"]);
        assert_eq!(definition.boot.cmdline.as_deref(), Some("-x"));
        assert_eq!(definition.memory.smart_paging_folder.as_deref(), Some(std::path::Path::new("/fast")));
    }

    #[test]
    fn limits_that_differ_make_a_dynamic_vm_unless_it_is_to_be_static() {
        for (line, dynamic) in [
            ("web01", false),
            ("web01 --minimum 256M", false),
            ("web01 --maximum 2G", false),
            ("web01 --minimum 512M --maximum 512M", false),
            ("web01 --minimum 256M --maximum 2G", true),
            ("web01 --minimum 256M --maximum 2G --static", false),
            ("web01 --minimum 512M --maximum 512M --dynamic", true),
        ] {
            let words: Vec<_> = line.split(' ').collect();
            let definition = create(&words).expect("a good line").expect("a definition");
            assert_eq!(definition.memory.dynamic, dynamic, "{line}");
            assert_eq!(definition.check(), Ok(()), "{line}");
        }
        assert!(create(&["web01", "--static", "--dynamic"]).is_err());
    }

    #[test]
    fn a_file_replaces_options_and_its_faults_have_a_place() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("web01.toml");
        fs::write(&path, "name = \"web01\"\nvcpus = 3\n").expect("a file");
        let file = path.to_str().expect("a plain path");
        assert_eq!(create(&["--file", file]).expect("a good line").expect("a definition").vcpus, 3);
        assert_eq!(create(&["web01", "--file", file]).expect("a good line").expect("a definition").vcpus, 3);
        let error = create(&["web02", "--file", file]).expect("a good line").expect_err("another name");
        assert!(error.to_string().contains("defines \"web01\", not \"web02\""), "{error}");

        fs::write(&path, "name = \"web01\"\nvcpu = 3\n").expect("a file");
        let error = create(&["--file", file]).expect("a good line").expect_err("a misspelt key");
        assert!(error.to_string().contains("line 2, column 1"), "{error}");

        assert!(create(&["--file", file, "--vcpus", "2"]).is_err());
        assert!(create(&["--file", file, "--dynamic"]).is_err());
        assert!(create(&[]).is_err());
    }
}
