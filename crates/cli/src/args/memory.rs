//! `dynmem memory …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dynmem_api::MemoryPatch;
use dynmem_core::DemandModel;
use dynmem_definition::NamePattern;
use dynmem_units::{Bytes, Percent, Weight};

use super::{Names, values};

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// Show memory settings
    #[command(after_help = "Examples:\n  dynmem memory get\n  dynmem memory get web01 'Dev-*' --json")]
    Get(GetArgs),
    /// Change memory settings of one VM, several, or all that match a pattern
    #[command(
        override_usage = "dynmem memory set <NAMES>... <OPTIONS>",
        after_help = "\
Per VM, either everything asked is changed or nothing is; a line says which.
While a VM runs, all but dynamic and, of a dynamic VM, startup can change. What
can't be honoured now is refused, with what could be. A static VM that runs
is made as large or small as its guest follows; a line says how far.

Examples:
  dynmem memory set web01 --minimum 256M --maximum 8G
  dynmem memory set 'Dev-*' Test01 --buffer 30 --weight 2000
  dynmem memory set db01 --minimum 12G --dry-run
  dynmem memory set db01 --dynamic off --startup 16G"
    )]
    Set(SetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Names of VMs, or patterns such as 'Dev-*' [default: all]
    #[arg(value_name = "NAMES")]
    pub(crate) names: Vec<NamePattern>,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    pub(crate) names: Names,
    #[command(flatten)]
    changes: Changes,
    /// Say what would happen to every VM, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// At least one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Whether memory moves at all
    #[arg(long, value_name = "on|off", value_parser = values::on_off(), hide_possible_values = true)]
    dynamic: Option<bool>,
    /// Memory that the VM boots with
    #[arg(long, value_name = "SIZE")]
    startup: Option<Bytes>,
    /// Memory that the VM is always guaranteed once it has booted
    #[arg(long, value_name = "SIZE")]
    minimum: Option<Bytes>,
    /// Memory that the VM never exceeds
    #[arg(long, value_name = "SIZE")]
    maximum: Option<Bytes>,
    /// Kept on top of demand, 5 to 2000 per cent of it
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    buffer: Option<Percent>,
    /// Claim on memory when not everybody can be served, 1 to 10000
    #[arg(long, value_name = "NUMBER", value_parser = values::weight)]
    weight: Option<Weight>,
    /// How demand is estimated
    #[arg(long, value_name = "MODEL", value_parser = values::demand_model())]
    demand_model: Option<DemandModel>,
    /// Where a restart finds room if there is no memory for it; '' is the usual place
    #[arg(long, value_name = "PATH", value_parser = values::path_or_nothing)]
    smart_paging_folder: Option<PathBuf>,
}

impl SetArgs {
    /// The change that was asked.
    pub(crate) fn patch(&self) -> MemoryPatch {
        let Changes { dynamic, startup, minimum, maximum, buffer, weight, demand_model, .. } = self.changes;
        let smart_paging_folder = self.changes.smart_paging_folder.clone();
        MemoryPatch { dynamic, startup, minimum, maximum, buffer, weight, demand_model, smart_paging_folder }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn a_change_is_what_was_written_and_nothing_else() {
        let line =
            ["dynmem", "memory", "set", "Dev-*", "web01", "--dynamic", "on", "--maximum", "8GB", "--buffer", "30%"]
                .into_iter()
                .chain(["--smart-paging-folder", ""]);
        let cli = Cli::try_parse_from(line).expect("a good line");
        let Command::Memory(MemoryCommand::Set(set)) = cli.command else { panic!("memory set") };
        let names: Vec<_> = set.names.names.iter().map(NamePattern::as_str).collect();
        assert_eq!(names, ["Dev-*", "web01"]);
        let expected = MemoryPatch {
            dynamic: Some(true),
            maximum: Some(Bytes::from_mib(8192)),
            buffer: Some(Percent::new(30)),
            smart_paging_folder: Some(PathBuf::new()),
            ..MemoryPatch::default()
        };
        assert_eq!(set.patch(), expected);
    }
}
