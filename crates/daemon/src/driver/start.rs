//! How a driver comes by its machine: it launches one, takes over one that was
//! found, or gets back one whose control was lost.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dynmem_core::{Event, Exit, Paged};
use dynmem_hypervisor::{AttachError, Hypervisor, Launch, Machine};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    MachineInfo, Mailbox,
    fence::{self, Fence},
    machine::Driver,
    paging,
    save::{discard, restore},
};
use crate::{
    fact::{FactSender, News},
    groups::Groups,
};

/// A launch that takes longer has failed. The hypervisor's own patience ends
/// long before.
const LAUNCH_PATIENCE: Duration = Duration::from_mins(2);
const ATTACH_FIRST: Duration = Duration::from_millis(500);
const ATTACH_LAST: Duration = Duration::from_secs(10);

/// What a driver begins with.
pub(crate) enum Start {
    /// A VM to launch, with a part of its memory in a file if need be.
    Launch(Box<Launch>, Option<Paged>),
    /// A VM that goes on as it was saved; of its definition only the name counts.
    Restore(Box<Launch>),
    /// A machine that runs; the engine knows of it.
    Attached(Attached),
}

/// A machine that runs.
pub(crate) enum Attached {
    /// And obeys.
    Control(Box<Machine>),
    /// And does not answer: to be tried again.
    Lost(Lost),
}

/// A machine that runs, as far as is known, and can't be controlled.
pub(crate) struct Lost {
    /// Where it is.
    pub(crate) run_dir: PathBuf,
    /// What was said.
    pub(crate) reason: String,
    /// Its driver broke down before it told how the launch went: the engine
    /// still waits for that.
    pub(crate) launching: bool,
}

/// What a driver makes its machine with.
#[derive(Clone, Debug)]
pub(crate) struct Workshop {
    pub(crate) hypervisor: Hypervisor,
    /// Where machines have their memory groups, if they may have any.
    pub(crate) groups: Option<Arc<Groups>>,
}

/// A driver's life. It ends with the machine ([`Event::Exited`] or
/// [`Event::LaunchFailed`] is its last word), or when nobody listens.
pub(crate) async fn run(workshop: Workshop, start: Start, facts: FactSender, mut mailbox: Mailbox) {
    let found = matches!(start, Start::Attached(_));
    let fence = |machine: &Machine| Fence::found(workshop.groups.clone(), machine);
    let made = match start {
        Start::Launch(job, paged) => {
            let made = launch(&workshop, *job, paged, &mailbox).await;
            if made.is_err() {
                paging::clear(mailbox.place()).await;
            }
            answer(made, &facts).await
        }
        Start::Restore(job) => answer(restore(&workshop, *job, &mailbox.saved).await, &facts).await,
        Start::Attached(Attached::Control(machine)) => Some((fence(&machine), *machine, None)),
        Start::Attached(Attached::Lost(lost)) => regain(&workshop, lost, &facts, &mut mailbox)
            .await
            .map(|(machine, launched)| (fence(&machine), machine, launched)),
    };
    let Some((fence, machine, launched)) = made else { return };
    // Whoever waits for the launch is answered with these particulars.
    let mut heard = facts.tell(News::Info(Box::new(MachineInfo::of(&machine)))).await;
    if let Some(launched) = launched {
        heard = facts.vm(launched).await;
    }
    if heard.is_some() {
        Driver::new(machine, fence, facts, mailbox).run(found).await;
    }
}

/// The machine, its fence, and what the engine is to be told of it.
pub(super) type Made = (Fence, Machine, Event);

/// Tells why there is no machine, if there is none.
async fn answer(made: Result<Made, String>, facts: &FactSender) -> Option<(Fence, Machine, Option<Event>)> {
    match made {
        Ok((fence, machine, launched)) => Some((fence, machine, Some(launched))),
        Err(reason) => {
            facts.vm(Event::LaunchFailed(reason)).await;
            None
        }
    }
}

