//! Saving a machine, and making one of what was saved.
//!
//! Writing takes as long as a disk does. Meanwhile the driver does nothing else
//! but listen for the order to end the machine, which is also the way to give a
//! save up.

use dynmem_core::Event;
use dynmem_hypervisor::{Launch, SaveError, SavedDir};
use tokio::task::spawn_blocking;

use super::{
    fence::Fence,
    machine::{Driver, unless_ended},
    start::{Made, Workshop, launched},
};
use crate::fact::News;

impl Driver {
    /// Writes the machine to its file and ends it; or it goes on as before.
    pub(super) async fn save(&mut self) -> Option<()> {
        let saved = self.mailbox.saved.clone();
        let facts = self.facts.clone();
        let write = self.machine.write_to(&saved, |bytes| facts.hint(News::Saving(bytes)));
        let outcome = match unless_ended(&mut self.mailbox.end, self.ending.asked, write).await {
            Some(Ok(written)) => self.machine.commit(&saved, written).await,
            Some(Err(error)) => Err(error),
            None => {
                // The machine is ended next: what was written is for nobody.
                if let Err(reason) = discard(&saved).await {
                    tracing::warn!("{reason}");
                }
                return Some(());
            }
        };
        match outcome {
            Ok(devices) => {
                self.ending.saved = Some(devices);
                self.end().await
            }
            Err(error) => self.not_saved(&saved, &error).await,
        }
    }

    async fn not_saved(&mut self, saved: &SavedDir, error: &SaveError) -> Option<()> {
        if let Err(error) = self.machine.abandon_save(saved).await {
            self.in_trouble(&error).await?;
        }
        self.facts.vm(Event::SaveFailed(error.to_string())).await?;
        self.catch_up().await // it runs, or not: the engine hears it from there
    }
}

/// Removes what is in a VM's folder: what is no more, or never was, a machine.
pub(super) async fn discard(saved: &SavedDir) -> Result<(), String> {
    let (path, saved) = (saved.path().to_owned(), saved.clone());
    let discarded = spawn_blocking(move || saved.discard()).await.map_err(std::io::Error::other);
    discarded.flatten().map_err(|error| format!("Can't remove {}: {error}", path.display()))
}

/// Makes a machine of what was saved; or says why there is none, and then it is
/// still saved.
pub(super) async fn restore(workshop: &Workshop, mut job: Launch, saved: &SavedDir) -> Result<Made, String> {
    let found = spawn_blocking({
        let saved = saved.clone();
        move || saved.read()
    });
    let cant = |reason: String| format!("What was saved in {} can't be read: {reason}", saved.path().display());
    let record = found.await.map_err(std::io::Error::other).flatten().map_err(|error| cant(error.to_string()))?;
    let devices = record.ok_or_else(|| cant("nothing is there".to_owned()))?.devices();
    let name = &job.definition.name;
    let groups = workshop.groups.clone();
    let mut fence = Fence::launch(groups, name, devices.boot, devices.plug_max, devices.overhead).await;
    // While it is read, a hole that the balloon left may be backed for a moment
    // together with what is beside it.
    fence.allow(devices.boot, devices.plugged).await;
    job.cgroups = fence.folders();
    match workshop.hypervisor.restore(&job, saved).await {
        Ok(mut machine) => {
            fence.allow(devices.balloon_actual, devices.plugged).await;
            let launched = launched(&mut machine).await;
            Ok((fence, machine, launched))
        }
        Err(error) => {
            let reason = fence.killed().unwrap_or_else(|| error.to_string());
            fence.remove().await;
            Err(reason)
        }
    }
}
