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
//!  RESET (the guest's own, pending since it was held)
//!  set-action reboot=shutdown                           held again next time
//! ```
//!
//! `query-balloon` goes on telling the figure from before the reset until the
//! guest's driver is back, although the guest may use all of its boot memory.
//! Until the driver has spoken, [`Machine::facts`] says that it does.

use std::time::Duration;

use dynmem_qmp::{
    Event,
    commands::{self, RebootAction, SetAction, ShutdownAction},
};
use dynmem_units::Bytes;
use tokio::time;
use tracing::warn;

use crate::{Machine, MachineError, RunState, events::Held};

/// How long the guest's own, pending reset is waited for. It takes about
/// 40 ms; if it comes later than this, the machine is held a second time.
const DANCE_PATIENCE: Duration = Duration::from_secs(1);

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
    /// boot memory: the guest can take it from now on.
    pub async fn continue_reset(&mut self) -> Result<(), MachineError> {
        let Some(Held::Reset { by_guest }) = self.translator.held else {
            return Err(MachineError::NotHeld(self.state().await?));
        };
        let actual = Bytes::new(self.client.call(commands::QueryBalloon {}).await?.actual);
        self.record.stale_balloon_bytes = Some(actual);
        self.write_record()?;
        let outcome = self.reset_and_go_on(by_guest).await;
        self.client.call(HOLD).await?; // whatever happened: the next reset is held again
        outcome
    }

    async fn reset_and_go_on(&mut self, by_guest: bool) -> Result<(), MachineError> {
        self.client.call(SetAction { reboot: Some(RebootAction::Reset), shutdown: None }).await?;
        self.client.call(commands::SystemReset {}).await?;
        self.client.call(commands::Cont {}).await?;
        self.translator.held = None;
        let resets = if by_guest { 2 } else { 1 };
        if time::timeout(DANCE_PATIENCE, self.swallow_dance(resets)).await.is_err() {
            warn!(machine = %self.record.name, "the guest's own reset did not follow");
        }
        Ok(())
    }

    /// Reads events up to so many resets and the resumption; what is none of
    /// this dance's is kept for the owner.
    async fn swallow_dance(&mut self, mut resets: u32) {
        let mut resumed = false;
        while resets > 0 || !resumed {
            let Some(events) = &mut self.events else { return };
            let Some(event) = events.next().await else {
                self.events = None;
                return;
            };
            match event {
                Event::Reset { .. } => resets = resets.saturating_sub(1),
                Event::Resume => resumed = true,
                Event::Stop => {}
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
        let log = std::fs::read_to_string(self.dir.log()).unwrap_or_default();
        if log.contains("qemu_system_shutdown_request") {
            self.translator.held = Some(Held::PoweredOff);
            RunState::PoweredOff
        } else {
            self.translator.held = Some(Held::Reset { by_guest: true });
            RunState::ResetHeld
        }
    }

    /// The balloon's figure, or all of the boot memory while it is stale.
    pub(crate) fn true_balloon(&mut self, actual: Bytes) -> Bytes {
        if std::mem::take(&mut self.unarranged_reset) {
            self.record.stale_balloon_bytes = Some(actual);
        }
        self.balloon_spoke(actual);
        if self.record.stale_balloon_bytes.is_some() { self.record.boot_bytes } else { actual }
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

    /// Takes in a figure of the balloon: any other than the stale one shows
    /// that the driver is back. On its way to the same figure it passes others.
    pub(crate) fn balloon_spoke(&mut self, actual: Bytes) {
        if self.record.stale_balloon_bytes.is_none_or(|stale| stale == actual) {
            return;
        }
        self.record.stale_balloon_bytes = None;
        if let Err(error) = self.write_record() {
            warn!(machine = %self.record.name, %error, "the next daemon may count this balloon as empty");
        }
    }

    fn write_record(&self) -> Result<(), MachineError> {
        let path = self.dir.record();
        self.record.write(&path).map_err(|source| MachineError::Record { path, source })
    }
}
