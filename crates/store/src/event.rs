//! [`Event`]: one entry of the log, and its bounds.

use std::collections::BTreeMap;

const KIND_BYTES_MAX: usize = 64;
const VM_BYTES_MAX: usize = 63;
const MESSAGE_BYTES_MAX: usize = 4096;
const NUMBERS_MAX: usize = 64;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Rises with every event and is never used twice; starts at 1.
    pub id: u64,
    /// What happened.
    pub what: NewEvent,
}

/// An event that is not in the log yet. Texts and numbers beyond their bounds
/// are cut when it is appended, so that no message fills the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// Wall-clock time, milliseconds since 1970. Clocks are set back: the
    /// order of events is their ids'.
    pub time_unix_ms: u64,
    /// The VM that it is about; none for the host. At most 63 bytes.
    pub vm: Option<String>,
    /// What kind of event, in kebab-case. At most 64 bytes.
    pub kind: String,
    /// A sentence for people. At most 4096 bytes.
    pub message: String,
    /// The numbers in it, by name; sizes in bytes. At most 64.
    pub numbers: BTreeMap<String, i64>,
}

impl NewEvent {
    /// The same, as the log keeps it: texts that are too long are cut.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let cut = |text: &str, bytes| text[..text.floor_char_boundary(bytes)].to_owned();
        let number = |(name, value): (&String, &i64)| (cut(name, KIND_BYTES_MAX), *value);
        Self {
            time_unix_ms: self.time_unix_ms,
            vm: self.vm.as_deref().map(|vm| cut(vm, VM_BYTES_MAX)),
            kind: cut(&self.kind, KIND_BYTES_MAX),
            message: cut(&self.message, MESSAGE_BYTES_MAX),
            numbers: self.numbers.iter().take(NUMBERS_MAX).map(number).collect(),
        }
    }
}
