//! Which request does what.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Json},
    routing::{get, patch, post},
};
use dynmem_api::{
    AutostartPatch, EventView, EventsQuery, ExplanationView, HostView, MemoryPatch, StopMode, StopRequest, VersionView,
    VmView,
};
use dynmem_definition::VmDefinition;
use tokio::sync::watch;

use super::{
    answer::{Answer, Refusal, json, problem, read},
    history,
};
use crate::{
    history::HistoryReader,
    log::LogReader,
    supervisor::{Action, Command, Commands, Snapshot},
};

/// How long a guest may take to shut down for a restart, before it is reset.
const RESTART_GRACE_MS: u64 = 60_000;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) commands: Commands,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) events: LogReader,
    pub(crate) history: HistoryReader,
}

/// A name in a path, which may be no text at all.
pub(super) type Name = Result<Path<String>, PathRejection>;

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/host", get(host))
        .route("/v1/vms", get(vms).post(create))
        .route("/v1/vms/{name}", get(vm).delete(delete))
        .route("/v1/vms/{name}/explanation", get(explanation))
        .route("/v1/vms/{name}/start", post(start))
        .route("/v1/vms/{name}/stop", post(stop))
        .route("/v1/vms/{name}/restart", post(restart))
        .route("/v1/vms/{name}/pause", post(pause))
        .route("/v1/vms/{name}/resume", post(resume))
        .route("/v1/vms/{name}/save", post(save))
        .route("/v1/vms/{name}/saved", axum::routing::delete(discard))
        .route("/v1/vms/{name}/memory", patch(set_memory))
        .route("/v1/vms/{name}/autostart", patch(set_autostart))
        .route("/metrics", get(super::metrics::metrics))
        .route("/v1/counters", get(super::counters::counters))
        .route("/v1/events", get(events))
        .route("/v1/vms/{name}/history", get(history::vm))
        .route("/v1/host/history", get(history::host))
        .merge(super::meter::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(shared)
}

async fn no_such_path(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    problem(404, format!("There is no {path} here: see the HTTP API's documentation for what there is"))
}

async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    problem(405, format!("{path} does not take {method}"))
}

pub(super) fn name_of(name: Name) -> Answer<String> {
    match name {
        Ok(Path(name)) => Ok(name),
        Err(error) => Err(problem(400, format!("The name in the path is not understood: {error}"))),
    }
}

async fn version() -> Json<VersionView> {
    json(VersionView { version: env!("CARGO_PKG_VERSION").to_owned() })
}

async fn host(State(shared): State<Shared>) -> Json<HostView> {
    json(shared.snapshots.borrow().host.clone())
}

async fn vms(State(shared): State<Shared>) -> Json<Vec<VmView>> {
    json(shared.snapshots.borrow().vms.clone())
}

async fn vm(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    let found = shared.snapshots.borrow().vm(&name).cloned();
    let shown: String = name.chars().take(80).collect();
    found.map(json).ok_or_else(|| problem(404, format!("No VM is named {shown:?}")))
}

async fn explanation(State(shared): State<Shared>, name: Name) -> Answer<Json<ExplanationView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Explain(name, reply)).await?))
}

async fn create(State(shared): State<Shared>, body: Body) -> Answer<impl IntoResponse> {
    let definition: VmDefinition = read(body, None).await?;
    let view = shared.commands.ask(|reply| Command::Create(Box::new(definition), reply)).await?;
    Ok((StatusCode::CREATED, json(view)))
}

async fn delete(State(shared): State<Shared>, name: Name) -> Answer<StatusCode> {
    let name = name_of(name)?;
    shared.commands.ask(|reply| Command::Delete(name, reply)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_memory(State(shared): State<Shared>, name: Name, body: Body) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    let patch: MemoryPatch = read(body, None).await?;
    Ok(json(shared.commands.ask(|reply| Command::Configure(name, patch, reply)).await?))
}

async fn set_autostart(State(shared): State<Shared>, name: Name, body: Body) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    let patch: AutostartPatch = read(body, None).await?;
    Ok(json(shared.commands.ask(|reply| Command::SetAutostart(name, patch, reply)).await?))
}

async fn act(shared: Shared, name: Name, action: Action) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Act(name, action, reply)).await?))
}

async fn start(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Start).await
}

async fn stop(State(shared): State<Shared>, name: Name, body: Body) -> Answer<Json<VmView>> {
    let request = read(body, Some(StopRequest::default())).await?;
    request.check().map_err(|rule| problem(400, rule))?;
    let grace_ms = match request.mode {
        StopMode::Graceful => Some(u64::from(request.timeout_seconds) * 1000),
        StopMode::Force => None,
    };
    act(shared, name, Action::Stop { grace_ms }).await
}

async fn restart(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Restart { grace_ms: Some(RESTART_GRACE_MS) }).await
}

async fn pause(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Pause).await
}

async fn resume(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Resume).await
}

async fn save(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Save).await
}

async fn discard(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Discard(name, reply)).await?))
}

async fn events(
    State(shared): State<Shared>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Json<Vec<EventView>>> {
    let Query(query) = query.map_err(|error| problem(400, format!("The query is not understood: {error}")))?;
    query.checked_limit().map_err(|rule| problem(400, rule))?;
    Ok(json(shared.events.query(query).await?))
}
