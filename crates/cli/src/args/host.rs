//! `dynmem host …`, and the span of a history.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::values;

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Show what the host was, up to a year ago
    #[command(after_help = "\
Kept is a point each second for an hour, each minute for a week, each hour for a year.
Drawn is the highest of each moment; a blank is a time in which no daemon ran.
--json has each point and all events of the span.

Examples:
  dynmem host history
  dynmem host history --last 7d
  dynmem host history --last 1d --step 15m --csv > host.csv")]
    History(Span),
}

/// A stretch of the past.
#[derive(Debug, Args)]
pub(crate) struct Span {
    /// How far back: seconds, or 15m, 6h, 7d, 2w, 1y
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = values::span)]
    pub(crate) last: Duration,
    /// From one point to the next; never finer than what is kept [default: as fine as there is]
    #[arg(long, value_name = "TIME", value_parser = values::span)]
    pub(crate) step: Option<Duration>,
    /// Short for --output csv: a line for each point
    #[arg(long)]
    pub(crate) csv: bool,
}
