//! A machine's smart paging file, in its driver.
//!
//! ```text
//!  Begin ──▶ the file is made ──▶ its group may swap so much ──▶ PagingBegan      (then the reset)
//!  while it is there, once a second ──▶ PagingUsed
//!  End ──▶ its group may not swap any more ──▶ the file is emptied ──▶ PagingEnded
//! ```
//! Making and emptying a file takes as long as the disk does, and the machine
//! is looked after meanwhile: the work is another thread's, and its outcome
//! comes back by [`Pager::done`].

use std::time::Duration;

use dynmem_core::{Event, Paged};
use dynmem_units::Bytes;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::machine::Driver;
use crate::paging::{PagingError, PagingFile, Place};

/// How often the used part is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The file, if there is one, and whoever works on it.
#[derive(Debug)]
pub(super) struct Pager {
    /// Where the next one is made.
    place: watch::Receiver<Place>,
    state: State,
    /// What was last told to be in use.
    told: Option<Bytes>,
    look_at: Instant,
    /// Between the making of the file and the reset: what the devices are
    /// ordered then is for the boot, and not what the machine may hold.
    resetting: bool,
}

#[derive(Debug)]
enum State {
    None,
    InUse(PagingFile),
    Working(JoinHandle<Outcome>),
}

/// What the work came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A file was made.
    Begun(Result<PagingFile, PagingError>),
    /// It was emptied and deleted, or is still in use.
    Ended(Result<(), Box<(PagingFile, PagingError)>>),
}

impl Pager {
    pub(super) fn new(place: watch::Receiver<Place>) -> Self {
        Self { place, state: State::None, told: None, look_at: Instant::now(), resetting: false }
    }

    /// Looks for a file that is there already.
    pub(super) async fn find(&mut self) {
        let place = self.place.borrow().clone();
        match spawn_blocking(move || place.find()).await {
            Ok(Ok(Some(file))) => self.keep(file),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a smart paging file can't be found out about"),
        }
    }

    /// The file, while it is in use and nobody works on it.
    fn file(&self) -> Option<&PagingFile> {
        match &self.state {
            State::InUse(file) => Some(file),
            State::None | State::Working(_) => None,
        }
    }

    /// Makes a file, after whatever is being done.
    pub(super) fn begin(&mut self, paged: Paged) {
        self.resetting = true;
        let place = self.place.borrow().clone();
        let before = std::mem::replace(&mut self.state, State::None);
        self.state = State::Working(tokio::spawn(async move {
            if let State::Working(work) = before {
                let _ = work.await; // a file that could not be emptied serves again
            }
            let begun = spawn_blocking(move || place.begin(paged)).await;
            Outcome::Begun(begun.unwrap_or_else(|error| Err(PagingError::BrokeDown(error.to_string()))))
        }));
    }

    /// Empties the file and deletes it; without one there is nothing to do,
    /// and that is told.
    pub(super) fn end(&mut self) {
        match std::mem::replace(&mut self.state, State::None) {
            State::InUse(file) => {
                self.state = State::Working(spawn_blocking(move || Outcome::Ended(file.end())));
            }
            State::None => self.state = State::Working(tokio::spawn(async { Outcome::Ended(Ok(())) })),
            working @ State::Working(_) => self.state = working,
        }
    }

    /// A file that is in use.
    pub(super) fn keep(&mut self, file: PagingFile) {
        self.told = None;
        self.look_at = Instant::now();
        self.state = State::InUse(file);
    }

    /// What the work under way comes to, or that the used part should be looked
    /// at (`None`); for ever pending without a file. May be dropped and called
    /// again.
    pub(super) async fn done(&mut self) -> Option<Outcome> {
        let outcome = match &mut self.state {
            State::None => std::future::pending().await,
            State::InUse(_) => {
                sleep_until(self.look_at).await;
                return None;
            }
            State::Working(work) => work.await,
        };
        self.state = State::None;
        match outcome {
            Ok(outcome) => Some(outcome),
            Err(error) => {
                // The file, if there is one still, is found again.
                tracing::error!(%error, "work on a smart paging file broke down");
                self.find().await;
                let error = PagingError::BrokeDown(error.to_string());
                match std::mem::replace(&mut self.state, State::None) {
                    State::InUse(file) => Some(Outcome::Ended(Err(Box::new((file, error))))),
                    _ => Some(Outcome::Begun(Err(error))),
                }
            }
        }
    }

