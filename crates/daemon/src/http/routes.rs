//! Which request does what.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{Method, Uri},
    middleware::from_fn,
    response::Json,
    routing::{delete, get, patch, post},
};
use dynmem_api::{EventView, EventsQuery, HostView, VersionView};
use tokio::sync::{Semaphore, watch};

use super::{
    answer::{self, Answer, Refusal, json, no_query, problem},
    counters, history, live, meter, metrics, vms,
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
    // Those that take a query, and those that take none.
    let queried = Router::new()
        .route("/v1/vms", post(vms::create))
        .route("/v1/vms/{name}/start", post(vms::start))
        .route("/v1/vms/{name}/memory", patch(vms::set_memory))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/counters", get(counters::counters))
        .route("/v1/events", get(events))
        .route("/v1/vms/{name}/history", get(history::vm))
        .route("/v1/host/history", get(history::host))
        .route("/v1/live", get(live::live));
    let plain = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/host", get(host))
        .route("/v1/vms", get(vms::vms))
        .route("/v1/vms/{name}", get(vms::vm).delete(vms::delete))
        .route("/v1/vms/{name}/explanation", get(vms::explanation))
        .route("/v1/vms/{name}/stop", post(vms::stop))
        .route("/v1/vms/{name}/restart", post(vms::restart))
        .route("/v1/vms/{name}/pause", post(vms::pause))
        .route("/v1/vms/{name}/resume", post(vms::resume))
        .route("/v1/vms/{name}/save", post(vms::save))
        .route("/v1/vms/{name}/saved", delete(vms::discard))
        .route("/v1/vms/{name}/autostart", patch(vms::set_autostart))
        .merge(meter::routes())
        .route_layer(from_fn(no_query));
    queried.merge(plain).fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(shared)
}

async fn no_such_path(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    problem(404, format!("There is no {path} here: see the HTTP API's documentation for what there is"))
}

async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    problem(405, format!("{path} does not take {method}"))
}

async fn version() -> Json<VersionView> {
    json(VersionView { version: env!("CARGO_PKG_VERSION").to_owned() })
}

async fn host(State(shared): State<Shared>) -> Json<HostView> {
    json(shared.snapshots.borrow().host.clone())
}

async fn events(
    State(shared): State<Shared>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Json<Vec<EventView>>> {
    let query = answer::query(query)?;
    query.checked_limit().map_err(|rule| problem(400, rule))?;
    Ok(json(shared.events.query(query).await?))
}
