//! The targets: one reader each.

mod agent;
mod api;
mod definition;
mod qmp;
mod record;
mod size;

use crate::Target;

/// All targets. How much memory each byte of input may cost is what its worst
/// input was seen to cost, and as much again.
pub const TARGETS: [Target; 8] = [
    Target { name: "agent", run: agent::guest, bytes_per_byte: 512 },
    Target { name: "agent-host", run: agent::host, bytes_per_byte: 512 },
    Target { name: "api", run: api::run, bytes_per_byte: 64 },
    Target { name: "definition-json", run: definition::json, bytes_per_byte: 256 },
    Target { name: "definition-toml", run: definition::toml, bytes_per_byte: 256 },
    Target { name: "qmp", run: qmp::run, bytes_per_byte: 512 },
    Target { name: "record", run: record::run, bytes_per_byte: 64 },
    Target { name: "size", run: size::run, bytes_per_byte: 64 },
];

/// Cuts `data` into chunks whose sizes its first byte decides: what is read
/// may not depend on how it arrives.
fn chunks(data: &[u8]) -> (&[u8], std::slice::Chunks<'_, u8>) {
    let (size, rest) = data.split_first().map_or((1, data), |(first, rest)| (usize::from(*first) + 1, rest));
    (rest, rest.chunks(size))
}
