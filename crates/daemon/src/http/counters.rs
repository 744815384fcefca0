//! `GET /v1/counters`: the table of counters over the newest snapshot.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Json,
};
use dynmem_api::counters::{CountersQuery, CountersView, select};

use super::{
    answer::{self, Answer, json, problem},
    openapi::BadRequest,
    routes::Shared,
};
use crate::clock::unix_ms;

/// Counters, now: every number that dynmem gives, or those that are asked for.
#[utoipa::path(
    get,
    path = "/v1/counters",
    operation_id = "get_counters",
    tag = "host",
    params(CountersQuery),
    responses((status = 200, description = "Numbers in base units", body = CountersView), BadRequest)
)]
pub(super) async fn counters(
    State(shared): State<Shared>,
    query: Result<Query<CountersQuery>, QueryRejection>,
) -> Answer<Json<CountersView>> {
    let query = answer::query(query)?;
    let snapshot = Arc::clone(&shared.snapshots.borrow());
    let samples = select(&query.patterns(), &snapshot.host, &snapshot.vms)
        .map_err(|unknown| problem(400, unknown.to_string()))?;
    Ok(json(CountersView { time_unix_ms: unix_ms(), samples }))
}
