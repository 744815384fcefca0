//! `/v1/vms/{name}/meter`: resource metering of one VM.

use axum::{extract::State, response::Json};
use dynmem_api::{MeterView, VmView};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    answer::{Answer, json, problem},
    openapi::{ActedVm, BadRequest, Conflict, NoSuchVm, Unavailable, VmName},
    routes::Shared,
    vms::{Name, name_of},
};
use crate::supervisor::{Command, MeterAction, unknown};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(show, enable, disable)).routes(routes!(reset))
}

/// What was metered of a VM since its metering began.
#[utoipa::path(
    get,
    path = "/v1/vms/{name}/meter",
    operation_id = "get_meter",
    tag = "vms",
    params(VmName),
    responses(
        (status = 200, description = "Memory on average, at least and at most", body = MeterView),
        BadRequest, NoSuchVm
    )
)]
async fn show(State(shared): State<Shared>, name: Name) -> Answer<Json<MeterView>> {
    let name = name_of(name)?;
    let snapshot = shared.snapshots.borrow();
    let vm = snapshot.vm(&name).ok_or_else(|| unknown(&name))?;
    let advice = || problem(404, format!("{name} is not metered: enable that first (dynmem meter enable {name})"));
    vm.meter.clone().map(json).ok_or_else(advice)
}

async fn act(shared: Shared, name: Name, action: MeterAction) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Meter(name, action, reply)).await?))
}

/// Begins to meter a VM's memory. One that is metered goes on.
#[utoipa::path(
    put,
    path = "/v1/vms/{name}/meter",
    operation_id = "enable_meter",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Unavailable)
)]
async fn enable(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, MeterAction::Enable).await
}

/// Begins a VM's metering anew.
#[utoipa::path(
    post,
    path = "/v1/vms/{name}/meter/reset",
    operation_id = "reset_meter",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Conflict, Unavailable)
)]
async fn reset(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, MeterAction::Reset).await
}

/// Ends a VM's metering, and forgets what was metered.
#[utoipa::path(
    delete,
    path = "/v1/vms/{name}/meter",
    operation_id = "disable_meter",
    tag = "vms",
    params(VmName),
    responses(ActedVm, BadRequest, NoSuchVm, Unavailable)
)]
async fn disable(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, MeterAction::Disable).await
}
