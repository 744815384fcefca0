//! The imitated QEMU's side of QMP: the commands that dynmem uses, with
//! QEMU's own rules and refusals.

use std::time::{SystemTime, UNIX_EPOCH};

use dynmem_qmp::commands::{RebootAction, ShutdownAction};
use dynmem_units::Bytes;
use serde_json::{Value, json};

use super::{QmpMood, VERSION, connection::Peer, machine::FakeMachine, model::Model};
use crate::{
    MachineExit, RunState,
    machine::{BALLOON_PATH, VIRTIO_MEM_PATH},
};

/// The longest command that is taken.
const COMMAND_BYTES_MAX: usize = 64 << 10;

/// A QMP client.
#[derive(Debug)]
pub(super) struct QmpPeer {
    peer: Peer,
    negotiated: bool,
    input: Vec<u8>,
}

/// QEMU's words for a refusal: a class and a sentence.
pub(super) type Refusal = (&'static str, String);

impl QmpPeer {
    pub(super) fn greeted(peer: Peer) -> Self {
        let peer = Self { peer, negotiated: false, input: Vec::new() };
        let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "imitated"});
        peer.send(&json!({"QMP": {"version": version, "capabilities": ["oob"]}}));
        peer
    }

    pub(super) fn id(&self) -> u64 {
        self.peer.id
    }

    pub(super) fn tell(&self, event: &Value) {
        if self.negotiated {
            self.send(event);
        }
    }

    fn send(&self, message: &Value) {
        self.peer.send(format!("{message}\r\n").into_bytes()); // QEMU ends lines so
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let rest = self.input.split_off(end + 1);
        Some(std::mem::replace(&mut self.input, rest))
    }
}

pub(super) fn generic(desc: impl Into<String>) -> Refusal {
    ("GenericError", desc.into())
}

