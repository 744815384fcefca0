//! VMs: what is asked of them and by which request.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Json, Response},
};
use dynmem_api::{
    AutostartPatch, ChangeQuery, DryRunView, ExplanationView, IfMatch, MemoryPatch, SettingsTag, StopMode, StopRequest,
    VmView,
};
use dynmem_definition::VmDefinition;
use tokio::task::spawn_blocking;

use super::{
    answer::{Answer, json, problem, query, read},
    openapi::{
        ActedVm, BadRequest, ChangeAnswer, Changed, Condition, Conflict, Failed, NoSuchVm, TaggedChange, TaggedVm,
        TooLarge, Unavailable, VmName,
    },
    routes::Shared,
};
use crate::supervisor::{Action, Command, SettingsPatch, Target, Trial, shutting_down, unknown};

/// How long a guest may take to shut down for a restart, before it is reset.
const RESTART_GRACE_MS: u64 = 60_000;

/// A name in a path, which may be no text at all.
pub(super) type Name = Result<Path<String>, PathRejection>;

pub(super) fn name_of(name: Name) -> Answer<String> {
    match name {
        Ok(Path(name)) => Ok(name),
        Err(error) => Err(problem(400, format!("The name in the path is not understood: {error}"))),
    }
}

/// All VMs, by name.
#[utoipa::path(
    get,
    path = "/v1/vms",
    operation_id = "list_vms",
    tag = "vms",
    responses((status = 200, description = "The VMs", body = Vec<VmView>), BadRequest)
)]
pub(super) async fn vms(State(shared): State<Shared>) -> impl IntoResponse {
    // The words of the newest snapshot as they are: nothing is written for one request.
    let snapshot = Arc::clone(&shared.snapshots.borrow());
    ([(header::CONTENT_TYPE, "application/json")], snapshot.list())
}

/// One VM.
#[utoipa::path(
    get,
    path = "/v1/vms/{name}",
    operation_id = "get_vm",
    tag = "vms",
    params(VmName),
    responses(TaggedVm, BadRequest, NoSuchVm)
)]
pub(super) async fn vm(State(shared): State<Shared>, name: Name) -> Answer<impl IntoResponse> {
    let name = name_of(name)?;
    let found = shared.snapshots.borrow().vm(&name).cloned();
    found.map(tagged).ok_or_else(|| unknown(&name).into())
}

/// Why a VM has the memory that it has, and what would change it.
#[utoipa::path(
    get,
    path = "/v1/vms/{name}/explanation",
    operation_id = "explain_vm",
    tag = "vms",
    params(VmName),
    responses((status = 200, description = "Why", body = ExplanationView), BadRequest, NoSuchVm, Unavailable)
)]
pub(super) async fn explanation(State(shared): State<Shared>, name: Name) -> Answer<Json<ExplanationView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Explain(name, reply)).await?))
}

/// The query of a change that can be tried.
type Change = Result<Query<ChangeQuery>, QueryRejection>;

/// Defines a VM. It is off then.
#[utoipa::path(
    post,
    path = "/v1/vms",
    operation_id = "create_vm",
    tag = "vms",
    params(ChangeQuery),
    request_body = VmDefinition,
    responses(
        (status = 201, description = "It is defined", body = VmView),
        (status = 200, description = "What would come of it, for a dry run", body = DryRunView),
        BadRequest, Conflict, TooLarge, Failed, Unavailable
    )
)]
pub(super) async fn create(State(shared): State<Shared>, change: Change, body: Body) -> Answer<Response> {
    let ChangeQuery { dry_run } = query(change)?;
    let definition = Box::new(read::<VmDefinition>(body, None).await?);
    if dry_run {
        return preview(shared, Trial::Create(definition)).await;
    }
    let view = shared.commands.ask(|reply| Command::Create(definition, reply)).await?;
    Ok((StatusCode::CREATED, json(view)).into_response())
}

/// What a change would come to. The engine's copy is followed in another
/// thread.
async fn preview(shared: Shared, trial: Trial) -> Answer<Response> {
    let place = Arc::clone(&shared.dry_runs).acquire_owned().await.map_err(|_| shutting_down())?;
    let preview = shared.commands.ask(|reply| Command::Preview(trial, reply)).await?;
    let view = spawn_blocking(move || (preview.view(), place)).await;
    let (view, _) = view.map_err(|error| problem(500, format!("The dry run broke down: {error}")))?;
    Ok(json(view).into_response())
}

/// Forgets a VM that is off. Its disks stay.
#[utoipa::path(
    delete,
    path = "/v1/vms/{name}",
    operation_id = "delete_vm",
    tag = "vms",
    params(VmName),
    responses((status = 204, description = "It is gone"), BadRequest, NoSuchVm, Conflict, Failed, Unavailable)
)]
pub(super) async fn delete(State(shared): State<Shared>, name: Name) -> Answer<StatusCode> {
    let name = name_of(name)?;
    shared.commands.ask(|reply| Command::Delete(name, reply)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a VM's memory settings: all that is asked, or nothing.
#[utoipa::path(
    patch,
    path = "/v1/vms/{name}/memory",
    operation_id = "set_memory",
    tag = "vms",
    params(VmName, ChangeQuery, Condition),
    request_body = MemoryPatch,
    responses(TaggedChange, BadRequest, NoSuchVm, Changed, TooLarge, Failed, Unavailable)
)]
pub(super) async fn set_memory(
    State(shared): State<Shared>,
    name: Name,
    change: Change,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let target = target(name, &headers)?;
    let ChangeQuery { dry_run } = query(change)?;
    let patch: MemoryPatch = read(body, None).await?;
    if dry_run {
        return preview(shared, Trial::Memory(target, patch)).await;
    }
    let patch = SettingsPatch::Memory(patch);
    Ok(tagged(shared.commands.ask(|reply| Command::Set(target, patch, reply)).await?).into_response())
}

