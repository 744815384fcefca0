//! Deeds: what is done with a guest's workload, each in a task of its own,
//! because a guest that is in trouble takes its time; and [`Told`], what came
//! of it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use dynmem_api::{Client, ClientError, StopRequest, VmState};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Seen, Workload, WorkloadRequest, until};
use tokio::time::sleep;

/// A guest that boots beside five others on two cores that emulate it; one
/// that waits for others' memory first.
const UP_WITHIN: Duration = Duration::from_mins(4);
/// For the first answer of one connection.
const ANSWERS_WITHIN: Duration = Duration::from_secs(6);
/// Held from the boot on, to be verified at the end; who holds nothing has
/// just booted.
pub(super) const KEEPSAKE: Bytes = Bytes::from_mib(16);
/// How long others may take to get the memory of one that is to restart, and
/// how much they are to get of what it boots with.
pub(super) const CROWDED_WITHIN: Duration = Duration::from_secs(25);
const CROWDED: Bytes = Bytes::from_mib(64);
/// A spike's wait for the host's help.
const SPIKE_WAIT: Duration = Duration::from_secs(10);

/// What a task says at its end.
#[derive(Debug)]
pub(super) struct Told {
    /// The connection, if it is still good for something.
    pub(super) workload: Option<Workload>,
    pub(super) news: Result<News>,
}

/// How a guest is.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    /// When it said so.
    pub(super) at: Instant,
    pub(super) uptime: Duration,
    pub(super) oom_kills: u64,
    /// Pages with a wrong content, since the boot.
    pub(super) broken: u64,
    pub(super) goal: Bytes,
    /// It has booted since the last news.
    pub(super) is_up_again: bool,
    /// It goes on from a file: its clock stood still meanwhile.
    pub(super) is_restored: bool,
}

/// A change of a guest's load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    Grow { bytes: Bytes, per_second: Bytes },
    Shrink(Bytes),
    Spike(Bytes),
    Verify,
}

/// Changes the load.
pub(super) async fn load(mut workload: Workload, load: Load) -> Told {
    let news = async {
        match load {
            Load::Grow { bytes, per_second } => workload.grow(bytes, Some(per_second)).await.map(drop)?,
            Load::Shrink(bytes) => workload.shrink(bytes).await.map(drop)?,
            Load::Spike(bytes) => workload.spike(bytes, SPIKE_WAIT).await.map(drop)?,
            Load::Verify => workload.verify().await.map(drop)?,
        }
        news(&mut workload).await
    };
    let news = news.await;
    Told { workload: Some(workload), news }
}

/// Does something to the guest from inside, and goes on with it.
pub(super) async fn mischief(mut workload: Workload, what: WorkloadRequest) -> Told {
    let news = async {
        workload.mischief(what).await?;
        news(&mut workload).await
    };
    let news = news.await;
    Told { workload: Some(workload), news }
}

