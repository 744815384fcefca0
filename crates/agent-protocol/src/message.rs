//! The messages, and the rules that make a decoded one believable.

use dynmem_units::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{MAX_LINE_BYTES, MAX_SIZE, MAX_TEXT_BYTES, PROTOCOL};

/// Something that travels as one line.
pub trait Message: Serialize + DeserializeOwned {
    /// Whether the values make sense by themselves and together.
    fn check(&self) -> Result<(), ProtocolError>;
}

/// Why a line is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The line is longer than [`MAX_LINE_BYTES`]; the rest up to the next
    /// newline is thrown away too.
    #[error("Message is longer than {MAX_LINE_BYTES} bytes: the line is ignored")]
    TooLong,
    /// Not JSON, a missing field, or a value that is no whole number from 0.
    #[error("Message is malformed: {0}")]
    Malformed(String),
    /// A size above [`MAX_SIZE`].
    #[error("Field {field} is {size}, which is more than any machine has (1PiB)")]
    Absurd {
        /// The field's name on the wire.
        field: &'static str,
        /// What it claimed.
        size: Bytes,
    },
    /// A part that is larger than its whole.
    #[error("Field {field} is {size}, more than {whole_field}, which is {whole}")]
    Contradiction {
        /// The part's name on the wire.
        field: &'static str,
        /// What it claimed.
        size: Bytes,
        /// The whole's name on the wire.
        whole_field: &'static str,
        /// What that claimed.
        whole: Bytes,
    },
    /// A machine without any memory doesn't send messages.
    #[error("Field visible_bytes is 0: a running guest has memory")]
    NoMemory,
    /// `stall_hundredths` above 10000.
    #[error("Field stall_hundredths is {0}, out of range: 0 to 10000")]
    StallOutOfRange(u32),
    /// A text that is too long or has characters that a terminal would obey.
    #[error("Field {0} is not a plain text of at most {MAX_TEXT_BYTES} bytes")]
    UnfitText(&'static str),
}

/// From the guest to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GuestMessage {
    /// The first message after each connection.
    Hello(Hello),
    /// What the guest measured.
    Report(Report),
    /// A type that this version does not know: ignore it.
    #[serde(other)]
    Unknown,
}

/// From the host to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostMessage {
    /// The answer to [`Hello`].
    Welcome(Welcome),
    /// What the guest holds, for people inside it.
    Assigned(Assigned),
    /// A type that this version does not know: ignore it.
    #[serde(other)]
    Unknown,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version that the agent speaks; see [`PROTOCOL`].
    pub protocol: u32,
    /// The agent's own version.
    pub agent_version: String,
    /// The guest's kernel release (`uname -r`).
    pub kernel: String,
}

impl Hello {
    /// A greeting in this crate's protocol version.
    pub fn new(agent_version: impl Into<String>, kernel: impl Into<String>) -> Self {
        Self { protocol: PROTOCOL, agent_version: agent_version.into(), kernel: kernel.into() }
    }
}

/// Why a report was sent now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The heartbeat.
    #[default]
    Periodic,
    /// The guest uses visibly more than it last reported.
    Change,
    /// Memory runs out: tasks wait for it, or it falls fast.
    Pressure,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What the guest measured. All of it is a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Counts this agent's reports from 0; starts again with the agent.
    pub seq: u64,
    /// Milliseconds since the guest booted, at the measurement.
    pub uptime_ms: u64,
    /// Memory that the guest's memory manager has: `MemTotal`, never counting
    /// pages that the balloon holds.
    pub visible_bytes: Bytes,
    /// Memory that programs can get without swapping (`MemAvailable`).
    pub available_bytes: Bytes,
    /// Memory that nothing uses (`MemFree`).
    #[serde(default)]
    pub free_bytes: Bytes,
    /// Memory promised to programs (`Committed_AS`). May exceed `visible_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_bytes: Option<Bytes>,
    /// File pages in active use (`Active(file)`).
    #[serde(default)]
    pub hot_file_bytes: Bytes,
    /// Memory that the machine has and `visible_bytes` does not count: the
    /// kernel's image and its page structs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_bytes: Option<Bytes>,
    /// Memory that the balloon holds, if the guest can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ballooned_bytes: Option<Bytes>,
    /// Size of the guest's swap.
    #[serde(default)]
    pub swap_total_bytes: Bytes,
    /// Part of it in use.
    #[serde(default)]
    pub swap_used_bytes: Bytes,
    /// Rate of swapping in.
    #[serde(default)]
    pub swap_in_bytes_per_s: Bytes,
    /// Rate of file pages read again soon after they were dropped.
    #[serde(default)]
    pub refault_bytes_per_s: Bytes,
    /// Share of the last moments in which some task waited for memory, in
    /// hundredths of a per cent: 0–10000. 0 without PSI.
    #[serde(default)]
    pub stall_hundredths: u32,
    /// Whether the guest's kernel measures stalls at all.
    #[serde(default)]
    pub psi_available: bool,
    /// Why this report was sent now.
    #[serde(default)]
    pub reason: Reason,
}