/// A machine that boots; or why there is none.
async fn launch(workshop: &Workshop, mut job: Launch, paged: Option<Paged>, mailbox: &Mailbox) -> Result<Made, String> {
    // Nobody thinks that it is saved: what may be left must never go on beside it.
    discard(&mailbox.saved).await?;
    if let Some(paged) = paged {
        let place = mailbox.place();
        let begun = spawn_blocking(move || place.begin(paged)).await.map_err(|error| error.to_string())?;
        begun.map_err(|error| error.to_string())?; // the machine's driver finds it
    }
    // A definition without a plan is refused by the launch itself.
    let plan = workshop.hypervisor.plan(&job.definition).ok();
    let groups = workshop.groups.clone().filter(|_| plan.is_some());
    let (boot, plug_max, estimate) = plan.map(|plan| (plan.boot, plan.plug_max, plan.overhead)).unwrap_or_default();
    let mut fence = Fence::launch(groups, &job.definition.name, boot, plug_max, estimate).await;
    job.cgroups = fence.folders();
    let confined = match paged {
        // An imitated machine has nothing that could be confined.
        Some(paged) if workshop.hypervisor.has_processes() => fence.page(paged).await,
        _ => Ok(()),
    };
    let outcome = match confined {
        Ok(()) => timeout(LAUNCH_PATIENCE, workshop.hypervisor.launch(&job)).await,
        Err(reason) => {
            fence.remove().await;
            return Err(reason);
        }
    };
    let reason = match outcome {
        Ok(Ok(mut machine)) => {
            let launched = launched(&mut machine).await;
            return Ok((fence, machine, launched));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("QEMU did not start within {} s", LAUNCH_PATIENCE.as_secs()),
    };
    let reason = fence.killed().unwrap_or(reason);
    fence.remove().await;
    Err(reason)
}

pub(super) async fn launched(machine: &mut Machine) -> Event {
    // Right after the launch the devices hold what the plan says.
    let devices = match machine.facts().await {
        Ok(devices) => devices,
        Err(error) => {
            let record = machine.record();
            tracing::warn!(vm = %record.name, %error, "the new machine does not tell its devices");
            super::machine::devices_of(record)
        }
    };
    Event::Launched(devices)
}

/// Attaches until it works, or the machine is gone, or is to end. With the
/// machine comes what the engine is to be told of it, if it waits for that.
async fn regain(
    workshop: &Workshop,
    lost: Lost,
    facts: &FactSender,
    mailbox: &mut Mailbox,
) -> Option<(Machine, Option<Event>)> {
    let Lost { run_dir, mut reason, launching } = lost;
    let mut pause = ATTACH_FIRST;
    loop {
        facts.tell(News::Trouble(Some(reason))).await?;
        let to_end = tokio::select! {
            ended = mailbox.end.wait_for(|end| *end) => ended.map(drop).ok(),
            () = sleep(pause) => None,
        };
        let attached = workshop.hypervisor.attach(&run_dir).await;
        if let (Ok(None), Some(groups), Some(name)) = (&attached, &workshop.groups, name_of(&run_dir)) {
            fence::remove(groups, name).await;
        }
        match attached {
            Ok(Some(mut machine)) => {
                facts.tell(News::Trouble(None)).await?;
                let news = if launching { Some(launched(&mut machine).await) } else { None };
                return Some((machine, news));
            }
            Ok(None) if launching => {
                paging::clear(mailbox.place()).await;
                facts.vm(Event::LaunchFailed("its driver broke down: see the daemon's log".to_owned())).await;
                return None;
            }
            Ok(None) => {
                let exit =
                    if to_end.is_some() { Exit::Clean } else { Exit::Failed("Its process has ended".to_owned()) };
                paging::clear(mailbox.place()).await;
                facts.vm(Event::Exited(exit)).await;
                return None;
            }
            Err(error) => {
                if let (Some(()), AttachError::Unresponsive { pid, .. }) = (to_end, &error) {
                    kill(*pid); // attach has just made sure whose it is
                }
                reason = error.to_string();
            }
        }
        pause = if to_end.is_some() { ATTACH_FIRST } else { (pause * 2).min(ATTACH_LAST) };
        if to_end.is_some() {
            sleep(ATTACH_FIRST).await;
        }
    }
}

/// A machine's directory has the name of its VM.
fn name_of(run_dir: &Path) -> Option<&str> {
    run_dir.file_name()?.to_str()
}

fn kill(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
        let _ = pidfd_send_signal(process, Signal::KILL); // it may have ended meanwhile
    }
}

#[cfg(test)]
mod tests {
    use dynmem_core::VmId;
    use dynmem_definition::VmDefinition;
    use dynmem_hypervisor::{SavedDir, fake::FakeHost};
    use dynmem_units::Bytes;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{driver::mailbox, fact::Fact, paging::Place};

    /// What the engine hears first from a driver that takes over from one that
    /// broke down at a launch.
    async fn first_event_after_a_break_down(with_machine: bool) -> Event {
        let folder = tempfile::tempdir().expect("a folder");
        let run_dir = folder.path().join("web01");
        let hypervisor = Hypervisor::Fake(FakeHost::new(Bytes::from_mib(4096)));
        let definition = VmDefinition::from_toml("name = \"web01\"", &folder.path().join("web01.toml")).expect("right");
        if with_machine {
            let job = Launch { definition, run_dir: run_dir.clone(), cgroups: Vec::new() };
            drop(hypervisor.launch(&job).await.expect("a machine"));
        }
        let (sender, mut told) = mpsc::channel(64);
        let facts = FactSender { vm: VmId(0), run: 1, facts: sender };
        let (_handle, mailbox) = mailbox(Place::default(), SavedDir::new("/nowhere"));
        let lost = Lost { run_dir, reason: "Its driver broke down".to_owned(), launching: true };
        let workshop = Workshop { hypervisor, groups: None };
        let driver = tokio::spawn(run(workshop, Start::Attached(Attached::Lost(lost)), facts, mailbox));
        let event = loop {
            if let Fact::Machine { news: News::Event(event), .. } = told.recv().await.expect("it speaks") {
                break event;
            }
        };
        driver.abort();
        event
    }

    #[tokio::test]
    async fn a_launch_is_told_although_its_driver_broke_down() {
        assert!(matches!(first_event_after_a_break_down(true).await, Event::Launched(_)));
    }

    #[tokio::test]
    async fn a_launch_that_left_nothing_has_failed() {
        assert!(matches!(first_event_after_a_break_down(false).await, Event::LaunchFailed(_)));
    }
}
