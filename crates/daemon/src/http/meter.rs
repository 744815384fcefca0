//! `/v1/vms/{name}/meter`: resource metering of one VM.

use axum::{
    Router,
    extract::State,
    response::Json,
    routing::{get, post},
};
use dynmem_api::{MeterView, VmView};

use super::{
    answer::{Answer, json, problem},
    routes::Shared,
    vms::{Name, name_of},
};
use crate::supervisor::{Command, MeterAction};

/// The routes.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/vms/{name}/meter", get(show).put(enable).delete(disable))
        .route("/v1/vms/{name}/meter/reset", post(reset))
}

async fn show(State(shared): State<Shared>, name: Name) -> Answer<Json<MeterView>> {
    let name = name_of(name)?;
    let snapshot = shared.snapshots.borrow();
    let shown: String = name.chars().take(80).collect();
    let vm = snapshot.vm(&name).ok_or_else(|| problem(404, format!("No VM is named {shown:?}")))?;
    let advice = || problem(404, format!("{name} is not metered: enable that first (dynmem meter enable {name})"));
    vm.meter.clone().map(json).ok_or_else(advice)
}

async fn act(shared: Shared, name: Name, action: MeterAction) -> Answer<Json<VmView>> {
    let name = name_of(name)?;
    Ok(json(shared.commands.ask(|reply| Command::Meter(name, action, reply)).await?))
}

async fn enable(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, MeterAction::Enable).await
}

async fn reset(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, MeterAction::Reset).await
}

async fn disable(State(shared): State<Shared>, name: Name) -> Answer<Json<VmView>> {
    act(shared, name, MeterAction::Disable).await
}
