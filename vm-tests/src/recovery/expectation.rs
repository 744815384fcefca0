//! [`Expectation`]: what a VM may be, after what was asked of it and what was
//! answered.

use anyhow::{Result, bail};
use dynmem_api::{ClientError, VmState, VmView};

use super::operation::Operation;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was answered: it is done, and stays done.
    Done,
    /// The daemon died first: it is done or not.
    CutOff,
}

impl Fate {
    /// A request that is refused although it could be done is an error.
    pub(super) fn of(answer: Result<(), ClientError>) -> Result<Self> {
        match answer {
            Ok(()) => Ok(Self::Done),
            Err(ClientError::Refused(problem)) if problem.status != 503 => bail!("It was refused: {problem}"),
            Err(_) => Ok(Self::CutOff),
        }
    }
}

/// A VM's condition, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Absent,
    Off,
    On,
    Paused,
    Saved,
}

impl Is {
    /// `None` while it is on its way.
    pub(super) fn of(vm: Option<&VmView>) -> Option<Self> {
        Some(match vm?.state {
            VmState::Off => Self::Off,
            VmState::Booting | VmState::Running => Self::On,
            VmState::Paused => Self::Paused,
            VmState::Saved => Self::Saved,
            _ => return None,
        })
    }
}

/// What one VM may be.
#[derive(Clone, Debug)]
pub(super) struct Expectation {
    /// One of these.
    may_be: Vec<Is>,
    /// If it is on, this is its process; none if it was not on.
    pid: Option<u32>,
    /// Its weight is one of these; any if empty.
    weights: Vec<u16>,
}

impl Default for Expectation {
    fn default() -> Self {
        Self { may_be: vec![Is::Absent], pid: None, weights: Vec::new() }
    }
}

impl Expectation {
    /// What it is, between two rounds.
    pub(super) fn is(&self) -> Is {
        self.may_be[0]
    }

    /// An operation was asked of it.
    pub(super) fn after(&mut self, operation: Operation, fate: Fate) {
        let is = match operation {
            Operation::Create | Operation::Stop | Operation::PowerDown | Operation::Discard => Is::Off,
            Operation::Delete => Is::Absent,
            Operation::Start | Operation::Restart | Operation::Resume | Operation::ResetFromInside => Is::On,
            Operation::Pause => Is::Paused,
            Operation::Save => Is::Saved,
            Operation::Set(weight) => {
                if fate == Fate::Done {
                    self.weights.clear();
                }
                self.weights.push(weight);
                return;
            }
        };
        if fate == Fate::Done {
            self.may_be.clear();
        }
        self.may_be.push(is);
    }

    /// What is wrong with it; empty if nothing is.
    pub(super) fn against(&self, vm: Option<&VmView>) -> Vec<String> {
        let Some(view) = vm else {
            let missing = (!self.may_be.contains(&Is::Absent)).then(|| format!("it is gone, not {:?}", self.may_be));
            return missing.into_iter().collect();
        };
        let mut wrong = Vec::new();
        let is = Is::of(vm);
        if !is.is_some_and(|is| self.may_be.contains(&is)) {
            let reason = view.state_reason.as_deref().unwrap_or("no reason");
            wrong.push(format!("it is {} ({reason}), not {:?}", view.state, self.may_be));
        }
        if matches!(is, Some(Is::On | Is::Paused)) && self.pid.is_some() && view.pid != self.pid {
            wrong.push(format!("its process is {:?}, not {:?}", view.pid, self.pid));
        }
        if !self.weights.is_empty() && !self.weights.contains(&view.settings.weight.get()) {
            wrong.push(format!("its weight is {}, not one of {:?}", view.settings.weight.get(), self.weights));
        }
        wrong
    }

    /// This is what it is now.
    pub(super) fn settle(&mut self, vm: Option<&VmView>) {
        self.may_be = vec![Is::of(vm).unwrap_or(Is::Absent)];
        self.pid = vm.and_then(|vm| vm.pid);
        self.weights = vm.map(|vm| vm.settings.weight.get()).into_iter().collect();
    }
}
