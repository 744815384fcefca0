//! [`Keeper`]: takes a look each second, and writes what it saw each minute.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use dynmem_api::MAX_HISTORY_POINTS;
use dynmem_store::history::{History, HistoryError, Piece, Point, Sample, Series, Subject, series};

use tokio::sync::watch;

use super::sample::{of_host, of_vm};
use crate::{
    advice::{Advice, Adviser},
    log::Log,
    supervisor::Snapshot,
};

/// Samples of a subject that wait for a disk.
const WAITING_MAX: usize = 300;

/// The history, and what is not written yet.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// None while it can't be opened; it is tried each minute.
    history: Option<History>,
    log: Log,
    adviser: Adviser,
    advice: watch::Sender<Arc<Advice>>,
    host: Vec<Sample>,
    /// By name.
    vms: BTreeMap<String, Vec<Sample>>,
    /// The VMs of the last look, and the number of each, which a VM of the
    /// same name that is made later does not have.
    made: Option<Vec<(String, u64)>>,
    /// Deleted VMs whose history is still there.
    deleted: BTreeSet<String>,
    minute: u64,
    /// Samples that found no place since the last that was told.
    lost: u64,
    /// The disk's refusal is told once.
    refused: bool,
}

impl Keeper {
    pub(super) fn new(path: PathBuf, log: Log, advice: watch::Sender<Arc<Advice>>) -> Self {
        let mut keeper = Self {
            path,
            history: None,
            log,
            adviser: Adviser::default(),
            advice,
            host: Vec::new(),
            vms: BTreeMap::new(),
            made: None,
            deleted: BTreeSet::new(),
            minute: 0,
            lost: 0,
            refused: false,
        };
        keeper.open();
        keeper
    }

    /// Takes in what there was at a second; `lost` seconds before it found no
    /// place on their way.
    pub(super) fn look(&mut self, at_unix_s: u64, snapshot: &Snapshot, lost: u64) {
        self.follow(snapshot);
        self.lost += lost;
        if self.minute != at_unix_s / 60 {
            self.minute = at_unix_s / 60;
            self.flush();
        }
        let mut lost = 0;
        let mut push = |samples: &mut Vec<Sample>, sample| {
            if samples.len() < WAITING_MAX { samples.push(sample) } else { lost = 1 }
        };
        push(&mut self.host, of_host(Subject::Host.columns(), at_unix_s, &snapshot.host));
        let columns = Subject::Vm(String::new()).columns();
        for vm in snapshot.vms.iter().filter(|vm| vm.state.is_on()) {
            let sample = of_vm(columns, at_unix_s, vm);
            match self.vms.get_mut(&vm.name) {
                Some(samples) => push(samples, sample),
                None => push(self.vms.entry(vm.name.clone()).or_default(), sample),
            }
        }
        self.lost += lost;
        self.advise(at_unix_s, snapshot);
    }

