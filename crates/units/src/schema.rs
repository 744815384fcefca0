//! How the units are described in the HTTP API's description: whole numbers, as
//! JSON has them.
//!
//! Their formats are what programs that are generated from the description
//! store them in: a size and a percentage may be beyond 32 bits.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, Schema,
        schema::{ObjectBuilder, SchemaFormat, SchemaType, Type},
    },
};

use crate::{Bytes, Percent, Weight};

/// A size where people may write it: [`Bytes`] in a request, which takes bytes
/// and text.
#[derive(Debug)]
pub enum SizeText {}

fn whole_number(format: KnownFormat, minimum: u32, description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(format)))
        .minimum(Some(minimum))
        .description(Some(description))
}

impl PartialSchema for Bytes {
    fn schema() -> RefOr<Schema> {
        whole_number(KnownFormat::Int64, 0, "An amount of memory, in bytes.").into()
    }
}

impl PartialSchema for SizeText {
    fn schema() -> RefOr<Schema> {
        let description = "An amount of memory: bytes as a number, or a text such as `\"512MB\"`. Units are \
                           binary: `2G`, `2GB` and `2GiB` are the same.";
        whole_number(KnownFormat::Int64, 0, description)
            .schema_type(SchemaType::Array(vec![Type::Integer, Type::String]))
            .into()
    }
}

impl PartialSchema for Percent {
    fn schema() -> RefOr<Schema> {
        whole_number(KnownFormat::Int64, 0, "Parts of a hundred; may be more than a hundred.").into()
    }
}

impl PartialSchema for Weight {
    fn schema() -> RefOr<Schema> {
        let description = "A VM's claim on memory relative to the others' when not everybody can be served; 5000 \
                           unless it is set.";
        whole_number(KnownFormat::Int32, Self::MIN.get().into(), description).maximum(Some(Self::MAX.get())).into()
    }
}

impl ToSchema for Bytes {}
impl ToSchema for SizeText {}
impl ToSchema for Percent {}
impl ToSchema for Weight {}
