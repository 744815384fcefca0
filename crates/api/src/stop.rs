//! How to stop a VM: [`StopRequest`].

use serde::{Deserialize, Serialize};

/// The longest wait for a guest to power itself off.
pub const MAX_STOP_TIMEOUT_SECONDS: u32 = 3600;

/// The body of `POST /v1/vms/{name}/stop`. An empty body is the default: ask
/// the guest, and give it a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// Ask or force.
    pub mode: StopMode,
    /// How long a guest may take, seconds, 1–3600. When they are over,
    /// the VM is switched off.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 3600))]
    pub timeout_seconds: u32,
}

impl Default for StopRequest {
    fn default() -> Self {
        Self { mode: StopMode::Graceful, timeout_seconds: 60 }
    }
}

impl StopRequest {
    /// Checks the range, or says in a sentence what it is.
    pub fn check(&self) -> Result<(), String> {
        match self.timeout_seconds {
            1..=MAX_STOP_TIMEOUT_SECONDS => Ok(()),
            seconds => Err(format!(
                "Time-out {seconds} s is out of range: it must be from 1 s to {MAX_STOP_TIMEOUT_SECONDS} s"
            )),
        }
    }
}

/// Ask or force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum StopMode {
    /// The guest is asked to power off (ACPI).
    #[default]
    Graceful,
    /// The machine ends at once, as if its plug was pulled.
    Force,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_request_is_graceful() {
        let request: StopRequest = serde_json::from_str("{}").expect("all optional");
        assert_eq!(request, StopRequest { mode: StopMode::Graceful, timeout_seconds: 60 });
        assert_eq!(request.check(), Ok(()));
    }

    #[test]
    fn a_wait_without_end_is_refused() {
        for timeout_seconds in [0, 3601, u32::MAX] {
            let error = StopRequest { timeout_seconds, ..StopRequest::default() }.check().expect_err("out of range");
            assert!(error.contains("from 1 s to 3600 s"), "{error}");
        }
    }
}