/// Waits until others have so much of the guest's memory that it can't boot
/// with what is left; for a while only.
async fn until_crowded(machine: &Reach, startup: Bytes) {
    let deadline = Instant::now() + CROWDED_WITHIN;
    let little = startup.saturating_sub(CROWDED);
    while Instant::now() < deadline {
        if machine.client.vm(&machine.name).await.is_ok_and(|vm| vm.assigned_bytes <= little) {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Restarts the guest, from inside or by command, once it has too little memory
/// for it.
pub(super) async fn restart_crowded(mut workload: Workload, inside: bool, startup: Bytes, machine: Reach) -> Told {
    // An error changes nothing: it restarts in any case.
    if let Ok(status) = workload.status().await {
        let _ = workload.shrink(status.goal_bytes.saturating_sub(KEEPSAKE)).await;
    }
    until_crowded(&machine, startup).await;
    if inside {
        return leave(workload, WorkloadRequest::Reboot, machine).await;
    }
    drop(workload);
    machine.restart().await
}

/// Lets the guest restart from inside, and waits until it is up again.
pub(super) async fn leave(mut workload: Workload, how: WorkloadRequest, machine: Reach) -> Told {
    // A crash may take its answer along.
    let _ = tokio::time::timeout(ANSWERS_WITHIN, workload.leave(how)).await;
    drop(workload);
    machine.comes_up().await
}

/// Where a guest is to be found.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) name: String,
    pub(super) socket: PathBuf,
    pub(super) client: Client,
}

impl Reach {
    /// Starts the VM, as soon as there is memory for it, and waits until it is
    /// up.
    pub(super) async fn start(self) -> Told {
        match self.is_started().await {
            Ok(()) => self.comes_up().await,
            Err(error) => Told { workload: None, news: Err(error) },
        }
    }

    async fn is_started(&self) -> Result<()> {
        let what = format!("the start of {}", self.name);
        let started = until(&what, UP_WITHIN, async || match self.client.start(&self.name).await {
            Ok(_) => Ok(Seen::Ready(())),
            // No memory now, no daemon, or it is on already: a daemon died before it could tell.
            Err(error) => {
                let is_on = self.client.vm(&self.name).await.is_ok_and(|vm| vm.state.is_on());
                Ok(if is_on { Seen::Ready(()) } else { Seen::NotYet(error.to_string()) })
            }
        });
        started.await
    }

    /// Restarts the VM and waits until it is up. A daemon that dies before it
    /// answers is asked again when it is back: nobody knows what it did.
    pub(super) async fn restart(self) -> Told {
        let what = format!("the restart of {}", self.name);
        let restarted = until(&what, UP_WITHIN, async || match self.client.restart(&self.name).await {
            Ok(_) | Err(ClientError::Refused(_)) => Ok(Seen::Ready(())), // what follows tells how it is
            Err(error) => Ok(Seen::NotYet(error.to_string())),
        });
        match restarted.await {
            Ok(()) => self.comes_up().await,
            Err(error) => Told { workload: None, news: Err(error) },
        }
    }

    /// Waits until the VM is off, asking for it if need be, and starts it after
    /// a while.
    pub(super) async fn off_and_on(self, stop: Option<StopRequest>, off: Duration) -> Told {
        let what = format!("the end of {}", self.name);
        let is_off = until(&what, UP_WITHIN, async || {
            if let Some(stop) = &stop {
                let _ = self.client.stop(&self.name, stop).await; // the daemon may die, or it may be off already
            }
            Ok(match self.client.vm(&self.name).await {
                Ok(vm) if !vm.state.is_on() => Seen::Ready(()),
                Ok(vm) => Seen::NotYet(vm.state.to_string()),
                Err(error) => Seen::NotYet(error.to_string()),
            })
        });
        if let Err(error) = is_off.await {
            return Told { workload: None, news: Err(error) };
        }
        sleep(off).await;
        self.start().await
    }

    /// Saves the VM, and lets it go on from the file after a while.
    pub(super) async fn save_and_restore(self, off: Duration) -> Told {
        let what = format!("{} to be saved", self.name);
        let saved = until(&what, UP_WITHIN, async || {
            let state = self.client.vm(&self.name).await.map(|vm| vm.state);
            if matches!(state, Ok(VmState::Off | VmState::Failed)) {
                bail!("{} is {state:?} after a save", self.name);
            }
            if matches!(state, Ok(VmState::Saved)) {
                return Ok(Seen::Ready(()));
            }
            let _ = self.client.save(&self.name).await; // the daemon may die before it is done
            Ok(Seen::NotYet(format!("{state:?}")))
        });
        if let Err(error) = saved.await {
            return Told { workload: None, news: Err(error) };
        }
        sleep(off).await;
        if let Err(error) = self.is_started().await {
            return Told { workload: None, news: Err(error) };
        }
        let Told { workload, news } = self.connect().await;
        Told { workload, news: news.map(|news| News { is_restored: true, ..news }) }
    }

    /// Waits until a guest that has just booted answers. An emulated guest's
    /// clock can't tell: on a busy host it is some percent too fast.
    pub(super) async fn comes_up(self) -> Told {
        let what = format!("{} to boot", self.name);
        let up = until(&what, UP_WITHIN, async || {
            let look = async {
                let mut workload = Workload::connect(&self.name, &self.socket, ANSWERS_WITHIN).await?;
                let status = workload.status().await?;
                if !status.goal_bytes.is_zero() {
                    bail!("The guest from before answers: it has its keepsake");
                }
                anyhow::Ok(workload)
            };
            Ok(match look.await {
                Ok(workload) => Seen::Ready(workload),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            })
        });
        match up.await {
            Ok(workload) => first_news(workload).await,
            Err(error) => Told { workload: None, news: Err(error) },
        }
    }

    /// Connects anew to a guest that did not restart.
    pub(super) async fn connect(self) -> Told {
        match Workload::connect(&self.name, &self.socket, UP_WITHIN).await {
            Ok(mut workload) => {
                let news = news(&mut workload).await;
                Told { workload: Some(workload), news }
            }
            Err(error) => Told { workload: None, news: Err(error) },
        }
    }
}

async fn first_news(mut workload: Workload) -> Told {
    let news = async {
        workload.grow(KEEPSAKE, None).await.context("It is up and does not load")?;
        Ok(News { is_up_again: true, ..news(&mut workload).await? })
    };
    let news = news.await;
    Told { workload: Some(workload), news }
}

async fn news(workload: &mut Workload) -> Result<News> {
    let status = workload.status().await?;
    Ok(News {
        at: Instant::now(),
        uptime: Duration::from_millis(status.uptime_ms),
        oom_kills: status.oom_kills,
        broken: status.broken,
        goal: status.goal_bytes,
        is_up_again: false,
        is_restored: false,
    })
}