    /// What is new about the used part. A file that somebody has given up by
    /// hand is no more: `PagingEnded`.
    pub(super) async fn look(&mut self) -> Option<Event> {
        self.look_at = Instant::now() + LOOK_EVERY;
        let State::InUse(file) = &self.state else { return None };
        match file.used() {
            Ok(Some(used)) if self.told == Some(used) => None,
            Ok(Some(used)) => {
                self.told = Some(used);
                Some(Event::PagingUsed(used))
            }
            Ok(None) => {
                self.clear().await;
                Some(Event::PagingEnded)
            }
            Err(error) => {
                tracing::warn!(%error, "the use of a smart paging file can't be read");
                None
            }
        }
    }

    /// The held machine is reset now.
    pub(super) fn reset(&mut self) {
        self.resetting = false;
    }

    /// The machine may hold so much in memory from now on: for the next daemon.
    pub(super) fn remember(&mut self, memory: Bytes) {
        if let State::InUse(file) = &mut self.state
            && !self.resetting
            && let Err(error) = file.remember(memory)
        {
            tracing::warn!(%error, "the next daemon may know less of a smart paging file");
        }
    }

    /// Gives up whatever there is: nothing of the machine can be in it.
    pub(super) async fn clear(&mut self) {
        if let State::Working(work) = std::mem::replace(&mut self.state, State::None) {
            let _ = work.await; // whatever it came to is cleared away
        }
        let place = self.place.borrow().clone();
        clear(place).await;
    }
}

/// Gives up the file of a machine that is gone.
pub(super) async fn clear(place: Place) {
    let path = place.file().to_owned();
    match spawn_blocking(move || place.clear()).await {
        Ok(Err(error)) => tracing::warn!(%error, "the smart paging file {} stays for now", path.display()),
        Err(error) => tracing::error!(%error, "work on {} broke down", path.display()),
        Ok(Ok(())) => {}
    }
}

impl Driver {
    /// A file of an earlier daemon's, or of the launch.
    pub(super) async fn find_paging(&mut self) {
        self.pager.find().await;
        if let Some(file) = self.pager.file() {
            self.fence.found_paging(file.paged());
        }
    }

    /// The engine wants the file emptied.
    pub(super) async fn end_paging(&mut self) -> Option<()> {
        let used = match self.pager.file().map(PagingFile::used) {
            Some(Ok(used)) => used.unwrap_or_default(),
            Some(Err(error)) => return self.paging_failed(error.to_string()).await,
            None => Bytes::ZERO, // to be told that there is none
        };
        match self.fence.close_file(used).await {
            Ok(()) => {
                self.pager.end();
                Some(())
            }
            Err(reason) => self.paging_failed(reason).await,
        }
    }

    /// Work on the file is done, or it is time to look at it.
    pub(super) async fn paged(&mut self, outcome: Option<Outcome>) -> Option<()> {
        match outcome {
            None => match self.pager.look().await {
                None => Some(()),
                Some(Event::PagingEnded) => self.paging_ended().await,
                Some(event) => self.facts.vm(event).await,
            },
            Some(Outcome::Begun(Ok(file))) => self.paging_begun(file).await,
            Some(Outcome::Begun(Err(error))) => {
                self.pager.reset();
                self.paging_failed(error.to_string()).await
            }
            Some(Outcome::Ended(Ok(()))) => self.paging_ended().await,
            Some(Outcome::Ended(Err(failed))) => {
                let (file, error) = *failed;
                self.pager.keep(file);
                self.fence.reopen_file().await;
                self.paging_failed(error.to_string()).await
            }
        }
    }

    /// The file is there; whether the machine may be reset depends on its
    /// limit. An imitated machine has nothing that could be confined.
    async fn paging_begun(&mut self, file: PagingFile) -> Option<()> {
        let is_empty = matches!(file.used(), Ok(Some(Bytes::ZERO)));
        let confined = if self.machine.pid().is_some() { self.fence.page(file.paged()).await } else { Ok(()) };
        self.pager.keep(file);
        let Err(reason) = confined else { return self.facts.vm(Event::PagingBegan).await };
        self.pager.reset();
        if is_empty {
            self.pager.end(); // what that comes to is no news
        }
        self.paging_failed(reason).await
    }

    async fn paging_ended(&mut self) -> Option<()> {
        self.fence.unpage().await;
        self.facts.vm(Event::PagingEnded).await
    }

    async fn paging_failed(&mut self, reason: String) -> Option<()> {
        self.facts.vm(Event::PagingFailed(reason)).await
    }
}
