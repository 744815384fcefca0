//! `dynmem counters`.

use std::time::Duration;

use clap::Args;
use dynmem_api::counters::{CountersQuery, PATTERNS_MAX};

use super::values;

#[derive(Debug, Args)]
pub(crate) struct CountersArgs {
    /// VMs, counters or paths of counters; * is any characters, ? is one [default: all]
    #[arg(value_name = "PATTERNS", num_args = 0..=PATTERNS_MAX, value_parser = values::counter_pattern)]
    pub(crate) patterns: Vec<String>,
    /// Show which counters there are, instead of their numbers
    #[arg(long, conflicts_with_all = ["interval", "samples"])]
    pub(crate) list: bool,
    /// Seconds between two looks, 0.1 to 3600; without --samples until Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = values::interval)]
    pub(crate) interval: Option<Duration>,
    /// How many looks, a second apart unless --interval says otherwise
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) samples: Option<u64>,
}

impl CountersArgs {
    /// What is asked of the daemon.
    pub(crate) fn query(&self) -> CountersQuery {
        let pattern = (!self.patterns.is_empty()).then(|| self.patterns.join(","));
        CountersQuery { pattern }
    }

    /// How many looks are asked for; none for looks without end.
    pub(crate) fn looks(&self) -> Option<u64> {
        match (self.samples, self.interval) {
            (Some(samples), _) => Some(samples),
            (None, Some(_)) => None,
            (None, None) => Some(1),
        }
    }
}
