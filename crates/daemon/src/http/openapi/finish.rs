//! What the derived description says less well than it could: mended here,
//! once for all routes and types.

use std::mem;

use serde_json::Value;
use utoipa::openapi::{
    OpenApi, RefOr, Schema,
    path::{Operation, PathItem},
    schema::{AdditionalProperties, OneOf, SchemaType, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use super::answers;

/// Requests that refuse unknown fields, and are not derived so because they
/// have variants.
const CLOSED: [&str; 1] = ["Network"];

/// Mends the whole.
pub(super) fn finish(document: &mut OpenApi) {
    document.paths.paths.values_mut().flat_map(operations).for_each(operation);
    let Some(components) = &mut document.components else { return };
    for (name, emptiest) in answers::emptiest() {
        components.schemas.get_mut(&*name).into_iter().for_each(|schema| answers::always(schema, &emptiest));
    }
    for (name, schema) in &mut components.schemas {
        structure(schema, CLOSED.contains(&name.as_str()));
    }
    secure(document);
}

/// Over TCP a token is shown; on the Unix socket nothing is.
fn secure(document: &mut OpenApi) {
    let told = "A token of dynmemd's: over TCP, which is with TLS only, every request shows one. Without one the answer is \
                401; with one of role `read` it is 403 for every method but GET and HEAD. The Unix socket asks for none.";
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(told)).build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
    document.security =
        Some(vec![SecurityRequirement::new("token", Vec::<String>::new()), SecurityRequirement::default()]);
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, patch, delete, .. } = path;
    [get, put, post, patch, delete].into_iter().flatten()
}

/// A parameter or a body that may be left out can't be null instead.
fn operation(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            parameter.schema.iter_mut().for_each(never_null);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content {
                content.schema.iter_mut().for_each(never_null);
            }
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}

pub(super) fn never_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::OneOf(OneOf { items, .. })) => {
            items.retain(|form| !is_null(form));
            if let [_] = items[..] {
                *schema = items.remove(0);
            }
        }
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|one| *one != Type::Null);
                if let [one] = &types[..] {
                    object.schema_type = SchemaType::Type(one.clone());
                }
            }
        }
        _ => {}
    }
}

/// A type with fields, or the variants of one.
fn structure(schema: &mut RefOr<Schema>, closed: bool) {
    match schema {
        RefOr::T(Schema::OneOf(variants)) => variants.items.iter_mut().for_each(|variant| structure(variant, closed)),
        RefOr::T(Schema::Object(object)) => {
            object.properties.values_mut().for_each(property);
            if closed {
                object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
        _ => {}
    }
}

/// What a field is, is said of the field and not of one of its forms; and that
/// it is nothing by default is said by its being optional.
fn property(schema: &mut RefOr<Schema>) {
    let default = match schema {
        RefOr::T(Schema::OneOf(forms)) => {
            for form in &mut forms.items {
                if let RefOr::Ref(form) = form {
                    forms.description = Some(mem::take(&mut form.description)).filter(|text| !text.is_empty());
                }
            }
            &mut forms.default
        }
        RefOr::T(Schema::Object(object)) => &mut object.default,
        _ => return,
    };
    if *default == Some(Value::Null) {
        *default = None;
    }
}
