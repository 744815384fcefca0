//! What VMs and the host were: [`VmHistory`] and [`HostHistory`], and which of
//! it is asked for: [`HistoryQuery`].

use dynmem_units::{Bytes, Percent};
use serde::{Deserialize, Serialize};

use crate::{EventView, MemoryStatus, VmState};

/// The most points in one answer: a week by the minute, and some.
pub const MAX_HISTORY_POINTS: u64 = 10_500;
/// The span that is told if none is asked for.
pub const DEFAULT_HISTORY_SECONDS: u64 = 3600;
/// The longest span that can be asked for: ten years.
pub const MAX_HISTORY_SECONDS: u64 = 10 * 366 * 86_400;
/// The end of the year 9999. What is larger is no time in seconds.
const UNIX_S_MAX: u64 = 253_402_300_799;

/// The query of `GET /v1/vms/{name}/history` and `GET /v1/host/history`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// Where the span begins, in seconds since 1970-01-01 UTC. An hour before
    /// `to` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Where it ends. Now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Seconds from one point to the next. It gets wider where what is kept of
    /// the span is, and where the answer would have more than 10500 points; the
    /// answer says what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(minimum = 1, maximum = 316_224_000_u32))]
    pub step: Option<u64>,
    /// The form of the answer; `json` if absent.
    #[cfg_attr(feature = "schema", param(inline))]
    #[serde(default)]
    pub format: HistoryFormat,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum HistoryFormat {
    /// One document, with the events.
    #[default]
    Json,
    /// A line of names and a line for each point (RFC 4180), without events.
    Csv,
}

impl HistoryQuery {
    /// Where the span begins and ends, seen from `now_unix_s`; or a sentence
    /// why there is no such span.
    ///
    /// ```
    /// # use dynmem_api::HistoryQuery;
    /// assert_eq!(HistoryQuery::default().checked_span(10_000), Ok((6400, 10_000)));
    /// let backwards = HistoryQuery { from: Some(7), to: Some(7), ..HistoryQuery::default() };
    /// assert!(backwards.checked_span(10_000).is_err());
    /// ```
    pub fn checked_span(&self, now_unix_s: u64) -> Result<(u64, u64), String> {
        for (name, time) in [("from", self.from), ("to", self.to)] {
            if let Some(time) = time.filter(|time| *time > UNIX_S_MAX) {
                return Err(format!(
                    "{name} {time} is beyond the year 9999: write seconds since 1970, not milliseconds"
                ));
            }
        }
        if let Some(step) = self.step.filter(|step| !(1..=MAX_HISTORY_SECONDS).contains(step)) {
            return Err(format!("step {step} is out of range: ask for 1 to {MAX_HISTORY_SECONDS} seconds"));
        }
        let to = self.to.unwrap_or_else(|| now_unix_s.max(self.from.map_or(0, |from| from + 1)));
        let from = self.from.unwrap_or_else(|| to.saturating_sub(DEFAULT_HISTORY_SECONDS));
        if from >= to {
            return Err(format!("from {from} is not before to {to}: a span begins before it ends"));
        }
        if to - from > MAX_HISTORY_SECONDS {
            return Err(format!(
                "The span from {from} to {to} is longer than {MAX_HISTORY_SECONDS} seconds: nothing is kept for so long"
            ));
        }
        Ok((from, to))
    }
}

/// What a VM was: the answer of `GET /v1/vms/{name}/history`. A stretch in
/// which it was off, or no daemon ran, has no point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VmHistory {
    /// Where the span begins, in seconds since 1970-01-01 UTC.
    pub from_unix_seconds: u64,
    /// Where it ends.
    pub to_unix_seconds: u64,
    /// From one point to the next.
    pub step_seconds: u64,
    /// In the order of time.
    pub points: Vec<VmPoint>,
    /// The newest events of this VM in the span, at most 1000, oldest first.
    #[serde(default)]
    pub events: Vec<EventView>,
}

/// What the host was: the answer of `GET /v1/host/history`. A stretch in which
/// no daemon ran has no point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HostHistory {
    /// Where the span begins, in seconds since 1970-01-01 UTC.
    pub from_unix_seconds: u64,
    /// Where it ends.
    pub to_unix_seconds: u64,
    /// From one point to the next.
    pub step_seconds: u64,
    /// In the order of time.
    pub points: Vec<HostPoint>,
    /// The newest events in the span, of the host and of all VMs, at most 1000,
    /// oldest first.
    #[serde(default)]
    pub events: Vec<EventView>,
}

