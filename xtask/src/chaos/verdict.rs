//! [`Log`]: what happened, in sentences and counts; and [`judge`]: what it and
//! the samples come to.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use dynmem_units::Bytes;

use super::fault::Fault;
use crate::demo::{observer::Sample, verdict::tally_excusing};

/// The longest hunger beside memory that could end it. Memory that another has
/// to give first comes from emulated guests that share two cores.
const STARVED_AT_MOST: Duration = Duration::from_secs(20);

/// A time in which a guest's troubles are explained, since the observer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Excuse {
    from: Duration,
    to: Duration,
}

/// What happened.
#[derive(Debug)]
pub(super) struct Log {
    began: Instant,
    faults: BTreeMap<&'static str, u32>,
    excuses: HashMap<String, Vec<Excuse>>,
    lost: Vec<String>,
    harmed: Vec<String>,
    /// Restarts that went to a file.
    pub(super) paged: u32,
    /// Pages with a wrong content.
    pub(super) broken: u64,
}

impl Log {
    pub(super) fn new(began: Instant) -> Self {
        let (faults, excuses) = (BTreeMap::new(), HashMap::new());
        Self { began, faults, excuses, lost: Vec::new(), harmed: Vec::new(), paged: 0, broken: 0 }
    }

    /// Says what happens, with its time.
    pub(super) fn say(&self, sentence: &str) {
        eprintln!("[{:7.1} s] {sentence}", self.began.elapsed().as_secs_f64());
    }

    pub(super) fn fault(&mut self, fault: &Fault, guest: &str) {
        *self.faults.entry(fault.name()).or_default() += 1;
        self.say(&format!("fault: {guest} {fault:?}"));
    }

    pub(super) fn lose(&mut self, sentence: String) {
        self.say(&format!("LOST: {sentence}"));
        self.lost.push(sentence);
    }

    pub(super) fn harm(&mut self, sentence: String) {
        self.say(&format!("HARMED: {sentence}"));
        self.harmed.push(sentence);
    }

    /// Notes whether a guest is excused now. Asked for in every step.
    pub(super) fn note(&mut self, guest: &str, excused: bool) {
        /// Steps that are as close as this are one time.
        const GAP: Duration = Duration::from_secs(3);
        if !excused {
            return;
        }
        let now = self.began.elapsed();
        let its = self.excuses.entry(guest.to_owned()).or_default();
        match its.last_mut() {
            Some(last) if last.to + GAP > now => last.to = now,
            _ => its.push(Excuse { from: now, to: now }),
        }
    }

    fn is_excused(&self, guest: &str, at: Duration) -> bool {
        let excuses = self.excuses.get(guest).into_iter().flatten();
        excuses.into_iter().any(|excuse| excuse.from <= at && at <= excuse.to)
    }
}

/// What it all comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) faults: BTreeMap<&'static str, u32>,
    pub(super) guests: usize,
    /// Restarts that went to a file.
    pub(super) paged: u32,
    pub(super) samples: usize,
    pub(super) guests_lost: usize,
    pub(super) patterns_broken: u64,
    pub(super) pool_exceeded: usize,
    pub(super) neighbour_harmed: usize,
    pub(super) leftovers: usize,
    /// A sentence for each promise that was broken.
    pub(super) failures: Vec<String>,
}

/// Goes through the samples and the log.
pub(super) fn judge(samples: &[Sample], pool: Bytes, log: &Log) -> Verdict {
    let tally = tally_excusing(samples, pool, |guest, at| log.is_excused(guest, at));
    let starved = tally.starved.iter().filter(|(_, longest)| **longest > STARVED_AT_MOST);
    let starved = starved
        .map(|(guest, longest)| format!("{guest} starved for {:.1} s beside available memory", longest.as_secs_f64()));
    let harmed: Vec<String> = log.harmed.iter().cloned().chain(starved).collect();
    let mut failures: Vec<String> = log.lost.iter().map(|what| format!("Guest lost: {what}")).collect();
    failures.extend(harmed.iter().map(|what| format!("Neighbour harmed: {what}")));
    if log.broken > 0 {
        failures.push(format!("{} pages had a wrong content", log.broken));
    }
    failures.extend(tally.pool_broken());
    Verdict {
        faults: log.faults.clone(),
        guests: samples.first().map_or(0, |sample| sample.guests.len()),
        paged: log.paged,
        samples: tally.samples,
        guests_lost: log.lost.len(),
        patterns_broken: log.broken,
        pool_exceeded: tally.pool_exceeded,
        neighbour_harmed: harmed.len(),
        leftovers: 0,
        failures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_lasts_while_it_is_noted_and_for_that_guest_only() {
        let mut log = Log::new(Instant::now());
        log.note("ada", true);
        log.note("bob", false);
        log.note("ada", true);
        assert_eq!(log.excuses["ada"].len(), 1);
        let at = log.excuses["ada"][0].to;
        assert!(log.is_excused("ada", at) && !log.is_excused("bob", at));
        assert!(!log.is_excused("ada", at + Duration::from_secs(1)));
    }
}
