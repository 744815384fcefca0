//! [`Fence`]: a machine's memory group, and what is read of it.
//!
//! The driver tells what it is about to order and what it has seen; [`Limit`]
//! says what follows; this does it. Writing a limit may make the kernel
//! reclaim, which takes as long as a disk does: it happens in another thread,
//! one at a time for each machine. Only an order that needs more waits for it.
//!
//! Without a group (no right to have one, or removed by somebody) everything
//! works but the limit, and the view says why.

use std::{path::PathBuf, sync::Arc, time::Duration};

use dynmem_core::{DeviceFacts, Paged};
use dynmem_hypervisor::Machine;
use dynmem_linux::{GroupError, GroupEvents, GroupLimit, HostReader, MemoryGroup};
use dynmem_units::Bytes;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep},
};

use super::limit::{Limit, frozen};
use crate::groups::{Groups, with_source};

/// Between two readings. One takes 4 ms of processor time (QEMU 7.2); the
/// guest's own memory is not walked.
const READ_EVERY: Duration = Duration::from_secs(10);
/// A QEMU that is as old has been measured often enough.
const GROWN_UP: Duration = Duration::from_mins(1);
/// A limit that could not be set is tried again so often.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// A machine is at its limit when so little is left: the kernel slows it down
/// before the last byte is taken.
const NEARLY: Bytes = Bytes::from_mib(4);

/// A limit that has to be set before anything else happens is tried so often.
const ENFORCE_TRIES: u32 = 10;
const ENFORCE_PAUSE: Duration = Duration::from_millis(100);
/// What a guest took on its own is told from here on. An order may be a block
/// off for a moment.
const NOTABLE: Bytes = Bytes::from_mib(16);

/// What people may know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitView {
    /// The most that QEMU may hold.
    pub(crate) limit: Option<Bytes>,
    /// Whether the overhead was measured.
    pub(crate) measured: bool,
    /// Guest memory that the host really backs.
    pub(crate) resident: Option<Bytes>,
    /// Memory that the guest has taken out of its balloon on its own.
    pub(crate) taken: Option<Bytes>,
    /// The limit, while it is held at it.
    pub(crate) at_limit: Option<Bytes>,
    /// Why it runs without a limit, if it should have one.
    pub(crate) missing: Option<String>,
}

/// What came of setting a limit.
#[derive(Debug)]
enum Outcome {
    /// It is set.
    Set(GroupLimit),
    /// The group holds more already: it got the limit that leaves it that.
    Over {
        wanted: GroupLimit,
        kept: GroupLimit,
    },
    /// Not now: the kernel could not reclaim enough. The old limit holds.
    Busy,
    /// The group is gone.
    Gone,
    Failed(String),
}

/// What was read.
#[derive(Debug, Default)]
struct Reading {
    /// QEMU's own memory, the kernel's part included.
    own: Option<Bytes>,
    /// The guest's memory that is there.
    resident: Option<Bytes>,
    /// All that the group holds.
    held: Option<Bytes>,
    /// Whether QEMU is in the group.
    is_member: bool,
}

/// A machine's fence, with or without a group.
#[derive(Debug)]
pub(super) struct Fence {
    name: String,
    groups: Option<Arc<Groups>>,
    group: Option<MemoryGroup>,
    limit: Limit,
    /// Sizes of the areas that the guest's memory is mapped in.
    areas: Vec<Bytes>,
    /// What was wanted when a limit was set last.
    set: Option<GroupLimit>,
    /// What was really set then.
    kept: Option<GroupLimit>,
    setting: Option<JoinHandle<Outcome>>,
    set_at: Instant,
    reading: Option<JoinHandle<Reading>>,
    read_at: Instant,
    /// What had happened in the group before this machine was in it.
    before: GroupEvents,
    view: LimitView,
    told: LimitView,
}

