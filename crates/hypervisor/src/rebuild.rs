//! A machine whose record is missing or damaged: QEMU itself tells what it is.
//!
//! ```text
//!  qemu.pid, else /proc ──▶ process ──▶ QMP ──▶ never ran: ended, swept
//!                              │               └ runs: its record is written anew
//!                              └ none: swept
//! ```
//!
//! A guest is not lost over a file, and a launch that broke off before its
//! record was written leaves no QEMU. What QEMU can't tell is taken at its
//! worst: it is charged the most that the hypervisor may take, and a balloon
//! that is not empty is believed when it moves.

use std::{
    fs, io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dynmem_qmp::{Client, QmpError, commands};
use dynmem_units::Bytes;
use rustix::param::clock_ticks_per_second;
use tokio::time::timeout;
use tracing::warn;

use crate::{
    AttachError, ChosenAccelerator, Machine, MachineError, MachineRecord, RunDir,
    attach::{finish, remove},
    command_line::mark,
    plan::overhead_at_most,
    process::{Process, ProcessStat, RealProcess},
};

/// A QEMU whose launch broke off may be at its very start still.
const PATIENCE: Duration = Duration::from_secs(15);
/// A connection that is closed is the first sign of a process's end.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Takes over the machine in `dir` without its record, which could not be read
/// for this `reason`; `None` if there is none or its guest never ran.
pub(crate) async fn attach(dir: &RunDir, reason: io::Error) -> Result<Option<Machine>, AttachError> {
    let unclear = |doing, source| AttachError::Unclear { doing, path: dir.record(), source, record: None };
    let missing = reason.kind() == io::ErrorKind::NotFound;
    let Some(mut process) = find(dir).map_err(|source| unclear("find the process of", source))? else {
        // A launch that broke off may have come no further than its first socket.
        return if missing && dir.is_for_people() { Ok(None) } else { remove(dir).map(|()| None) };
    };
    let Ok(connection) = dynmem_qmp::connect(&dir.qmp(), PATIENCE).await else {
        // It may have ended at its start, as an unbroken launch would tell.
        let ended = timeout(END_PATIENCE, process.exited()).await.is_ok();
        return if ended { remove(dir).map(|()| None) } else { Err(unclear("read", reason)) };
    };
    let described = describe(dir, &connection.0, process.pid()).await;
    let Some(record) = described.map_err(|error| unclear("rebuild", io::Error::other(error)))? else {
        process.kill();
        process.exited().await;
        return remove(dir).map(|()| None);
    };
    warn!(machine = %record.name, %reason, "the record {} is written anew: QEMU told what was in it", dir.record().display());
    if let Err(error) = record.write(&dir.record()) {
        warn!(machine = %record.name, %error, "could not write {}", dir.record().display());
    }
    finish(dir, record, connection, Process::Real(process)).await.map(Some)
}

/// QEMU's process: the one whose number its file tells, or any that says on
/// its command line that it works in this directory.
pub(crate) fn find(dir: &RunDir) -> io::Result<Option<RealProcess>> {
    let told = fs::read_to_string(dir.pid_file()).ok().and_then(|text| text.trim().parse().ok());
    if let Some(pid) = told
        && let Some(process) = RealProcess::adopt(pid, None, dir.path())?
    {
        return Ok(Some(process));
    }
    let mark = mark(dir.path());
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_here = arguments.split(|byte| *byte == 0).any(|word| word.ends_with(mark.as_encoded_bytes()));
        if works_here && let Some(process) = RealProcess::adopt(pid, None, dir.path())? {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// What QEMU says of itself; `None` if its guest never ran.
async fn describe(dir: &RunDir, client: &Client, pid: u32) -> Result<Option<MachineRecord>, MachineError> {
    if client.call(commands::QueryStatus {}).await?.status == "prelaunch" {
        return Ok(None);
    }
    let version = client.call(commands::QueryVersion {}).await?.qemu;
    let accelerator =
        if client.call(commands::QueryKvm {}).await?.enabled { ChosenAccelerator::Kvm } else { ChosenAccelerator::Tcg };
    let vcpus = u32::try_from(client.call(commands::QueryCpus {}).await?.len()).unwrap_or(u32::MAX);
    let boot = Bytes::new(client.call(commands::QueryMemorySize {}).await?.base_memory);
    let devices = client.call(commands::QueryMemoryDevices {}).await?;
    let device = devices.iter().find_map(commands::MemoryDevice::virtio_mem);
    let plug_max = device.as_ref().map_or(Bytes::ZERO, |device| Bytes::new(device.max_size));
    let balloon = Bytes::new(client.call(commands::QueryBalloon {}).await?.actual);
    let stat = ProcessStat::read(pid).map_err(|_| QmpError::Closed)?;
    Ok(Some(MachineRecord {
        name: dir.name(),
        qemu_version: format!("{}.{}.{}", version.major, version.minor, version.micro),
        accelerator,
        vcpus,
        boot_bytes: boot,
        plug_max_bytes: plug_max,
        plug_block_bytes: device.map_or(Bytes::BLOCK, |device| Bytes::new(device.block_size)),
        overhead_bytes: overhead_at_most(accelerator, vcpus, boot.saturating_add(plug_max)),
        pid,
        process_start_ticks: stat.start_ticks,
        started_unix_ms: started_unix_ms(stat.start_ticks),
        stale_balloon_bytes: (balloon < boot).then_some(balloon),
        log_bytes_at_reset: 0,
    }))
}

/// When a process was made that was made so many ticks after the host's boot.
fn started_unix_ms(ticks: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    let age = Duration::try_from_secs_f64(uptime).unwrap_or_default();
    let age = age.saturating_sub(Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1)));
    u64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a directory with these files is still there after somebody
    /// looked for a machine in it.
    async fn stays(files: &[&str]) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = RunDir::new(folder.path().join("web01"));
        fs::create_dir(dir.path()).expect("a directory");
        for file in files {
            fs::write(dir.path().join(file), "").expect("a file");
        }
        let found = attach(&dir, io::ErrorKind::NotFound.into()).await.expect("nothing is in the way");
        assert!(found.is_none(), "nobody works there");
        dir.path().exists()
    }

    #[tokio::test]
    async fn a_launch_that_broke_off_anywhere_leaves_no_directory_and_a_log_is_kept_for_people() {
        for broken_off in [&[][..], &["qmp.sock"], &["qmp.sock", "qemu.log"], &["qemu.log", "qemu.pid"]] {
            assert!(!stays(broken_off).await, "{broken_off:?}");
        }
        assert!(stays(&["qemu.log"]).await);
    }
}
