//! What happened: [`EventView`], and which of it is asked for:
//! [`EventsQuery`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Events in one answer unless `limit` says otherwise.
pub const DEFAULT_EVENTS: u32 = 100;
/// The most events in one answer.
pub const MAX_EVENTS: u32 = 1000;

/// One entry of the durable log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Rises with every event; never used twice.
    pub id: u64,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_unix_ms: u64,
    /// The VM it is about; none for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// What sort of event, in kebab-case: `start-refused`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// The numbers behind the sentence; names end in their unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, i64>,
}

/// The query of `GET /v1/events`. The answer is always oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only what came after this id: the first `limit` of them. Without it,
    /// the newest `limit` events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many at most: 1–1000, 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(minimum = 1, maximum = 1000))]
    pub limit: Option<u32>,
    /// Only events of this VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
}

impl EventsQuery {
    /// How many events to answer with, or a sentence why not.
    ///
    /// ```
    /// # use dynmem_api::EventsQuery;
    /// assert_eq!(EventsQuery::default().checked_limit(), Ok(100));
    /// assert!(EventsQuery { limit: Some(0), ..EventsQuery::default() }.checked_limit().is_err());
    /// ```
    pub fn checked_limit(&self) -> Result<u32, String> {
        match self.limit.unwrap_or(DEFAULT_EVENTS) {
            limit @ 1..=MAX_EVENTS => Ok(limit),
            limit => Err(format!("Limit {limit} is out of range: ask for 1 to {MAX_EVENTS} events")),
        }
    }
}