/// Changes what becomes of a VM when its host has come up.
#[utoipa::path(
    patch,
    path = "/v1/vms/{name}/autostart",
    operation_id = "set_autostart",
    tag = "vms",
    params(VmName, Condition),
    request_body = AutostartPatch,
    responses(TaggedVm, BadRequest, NoSuchVm, Changed, TooLarge, Failed, Unavailable)
)]
pub(super) async fn set_autostart(
    State(shared): State<Shared>,
    name: Name,
    headers: HeaderMap,
    body: Body,
) -> Answer<impl IntoResponse> {
    let target = target(name, &headers)?;
    let patch = SettingsPatch::Autostart(read(body, None).await?);
    Ok(tagged(shared.commands.ask(|reply| Command::Set(target, patch, reply)).await?))
}

async fn act(shared: Shared, name: Name, action: Action) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Act(name, action, reply)).await?))
}

/// Starts a VM, or lets a saved one go on; answers when its machine runs.
#[utoipa::path(
    post,
    path = "/v1/vms/{name}/start",
    operation_id = "start_vm",
    tag = "vms",
    params(VmName, ChangeQuery),
    responses(
        (status = 200, description = "The VM; for a dry run a `DryRunView`", body = ChangeAnswer),
        BadRequest, NoSuchVm, Conflict, Failed, Unavailable
    )
)]
pub(super) async fn start(State(shared): State<Shared>, name: Name, change: Change) -> Answer<Response> {
    let ChangeQuery { dry_run } = query(change)?;
    if dry_run {
        return preview(shared, Trial::Start(name_of(name)?)).await;
    }
    Ok(act(shared, name, Action::Start).await?.into_response())
}

/// Stops a VM, and answers when it is off. Without a body its guest is asked, and has a minute.
#[utoipa::path(
    post,
    path = "/v1/vms/{name}/stop",
    operation_id = "stop_vm",
    tag = "vms",
    params(VmName),
    request_body = Option<StopRequest>,
    responses(ActedVm, BadRequest, NoSuchVm, Conflict, TooLarge, Failed, Unavailable)
)]
pub(super) async fn stop(State(shared): State<Shared>, name: Name, body: Body) -> Answer<Json<VmView>> {
    let request = read(body, Some(StopRequest::default())).await?;
    request.check().map_err(|rule| problem(400, rule))?;
    let grace_ms = match request.mode {
        StopMode::Graceful => Some(u64::from(request.timeout_seconds) * 1000),
        StopMode::Force => None,
    };
    act(shared, name, Action::Stop { grace_ms }).await
}

/// Restarts a VM, and answers when it boots again. Its guest has a minute to shut down.
#[utoipa::path(
    post,
    path = "/v1/vms/{name}/restart",
    operation_id = "restart_vm",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Conflict, Failed, Unavailable)
)]
pub(super) async fn restart(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Restart { grace_ms: Some(RESTART_GRACE_MS) }).await
}

/// Halts a VM. It keeps its memory.
#[utoipa::path(
    post,
    path = "/v1/vms/{name}/pause",
    operation_id = "pause_vm",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Conflict, Failed, Unavailable)
)]
pub(super) async fn pause(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Pause).await
}

/// Lets a paused VM go on.
#[utoipa::path(
    post,
    path = "/v1/vms/{name}/resume",
    operation_id = "resume_vm",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Conflict, Failed, Unavailable)
)]
pub(super) async fn resume(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Resume).await
}

/// Writes a VM to a file, and answers when its memory is free.
#[utoipa::path(
    post,
    path = "/v1/vms/{name}/save",
    operation_id = "save_vm",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Conflict, Failed, Unavailable)
)]
pub(super) async fn save(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, Action::Save).await
}

/// Deletes what was saved of a VM. It is off then.
#[utoipa::path(
    delete,
    path = "/v1/vms/{name}/saved",
    operation_id = "discard_saved",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Conflict, Failed, Unavailable)
)]
pub(super) async fn discard(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Discard(name, reply)).await?))
}

/// A VM with the tag of its settings. The tag does not stand for the figures
/// that move by themselves: nobody may keep this answer for it.
fn tagged(vm: VmView) -> impl IntoResponse {
    let headers = [(header::ETAG, SettingsTag::of(&vm).to_string()), (header::CACHE_CONTROL, "no-store".to_owned())];
    (headers, json(vm))
}

/// Whose settings are to change, and the condition in the request's head.
fn target(name: Name, headers: &HeaderMap) -> Answer<Target> {
    let name = name_of(name)?;
    let lines: Vec<_> = headers.get_all(header::IF_MATCH).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Ok(Target { name, condition: None });
    }
    let list = lines.join(&b", "[..]);
    let condition: IfMatch = String::from_utf8_lossy(&list).parse().map_err(|rule: String| problem(400, rule))?;
    Ok(Target { name, condition: Some(condition) })
}
