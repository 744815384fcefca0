//! A guest's reset, in our hands.
//!
//! A reset empties the balloon and unplugs virtio-mem: the machine would take
//! back its whole boot memory without asking. So QEMU is started with
//! `-action reboot=shutdown,shutdown=pause`, and a reset arrives as a machine
//! that stands still. The owner finds the memory and then lets it happen:
//!
//! ```text
//!  SHUTDOWN(guest-reset) + STOP     ──▶ ResetHeld       (arrange the memory)
//!  set-action reboot=reset ; system_reset ; cont        continue_reset()
//!  RESET … (the guest's own, pending since it was held; the firmware's)
//!  set-action reboot=shutdown                           held again next time
//! ```
//!
//! `query-balloon` goes on telling the figure from before the reset until the
//! guest's driver is back, although the guest may use all of its boot memory.
//! Until the driver has spoken, [`Machine::facts`] says that it does.

use std::time::Duration;

use dynmem_qmp::{
    Event, Events,
    commands::{self, RebootAction, SetAction, ShutdownAction},
};
use dynmem_units::Bytes;
use tokio::time;
use tracing::warn;

use crate::{
    Machine, MachineError, MachineEvent, RunState,
    events::{Held, Translator},
    launch::{SHUTDOWN_TRACE, read_log},
};

/// Resets come in groups: the guest's own, that was held; and the firmware's
/// (`SeaBIOS` resets a machine that was not switched off, once or twice). When
/// none has followed for this long, the group is over. No guest boots and
/// reboots as quickly.
const DANCE_QUIET: Duration = Duration::from_millis(400);
/// Even a machine that is reset all the time is held again after this.
const DANCE_PATIENCE: Duration = Duration::from_secs(3);

/// How much of QEMU's log is searched for a power-off.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Resets and power-offs are held: how every machine is to be.
pub(crate) const HOLD: SetAction =
    SetAction { reboot: Some(RebootAction::Shutdown), shutdown: Some(ShutdownAction::Pause) };

impl Machine {
    /// Asks for a reset; told by [`crate::MachineEvent::ResetHeld`], when the
    /// machine is held before it.
    pub async fn hold_for_reset(&mut self) -> Result<(), MachineError> {
        Ok(self.client.call(commands::SystemReset {}).await.map(drop)?)
    }

    /// Lets a held reset happen. The caller has charged the machine's whole
    /// boot memory: the guest can take it from now on. A machine that is held
    /// after its guest's power-off boots again: the second half of a restart.
    pub async fn continue_reset(&mut self) -> Result<(), MachineError> {
        if !matches!(self.translator.held, Some(Held::Reset | Held::PoweredOff)) {
            // A try before may have done all but this.
            self.client.call(HOLD).await?;
            return Err(MachineError::NotHeld(self.state().await?));
        }
        let actual = Bytes::new(self.client.call(commands::QueryBalloon {}).await?.actual);
        self.forget_hold();
        self.record.stale_balloon_bytes = Some(actual);
        self.record.log_bytes_at_reset = std::fs::metadata(self.dir.log()).map_or(0, |log| log.len());
        // Without it the machine only reboots less safely: nobody is to lose a
        // guest over a full disk.
        self.write_record_or_warn("a daemon that starts before the guest's driver is back counts its balloon as full");
        let outcome = self.reset_and_go_on().await;
        self.client.call(HOLD).await?; // whatever happened: the next reset is held again
        outcome
    }

    async fn reset_and_go_on(&mut self) -> Result<(), MachineError> {
        self.client.call(SetAction { reboot: Some(RebootAction::Reset), shutdown: None }).await?;
        self.client.call(commands::SystemReset {}).await?;
        self.client.call(commands::Cont {}).await?;
        self.translator = Translator::default();
        // What is still missing after that is held a second time, and comes
        // back here: nothing is lost but a moment.
        let _ = time::timeout(DANCE_PATIENCE, self.swallow_dance()).await;
        Ok(())
    }

    /// Takes in what happened so far: the owner may know of the hold by the
    /// machine's state, and its event, told after the reset, would be another one.
    fn forget_hold(&mut self) {
        while let Some(event) = self.events.as_mut().and_then(Events::ready) {
            if let Some(news) = self.digest(&event) {
                self.keep(news);
            }
        }
        self.pending.retain(|news| !matches!(news, MachineEvent::ResetHeld | MachineEvent::PoweredOff));
    }

    /// Reads events until no reset follows any more; what is none of this
    /// dance's is kept for the owner.
    async fn swallow_dance(&mut self) {
        loop {
            let Some(events) = &mut self.events else { return };
            let Ok(event) = time::timeout(DANCE_QUIET, events.next()).await else { return };
            let Some(event) = event else {
                self.events = None;
                return;
            };
            match event {
                Event::Reset { .. } | Event::Resume | Event::Stop => {}
                other => {
                    if let Some(news) = self.digest(&other) {
                        self.keep(news);
                    }
                }
            }
        }
    }

    /// The state behind QEMU's word `shutdown`, when the event that told the
    /// reason was missed. QEMU logs a power-off (`-trace`), but no reset.
    pub(crate) fn shutdown_state(&mut self) -> RunState {
        let log = read_log(&self.dir, self.record.log_bytes_at_reset, LOG_BYTES_MAX);
        if log.contains(SHUTDOWN_TRACE) {
            self.translator.held = Some(Held::PoweredOff);
            RunState::PoweredOff
        } else {
            self.translator.held = Some(Held::Reset);
            RunState::ResetHeld
        }
    }

    /// The balloon's figure, or all of the boot memory while it is stale.
    pub(crate) fn true_balloon(&mut self, actual: Bytes) -> Bytes {
        if std::mem::take(&mut self.unarranged_reset) {
            self.record.stale_balloon_bytes = Some(actual);
            self.write_record_or_warn("the next daemon may believe an old figure of this balloon");
        }
        self.balloon_spoke(actual);
        if self.is_balloon_stale() { self.record.boot_bytes } else { actual }
    }

    /// What to order so that the figure moves: while it is stale, a balloon
    /// that came back to exactly the stale figure would never be believed.
    pub(crate) fn telling_balloon(&self, balloon: Bytes) -> Bytes {
        if self.record.stale_balloon_bytes != Some(balloon) {
            return balloon;
        }
        let more = balloon.saturating_add(Bytes::BLOCK);
        if more <= self.record.boot_bytes { more } else { balloon }
    }

    /// Whether the balloon's figure is one from before a reset. While it is,
    /// [`Machine::order`] may tell the balloon one block more than it is asked.
    pub fn is_balloon_stale(&self) -> bool {
        self.record.stale_balloon_bytes.is_some()
    }

    /// Takes in a figure of the balloon: any other than the stale one shows
    /// that the driver is back. On its way to the same figure it passes others.
    pub(crate) fn balloon_spoke(&mut self, actual: Bytes) {
        if self.record.stale_balloon_bytes.is_none_or(|stale| stale == actual) {
            return;
        }
        self.record.stale_balloon_bytes = None;
        self.write_record_or_warn("the next daemon may count this balloon as empty");
    }

    /// The record serves the next daemon; this one knows. `consequence` is
    /// what comes of a record that can't be written.
    fn write_record_or_warn(&self, consequence: &str) {
        let path = self.dir.record();
        if let Err(error) = self.record.write(&path) {
            warn!(machine = %self.record.name, %error, "could not write {}: {consequence}", path.display());
        }
    }
}
