//! `dynmem meter …`.

use clap::{Args, Subcommand};
use dynmem_definition::NamePattern;

use super::Yes;

#[derive(Debug, Subcommand)]
pub(crate) enum MeterCommand {
    /// Begin to meter VMs; those that are metered already go on
    #[command(after_help = "Examples:\n  dynmem meter enable web01 'Dev-*'\n  dynmem meter enable --all")]
    Enable(MeterNames),
    /// End metering VMs, and forget what was metered
    #[command(
        after_help = "It asks first.\n\nExamples:\n  dynmem meter disable web01\n  dynmem meter disable --all --yes"
    )]
    Disable(MeterToLose),
    /// Show the average, least and most memory of VMs since metering began
    #[command(after_help = "\
The average is weighted by time. Only the time counts in which a VM is on. The
last line is the pool of all that are shown: the sum of their averages.

Examples:
  dynmem meter show
  dynmem meter show 'Dev-*' --json")]
    Show {
        /// Names of VMs, or patterns such as 'Dev-*' [default: all that are metered]
        #[arg(value_name = "NAMES")]
        names: Vec<NamePattern>,
    },
    /// Forget what was metered so far, and begin anew
    #[command(after_help = "It asks first.\n\nExamples:\n  dynmem meter reset web01\n  dynmem meter reset --all --yes")]
    Reset(MeterToLose),
}

/// VMs whose figures would be lost.
#[derive(Debug, Args)]
pub(crate) struct MeterToLose {
    #[command(flatten)]
    pub(crate) names: MeterNames,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

#[derive(Debug, Args)]
pub(crate) struct MeterNames {
    /// Names of VMs, or patterns such as 'Dev-*'
    #[arg(required_unless_present = "all", value_name = "NAMES")]
    names: Vec<NamePattern>,
    /// All VMs; of `reset` and `disable` all that are metered
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl MeterNames {
    /// The names; none for all VMs.
    pub(crate) fn names(&self) -> &[NamePattern] {
        if self.all { &[] } else { &self.names }
    }
}
