//! How a driver comes by its machine: it launches one, takes over one that was
//! found, or gets back one whose control was lost.

use std::{path::PathBuf, time::Duration};

use dynmem_core::{Event, Exit};
use dynmem_hypervisor::{AttachError, Hypervisor, Launch, Machine};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{sleep, timeout};

use super::{MachineInfo, Mailbox, machine::Driver};
use crate::fact::{FactSender, News};

/// A launch that takes longer has failed. The hypervisor's own patience ends
/// long before.
const LAUNCH_PATIENCE: Duration = Duration::from_mins(2);
const ATTACH_FIRST: Duration = Duration::from_millis(500);
const ATTACH_LAST: Duration = Duration::from_secs(10);

/// What a driver begins with.
pub(crate) enum Start {
    /// A VM to launch.
    Launch(Box<Launch>),
    /// A machine that runs; the engine knows of it.
    Attached(Attached),
}

/// A machine that runs.
pub(crate) enum Attached {
    /// And obeys.
    Control(Box<Machine>),
    /// And does not answer: to be tried again.
    Lost {
        /// Where it is.
        run_dir: PathBuf,
        /// What was said.
        reason: String,
    },
}

/// A driver's life. It ends with the machine ([`Event::Exited`] or
/// [`Event::LaunchFailed`] is its last word), or when nobody listens.
pub(crate) async fn run(hypervisor: Hypervisor, start: Start, facts: FactSender, mut mailbox: Mailbox) {
    let found = matches!(start, Start::Attached(_));
    let (machine, launched) = match start {
        Start::Launch(job) => launch(&hypervisor, &job, &facts).await.unzip(),
        Start::Attached(Attached::Control(machine)) => (Some(*machine), None),
        Start::Attached(Attached::Lost { run_dir, reason }) => {
            (regain(&hypervisor, run_dir, reason, &facts, &mut mailbox).await, None)
        }
    };
    let Some(machine) = machine else { return };
    // Whoever waits for the launch is answered with these particulars.
    let mut heard = facts.tell(News::Info(Box::new(MachineInfo::of(&machine)))).await;
    if let Some(launched) = launched {
        heard = facts.vm(launched).await;
    }
    if heard.is_some() {
        Driver::new(machine, facts, mailbox).run(found).await;
    }
}

/// The machine, and what the engine is to be told of it.
async fn launch(hypervisor: &Hypervisor, job: &Launch, facts: &FactSender) -> Option<(Machine, Event)> {
    let launched = timeout(LAUNCH_PATIENCE, hypervisor.launch(job)).await;
    let reason = match launched {
        Ok(Ok(mut machine)) => {
            // Right after the launch the devices hold what the plan says.
            let devices = match machine.facts().await {
                Ok(devices) => devices,
                Err(error) => {
                    tracing::warn!(vm = %job.definition.name, %error, "the new machine does not tell its devices");
                    super::machine::devices_of(machine.record())
                }
            };
            return Some((machine, Event::Launched(devices)));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("QEMU did not start within {} s", LAUNCH_PATIENCE.as_secs()),
    };
    facts.vm(Event::LaunchFailed(reason)).await;
    None
}

/// Attaches until it works, or the machine is gone, or is to end.
async fn regain(
    hypervisor: &Hypervisor,
    run_dir: PathBuf,
    mut reason: String,
    facts: &FactSender,
    mailbox: &mut Mailbox,
) -> Option<Machine> {
    let mut pause = ATTACH_FIRST;
    loop {
        facts.tell(News::Trouble(Some(reason))).await?;
        let to_end = tokio::select! {
            ended = mailbox.end.wait_for(|end| *end) => ended.map(drop).ok(),
            () = sleep(pause) => None,
        };
        match hypervisor.attach(&run_dir).await {
            Ok(Some(machine)) => {
                facts.tell(News::Trouble(None)).await?;
                return Some(machine);
            }
            Ok(None) => {
                let exit =
                    if to_end.is_some() { Exit::Clean } else { Exit::Failed("Its process has ended".to_owned()) };
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

fn kill(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
        let _ = pidfd_send_signal(process, Signal::KILL); // it may have ended meanwhile
    }
}
