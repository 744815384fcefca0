//! Saving a machine, and letting one go on from what was saved.
//!
//! ```text
//!  write_to ── stop ── migrate fd: ──▶ memory.partial ── commit ──▶ saved.json ── quit
//!     └ failed: migrate_cancel, cont: as if nothing had been
//!
//!  QEMU -incoming defer ── migrate-incoming fd: ── resumed.json ── cont
//! ```
//! QEMU writes into a file that was opened for it and sent through the control
//! socket: it needs no right to any folder and starts no program. Memory that
//! the guest does not have, in the balloon or unplugged, is not backed by the
//! host, is written as a few bytes, and is not backed when it is read again.

use std::{
    fs::{self, File},
    future::Future,
    io::{self, Seek},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dynmem_core::DeviceFacts;
use dynmem_qmp::{
    Client, QmpError,
    commands::{self, GetFd, Migrate, MigrateIncoming, MigrateSetParameters, Migration},
};
use dynmem_units::Bytes;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::warn;

use crate::{
    Machine, MachineError, MachineRecord, RunDir, RunState, SaveError, SavedDir, SavedRecord,
    launch::STATISTICS_SECONDS, saved::kept_definition,
};

/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// No byte for so long: it is given up. A disk that is alive moves some.
const STALL_PATIENCE: Duration = Duration::from_mins(1);
/// QEMU's main loop may wait for the machine's disks before it answers.
const CALL_PATIENCE: Duration = Duration::from_mins(1);
/// Devices in a file: a display's memory is the largest of them.
const DEVICES_AT_MOST: Bytes = Bytes::from_mib(256);
/// Bytes a second: QEMU's own bound is meant for networks.
const NO_BOUND: u64 = 1 << 50;

/// A machine that is written, and not committed yet.
#[derive(Debug)]
pub struct Written {
    file: File,
    record: SavedRecord,
}

impl Machine {
    /// Lets the machine stand still and writes all of it into `saved`;
    /// `progress` is told the bytes written. Then comes [`Machine::commit`].
    ///
    /// If this fails, or is dropped, [`Machine::abandon_save`] has to follow,
    /// unless the machine is to end anyway.
    pub async fn write_to(&mut self, saved: &SavedDir, progress: impl FnMut(Bytes)) -> Result<Written, SaveError> {
        let state = self.state().await?;
        if !matches!(state, RunState::Running | RunState::Paused) {
            return Err(SaveError::State(state));
        }
        let definition = kept_definition(&self.dir).map_err(|source| SaveError::Io {
            doing: "read",
            path: self.dir.definition(),
            source,
        })?;
        if state == RunState::Running {
            // Whoever finds the machine standing still knows by this that it
            // should not.
            let path = self.dir.standing();
            fs::write(&path, saved.path().as_os_str().as_encoded_bytes()).map_err(|source| SaveError::Io {
                doing: "write",
                path,
                source,
            })?;
            self.translator.swallow_stop = true;
            self.pause().await?;
        }
        let file = saved.begin().map_err(|source| SaveError::Io {
            doing: "make a file in",
            path: saved.path().to_owned(),
            source,
        })?;
        self.stream(&file, progress).await?;
        let devices = self.facts().await?;
        let machine = self.record.clone();
        let saved_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let record = SavedRecord {
            definition,
            machine,
            balloon_bytes: devices.balloon_actual,
            plugged_bytes: devices.plugged,
            file_bytes: Bytes::ZERO,
            saved_unix_ms: u64::try_from(saved_unix_ms).unwrap_or(u64::MAX),
        };
        Ok(Written { file, record })
    }

    async fn stream(&mut self, file: &File, mut progress: impl FnMut(Bytes)) -> Result<(), SaveError> {
        let client = self.client.with_patience(CALL_PATIENCE);
        let sent = file.try_clone().map_err(|source| SaveError::Io {
            doing: "share the file of",
            path: self.dir.path().to_owned(),
            source,
        })?;
        client.call_with_file(GetFd { fdname: "save" }, sent.into()).await?;
        client.call(MigrateSetParameters { max_bandwidth: NO_BOUND }).await?;
        client.call(Migrate { uri: "fd:save" }).await?;
        let plugged = self.facts().await?.plugged;
        let most = self.size_at_most(plugged).get();
        let written = || match file.metadata()?.len() {
            bytes if bytes > most => Err(io::Error::other(format!("it is larger than {most} bytes"))),
            bytes => Ok(bytes),
        };
        match watch(&client, written, |bytes| progress(Bytes::new(bytes))).await? {
            migration if migration.is_completed() => Ok(()),
            Migration { error_desc: Some(reason), .. } => Err(SaveError::Refused(reason)),
            Migration { status, .. } => Err(SaveError::Refused(status.unwrap_or_default())),
        }
    }

    /// More than this a machine does not take in a file, whatever QEMU writes:
    /// the memory that it can have now (a balloon is a guest's word), a word for
    /// each page that it could ever have, its devices.
    fn size_at_most(&self, plugged: Bytes) -> Bytes {
        let MachineRecord { boot_bytes: boot, plug_max_bytes: plug_max, .. } = self.record;
        let words = boot.saturating_add(plug_max).scale(1, 256);
        [boot, plugged, words, DEVICES_AT_MOST].into_iter().sum()
    }

    /// Makes what was written the VM's saved state, on the disk. From then on
    /// the machine must not run any more: end it. What its devices held.
    ///
    /// This should not be dropped: it may have been done all the same.
    pub async fn commit(&mut self, saved: &SavedDir, written: Written) -> Result<DeviceFacts, SaveError> {
        let Written { file, record } = written;
        let (saved, devices) = (saved.clone(), record.devices());
        let path = saved.path().to_owned();
        let committed = spawn_blocking(move || {
            // A half of it may be there: then it is not whole.
            saved.commit(&file, record).inspect_err(|_| drop(saved.discard()))
        });
        match committed.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Ok(devices),
            Err(source) => Err(SaveError::Io { doing: "write", path, source }),
        }
    }

    /// After a save that came to nothing: the file goes, and the machine goes on
    /// if it ran before.
    pub async fn abandon_save(&mut self, saved: &SavedDir) -> Result<(), MachineError> {
        if let Err(error) = saved.discard() {
            warn!(%error, "could not remove {}", saved.path().display());
        }
        self.settle_save().await
    }

    /// Ends a save that an earlier daemon, or an error, left unfinished. What
    /// has become whole is left alone.
    pub(crate) async fn settle_save(&mut self) -> Result<(), MachineError> {
        let client = self.client.with_patience(CALL_PATIENCE);
        if client.call(commands::QueryMigrate {}).await?.is_under_way() {
            client.call(commands::MigrateCancel {}).await?;
            watch(&client, || Ok(0), |_| ()).await.map_err(|error| match error {
                SaveError::Machine(error) => error,
                _ => QmpError::Timeout { command: "migrate_cancel", waited: STALL_PATIENCE }.into(),
            })?;
        }
        let Ok(saved) = fs::read_to_string(self.dir.standing()) else { return Ok(()) };
        if SavedDir::new(saved).is_whole() {
            return Ok(());
        }
        self.translator.swallow_resume = true;
        client.call(commands::Cont {}).await?;
        let _ = fs::remove_file(self.dir.standing()); // it runs: nobody will look for this
        Ok(())
    }
}

