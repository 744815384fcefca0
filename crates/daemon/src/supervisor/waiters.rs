//! [`Waiters`]: requests that wait until their VM is in the state they asked
//! for, or can't come there.

use dynmem_api::{Problem, VmView};
use dynmem_core::{Refusal, VmState};

use super::command::{Action, Reply};
use crate::driver::OrderKind;

/// Requests that may wait for one VM.
const WAITERS_MAX: usize = 16;

#[derive(Debug)]
struct Waiter {
    action: Action,
    reply: Reply<VmView>,
    /// A restart has let the machine go on.
    done: bool,
}

/// The requests that wait for one VM.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Waiter>);

/// What a waiting request came to.
enum Outcome {
    Waits,
    Reached,
    Missed,
}

impl Waiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a request in line; gives its reply back if there are too many.
    pub(crate) fn add(&mut self, action: Action, reply: Reply<VmView>) -> Result<(), Reply<VmView>> {
        self.0.retain(|waiter| !waiter.reply.is_closed());
        if self.0.len() >= WAITERS_MAX {
            return Err(reply);
        }
        self.0.push(Waiter { action, reply, done: false });
        Ok(())
    }

    /// The engine has refused something.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        let problem = Problem::new(409, refusal.to_string());
        // A wrong state is found at once: it is the newest request's.
        if let Refusal::WrongState { .. } = refusal {
            if let Some(waiter) = self.0.pop() {
                let _ = waiter.reply.send(Err(problem)); // whoever asked may have gone
            }
            return;
        }
        let concerned = |action| match refusal {
            Refusal::PagingFailed { .. } => matches!(action, Action::Restart { .. }),
            Refusal::SaveFailed { .. } => action == Action::Save,
            _ => action == Action::Start,
        };
        self.fail(concerned, &problem);
    }

    /// The driver has carried out an order, or could not.
    pub(crate) fn done(&mut self, name: &str, kind: OrderKind, outcome: Result<(), &str>) {
        let matches = |action: Action| match kind {
            OrderKind::HoldForReset | OrderKind::ContinueReset => matches!(action, Action::Restart { .. }),
            OrderKind::Pause => action == Action::Pause,
            OrderKind::Resume => action == Action::Resume,
            // A guest that has no button may still be forced later.
            OrderKind::PowerDown
            | OrderKind::Memory
            | OrderKind::Save
            | OrderKind::BeginPaging
            | OrderKind::EndPaging => false,
        };
        match outcome {
            Err(reason) => self.fail(matches, &Problem::new(500, format!("Could not {kind} {name}: {reason}"))),
            Ok(()) if kind == OrderKind::ContinueReset => {
                self.0.iter_mut().filter(|waiter| matches(waiter.action)).for_each(|waiter| waiter.done = true);
            }
            Ok(()) => {}
        }
    }

    fn fail(&mut self, which: impl Fn(Action) -> bool, problem: &Problem) {
        for waiter in self.0.extract_if(.., |waiter| which(waiter.action)) {
            let _ = waiter.reply.send(Err(problem.clone())); // whoever asked may have gone
        }
    }

    /// Answers every request that the VM's present state settles.
    pub(crate) fn settle(&mut self, state: VmState, view: &VmView) {
        for waiter in self.0.extract_if(.., |waiter| !matches!(waiter.outcome(state), Outcome::Waits)) {
            let answer = match waiter.outcome(state) {
                Outcome::Missed => Err(Problem::new(409, missed(view))),
                _ => Ok(view.clone()),
            };
            let _ = waiter.reply.send(answer); // whoever asked may have gone
        }
    }
}

impl Waiter {
    fn outcome(&self, state: VmState) -> Outcome {
        let off = matches!(state, VmState::Off | VmState::Saved | VmState::Failed);
        let up = matches!(state, VmState::Booting | VmState::Running | VmState::Paused);
        let (reached, missed) = match self.action {
            Action::Start => (up, off),
            Action::Stop { .. } => (off, false),
            Action::Restart { .. } => (self.done, off),
            Action::Pause => (state == VmState::Paused, off),
            Action::Resume => (matches!(state, VmState::Running | VmState::Booting), off),
            Action::Save => (state == VmState::Saved, off),
        };
        match (reached, missed) {
            (true, _) => Outcome::Reached,
            (false, true) => Outcome::Missed,
            (false, false) => Outcome::Waits,
        }
    }
}

fn missed(view: &VmView) -> String {
    match &view.state_reason {
        Some(reason) => reason.clone(),
        None => format!("{} is {} now: what was asked can't be done any more", view.name, view.state),
    }
}