impl Fence {
    fn new(name: &str, groups: Option<Arc<Groups>>, limit: Limit, boot: Bytes, plug_max: Bytes) -> Self {
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            groups,
            group: None,
            limit,
            areas: areas(boot, plug_max),
            set: None,
            kept: None,
            setting: None,
            set_at: now,
            reading: None,
            read_at: now,
            before: GroupEvents::default(),
            view: LimitView::default(),
            told: LimitView::default(),
        }
    }

    /// For a machine that is about to be launched with `boot`: its group is
    /// made and limited before anybody is in it.
    pub(super) async fn launch(
        groups: Option<Arc<Groups>>,
        name: &str,
        boot: Bytes,
        plug_max: Bytes,
        estimate: Bytes,
    ) -> Self {
        let mut fence = Self::new(name, groups, Limit::launched(boot, estimate), boot, plug_max);
        match fence.groups.as_ref().map(|groups| groups.make(name)) {
            Some(Ok(group)) => {
                fence.take_up(group);
                fence.widen().await;
            }
            Some(Err(error)) => {
                let error = with_source(&error);
                fence.go_without(format!("its memory group could not be made: {error}"));
            }
            None => {}
        }
        fence
    }

    /// For a machine that runs: it stays in the group that it is in.
    pub(super) fn found(groups: Option<Arc<Groups>>, machine: &Machine) -> Self {
        let record = machine.record();
        let limit = limit_of_found(groups.as_deref(), machine);
        let mut fence = Self::new(&record.name, groups, limit, record.boot_bytes, record.plug_max_bytes);
        fence.view.measured = fence.limit.overhead().1;
        let (Some(groups), Some(pid)) = (&fence.groups, machine.pid()) else { return fence };
        match groups.of_process(&record.name, pid) {
            Some(group) => fence.take_up(group),
            None => fence.go_without("it was launched without one; start it again to limit it".to_owned()),
        }
        fence
    }

    fn take_up(&mut self, group: MemoryGroup) {
        self.before = group.events().unwrap_or_default();
        self.group = Some(group);
    }

    fn go_without(&mut self, why: String) {
        self.group = None;
        (self.set, self.kept) = (None, None);
        let LimitView { measured, resident, .. } = self.view;
        self.view = LimitView { measured, resident, missing: Some(why), ..LimitView::default() };
    }

    /// The folders of the groups that QEMU is to join.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.group.iter().map(|group| group.path().to_owned()).collect()
    }

    /// Allows what the devices are about to be told to hold. May be dropped
    /// before its end; then it is to be called again.
    pub(super) async fn allow(&mut self, balloon: Bytes, plugged: Bytes) {
        self.limit.promise(balloon, plugged);
        self.widen().await;
    }

    async fn widen(&mut self) {
        // An earlier limit may be on its way, and be set after this one.
        self.settle().await;
        self.start_setting();
        self.settle().await;
    }

    /// Takes in what the devices hold; makes of it what the guest can use, and
    /// what that costs besides.
    pub(super) fn seen(&mut self, devices: &mut DeviceFacts) {
        self.limit.seen(devices);
        devices.overhead = self.limit.overhead().0;
        // Beyond its limit it does use more, and that is the truth then.
        let in_force = self.kept.is_some() && self.kept == self.set;
        let taken = if in_force { self.limit.hold_to(devices) } else { Bytes::ZERO };
        self.view.taken = (taken >= NOTABLE).then_some(taken);
        if self.setting.is_none() {
            self.start_setting();
        }
    }

    /// Takes in what other threads have found out, reads what is due, and gives
    /// what is news.
    pub(super) async fn look(&mut self, pid: Option<u32>) -> Option<LimitView> {
        if self.setting.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settle().await;
        }
        if let Some(reading) = self.reading.take_if(|reading| reading.is_finished())
            && let Ok(reading) = reading.await
        {
            self.take_reading(&reading);
        }
        if let Some(pid) = pid
            && self.reading.is_none()
            && self.read_at.elapsed() >= READ_EVERY
        {
            self.read_at = Instant::now();
            let (group, areas) = (self.group.clone(), self.areas.clone());
            self.reading = Some(spawn_blocking(move || read(pid, group.as_ref(), &areas)));
        }
        (self.told != self.view).then(|| {
            self.told.clone_from(&self.view);
            self.view.clone()
        })
    }

    /// Begins to set what is wanted now, unless it is set.
    fn start_setting(&mut self) {
        let (Some(group), Some(wanted)) = (&self.group, self.limit.group_limit()) else { return };
        let is_set = self.set == Some(wanted) && self.kept == Some(wanted);
        if is_set || (self.set == Some(wanted) && self.set_at.elapsed() < TRY_AGAIN) {
            return;
        }
        (self.set, self.set_at) = (Some(wanted), Instant::now());
        let group = group.clone();
        self.setting = Some(spawn_blocking(move || set(&group, wanted)));
    }

    /// Waits for a limit that is being set.
    async fn settle(&mut self) {
        let Some(setting) = &mut self.setting else { return };
        let outcome = setting.await;
        self.setting = None;
        match outcome {
            Ok(Outcome::Set(limit)) => self.keep(limit, false),
            Ok(Outcome::Over { wanted, kept }) => self.keep(kept, kept != wanted),
            Ok(Outcome::Busy) => {}
            Ok(Outcome::Gone) => self.go_without("its memory group was removed; start it again to limit it".to_owned()),
            Ok(Outcome::Failed(why)) => self.view.missing = Some(why),
            Err(error) => tracing::error!(vm = %self.name, %error, "a limit could not be set"),
        }
    }

    fn keep(&mut self, limit: GroupLimit, is_over: bool) {
        self.kept = Some(limit);
        (self.view.limit, self.view.missing) = (Some(limit.hard), None);
        if is_over {
            self.at_limit(true);
        }
    }

    fn at_limit(&mut self, is_there: bool) {
        self.view.at_limit = self.view.limit.filter(|_| is_there);
    }

    fn take_reading(&mut self, reading: &Reading) {
        self.view.resident = reading.resident;
        if let Some(own) = reading.own {
            self.limit.measured(own);
            self.view.measured = self.limit.overhead().1;
        }
        if self.group.is_none() {
            return;
        }
        if !reading.is_member {
            return self
                .go_without("its process was taken out of its memory group; start it again to limit it".to_owned());
        }
        if let Some((held, limit)) = reading.held.zip(self.kept) {
            // One that pages is there always: what it has not got is in its file.
            self.at_limit(limit.swap.is_zero() && held.saturating_add(NEARLY) >= limit.soft);
        }
    }

    /// Why the kernel killed QEMU, if it did. For after its end.
    pub(super) fn killed(&self) -> Option<String> {
        let group = self.group.as_ref()?;
        let now = group.events().ok()?;
        if now.oom_kills <= self.before.oom_kills {
            return None;
        }
        if now.ooms <= self.before.ooms {
            return Some("QEMU was killed because the host ran out of memory".to_owned());
        }
        let limit = group.hard_limit().unwrap_or_default();
        let held = group.peak().unwrap_or(limit).min(limit);
        Some(format!("QEMU was killed by its memory limit (it held {} of {} MiB)", held.mib(), limit.mib()))
    }

    /// Removes the group. For after the machine's end; whoever is told of that
    /// may launch another one at once.
    pub(super) async fn remove(&mut self) {
        self.settle().await;
        if let Some(groups) = &self.groups {
            remove(groups, &self.name).await;
        }
    }
}