/// Waits for a migration's end; `moved` tells how far it is. Gives up if that
/// stands still.
async fn watch(
    client: &Client,
    mut moved: impl FnMut() -> io::Result<u64>,
    mut progress: impl FnMut(u64),
) -> Result<Migration, SaveError> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let migration = client.call(commands::QueryMigrate {}).await?;
        if !migration.is_under_way() {
            return Ok(migration);
        }
        let is = moved().map_err(SaveError::File)?;
        if is != last {
            (last, since) = (is, Instant::now());
            progress(is);
        }
        if since.elapsed() >= STALL_PATIENCE {
            return Err(SaveError::Stalled { waited: STALL_PATIENCE, bytes: Bytes::new(last) });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Reads what was saved into a QEMU that waits for it (`-incoming defer`), and
/// lets it go on. `dir` is its run-time directory.
pub(crate) async fn restore(client: &Client, saved: &SavedDir, dir: &RunDir) -> Result<(), SaveError> {
    let client = client.with_patience(CALL_PATIENCE);
    let failed = |doing| move |source| SaveError::Io { doing, path: saved.path().to_owned(), source };
    let mut file = saved.open().map_err(failed("open the memory in"))?;
    let sent = file.try_clone().map_err(failed("share the file in"))?;
    client.call_with_file(GetFd { fdname: "restore" }, sent.into()).await?;
    client.call(MigrateIncoming { uri: "fd:restore" }).await?;
    // Both descriptors are one open file: its position is QEMU's.
    match watch(&client, || file.stream_position(), |_| ()).await? {
        migration if migration.is_completed() => {}
        Migration { error_desc, .. } => return Err(SaveError::Refused(error_desc.unwrap_or_default())),
    }
    client.call(crate::statistics::interval(STATISTICS_SECONDS)).await?;
    // Whoever finds it from here on lets it go on.
    fs::write(dir.standing(), saved.path().as_os_str().as_encoded_bytes()).map_err(failed("note the use of"))?;
    saved.begin_to_resume().map_err(failed("rename the record in"))?;
    match client.call(commands::Cont {}).await {
        Ok(_) => {}
        Err(error @ QmpError::Refused { .. }) => {
            // Its processors have not run: what was saved is still what it is.
            saved.resumed_not().map_err(failed("rename the record in"))?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    }
    let _ = fs::remove_file(dir.standing()); // it runs: nobody will look for this
    Ok(())
}

/// What was saved is void now. Its folder is out of the way when this returns;
/// the rest is for nobody to wait for.
pub(crate) fn forget(saved: &SavedDir) -> impl Future<Output = ()> + use<> {
    let path = saved.path().to_owned();
    let away = saved.put_away();
    async move {
        let removed = match away {
            Ok(away) => spawn_blocking(|| fs::remove_dir_all(away)).await,
            Err(error) => Ok(Err(error)),
        };
        if let Ok(Err(error)) = removed {
            warn!(%error, "could not remove {}, which is void now", path.display());
        }
    }
}
