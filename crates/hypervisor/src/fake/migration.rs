//! The imitated machine in a file: migration as QEMU does it, with a few lines
//! of JSON for the guest's memory.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

use dynmem_units::Bytes;
use serde_json::{Value, json};

use super::{
    SaveMood,
    machine::FakeMachine,
    qmp::{Refusal, generic},
};
use crate::{MachineExit, RunState};

/// Longer than any file that is written here.
const FILE_BYTES_MAX: u64 = 1 << 16;

/// More than any machine is; the file has holes.
const BLOATED_BYTES: u64 = 1 << 40;

/// What an imitated machine has of migration.
#[derive(Debug, Default)]
pub(super) struct Migration {
    /// It was started to read a machine, and has none yet.
    pub(super) incoming: bool,
    /// Files that came through its control socket and have no name yet.
    pub(super) received: Vec<OwnedFd>,
    named: Option<(String, File)>,
    status: Option<&'static str>,
    error: Option<&'static str>,
}

impl FakeMachine {
    pub(super) fn get_fd(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let name = arguments.get("fdname").and_then(Value::as_str).unwrap_or_default().to_owned();
        let file = self.migration.received.pop();
        let file = file.ok_or_else(|| generic("No file descriptor supplied via SCM_RIGHTS"))?;
        self.migration.named = Some((name, file.into()));
        Ok(json!({}))
    }

    fn file_for(&mut self, arguments: &Value) -> Result<File, Refusal> {
        let uri = arguments.get("uri").and_then(Value::as_str).unwrap_or_default();
        let wanted = uri.strip_prefix("fd:").ok_or_else(|| generic("unknown migration protocol"))?;
        match self.migration.named.take() {
            Some((name, file)) if name == wanted => Ok(file),
            _ => Err(generic(format!("File descriptor named '{wanted}' has not been found"))),
        }
    }

    pub(super) fn migrate(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let mut file = self.file_for(arguments)?;
        (self.migration.status, self.migration.error) = match self.behaviour.save {
            SaveMood::Endless => (Some("active"), None),
            SaveMood::Bloated => {
                let _ = file.set_len(BLOATED_BYTES); // nobody checks an imitation's disk
                (Some("active"), None)
            }
            SaveMood::DiskFull => (Some("failed"), Some("Unable to write to file: No space left on device")),
            SaveMood::Quick => match file.write_all(self.to_json().to_string().as_bytes()) {
                Ok(()) => (Some("completed"), None),
                Err(_) => (Some("failed"), Some("Unable to write to file")),
            },
        };
        Ok(json!({}))
    }

    pub(super) fn query_migrate(&self) -> Value {
        let Some(status) = self.migration.status else { return json!({}) };
        match self.migration.error {
            Some(error) => json!({"status": status, "error-desc": error}),
            None => json!({"status": status, "ram": {"transferred": 1, "remaining": 1}}),
        }
    }

    pub(super) fn cancel_migration(&mut self) {
        if self.migration.status == Some("active") {
            self.migration.status = Some("cancelled");
        }
    }

    /// QEMU ends if what it reads is no machine.
    pub(super) fn migrate_incoming(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        if !self.migration.incoming {
            return Err(generic("'-incoming' was not specified on the command line"));
        }
        let file = self.file_for(arguments)?;
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok();
        let machine = read.and_then(|_| serde_json::from_str(&text).ok());
        match machine.filter(|_| self.behaviour.restores).and_then(|machine| self.become_json(&machine)) {
            Some(()) => {
                self.migration.incoming = false;
                self.migration.status = Some("completed");
                self.state = RunState::Paused;
            }
            None => self.exit = Some(MachineExit::Code(1)),
        }
        Ok(json!({}))
    }

    fn to_json(&self) -> Value {
        json!({
            "balloon_target": self.model.balloon_target.get(),
            "balloon_actual": self.model.balloon_actual.get(),
            "balloon_told": self.model.balloon_told.get(),
            "requested": self.model.requested.get(),
            "plugged": self.model.plugged.get(),
            "demand": self.behaviour.demand.get(),
            "boots": self.boots,
        })
    }

    fn become_json(&mut self, machine: &Value) -> Option<()> {
        let number = |name| machine.get(name).and_then(Value::as_u64);
        let size = |name| number(name).map(Bytes::new);
        self.model.balloon_target = size("balloon_target")?;
        self.model.balloon_actual = size("balloon_actual")?;
        self.model.balloon_told = size("balloon_told")?;
        self.model.requested = size("requested")?;
        self.model.plugged = size("plugged")?;
        self.behaviour.demand = size("demand")?;
        self.boots = u32::try_from(number("boots")?).ok()?;
        Some(())
    }
}