/// What Smart Paging needs of a fence: see [`Limit::page`].
impl Fence {
    /// Lets the machine swap, and lets it hold no more than the rest. Errors are
    /// sentences; then everything is as before.
    pub(super) async fn page(&mut self, paged: Paged) -> Result<(), String> {
        self.limit.page(paged, true);
        let enforced = self.enforce().await;
        if enforced.is_err() {
            self.unpage().await;
        }
        enforced
    }

    /// A machine that was found pages already.
    pub(super) fn found_paging(&mut self, paged: Paged) {
        self.limit.page(paged, false);
        self.start_setting();
    }

    /// The engine has ordered this: so much may be in memory, if a part is paged.
    pub(super) fn hold(&mut self, memory: Bytes) {
        self.limit.hold(memory);
    }

    /// The held machine is reset: orders are promises again.
    pub(super) fn reset(&mut self) {
        self.limit.reset();
    }

    /// Forbids the machine to swap any more, before what it has swapped is
    /// fetched back. If that has no room, the kernel would kill the machine
    /// for it, and this refuses.
    pub(super) async fn close_file(&mut self, used: Bytes) -> Result<(), String> {
        let Some((group, limit)) = self.group.as_ref().zip(self.limit.group_limit()) else { return Ok(()) };
        let held = group.usage().map_err(|error| with_source(&error))?.held;
        if held.saturating_add(used) > limit.hard {
            return Err(format!(
                "it holds {held} in memory and {used} in the file, which is more than the {} that it may hold",
                limit.hard
            ));
        }
        self.limit.open_file(false);
        let enforced = self.enforce().await;
        if enforced.is_err() {
            self.reopen_file().await;
        }
        enforced
    }