    fn advise(&mut self, now_unix_s: u64, snapshot: &Snapshot) {
        let mut adviser = std::mem::take(&mut self.adviser);
        // A history that can't be read now is one of which nothing is known.
        let minutes = |subject: &Subject, since| {
            self.series(subject, (since, now_unix_s), Some(60)).map_or_else(|_| Vec::new(), |series| series.points)
        };
        let advice = adviser.look(snapshot, now_unix_s, minutes);
        self.adviser = adviser;
        if let Some(advice) = advice {
            self.advice.send_replace(Arc::new(advice));
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) {
        if self.history.is_none() {
            self.open();
        }
        self.forget_deleted();
        let Some(history) = &mut self.history else { return };
        let host = (Subject::Host, std::mem::take(&mut self.host));
        let vms = std::mem::take(&mut self.vms).into_iter().map(|(name, samples)| (Subject::Vm(name), samples));
        let batch: Vec<(Subject, Vec<Sample>)> = std::iter::once(host).chain(vms).collect();
        let outcome = history.write(&batch);
        if outcome.is_err() {
            for (subject, samples) in batch {
                match subject {
                    Subject::Host => self.host = samples,
                    Subject::Vm(name) => _ = self.vms.insert(name, samples),
                }
            }
        }
        match outcome {
            Ok(()) => self.tell_lost(),
            Err(error) => self.failed(&error),
        }
    }

    /// What was kept of a subject and what waits, as one series.
    pub(super) fn series(
        &self,
        subject: &Subject,
        span: (u64, u64),
        step_seconds: Option<u64>,
    ) -> Result<Series, HistoryError> {
        let kept = self.history.as_ref().map(|history| history.read(subject, span.0, span.1)).transpose()?;
        let mut pieces = match subject {
            Subject::Vm(name) if self.deleted.contains(name) => Vec::new(),
            _ => kept.unwrap_or_default(),
        };
        let waiting = match subject {
            Subject::Host => Some(&self.host),
            Subject::Vm(name) => self.vms.get(name),
        };
        let points = waiting.into_iter().flatten().map(Point::from).collect();
        pieces.push(Piece { period_seconds: 1, points });
        Ok(series(pieces, subject.columns(), span, step_seconds, MAX_HISTORY_POINTS))
    }

    /// Forgets VMs that are no more, and those whose name is another's now.
    fn follow(&mut self, snapshot: &Snapshot) {
        let Some(before) = &self.made else {
            self.made = Some(seen(snapshot).map(|(name, made)| (name.to_owned(), made)).collect());
            // A definition that is damaged may be mended.
            if snapshot.host.damaged_definitions.is_empty() {
                let names: BTreeSet<&str> = seen(snapshot).map(|(name, _)| name).collect();
                let done = self.history.as_mut().map(|history| history.forget_unknown(|name| names.contains(name)));
                if let Some(Err(error)) = done {
                    self.failed(&error);
                }
            }
            return;
        };
        if before.iter().map(|(name, made)| (name.as_str(), *made)).eq(seen(snapshot)) {
            return;
        }
        let now: BTreeSet<(&str, u64)> = seen(snapshot).collect();
        let gone = before.iter().filter(|(name, made)| !now.contains(&(name.as_str(), *made)));
        for (name, _) in gone {
            self.vms.remove(name);
            self.deleted.insert(name.clone());
        }
        self.made = Some(seen(snapshot).map(|(name, made)| (name.to_owned(), made)).collect());
        self.forget_deleted();
    }

    fn forget_deleted(&mut self) {
        let Some(history) = &mut self.history else { return };
        while let Some(name) = self.deleted.first() {
            match history.forget(name) {
                Ok(()) => _ = self.deleted.pop_first(),
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn open(&mut self) {
        match History::open(&self.path) {
            Ok((history, notice)) => {
                if let Some(notice) = notice {
                    tracing::error!(%notice, "the history was begun anew");
                    self.log.record(None, "history", notice.to_string(), &[]);
                }
                self.history = Some(history);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &HistoryError) {
        if !std::mem::replace(&mut self.refused, true) {
            let message = format!("Nothing is written to the history: {error}. It is tried again each minute");
            self.log.record(None, "history", message, &[]);
        }
        if error.is_damage() {
            self.history = None; // the next try finds a fresh one
        }
    }

    /// All is written: what was lost until then is told.
    fn tell_lost(&mut self) {
        if std::mem::take(&mut self.refused) {
            self.log.record(None, "history", "The history is written again".to_owned(), &[]);
        }
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let message = format!("{lost} seconds are missing in the history: the disk was too slow for them");
            self.log.record(None, "history", message, &[("lost_seconds", lost)]);
        }
    }
}

/// The VMs of a snapshot, by name, with their numbers.
fn seen(snapshot: &Snapshot) -> impl Iterator<Item = (&str, u64)> {
    snapshot.vms.iter().map(|vm| vm.name.as_str()).zip(snapshot.made.iter().copied())
}