impl FakeMachine {
    /// Takes bytes of the client number `at` and answers the commands in them.
    pub(super) fn serve(&mut self, at: usize, bytes: &[u8]) {
        let input = &mut self.qmp_peers[at].input;
        if self.behaviour.qmp == QmpMood::Hung || input.len() + bytes.len() > COMMAND_BYTES_MAX {
            return;
        }
        input.extend_from_slice(bytes);
        while let Some(line) = self.qmp_peers[at].next_line() {
            let answer = match serde_json::from_slice::<Value>(&line) {
                Ok(request) => self.answer(at, &request),
                Err(_) => json!({"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}),
            };
            self.qmp_peers[at].send(&answer);
        }
    }

    fn answer(&mut self, at: usize, request: &Value) -> Value {
        let negotiated = &mut self.qmp_peers[at].negotiated;
        let name = request.get("execute").and_then(Value::as_str).unwrap_or_default();
        let arguments = request.get("arguments").unwrap_or(&Value::Null);
        let outcome = match name {
            "qmp_capabilities" => {
                *negotiated = true;
                Ok(json!({}))
            }
            _ if !*negotiated => {
                Err(("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'".to_owned()))
            }
            _ => self.execute(name, arguments),
        };
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        match outcome {
            Ok(value) => json!({"return": value, "id": id}),
            Err((class, desc)) => json!({"error": {"class": class, "desc": desc}, "id": id}),
        }
    }

    fn execute(&mut self, name: &str, arguments: &Value) -> Result<Value, Refusal> {
        match name {
            "query-version" => {
                Ok(json!({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": format!("imitated {VERSION}")}))
            }
            "query-status" => Ok(self.status()),
            "query-kvm" => Ok(json!({"enabled": false, "present": false})),
            "query-cpus-fast" => Ok(json!([{"cpu-index": 0, "thread-id": 0}])),
            "query-balloon" => Ok(json!({"actual": self.model.balloon_told.get()})),
            "query-memory-devices" => Ok(memory_devices(&self.model)),
            "balloon" => self.set_balloon(arguments),
            "qom-get" => self.get_property(arguments),
            "qom-set" => self.set_property(arguments),
            "set-action" => self.set_action(arguments),
            "stop" => {
                if self.state == RunState::Running {
                    self.state = RunState::Paused;
                    self.tell("STOP", &json!({}));
                }
                Ok(json!({}))
            }
            "cont" => self.cont(),
            "system_reset" => {
                self.system_reset();
                Ok(json!({}))
            }
            "system_powerdown" => {
                self.tell("POWERDOWN", &json!({}));
                if self.behaviour.obeys_power_button && self.is_booted() {
                    self.shut_down(RunState::PoweredOff, true, "guest-shutdown");
                }
                Ok(json!({}))
            }
            "getfd" => self.get_fd(arguments),
            "migrate-set-parameters" => Ok(json!({})),
            "migrate" => self.migrate(arguments),
            "migrate-incoming" => self.migrate_incoming(arguments),
            "query-migrate" => Ok(self.query_migrate()),
            "migrate_cancel" => {
                self.cancel_migration();
                Ok(json!({}))
            }
            "quit" => {
                self.exit = Some(MachineExit::Code(0));
                Ok(json!({}))
            }
            _ => Err(("CommandNotFound", format!("The command {name} has not been found"))),
        }
    }

    fn status(&self) -> Value {
        let status = match self.state {
            _ if self.migration.incoming => "inmigrate",
            RunState::Prelaunch => "prelaunch",
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::ResetHeld | RunState::PoweredOff => "shutdown",
            RunState::Panicked => "guest-panicked",
            RunState::Stopped => "internal-error",
        };
        json!({"status": status, "running": self.state == RunState::Running, "singlestep": false})
    }

    fn set_balloon(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let value = arguments.get("value").and_then(Value::as_u64);
        let value = value.filter(|value| *value > 0).ok_or_else(|| generic("Parameter 'value' expects a size"))?;
        self.model.balloon_target = Bytes::new(value).min(self.model.plan.boot);
        Ok(json!({}))
    }

    fn get_property(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let (path, property) = path_and_property(arguments);
        match (path, property) {
            (VIRTIO_MEM_PATH, _) if self.model.plan.plug_max.is_zero() => Err(not_found(path)),
            (VIRTIO_MEM_PATH, "size") => Ok(self.model.plugged.get().into()),
            (VIRTIO_MEM_PATH, "requested-size") => Ok(self.model.requested.get().into()),
            (VIRTIO_MEM_PATH, "block-size") => Ok(self.model.plan.plug_block.get().into()),
            (BALLOON_PATH, "guest-stats") => Ok(self.guest_stats()),
            (BALLOON_PATH, "guest-stats-polling-interval") => Ok(self.statistics_seconds.into()),
            (VIRTIO_MEM_PATH | BALLOON_PATH, _) => Err(generic(format!("Property '{property}' not found"))),
            _ => Err(not_found(path)),
        }
    }

    fn set_property(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let (path, property) = path_and_property(arguments);
        let value = arguments.get("value").and_then(Value::as_u64).ok_or_else(|| generic("Invalid parameter type"))?;
        match (path, property) {
            (VIRTIO_MEM_PATH, "requested-size") if !self.model.plan.plug_max.is_zero() => {
                let size = Bytes::new(value);
                if size > self.model.plan.plug_max {
                    return Err(generic(format!("'requested-size' cannot exceed the memory backend size({size})")));
                }
                if !size.is_multiple_of(self.model.plan.plug_block) {
                    return Err(generic("'requested-size' has to be multiples of 'block-size'"));
                }
                self.model.requested = size;
            }
            (BALLOON_PATH, "guest-stats-polling-interval") => self.statistics_seconds = value,
            _ => return Err(not_found(path)),
        }
        Ok(json!({}))
    }

    fn guest_stats(&mut self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.is_booted() && self.statistics_seconds > 0 {
            self.statistics_update = now;
        }
        let visible = self.model.visible(&self.behaviour);
        let available = visible.saturating_sub(self.behaviour.demand).get();
        let unknown = u64::MAX;
        json!({"last-update": self.statistics_update, "stats": {
            "stat-total-memory": visible.get(),
            "stat-free-memory": available,
            "stat-available-memory": available,
            "stat-disk-caches": 0,
            "stat-swap-in": 0,
            "stat-swap-out": 0,
            "stat-major-faults": 0,
            "stat-minor-faults": unknown,
            "stat-htlb-pgalloc": unknown,
            "stat-htlb-pgfail": unknown,
        }})
    }

    fn set_action(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let action = |name| arguments.get(name).and_then(Value::as_str);
        let unknown = |name: &str, value: &str| generic(format!("Parameter '{name}' does not accept value '{value}'"));
        match action("reboot") {
            Some("reset") => self.reboot = RebootAction::Reset,
            Some("shutdown") => self.reboot = RebootAction::Shutdown,
            Some(other) => return Err(unknown("reboot", other)),
            None => {}
        }
        match action("shutdown") {
            Some("poweroff") => self.shutdown = ShutdownAction::Poweroff,
            Some("pause") => self.shutdown = ShutdownAction::Pause,
            Some(other) => return Err(unknown("shutdown", other)),
            None => {}
        }
        Ok(json!({}))
    }

    fn cont(&mut self) -> Result<Value, Refusal> {
        match self.state {
            RunState::Running => {}
            _ if self.migration.incoming => {}
            RunState::Prelaunch | RunState::Paused => self.go_on(),
            _ => return Err(generic("Resetting the Virtual Machine is required")),
        }
        Ok(json!({}))
    }

    fn system_reset(&mut self) {
        match self.reboot {
            RebootAction::Shutdown => self.shut_down(RunState::ResetHeld, false, "host-qmp-system-reset"),
            RebootAction::Reset => {
                if self.state == RunState::Running {
                    self.boot();
                } else {
                    self.state = RunState::Prelaunch; // as QEMU says; it boots when it goes on
                }
                self.tell("RESET", &json!({"guest": false, "reason": "host-qmp-system-reset"}));
            }
        }
    }
}

fn path_and_property(arguments: &Value) -> (&str, &str) {
    let text = |name| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
    (text("path"), text("property"))
}

fn not_found(path: &str) -> Refusal {
    ("DeviceNotFound", format!("Device '{path}' not found"))
}

fn memory_devices(model: &Model) -> Value {
    if model.plan.plug_max.is_zero() {
        return json!([]);
    }
    json!([{"type": "virtio-mem", "data": {
        "id": "vmem0",
        "memaddr": 0x1_4000_0000_u64,
        "size": model.plugged.get(),
        "requested-size": model.requested.get(),
        "max-size": model.plan.plug_max.get(),
        "block-size": model.plan.plug_block.get(),
        "node": 0,
        "memdev": "/objects/vmem0-ram",
    }}])
}
