//! Counters: every number that dynmem gives about a VM or the host, declared
//! once.
//!
//! ```text
//!  VmView, HostView ──▶ Counter::read ──▶ ├ GET /v1/counters, `dynmem counters`   (select)
//!        a row of the tables in `vm` and `host` ├ GET /metrics
//!                                               └ docs/counters.md                (docs)
//! ```
//! Whoever adds a counter adds one row: the API, the command line, Prometheus
//! and the documentation have it then. Names and sets are those that
//! administrators of Hyper-V know, where there is such a counter.

use std::fmt;

use dynmem_units::{Bytes, Percent};
use serde::{Deserialize, Serialize};

use crate::{HostView, VmView};

mod docs;
mod host;
mod select;
mod vm;

pub use docs::markdown;
pub use select::{
    COUNTER_SAMPLES_MAX, CounterSample, CountersQuery, CountersView, PATTERNS_MAX, UnknownCounter, select,
};

/// The instance of counters that are about the host as a whole.
pub const HOST_INSTANCE: &str = "System Balancer";

/// Which family a counter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CounterSet {
    /// One VM, as the host sees it.
    #[serde(rename = "Dynamic Memory VM")]
    Vm,
    /// The host and all of its VMs.
    #[serde(rename = "Dynamic Memory Balancer")]
    Balancer,
    /// One VM, as its guest sees it.
    #[serde(rename = "Dynamic Memory Integration Service")]
    IntegrationService,
}

impl CounterSet {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Vm, Self::Balancer, Self::IntegrationService];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vm => "Dynamic Memory VM",
            Self::Balancer => "Dynamic Memory Balancer",
            Self::IntegrationService => "Dynamic Memory Integration Service",
        }
    }
}

impl fmt::Display for CounterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a counter's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = CounterUnit))]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes; people read MB, which are 2²⁰ of them.
    Bytes,
    /// Parts of a hundred; Prometheus has parts of one.
    Percent,
    /// Seconds.
    Seconds,
    /// Things or operations.
    Count,
    /// A code; the counter's description tells what each number means. Also what
    /// a later daemon counts and we don't know.
    #[serde(other)]
    Level,
}

impl Unit {
    /// As people read it.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Bytes => "MB",
            Self::Percent => "%",
            Self::Seconds => "s",
            Self::Count => "count",
            Self::Level => "level",
        }
    }

    /// `value` in the unit that people read: `1536`, or `300.5` MB.
    ///
    /// ```
    /// # use dynmem_api::counters::Unit;
    /// assert_eq!(Unit::Bytes.text(1 << 30), "1024");
    /// assert_eq!(Unit::Bytes.text((1 << 20) + (1 << 19)), "1.5");
    /// assert_eq!(Unit::Percent.text(-25), "-25");
    /// ```
    pub fn text(self, value: i64) -> String {
        let Self::Bytes = self else { return value.to_string() };
        let (mib, tenths) = ((value >> 20), ((value & 0xf_ffff) * 10) >> 20);
        if tenths == 0 { mib.to_string() } else { format!("{mib}.{tenths}") }
    }
}

/// How a counter's number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only rises, until the machine or the daemon is started anew.
    Cumulative,
}

/// From a view to a number in the base unit; none while there is none.
#[derive(Clone, Copy, Debug)]
enum Source {
    Vm(fn(&VmView) -> Option<i64>),
    Host(fn(&HostView) -> Option<i64>),
}

/// One counter: everything that is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Its family.
    pub set: CounterSet,
    /// Its name, unique in its family.
    pub name: &'static str,
    /// What its number counts.
    pub unit: Unit,
    /// How its number behaves.
    pub kind: Kind,
    /// Its name in Prometheus, unique, in base units.
    pub prometheus: &'static str,
    /// What it says: a sentence.
    pub help: &'static str,
    source: Source,
}

