//! [`Play`]: what happens in the demo, scene by scene.
//!
//! ```text
//!  boot ▶ calm ▶ web busy ▶ db busy ▶ mail and batch busy ▶ curtain
//!                            └ with --check: batch is killed, the daemon is
//!                              killed, both come back
//! ```
//!
//! A scene waits for what it caused (with a limit), and then, so that people
//! can watch, until its share of the time is over.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dynmem_api::VmState;
use dynmem_units::Bytes;
use dynmem_vm_tests::{Guest, Image, Lab, Workload, is_served};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{observer::Sample, screen::Screen};

/// The guests, in the order of the table.
pub(crate) const NAMES: [&str; 4] = ["web", "db", "mail", "batch"];
/// Four guests of 384 MiB and QEMU's own 82 MiB each just fit; four of their
/// maxima would need twice as much.
pub(crate) const POOL: Bytes = Bytes::from_mib(2048);
/// Memory that each guest holds all the time, to be verified at the end.
const KEEPSAKE: Bytes = Bytes::from_mib(24);
/// What one busy guest takes, and what each of two takes.
const ALONE: Bytes = Bytes::from_mib(560);
const TOGETHER: Bytes = Bytes::from_mib(320);
/// How fast a busy guest grows, per second.
const GROWTH: Bytes = Bytes::from_mib(64);
/// How long a busy guest may take to hold what it wants, on a slow machine.
const SETTLES_WITHIN: Duration = Duration::from_mins(1);
/// How long the host may take, from then on, to give demand and buffer.
const SERVED_WITHIN: Duration = Duration::from_secs(20);
/// How long a new daemon may take to find everybody.
const ADOPTED_WITHIN: Duration = Duration::from_secs(20);
/// Scenes that share the time.
const SCENES: u32 = 5;

/// The demo as it runs.
pub(crate) struct Play<'a> {
    pub(crate) lab: &'a mut Lab,
    pub(crate) image: &'a Image,
    pub(crate) screen: &'a Screen,
    /// What the observer sees.
    pub(crate) samples: watch::Receiver<Sample>,
    /// For all scenes together, the boot excluded.
    pub(crate) length: Duration,
    /// Whether guest and daemon are killed in the middle.
    pub(crate) disasters: bool,
    pub(crate) workloads: BTreeMap<&'static str, Workload>,
    /// Pages whose content was not what it should be, or lost to the guest's
    /// own out-of-memory killer.
    pub(crate) patterns_broken: u64,
    /// When the calm scene was over: nobody may have shrunk before.
    pub(crate) calm_until: Option<Instant>,
}