    /// Lets the machine swap again.
    pub(super) async fn reopen_file(&mut self) {
        self.limit.open_file(true);
        self.widen().await;
    }

    /// There is no file any more.
    pub(super) async fn unpage(&mut self) {
        self.limit.unpage();
        self.widen().await;
    }

    /// Sets the limit that is wanted now, or says why it can't be.
    async fn enforce(&mut self) -> Result<(), String> {
        for _ in 0..ENFORCE_TRIES {
            self.settle().await;
            self.set = None; // whatever was set before, and when
            self.start_setting();
            self.settle().await;
            let (Some(_), Some(wanted)) = (&self.group, self.limit.group_limit()) else {
                return Err(self.view.missing.clone().unwrap_or_else(|| "it runs without a memory limit".to_owned()));
            };
            if self.kept == Some(wanted) {
                return Ok(());
            }
            sleep(ENFORCE_PAUSE).await;
        }
        Err("the kernel does not take back enough of its memory".to_owned())
    }
}

/// Removes the group of a machine that has ended.
pub(super) async fn remove(groups: &Groups, name: &str) {
    if let Err(error) = groups.remove(name).await {
        let error = with_source(&error);
        tracing::warn!(vm = %name, %error, "its memory group stays until the daemon's next start");
    }
}

fn set(group: &MemoryGroup, wanted: GroupLimit) -> Outcome {
    match group.set_limit(wanted) {
        Ok(()) => Outcome::Set(wanted),
        Err(GroupError::BelowUsage { held, .. }) => {
            let kept = frozen(wanted, held);
            group.set_limit(kept).map_or_else(|error| failed(group, &error), |()| Outcome::Over { wanted, kept })
        }
        Err(error) => failed(group, &error),
    }
}

fn failed(group: &MemoryGroup, error: &GroupError) -> Outcome {
    match error {
        _ if !group.path().exists() => Outcome::Gone,
        GroupError::Io { source, .. } if source.kind() == std::io::ErrorKind::ResourceBusy => Outcome::Busy,
        // What it holds has grown between two looks.
        GroupError::BelowUsage { .. } => Outcome::Busy,
        _ => Outcome::Failed(with_source(error)),
    }
}

/// The areas that a guest's memory is mapped in.
fn areas(boot: Bytes, plug_max: Bytes) -> Vec<Bytes> {
    [boot, plug_max].into_iter().filter(|size| !size.is_zero()).collect()
}

/// The limit of a machine that was found; QEMU's own memory is measured at
/// once, unless it is so young that it still grows.
fn limit_of_found(groups: Option<&Groups>, machine: &Machine) -> Limit {
    let record = machine.record();
    let grown_up = machine.pid().filter(|_| machine.uptime() >= GROWN_UP);
    let own = grown_up.and_then(|pid| {
        let group = groups.and_then(|groups| groups.of_process(&record.name, pid));
        read(pid, group.as_ref(), &areas(record.boot_bytes, record.plug_max_bytes)).own
    });
    Limit::found(record.overhead_bytes, own)
}

/// What is to be charged for QEMU itself, of a machine that was found.
pub(crate) fn overhead_of_found(groups: Option<&Groups>, machine: &Machine) -> Bytes {
    limit_of_found(groups, machine).overhead().0
}

fn read(pid: u32, group: Option<&MemoryGroup>, areas: &[Bytes]) -> Reading {
    let host = HostReader::at("/");
    let usage = group.and_then(|group| group.usage().ok());
    let process = host.process(pid).ok().flatten();
    // Anonymous or a memfd's, as the guest's memory is. Counters, walked by nobody.
    let resident = process.map(|process| process.resident_anonymous.saturating_add(process.resident_shared));
    // A process that can't be looked into leaves the estimate.
    let private = host.own_memory(pid, areas).ok().flatten();
    let kernel = usage.map(|usage| usage.kernel).or(process.map(|process| process.page_tables));
    Reading {
        own: private.zip(kernel).map(|(private, kernel)| private.saturating_add(kernel)),
        resident: resident.zip(private).map(|(resident, private)| resident.saturating_sub(private)),
        held: usage.map(|usage| usage.held),
        is_member: group.is_some_and(|group| group.processes().is_ok_and(|all| all.contains(&pid))),
    }
}