impl Counter {
    /// What it says about a VM now; none for counters of the host.
    pub fn of_vm(&self, vm: &VmView) -> Option<i64> {
        match self.source {
            Source::Vm(read) => read(vm),
            Source::Host(_) => None,
        }
    }

    /// What it says about the host now; none for counters of a VM.
    pub fn of_host(&self, host: &HostView) -> Option<i64> {
        match self.source {
            Source::Vm(_) => None,
            Source::Host(read) => read(host),
        }
    }

    /// Whether there is one for each VM.
    pub const fn is_per_vm(&self) -> bool {
        matches!(self.source, Source::Vm(_))
    }
}

/// Every counter there is, family by family.
pub fn all() -> impl Iterator<Item = &'static Counter> {
    vm::COUNTERS.iter().chain(host::COUNTERS).chain(vm::IN_THE_GUEST)
}

#[expect(clippy::unnecessary_wraps, reason = "the rows' functions give options, and this is most of them")]
fn size(size: Bytes) -> Option<i64> {
    Some(i64::try_from(size.get()).unwrap_or(i64::MAX))
}

fn percent(percent: Option<Percent>) -> Option<i64> {
    percent.map(|percent| i64::from(percent.get()))
}

#[expect(clippy::unnecessary_wraps, reason = "as above")]
fn count(count: u64) -> Option<i64> {
    Some(i64::try_from(count).unwrap_or(i64::MAX))
}

#[expect(clippy::unnecessary_wraps, reason = "as above")]
fn flag(yes: bool) -> Option<i64> {
    Some(i64::from(yes))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_prometheus_names_keep_its_conventions() {
        let (mut names, mut metrics) = (HashSet::new(), HashSet::new());
        for counter in all() {
            let Counter { set, name, unit, kind, prometheus, help, .. } = *counter;
            assert!(names.insert((set, name)), "{set} {name} is there twice");
            assert!(metrics.insert(prometheus), "{prometheus} is there twice");
            let prefix = if counter.is_per_vm() { "dynmem_vm_" } else { "dynmem_host_" };
            let base = prometheus.strip_suffix("_total").unwrap_or(prometheus);
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(prometheus.starts_with(prefix) && prometheus.bytes().all(legal), "{prometheus}");
            assert_eq!(prometheus.ends_with("_total"), kind == Kind::Cumulative, "{prometheus}");
            let suffix = match unit {
                Unit::Bytes => "_bytes",
                Unit::Percent => "_ratio",
                Unit::Seconds => "_seconds",
                Unit::Count | Unit::Level => "",
            };
            assert!(base.ends_with(suffix), "{prometheus} counts {unit:?}");
            assert!(help.ends_with('.') && !help.contains(['\n', '|', '\\']), "{name}: {help}");
            assert_eq!(counter.is_per_vm(), set != CounterSet::Balancer, "{name}");
        }
    }

    #[test]
    fn every_counter_that_administrators_know_is_there() {
        let known = [
            (
                CounterSet::Vm,
                vec![
                    "Added Memory",
                    "Removed Memory",
                    "Memory Add Operations",
                    "Memory Remove Operations",
                    "Physical Memory",
                    "Guest Visible Physical Memory",
                    "Guest Available Memory",
                    "Current Pressure",
                    "Average Pressure",
                    "Minimum Pressure",
                    "Maximum Pressure",
                    "Smart Paging Working Set Size",
                ],
            ),
            (
                CounterSet::Balancer,
                vec![
                    "Available Memory",
                    "Available Memory For Balancing",
                    "Average Pressure",
                    "System Current Pressure",
                    "Added Memory",
                    "Removed Memory",
                    "Memory Add Operations",
                    "Memory Remove Operations",
                ],
            ),
            (CounterSet::IntegrationService, vec!["Maximum Memory"]),
        ];
        for (set, names) in known {
            for name in names {
                assert!(all().any(|counter| counter.set == set && counter.name == name), "{set}: {name} is missing");
            }
        }
    }
}
