//! [`Event`]: what QEMU tells unasked.

use serde_json::Value;

/// Something that QEMU told unasked. Events of other kinds are dropped where
/// they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest's balloon driver has moved; QEMU tells at most once a second,
    /// so ask for the figure.
    BalloonChange {
        /// Boot memory less the balloon, as the guest's driver claims.
        actual: u64,
    },
    /// A virtio-mem device has plugged or unplugged; rate limited as above.
    MemoryDeviceSizeChange {
        /// What is plugged, in bytes.
        size: u64,
    },
    /// The machine was shut down. With `-action shutdown=pause` its process
    /// stays.
    Shutdown(ShutdownReason),
    /// The processors stand still.
    Stop,
    /// The processors go on.
    Resume,
    /// The machine was reset.
    Reset {
        /// True if the guest did it itself.
        guest: bool,
    },
    /// Somebody pressed the virtual power button.
    Powerdown,
    /// The guest's kernel has panicked.
    GuestPanicked,
    /// The reader was too slow: this many events are lost. Ask for the state.
    Lagged(u64),
}

/// Why a machine was shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The guest switched itself off.
    GuestShutdown,
    /// The guest reset itself, and `-action reboot=shutdown` holds.
    GuestReset,
    /// Somebody asked for a reset, and `-action reboot=shutdown` holds.
    HostReset,
    /// The guest panicked.
    GuestPanic,
    /// `quit`, a signal, a closed window: QEMU is about to exit.
    Host,
}

impl Event {
    /// The event of this name with this data; `None` if it is none of ours.
    /// A missing figure is 0: every consumer asks for the figure anyway.
    pub(crate) fn parse(name: &str, data: &Value) -> Option<Self> {
        let figure = |field| data.get(field).and_then(Value::as_u64).unwrap_or_default();
        Some(match name {
            "BALLOON_CHANGE" => Self::BalloonChange { actual: figure("actual") },
            "MEMORY_DEVICE_SIZE_CHANGE" => Self::MemoryDeviceSizeChange { size: figure("size") },
            "SHUTDOWN" => Self::Shutdown(ShutdownReason::parse(data)),
            "STOP" => Self::Stop,
            "RESUME" => Self::Resume,
            "RESET" => Self::Reset { guest: data.get("guest").and_then(Value::as_bool).unwrap_or(false) },
            "POWERDOWN" => Self::Powerdown,
            "GUEST_PANICKED" => Self::GuestPanicked,
            _ => return None,
        })
    }
}

impl ShutdownReason {
    fn parse(data: &Value) -> Self {
        let guest = data.get("guest").and_then(Value::as_bool).unwrap_or(false);
        match data.get("reason").and_then(Value::as_str) {
            Some("guest-reset" | "subsystem-reset") => Self::GuestReset,
            Some("host-qmp-system-reset") => Self::HostReset,
            Some("guest-panic") => Self::GuestPanic,
            Some("guest-shutdown") => Self::GuestShutdown,
            _ if guest => Self::GuestShutdown,
            _ => Self::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shutdown_is_told_apart_by_its_reason() {
        let parse = |data| Event::parse("SHUTDOWN", &data);
        let is = |reason| Some(Event::Shutdown(reason));
        assert_eq!(parse(json!({"guest": true, "reason": "guest-reset"})), is(ShutdownReason::GuestReset));
        assert_eq!(parse(json!({"guest": true, "reason": "guest-shutdown"})), is(ShutdownReason::GuestShutdown));
        assert_eq!(parse(json!({"guest": false, "reason": "host-qmp-system-reset"})), is(ShutdownReason::HostReset));
        assert_eq!(parse(json!({"guest": false, "reason": "host-qmp-quit"})), is(ShutdownReason::Host));
        assert_eq!(parse(json!({"guest": true, "reason": "from the future"})), is(ShutdownReason::GuestShutdown));
        assert_eq!(parse(json!({})), is(ShutdownReason::Host));
    }

    #[test]
    fn odd_data_is_no_reason_to_miss_an_event() {
        assert_eq!(Event::parse("BALLOON_CHANGE", &json!({"actual": -1})), Some(Event::BalloonChange { actual: 0 }));
        assert_eq!(Event::parse("STOP", &Value::Null), Some(Event::Stop));
        assert_eq!(Event::parse("RTC_CHANGE", &json!({"offset": 1})), None);
    }
}
