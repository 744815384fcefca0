//! Which request does what.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{Method, Uri},
    middleware::from_fn,
    response::Json,
};
use dynmem_api::{EventView, EventsQuery, HostView, VersionView};
use tokio::sync::{Semaphore, watch};
use utoipa::{OpenApi as _, openapi::OpenApi as Document};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    answer::{self, Answer, Refusal, json, no_query, problem},
    counters, history, live, meter, metrics,
    openapi::{self, BadRequest, Description, Failed, Unavailable},
    vms,
};
use crate::{
    history::HistoryReader,
    log::LogReader,
    supervisor::{Commands, Snapshot},
};

/// Dry runs at a time; others wait for their turn.
const DRY_RUNS_MAX: usize = 2;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) commands: Commands,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) events: LogReader,
    pub(crate) history: HistoryReader,
    /// Dry runs that may be under way: each has a copy of the engine.
    pub(crate) dry_runs: Arc<Semaphore>,
    /// Live streams that may be under way.
    pub(crate) streams: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(
        commands: Commands,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        events: LogReader,
        history: HistoryReader,
    ) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (dry_runs, streams) = (places(DRY_RUNS_MAX), places(live::STREAMS_MAX));
        Self { commands, snapshots, events, history, dry_runs, streams }
    }
}

pub(crate) fn router(shared: Shared) -> Router {
    described().0.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(shared)
}

/// The routes, and what they are.
pub(super) fn described() -> (Router<Shared>, Document) {
    // Those that take a query, and those that take none.
    let queried = OpenApiRouter::new()
        .routes(routes!(vms::create))
        .routes(routes!(vms::start))
        .routes(routes!(vms::set_memory))
        .routes(routes!(metrics::metrics))
        .routes(routes!(counters::counters))
        .routes(routes!(events))
        .routes(routes!(history::vm))
        .routes(routes!(history::host))
        .routes(routes!(live::live));
    let plain = OpenApiRouter::new()
        .routes(routes!(openapi::describe))
        .routes(routes!(version))
        .routes(routes!(host))
        .routes(routes!(vms::vms))
        .routes(routes!(vms::vm, vms::delete))
        .routes(routes!(vms::explanation))
        .routes(routes!(vms::stop))
        .routes(routes!(vms::restart))
        .routes(routes!(vms::pause))
        .routes(routes!(vms::resume))
        .routes(routes!(vms::save))
        .routes(routes!(vms::discard))
        .routes(routes!(vms::set_autostart))
        .merge(meter::routes())
        .route_layer(from_fn(no_query));
    OpenApiRouter::with_openapi(Description::openapi()).merge(queried).merge(plain).split_for_parts()
}

async fn no_such_path(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    problem(404, format!("There is no {path} here: see the HTTP API's documentation for what there is"))
}

async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    problem(405, format!("{path} does not take {method}"))
}

/// The daemon's version.
#[utoipa::path(
    get,
    path = "/v1/version",
    operation_id = "get_version",
    tag = "daemon",
    responses((status = 200, description = "The version", body = VersionView), BadRequest)
)]
async fn version() -> Json<VersionView> {
    json(VersionView { version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// The host's memory, and who has it.
#[utoipa::path(
    get,
    path = "/v1/host",
    operation_id = "get_host",
    tag = "host",
    responses((status = 200, description = "The host", body = HostView), BadRequest)
)]
async fn host(State(shared): State<Shared>) -> Json<HostView> {
    json(shared.snapshots.borrow().host.clone())
}

/// What happened, oldest first.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "host",
    params(EventsQuery),
    responses((status = 200, description = "Events", body = Vec<EventView>), BadRequest, Failed, Unavailable)
)]
async fn events(
    State(shared): State<Shared>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Json<Vec<EventView>>> {
    let query = answer::query(query)?;
    query.checked_limit().map_err(|rule| problem(400, rule))?;
    Ok(json(shared.events.query(query).await?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described() {
        let (router, description) = described();
        let words = format!("{router:?}");
        let (words, _) = words.split_once("fallback_router").expect("a router shows its routes");
        let served: BTreeSet<_> = words.split('"').filter(|word| word.starts_with('/')).collect();
        let described: BTreeSet<_> = description.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(served, described, "routes come by routes!(…), not by .route(…)");
    }
}
