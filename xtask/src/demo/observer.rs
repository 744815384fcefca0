//! [`Observer`]: what the daemon says and what QEMU says, side by side, four
//! times a second.
//!
//! One task owns the connections, hands out the newest sample for the screen,
//! and all of them at the end for the verdict.

use std::{
    future::pending,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use dynmem_api::{Client, HostView, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Lab, Lent, Monitor};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

const PERIOD: Duration = Duration::from_millis(250);
/// A QEMU that is slower stands still, and holds what it held.
const QEMU_PATIENCE: Duration = Duration::from_millis(500);
/// A daemon that is slower is treated as silent in this sample.
const DAEMON_PATIENCE: Duration = Duration::from_secs(2);

/// One look at everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Since the observer began.
    pub(crate) at: Duration,
    /// The daemon's word; `None` while it does not answer.
    pub(crate) host: Option<HostView>,
    /// In the order of the guests' names as given.
    pub(crate) guests: Vec<Sighting>,
}

impl Sample {
    /// The sample for programs, sizes in MiB.
    pub(crate) fn to_json(&self) -> Value {
        let guest = |guest: &Sighting| {
            json!({
                "name": guest.name,
                "state": guest.view.as_ref().map(|view| view.state),
                "assigned_mib": guest.lent.map(|lent| lent.assigned().mib()),
                "overhead_mib": guest.view.as_ref().map(|view| view.overhead_bytes.mib()),
                "pid": guest.view.as_ref().map(|view| view.pid),
                "charged_mib": guest.view.as_ref().map(|view| view.charged_bytes.mib()),
                "limit_mib": guest.view.as_ref().and_then(|view| view.memory_limit_bytes).map(Bytes::mib),
                "plugged_mib": guest.lent.map(|lent| lent.plugged.mib()),
                "demand_mib": guest.view.as_ref().map(|view| view.demand_bytes.mib()),
                "target_mib": guest.view.as_ref().map(|view| view.target_bytes.mib()),
                "driver": guest.view.as_ref().map(|view| &view.driver),
            })
        };
        json!({
            "at_ms": u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX),
            "available_mib": self.host.as_ref().map(|host| host.available_bytes.mib()),
            "guests": self.guests.iter().map(guest).collect::<Vec<_>>(),
        })
    }

    /// The guest with this name.
    pub(crate) fn of(&self, name: &str) -> Option<&Sighting> {
        self.guests.iter().find(|guest| guest.name == name)
    }
}

/// One guest in a sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sighting {
    pub(crate) name: String,
    /// The daemon's word.
    pub(crate) view: Option<VmView>,
    /// QEMU's word; `None` while there is no machine.
    pub(crate) lent: Option<Lent>,
    /// The least that QEMU said in this sample. Machines are asked one after
    /// the other while memory moves between them; the least of two rounds
    /// never counts the same byte twice.
    pub(crate) assigned_least: Bytes,
}

/// A task that samples until it is told to stop.
#[derive(Debug)]
pub(crate) struct Observer {
    began: Instant,
    latest: watch::Receiver<Sample>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Sample>>,
}

impl Observer {
    /// Starts to observe the guests with these names.
    pub(crate) fn start(lab: &Lab, names: &[&str]) -> Self {
        let machines = names.iter().map(|name| Machine {
            name: (*name).to_owned(),
            socket: lab.run_dir(name).join("monitor.sock"),
            monitor: None,
            last: None,
        });
        let machines = machines.collect();
        let (publish, latest) = watch::channel(Sample::default());
        let (stop, stopped) = watch::channel(false);
        let began = Instant::now();
        let eye = Eye { client: lab.client().clone(), machines, began, publish, stopped };
        Self { began, latest, stop, task: tokio::spawn(eye.run()) }
    }

    /// Where [`Sample::at`] counts from.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The newest sample, as it changes.
    pub(crate) fn latest(&self) -> watch::Receiver<Sample> {
        self.latest.clone()
    }

    /// Stops, and hands over all samples.
    pub(crate) async fn finish(self) -> Result<Vec<Sample>> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

/// A machine's monitor, connected while there is a machine.
struct Machine {
    name: String,
    socket: PathBuf,
    monitor: Option<Monitor>,
    /// What it held when it last said so.
    last: Option<Lent>,
}

/// The task's own state.
struct Eye {
    client: Client,
    machines: Vec<Machine>,
    began: Instant,
    publish: watch::Sender<Sample>,
    stopped: watch::Receiver<bool>,
}

impl Eye {
    async fn run(mut self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                _ = self.stopped.changed() => return samples,
            }
            let sample = self.look().await;
            self.publish.send_replace(sample.clone());
            samples.push(sample);
        }
    }

    async fn look(&mut self) -> Sample {
        let mut guests: Vec<Sighting> = Vec::new();
        for machine in &mut self.machines {
            let lent = machine.lent().await;
            let assigned_least = lent.unwrap_or_default().assigned();
            guests.push(Sighting { name: machine.name.clone(), view: None, lent, assigned_least });
        }
        for (machine, guest) in self.machines.iter_mut().zip(&mut guests) {
            guest.lent = machine.lent().await;
            guest.assigned_least = guest.assigned_least.min(guest.lent.unwrap_or_default().assigned());
        }
        let at = self.began.elapsed();
        let (host, views) = self.ask_daemon().await.map_or((None, Vec::new()), |(host, views)| (Some(host), views));
        for view in views {
            if let Some(guest) = guests.iter_mut().find(|guest| guest.name == view.name) {
                guest.view = Some(view);
            }
        }
        Sample { at, host, guests }
    }

    async fn ask_daemon(&self) -> Option<(HostView, Vec<VmView>)> {
        let ask = async { Ok::<_, dynmem_api::ClientError>((self.client.host().await?, self.client.vms().await?)) };
        timeout(DAEMON_PATIENCE, ask).await.ok()?.ok()
    }
}

impl Machine {
    async fn lent(&mut self) -> Option<Lent> {
        match timeout(QEMU_PATIENCE, self.ask()).await {
            Ok(lent) => {
                if lent.is_none() {
                    self.monitor = None; // the machine is gone, or another has taken its place
                }
                self.last = lent;
            }
            Err(_) => self.monitor = None, // a late answer would be taken for the next one
        }
        self.last
    }

    async fn ask(&mut self) -> Option<Lent> {
        if self.monitor.is_none() {
            let connected = Monitor::connect(&self.socket).await;
            if connected.as_ref().is_err_and(is_waiting_line_full) {
                pending::<()>().await; // it takes nobody in: it stands still
            }
            self.monitor = connected.ok();
        }
        self.monitor.as_mut()?.lent().await.ok()
    }
}

fn is_waiting_line_full(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::WouldBlock)
}
