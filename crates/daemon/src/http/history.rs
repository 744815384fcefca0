//! `GET /v1/vms/{name}/history` and `GET /v1/host/history`.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use dynmem_api::{HistoryFormat, HistoryQuery, HostHistory, VmHistory, history_csv};
use dynmem_store::history::Subject;
use serde::Serialize;

use super::{
    answer::{self, Answer, json, problem},
    openapi::{BadRequest, Failed, NoSuchVm, Unavailable, VmName},
    routes::Shared,
    vms::{Name, name_of},
};
use crate::{
    history::{host_history, vm_history},
    supervisor::unknown,
};

type Asked = Result<Query<HistoryQuery>, QueryRejection>;

/// What a VM was: its memory over a span of time, and its events.
#[utoipa::path(
    get,
    path = "/v1/vms/{name}/history",
    operation_id = "get_vm_history",
    tag = "vms",
    params(VmName, HistoryQuery),
    responses(
        (status = 200, description = "Points in the order of time; as CSV a line of names and a line for each", content((VmHistory = "application/json"), (String = "text/csv"))),
        BadRequest, NoSuchVm, Failed, Unavailable
    )
)]
pub(super) async fn vm(State(shared): State<Shared>, name: Name, query: Asked) -> Answer<Response> {
    let (name, query) = (name_of(name)?, answer::query(query)?);
    if shared.snapshots.borrow().vm(&name).is_none() {
        return Err(unknown(&name).into());
    }
    let (span, series) = shared.history.ask(Subject::Vm(name.clone()), &query).await?;
    match query.format {
        HistoryFormat::Csv => csv(&vm_history(span, &series, Vec::new()).points),
        HistoryFormat::Json => {
            let events = shared.events.of_span(span, Some(name)).await?;
            Ok(json(vm_history(span, &series, events)).into_response())
        }
    }
}

/// What the host was: its memory over a span of time, and all events.
#[utoipa::path(
    get,
    path = "/v1/host/history",
    operation_id = "get_host_history",
    tag = "host",
    params(HistoryQuery),
    responses(
        (status = 200, description = "Points in the order of time; as CSV a line of names and a line for each", content((HostHistory = "application/json"), (String = "text/csv"))),
        BadRequest, Failed, Unavailable
    )
)]
pub(super) async fn host(State(shared): State<Shared>, query: Asked) -> Answer<Response> {
    let query = answer::query(query)?;
    let (span, series) = shared.history.ask(Subject::Host, &query).await?;
    match query.format {
        HistoryFormat::Csv => csv(&host_history(span, &series, Vec::new()).points),
        HistoryFormat::Json => {
            let events = shared.events.of_span(span, None).await?;
            Ok(json(host_history(span, &series, events)).into_response())
        }
    }
}

fn csv<P: Serialize>(points: &[P]) -> Answer<Response> {
    let text = history_csv(points).map_err(|error| problem(500, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response())
}
