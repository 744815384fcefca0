//! Attaching: taking over a machine that an earlier daemon left.
//!
//! The directory tells which process it was; the process must really be that
//! one (same start time, our directory on its command line). What it holds is
//! asked of QEMU, not remembered. Without a record that can be read, QEMU is
//! asked for that, too: see [`rebuild`].

use std::time::Duration;

use dynmem_qmp::{Client, Events, QmpError, commands};
use dynmem_units::Bytes;

use crate::{
    AttachError, Machine, MachineError, MachineRecord, RunDir, RunState,
    events::Translator,
    launch::STATISTICS_SECONDS,
    machine::VIRTIO_MEM_PATH,
    process::{Process, RealProcess},
    rebuild,
    reset::HOLD,
};

/// QEMU serves one QMP client at a time: the old daemon's connection may take
/// a moment to close.
const ATTACH_PATIENCE: Duration = Duration::from_secs(5);

/// Takes over the machine in `dir`; `None` if there is none (any more).
pub(crate) async fn attach(dir: &RunDir) -> Result<Option<Machine>, AttachError> {
    let record = match MachineRecord::read(&dir.record()) {
        Ok(record) => record,
        Err(error) => return rebuild::attach(dir, error).await,
    };
    match RealProcess::adopt(record.pid, Some(record.process_start_ticks), dir.path()) {
        Ok(Some(process)) => take_over(dir, record, Process::Real(process)).await.map(Some),
        Ok(None) => remove(dir).map(|()| None),
        Err(source) => {
            let (path, record) = (dir.path().to_owned(), Some(Box::new(record)));
            Err(AttachError::Unclear { doing: "find the process of", path, source, record })
        }
    }
}

/// Connects to a machine that is known to be alive and brings it into the
/// state that every machine is in.
pub(crate) async fn take_over(dir: &RunDir, record: MachineRecord, process: Process) -> Result<Machine, AttachError> {
    match dynmem_qmp::connect(&dir.qmp(), ATTACH_PATIENCE).await {
        Ok(connection) => finish(dir, record, connection, process).await,
        Err(source) => Err(unresponsive(dir, record, source)),
    }
}

/// The same with a machine that is connected.
pub(crate) async fn finish(
    dir: &RunDir,
    record: MachineRecord,
    connection: (Client, Events),
    process: Process,
) -> Result<Machine, AttachError> {
    settle(dir, record.clone(), connection, process).await.map_err(|error| match error {
        MachineError::Qmp(source) => unresponsive(dir, record, source),
        MachineError::NotHeld(_) => unresponsive(dir, record, QmpError::Closed),
    })
}

fn unresponsive(dir: &RunDir, record: MachineRecord, source: QmpError) -> AttachError {
    AttachError::Unresponsive { run_dir: dir.path().to_owned(), pid: record.pid, source, record: Box::new(record) }
}

async fn settle(
    dir: &RunDir,
    record: MachineRecord,
    connection: (Client, Events),
    process: Process,
) -> Result<Machine, MachineError> {
    let mut machine = Machine::new(dir.clone(), record, connection, process, Translator::default());
    machine.client.call(HOLD).await?; // the old daemon may have died in the middle of a reset
    if machine.has_virtio_mem() {
        machine.record.plug_block_bytes = machine.virtio_mem_figure("block-size").await?;
        machine.record.plug_max_bytes = machine.virtio_mem_capacity().await?;
    }
    machine.ask_statistics_every(STATISTICS_SECONDS).await?;
    machine.settle_save().await?; // or of a save
    match machine.state().await? {
        // The old daemon died between writing the record and this.
        RunState::Prelaunch => {
            machine.translator.swallow_resume = true;
            machine.resume().await?;
        }
        RunState::ResetHeld | RunState::PoweredOff | RunState::Panicked => {
            if let Some(held) = machine.translator.held {
                machine.keep(held.event());
            }
        }
        RunState::Running | RunState::Paused | RunState::Stopped => {}
    }
    Ok(machine)
}

impl Machine {
    async fn virtio_mem_capacity(&self) -> Result<Bytes, MachineError> {
        let devices = self.client.call(commands::QueryMemoryDevices {}).await?;
        let device = devices.iter().find_map(commands::MemoryDevice::virtio_mem).ok_or_else(|| QmpError::Protocol {
            command: "query-memory-devices",
            problem: format!("{VIRTIO_MEM_PATH} is missing"),
        })?;
        Ok(Bytes::new(device.max_size))
    }
}

pub(crate) fn remove(dir: &RunDir) -> Result<(), AttachError> {
    dir.remove().map_err(|source| AttachError::Remains { path: dir.path().to_owned(), source })
}

/// Ends what runs in `dir`, whatever it is, and removes that.
pub(crate) async fn end(dir: &RunDir) -> Result<(), AttachError> {
    let process = match MachineRecord::read(&dir.record()) {
        Ok(record) => RealProcess::adopt(record.pid, Some(record.process_start_ticks), dir.path()),
        Err(_) => rebuild::find(dir),
    };
    let process = process.map_err(|source| AttachError::Unclear {
        doing: "find the process of",
        path: dir.path().to_owned(),
        source,
        record: None,
    })?;
    if let Some(mut process) = process {
        process.kill();
        process.exited().await;
    }
    remove(dir)
}
