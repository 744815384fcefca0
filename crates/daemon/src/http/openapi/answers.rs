//! What an answer always has.
//!
//! A client reads what an older daemon leaves out, so for its types most fields
//! are optional. A daemon leaves out less: what the emptiest value of a type has,
//! each has, and what that has not is absent and never null.

use std::borrow::Cow;

use dynmem_api::{
    AutostartView, DryRunView, DryRunVm, EventView, ExplanationView, HostCounters, HostHistory, HostPagingView,
    HostPoint, HostView, MeterView, Problem, SettingsView, SmartPagingView, VmCounters, VmHistory, VmPoint, VmView,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use super::finish::never_null;

fn of<T: ToSchema + Default + Serialize>() -> (Cow<'static, str>, Value) {
    (T::name(), json!(T::default()))
}

/// The emptiest value of each type that only answers have, by its name.
pub(super) fn emptiest() -> Vec<(Cow<'static, str>, Value)> {
    vec![
        of::<AutostartView>(),
        of::<DryRunView>(),
        of::<DryRunVm>(),
        of::<EventView>(),
        of::<ExplanationView>(),
        of::<HostCounters>(),
        of::<HostHistory>(),
        of::<HostPagingView>(),
        of::<HostPoint>(),
        of::<HostView>(),
        of::<MeterView>(),
        of::<SettingsView>(),
        of::<SmartPagingView>(),
        of::<VmCounters>(),
        of::<VmHistory>(),
        of::<VmPoint>(),
        of::<VmView>(),
        (Problem::name(), json!(Problem::new(500, ""))),
    ]
}

/// Says in `schema` that each value has what `emptiest` has.
pub(super) fn always(schema: &mut RefOr<Schema>, emptiest: &Value) {
    let RefOr::T(Schema::Object(object)) = schema else { return };
    for (name, property) in &mut object.properties {
        if emptiest.get(name).is_none() {
            never_null(property);
        } else if !object.required.contains(name) {
            object.required.push(name.clone());
        }
        match property {
            RefOr::Ref(reference) => reference.default = None,
            RefOr::T(Schema::Object(object)) => object.default = None,
            RefOr::T(Schema::Array(array)) => array.default = None,
            RefOr::T(_) => {}
        }
    }
}