/// The host's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol's version that the host speaks.
    pub protocol: u32,
    /// The longest time without a report that the host wants, in
    /// milliseconds. The agent keeps it between 100 and 60000.
    pub heartbeat_ms: u32,
}

/// What the guest holds and may hold, as the host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Memory lent to the guest now.
    pub assigned_bytes: Bytes,
    /// Memory that the guest needs now, buffer excluded.
    pub demand_bytes: Bytes,
    /// Demand and buffer, between minimum and maximum.
    pub target_bytes: Bytes,
    /// Memory that the guest is always guaranteed.
    pub minimum_bytes: Bytes,
    /// Memory that the guest never exceeds.
    pub maximum_bytes: Bytes,
}

impl Message for GuestMessage {
    fn check(&self) -> Result<(), ProtocolError> {
        match self {
            Self::Hello(hello) => {
                plain_text("agent_version", &hello.agent_version)?;
                plain_text("kernel", &hello.kernel)
            }
            Self::Report(report) => report.check(),
            Self::Unknown => Ok(()),
        }
    }
}

impl Report {
    fn check(&self) -> Result<(), ProtocolError> {
        for (field, size) in [
            ("visible_bytes", self.visible_bytes),
            ("committed_bytes", self.committed_bytes.unwrap_or_default()),
            ("reserved_bytes", self.reserved_bytes.unwrap_or_default()),
            ("ballooned_bytes", self.ballooned_bytes.unwrap_or_default()),
            ("swap_total_bytes", self.swap_total_bytes),
            ("swap_in_bytes_per_s", self.swap_in_bytes_per_s),
            ("refault_bytes_per_s", self.refault_bytes_per_s),
        ] {
            believable(field, size)?;
        }
        let visible = ("visible_bytes", self.visible_bytes);
        for (field, size, (whole_field, whole)) in [
            ("available_bytes", self.available_bytes, visible),
            ("free_bytes", self.free_bytes, visible),
            ("hot_file_bytes", self.hot_file_bytes, visible),
            ("swap_used_bytes", self.swap_used_bytes, ("swap_total_bytes", self.swap_total_bytes)),
        ] {
            if size > whole {
                return Err(ProtocolError::Contradiction { field, size, whole_field, whole });
            }
        }
        if self.visible_bytes.is_zero() {
            return Err(ProtocolError::NoMemory);
        }
        if self.stall_hundredths > 10_000 {
            return Err(ProtocolError::StallOutOfRange(self.stall_hundredths));
        }
        Ok(())
    }
}

impl Message for HostMessage {
    fn check(&self) -> Result<(), ProtocolError> {
        let Self::Assigned(assigned) = self else { return Ok(()) };
        for (field, size) in [
            ("assigned_bytes", assigned.assigned_bytes),
            ("demand_bytes", assigned.demand_bytes),
            ("target_bytes", assigned.target_bytes),
            ("minimum_bytes", assigned.minimum_bytes),
            ("maximum_bytes", assigned.maximum_bytes),
        ] {
            believable(field, size)?;
        }
        Ok(())
    }
}

fn believable(field: &'static str, size: Bytes) -> Result<(), ProtocolError> {
    if size > MAX_SIZE { Err(ProtocolError::Absurd { field, size }) } else { Ok(()) }
}

/// People see these texts in their terminals: nothing that a terminal obeys.
fn plain_text(field: &'static str, text: &str) -> Result<(), ProtocolError> {
    let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if plain && text.len() <= MAX_TEXT_BYTES { Ok(()) } else { Err(ProtocolError::UnfitText(field)) }
}