/// A VM in one step: averages, unless a name says otherwise. Sizes are rounded
/// to 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VmPoint {
    /// When the step begins, in milliseconds since 1970-01-01 UTC.
    pub time_unix_ms: u64,
    /// Samples in it, one a second: fewer than the step's seconds if the VM
    /// was off for a part of it.
    pub samples: u32,
    /// Memory that the host lent to it.
    pub assigned_bytes: Option<Bytes>,
    /// The least of it.
    pub assigned_minimum_bytes: Option<Bytes>,
    /// The most of it.
    pub assigned_maximum_bytes: Option<Bytes>,
    /// Memory that the guest needed. Nothing before it first reports.
    pub demand_bytes: Option<Bytes>,
    /// The least of it.
    pub demand_minimum_bytes: Option<Bytes>,
    /// The most of it: a spike of a second is seen here.
    pub demand_maximum_bytes: Option<Bytes>,
    /// Demand and buffer, between minimum and maximum.
    pub target_bytes: Option<Bytes>,
    /// What the guest's memory manager said it had.
    pub guest_visible_bytes: Option<Bytes>,
    /// Memory that the balloon held.
    pub ballooned_bytes: Option<Bytes>,
    /// Demand ÷ assigned.
    pub pressure_percent: Option<Percent>,
    /// The highest of it.
    pub pressure_maximum_percent: Option<Percent>,
    /// Share of the time in which some task of the guest waited for memory.
    pub stall_percent: Option<Percent>,
    /// The highest of it.
    pub stall_maximum_percent: Option<Percent>,
    /// The worst.
    pub memory_status: Option<MemoryStatus>,
    /// The last.
    pub state: Option<VmState>,
}

/// The host in one step: averages, unless a name says otherwise. Sizes are
/// rounded to 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HostPoint {
    /// When the step begins, in milliseconds since 1970-01-01 UTC.
    pub time_unix_ms: u64,
    /// Samples in it, one a second.
    pub samples: u32,
    /// What could still be lent.
    pub available_bytes: Option<Bytes>,
    /// The least of it.
    pub available_minimum_bytes: Option<Bytes>,
    /// The most of it.
    pub available_maximum_bytes: Option<Bytes>,
    /// Everything charged to VMs.
    pub charged_bytes: Option<Bytes>,
    /// Sum of what VMs held.
    pub assigned_bytes: Option<Bytes>,
    /// What the host's kernel said was available to programs.
    pub host_available_bytes: Option<Bytes>,
    /// The least of it.
    pub host_available_minimum_bytes: Option<Bytes>,
    /// Share of the time in which some task of the host waited for memory.
    pub stall_percent: Option<Percent>,
    /// The highest of it.
    pub stall_maximum_percent: Option<Percent>,
}

/// Points as CSV: the names of their fields, then a line for each. No points,
/// no lines.
pub fn history_csv<P: Serialize>(points: &[P]) -> Result<Vec<u8>, csv::Error> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    points.iter().try_for_each(|point| csv.serialize(point))?;
    csv.into_inner().map_err(|error| error.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_can_not_be_is_a_sentence() {
        let refused = |from, to, step| {
            let query = HistoryQuery { from, to, step, ..HistoryQuery::default() };
            query.checked_span(1_700_000_000).expect_err("no such span")
        };
        assert_eq!(refused(Some(9), Some(9), None), "from 9 is not before to 9: a span begins before it ends");
        assert_eq!(refused(None, Some(0), None), "from 0 is not before to 0: a span begins before it ends");
        let milliseconds = refused(Some(1_700_000_000_000), None, None);
        assert!(milliseconds.ends_with("write seconds since 1970, not milliseconds"), "{milliseconds}");
        assert!(refused(Some(0), None, None).contains("longer than"));
        assert!(refused(None, None, Some(0)).starts_with("step 0 is out of range"));
    }

    #[test]
    fn a_span_that_begins_in_the_future_is_one() {
        let query = HistoryQuery { from: Some(2_000_000_000), ..HistoryQuery::default() };
        assert_eq!(query.checked_span(1_700_000_000), Ok((2_000_000_000, 2_000_000_001)));
    }

    #[test]
    fn csv_has_the_names_of_the_fields_in_their_order_and_nothing_where_nothing_is_known() {
        let point = HostPoint {
            time_unix_ms: 60_000,
            samples: 60,
            available_bytes: Some(Bytes::from_mib(1)),
            available_minimum_bytes: None,
            available_maximum_bytes: None,
            charged_bytes: None,
            assigned_bytes: None,
            host_available_bytes: None,
            host_available_minimum_bytes: None,
            stall_percent: Some(Percent::new(3)),
            stall_maximum_percent: None,
        };
        let text = String::from_utf8(history_csv(&[point]).expect("plain data")).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("time_unix_ms,samples,available_bytes,available_minimum_bytes,"), "{text}");
        assert_eq!(lines[1], "60000,60,1048576,,,,,,,3,");
        assert_eq!(history_csv::<HostPoint>(&[]).expect("nothing"), b"");
    }
}
