//! The API's own description, OpenAPI 3.1: `GET /v1/openapi.json`.
//!
//! ```text
//!  routes (routes.rs: path, method, answers) ──┐
//!                                              ├──▶ description ──▶ /v1/openapi.json, docs/openapi.json
//!  types they take and give (doc comments) ────┘
//! ```
//! A route is declared once, for the router and for the description. Here is
//! what many routes have in common, and what is of no one route; [`finish`]
//! mends what is derived.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use axum::{http::header, response::IntoResponse};
use dynmem_api::{LiveChange, LiveSnapshot, Problem};
use utoipa::{
    IntoParams, IntoResponses, OpenApi,
    openapi::{
        Content, Header, Ref, RefOr, Response, ResponseBuilder, Schema,
        schema::{ObjectBuilder, OneOfBuilder, Type},
    },
};

use super::routes::described;

mod answers;
mod finish;

/// What is of no one route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "dynmem",
        description = "The HTTP API of dynmemd, the Dynamic Memory manager for QEMU/KVM, on its Unix socket, and over TCP \
            (with TLS and tokens) where the settings say so.\n\n\
            Sizes are whole bytes in fields that end in `_bytes`; other fields end in their unit, too. What is \
            refused is answered with `application/problem+json` (RFC 9457), whose `detail` is a sentence for \
            people: it names the value, the rule and what to do. A request with a field or a query parameter that \
            is not described is refused. Answers may get further fields, and words such as an event's kind \
            further values.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact()
    ),
    components(schemas(Problem, LiveSnapshot, LiveChange)),
    tags(
        (name = "vms", description = "Virtual machines: what they are, have and do"),
        (name = "host", description = "The host's memory, and all that is told of it and of all VMs"),
        (name = "daemon", description = "Who answers, and how to ask")
    )
)]
pub(super) struct Description;

/// The API's description (OpenAPI 3.1), in JSON, as it is served.
pub fn openapi() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut document = described().1;
        finish::finish(&mut document);
        let text = document.to_pretty_json();
        text.expect("maps with text for keys, numbers and text are always JSON") + "\n"
    });
    &TEXT
}

/// This description.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "get_description",
    tag = "daemon",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = AnyObject), BadRequest)
)]
pub(super) async fn describe() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi())
}

/// An OpenAPI document, which has a schema elsewhere.
pub(super) enum AnyObject {}

impl utoipa::PartialSchema for AnyObject {
    fn schema() -> RefOr<Schema> {
        let description = "An OpenAPI document: see https://spec.openapis.org/oas/v3.1.0.";
        ObjectBuilder::new().schema_type(Type::Object).description(Some(description)).into()
    }
}

impl utoipa::ToSchema for AnyObject {
    fn name() -> Cow<'static, str> {
        "OpenApiDocument".into()
    }
}

/// The VM in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is described here, and read by the handlers")]
pub(super) struct VmName {
    /// The VM's name.
    #[param(min_length = 1, max_length = 63)]
    name: String,
}

/// The condition of a change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is described here, and read by the handlers")]
pub(super) struct Condition {
    /// Changes the settings only while they are those that this `ETag` stands
    /// for, or one of several with commas between; `*` for any.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// A VM, after what was asked of it.
pub(super) struct ActedVm;

impl IntoResponses for ActedVm {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        one("200", ResponseBuilder::new().description("The VM"), "application/json", "VmView")
    }
}

/// A VM whose answer has the tag of its settings.
pub(super) struct TaggedVm;

impl IntoResponses for TaggedVm {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        tagged("The VM", "VmView")
    }
}

/// A VM after a change, or what a dry run has found.
pub(super) struct TaggedChange;

impl IntoResponses for TaggedChange {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        tagged("The VM after the change; for a dry run a `DryRunView`, without `ETag`", "ChangeAnswer")
    }
}

fn tagged(description: &str, schema: &str) -> BTreeMap<String, RefOr<Response>> {
    let mut tag = Header::new(ObjectBuilder::new().schema_type(Type::String));
    tag.description =
        Some("Stands for the VM's settings, and not for the figures that move by themselves: for `If-Match`".into());
    one("200", ResponseBuilder::new().description(description).header("ETag", tag), "application/json", schema)
}

/// One answer with a body of this schema.
fn one(status: &str, response: ResponseBuilder, content: &str, schema: &str) -> BTreeMap<String, RefOr<Response>> {
    let response = response.content(content, Content::new(Some(Ref::from_schema_name(schema))));
    BTreeMap::from([(status.to_owned(), response.build().into())])
}

/// What is answered to a change that can be tried: a VM, or what a dry run has
/// found.
pub(super) enum ChangeAnswer {}

impl utoipa::PartialSchema for ChangeAnswer {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(Ref::from_schema_name("VmView"))
            .item(Ref::from_schema_name("DryRunView"))
            .description(Some("The VM; for a dry run, what would come of the change."))
            .into()
    }
}

impl utoipa::ToSchema for ChangeAnswer {}

/// A refusal with this status.
pub(super) struct Refuses<const STATUS: u16>;

/// Malformed, or a rule is broken.
pub(super) type BadRequest = Refuses<400>;
/// No such VM.
pub(super) type NoSuchVm = Refuses<404>;
/// Not in this state, not with this name, or not with this memory.
pub(super) type Conflict = Refuses<409>;
/// Other settings than those that were read.
pub(super) type Changed = Refuses<412>;
/// A body that is too large.
pub(super) type TooLarge = Refuses<413>;
/// The daemon's own fault.
pub(super) type Failed = Refuses<500>;
/// Not now.
pub(super) type Unavailable = Refuses<503>;

impl<const STATUS: u16> IntoResponses for Refuses<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let description = match STATUS {
            400 => "The request is malformed, or breaks a rule",
            404 => "No VM has this name; or it has not what is asked for",
            409 => "The VM's state, its name, or the host's memory does not allow this",
            412 => "The VM's settings are not those of `If-Match`: read it again",
            413 => "The body is too large: 64 KiB are read",
            500 => "The daemon could not do it",
            _ => "The daemon shuts down, or does too many of these already: try again",
        };
        one(&STATUS.to_string(), ResponseBuilder::new().description(description), Problem::CONTENT_TYPE, "Problem")
    }
}
