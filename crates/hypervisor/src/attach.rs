//! Attaching: taking over a machine that an earlier daemon left.
//!
//! The directory tells which process it was; the process must really be that
//! one (same start time, our directory on its command line). What it holds is
//! asked of QEMU, not remembered.

use std::{fs, io, time::Duration};

use dynmem_qmp::{Client, Events, QmpError, commands};
use dynmem_units::Bytes;

use crate::{
    AttachError, Machine, MachineError, MachineRecord, RunDir, RunState,
    events::Translator,
    launch::STATISTICS_SECONDS,
    machine::VIRTIO_MEM_PATH,
    process::{Process, RealProcess},
    reset::HOLD,
};

/// QEMU serves one QMP client at a time: the old daemon's connection may take
/// a moment to close.
const ATTACH_PATIENCE: Duration = Duration::from_secs(5);

/// Takes over the machine in `dir`; `None` if there is none (any more).
pub(crate) async fn attach(dir: &RunDir) -> Result<Option<Machine>, AttachError> {
    let record = match MachineRecord::read(&dir.record()) {
        Ok(record) => record,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return clear_unfinished(dir).await.map(|()| None),
        Err(source) => {
            return Err(AttachError::Unclear { doing: "read", path: dir.record(), source, record: None });
        }
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
    let unresponsive = |source, record: &MachineRecord| AttachError::Unresponsive {
        run_dir: dir.path().to_owned(),
        pid: record.pid,
        source,
        record: Box::new(record.clone()),
    };
    let connection =
        dynmem_qmp::connect(&dir.qmp(), ATTACH_PATIENCE).await.map_err(|source| unresponsive(source, &record))?;
    settle(dir, record.clone(), connection, process).await.map_err(|error| match error {
        MachineError::Qmp(source) => unresponsive(source, &record),
        MachineError::NotHeld(_) => unresponsive(QmpError::Closed, &record),
    })
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

/// A launch that broke off before its record was written: its guest never ran.
async fn clear_unfinished(dir: &RunDir) -> Result<(), AttachError> {
    let Ok(text) = fs::read_to_string(dir.pid_file()) else { return Ok(()) };
    if let Ok(pid) = text.trim().parse()
        && let Ok(Some(mut process)) = RealProcess::adopt(pid, None, dir.path())
    {
        process.kill();
        process.exited().await;
    }
    remove(dir)
}

fn remove(dir: &RunDir) -> Result<(), AttachError> {
    dir.remove().map_err(|source| AttachError::Remains { path: dir.path().to_owned(), source })
}