impl Play<'_> {
    /// All of it. An error is a promise that was broken.
    pub(crate) async fn perform(&mut self) -> Result<()> {
        self.boot().await?;
        let ends = self.scene("All four are calm. Nobody takes memory from them: nobody needs it");
        rest(ends).await;
        self.calm_until = Some(Instant::now());
        self.wave(&["web"], ALONE, false).await?;
        self.wave(&["db"], ALONE, self.disasters).await?;
        self.wave(&["mail", "batch"], TOGETHER, false).await?;
        let ends = self.scene("All four are calm again; each keeps what nobody needs. Every page is verified");
        self.verify(&NAMES).await?;
        rest(ends).await;
        Ok(())
    }

    /// Guests of the play that do not run, or do not answer.
    pub(crate) async fn lost(&mut self) -> Vec<String> {
        let mut lost = Vec::new();
        for name in NAMES {
            let state = self.lab.client().vm(name).await.map(|vm| vm.state);
            let answers = match self.workloads.get_mut(name) {
                Some(workload) => workload.status().await.is_ok(),
                None => false,
            };
            if state.as_ref().ok() != Some(&VmState::Running) || !answers {
                lost.push(format!("{name} ({state:?}, workload answers: {answers})"));
            }
        }
        lost
    }

    async fn boot(&mut self) -> Result<()> {
        self.screen.say("Four guests boot, with 384 MiB each");
        for name in NAMES {
            self.lab.define(&Guest::new(name, 384, 192, 1024), Some(self.image)).await?;
            self.lab.client().start(name).await.with_context(|| format!("Could not start {name}"))?;
        }
        for name in NAMES {
            self.admit(name).await?;
        }
        Ok(())
    }

    /// Waits for a guest that was started, and lets it hold its keepsake.
    async fn admit(&mut self, name: &'static str) -> Result<()> {
        let mut workload = self.lab.workload(name).await?;
        self.lab.until_agent_reports(name).await?;
        workload.grow(KEEPSAKE, None).await?;
        workload.settle(SETTLES_WITHIN).await?;
        self.workloads.insert(name, workload);
        Ok(())
    }

    /// Some guests need `more` each, get it, and need it no longer.
    async fn wave(&mut self, busy: &[&'static str], more: Bytes, disasters: bool) -> Result<()> {
        let who = busy.join(" and ");
        let ends = self.scene(&match busy {
            [_] => format!("{who} is busy and needs {} MiB more", more.mib()),
            _ => format!("{who} are busy and need {} MiB more each", more.mib()),
        });
        for name in busy {
            self.workload(name)?.grow(more, Some(GROWTH)).await?;
        }
        for name in busy {
            let held = self.workload(name)?.settle(SETTLES_WITHIN).await?;
            let served = |vm: &dynmem_api::VmView| {
                let startup = vm.settings.startup_bytes;
                vm.demand_bytes >= held && is_served(vm) && vm.assigned_bytes > startup
            };
            self.lab.until_vm(name, "grown past startup to demand and buffer", SERVED_WITHIN, served).await?;
        }
        if disasters {
            self.kill_a_guest("batch").await?;
            self.kill_the_daemon(&["web", "db", "mail"]).await?;
            self.screen.say("batch is started again");
            self.lab.client().start("batch").await.context("Could not start batch again")?;
            self.admit("batch").await?;
        }
        rest(ends).await;
        self.verify(busy).await?;
        for name in busy {
            self.workload(name)?.shrink(more).await?;
        }
        Ok(())
    }

    async fn kill_a_guest(&mut self, name: &'static str) -> Result<()> {
        self.screen.say(&format!("QEMU of {name} is killed"));
        self.workloads.remove(name);
        self.lab.kill_machine(name).await?;
        self.lab.until_vm(name, "known to be gone", SERVED_WITHIN, |vm| !vm.state.is_on()).await?;
        Ok(())
    }

    /// Kills the daemon, starts another, and waits until it knows each of
    /// `names` as QEMU knows it.
    async fn kill_the_daemon(&mut self, names: &[&str]) -> Result<()> {
        self.screen.say("The daemon is killed; the guests run on");
        self.lab.kill_daemon()?;
        sleep(Duration::from_secs(1)).await; // long enough to be seen in the table
        self.screen.say("A new daemon finds the guests as they are");
        self.lab.start_daemon().await?;
        for name in names {
            self.adopted(name).await?;
        }
        Ok(())
    }

    /// Waits until the daemon's size of a guest is QEMU's own.
    async fn adopted(&mut self, name: &str) -> Result<()> {
        let limit = timeout(ADOPTED_WITHIN, self.samples.wait_for(|sample| is_adopted(sample, name)));
        let waited = limit.await.map(|sample| drop(sample.map(drop)));
        waited
            .with_context(|| format!("{name} was not adopted with its true size: {:?}", self.samples.borrow().of(name)))
    }

    async fn verify(&mut self, names: &[&'static str]) -> Result<()> {
        for name in names {
            let verified = self.workload(name)?.verify().await?;
            let status = self.workload(name)?.status().await?;
            let lost_pages = status.lost_bytes.get() / 4096;
            self.patterns_broken += verified.broken + lost_pages;
            ensure!(verified.broken == 0 && status.oom_kills == 0, "{name} lost memory: {verified:?}, {status:?}");
        }
        Ok(())
    }

    fn workload(&mut self, name: &str) -> Result<&mut Workload> {
        self.workloads.get_mut(name).with_context(|| format!("{name} is not part of the play now"))
    }

    /// Announces a scene; returns when it should end.
    fn scene(&self, sentence: &str) -> Instant {
        self.screen.say(sentence);
        Instant::now() + self.length / SCENES
    }
}

/// True if the daemon knows a running guest as QEMU does.
fn is_adopted(sample: &Sample, name: &str) -> bool {
    let words = sample.of(name).and_then(|guest| Some((guest.view.as_ref()?, guest.lent?)));
    words.is_some_and(|(view, lent)| view.state == VmState::Running && view.assigned_bytes == lent.assigned())
}

async fn rest(until: Instant) {
    sleep(until.saturating_duration_since(Instant::now())).await;
}
