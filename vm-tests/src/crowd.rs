//! [`Crowd`]: two guests on a pool that is too small for both to restart in:
//! what Smart Paging is for.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dynmem_api::VmView;
use dynmem_units::Bytes;

use crate::{Guest, Image, Lab, LabOptions, Seen, Workload, WorkloadRequest, swap_files, until};

/// Memory follows demand within moments; with every core taken, later.
const SERVED: Duration = Duration::from_mins(2);
/// What `web` boots with.
const STARTUP: Bytes = Bytes::from_mib(512);
/// What `db` needs of the pool, and what that leaves `web` at most.
const NEEDED: Bytes = Bytes::from_mib(560);
const LEFT: Bytes = Bytes::from_mib(300);
/// What `web` holds to show that its memory is right.
const HELD: Bytes = Bytes::from_mib(48);

/// The guests' page size.
const PAGE_BYTES: u64 = 4096;

/// How a restart went.
#[derive(Clone, Copy, Debug)]
pub struct Restarted {
    /// From the first answer of the restarted guest until its file was gone.
    pub gone_after: Duration,
    /// Whether the guest had written what it holds before its file was gone.
    pub wrote_while_paging: bool,
}

/// `web` was shrunk below its startup, because `db` needs all the rest. Its
/// kernel writes to all of its memory while it boots.
#[derive(Debug)]
pub struct Crowd {
    /// The daemon and its pool.
    pub lab: Lab,
    /// While its guest is up.
    web: Option<Workload>,
    db: Workload,
}

impl Crowd {
    /// The pool that a crowd needs.
    pub const POOL: Bytes = Bytes::from_mib(1024);

    /// Two guests in a new lab. None where this host can't page; why not is
    /// told on stderr.
    pub async fn gather(options: LabOptions, image: &Image) -> Result<Option<Self>> {
        let lab = Lab::start(options).await?;
        let paging = lab.client().host().await?.smart_paging;
        if !paging.possible {
            eprintln!("SKIPPED: {:?}", paging.remark);
            lab.finish().await?;
            return Ok(None);
        }
        let web = Guest { touches_all: true, ..Guest::new("web", STARTUP.mib(), 96, 512) };
        lab.define(&web, Some(image)).await?;
        lab.define(&Guest::new("db", 256, 192, 1024), Some(image)).await?;
        let (web, mut db) = (lab.boot("web").await?, lab.boot("db").await?);
        for name in ["web", "db"] {
            lab.until_agent_reports(name).await?;
        }
        db.grow(NEEDED, None).await?;
        db.settle(SERVED).await?;
        let crowd = Self { lab, web: Some(web), db };
        crowd.until_full().await?;
        Ok(Some(crowd))
    }

    /// Waits until `db` has what it needs, and `web` less than it boots with.
    pub async fn until_full(&self) -> Result<()> {
        self.lab.until_vm("db", "its demand is met", SERVED, |vm| vm.assigned_bytes >= NEEDED).await?;
        self.lab.until_vm("web", "shrunk", SERVED, |vm| vm.assigned_bytes < LEFT).await?;
        Ok(())
    }

    /// The guest of `web` restarts by itself.
    pub async fn reboot(&mut self) -> Result<()> {
        let mut web = self.web.take().context("It is down")?;
        web.leave(WorkloadRequest::Reboot).await
    }

    /// Waits until `web` boots again with a part of it in its file.
    pub async fn until_paging(&self) -> Result<VmView> {
        let in_file = |vm: &VmView| vm.smart_paging.in_use && !vm.smart_paging.used_bytes.is_zero();
        let vm = self.lab.until_vm("web", "a part of it is in a file", SERVED, in_file).await?;
        let file = vm.smart_paging.path.clone().context("It has no place")?;
        ensure!(file == self.lab.state_dir().join("paging/web.swap"), "{}", file.display());
        let areas = swap_files(self.lab.root());
        ensure!(areas.iter().any(|area| area.path == file), "{areas:?}");
        let size = vm.smart_paging.file_bytes.context("It has no size")?;
        ensure!(size < STARTUP && vm.smart_paging.used_bytes <= size, "{:?}", vm.smart_paging);
        Ok(vm)
    }

    /// Waits until `web` has come up and its file is gone. Meanwhile it writes
    /// to memory: as soon as it can, so that some of that goes through the file.
    pub async fn until_up(&mut self) -> Result<Restarted> {
        self.web = None; // who speaks to it next must not wait behind who did last
        let mut web = self.lab.workload("web").await?;
        let up = Instant::now();
        ensure!(web.status().await?.held_bytes.is_zero(), "The guest did not restart");
        web.grow(HELD, Some(Bytes::GIB)).await?;
        web.settle(SERVED).await?;
        let wrote_while_paging = self.lab.client().vm("web").await?.smart_paging.in_use;
        self.lab.until_vm("web", "its file is gone", SERVED, |vm| !vm.smart_paging.in_use).await?;
        let gone_after = up.elapsed();
        self.ensure_no_file()?;
        self.lab.until_agent_reports("web").await?;
        self.web = Some(web);
        Ok(Restarted { gone_after, wrote_while_paging })
    }

    /// After a restart that went wrong: starts `web` if it is off, and waits
    /// until it is up and has no file.
    pub async fn recover(&mut self) -> Result<()> {
        self.web = None;
        if !self.lab.client().vm("web").await?.state.is_on() {
            self.lab.client().start("web").await?;
        }
        self.web = Some(self.lab.workload("web").await?);
        self.lab.until_vm("web", "its file is gone", SERVED, |vm| !vm.smart_paging.in_use).await.map(drop)
    }

    /// Nothing is left of the file.
    pub fn ensure_no_file(&self) -> Result<()> {
        let (used, folder) = (swap_files(self.lab.root()), self.lab.state_dir().join("paging"));
        ensure!(used.is_empty() && fs::read_dir(&folder)?.next().is_none(), "Left in {}: {used:?}", folder.display());
        Ok(())
    }

    /// `web` has what it wrote since it came up, `db` has lost nothing, and
    /// nothing was promised twice.
    pub async fn ensure_intact(&mut self) -> Result<()> {
        let web = self.web.as_mut().context("It is down")?;
        let written = web.verify().await?;
        ensure!(written.broken == 0, "The restarted guest's memory is not what it wrote: {written:?}");
        ensure!(written.pages * PAGE_BYTES >= HELD.get(), "It holds less than it wrote: {written:?}");
        self.ensure_neighbour_intact().await?;
        // QEMU's own memory grows while a guest works, and is asked back from guests.
        until("what is charged fits into memory", SERVED, async || {
            let host = self.lab.client().host().await?;
            Ok(if host.charged_bytes <= host.memory_bytes {
                Seen::Ready(())
            } else {
                Seen::NotYet(format!("{host:?}"))
            })
        })
        .await
    }

    /// `db` has lost nothing.
    pub async fn ensure_neighbour_intact(&mut self) -> Result<()> {
        let kept = self.db.verify().await?;
        ensure!(kept.broken == 0, "The neighbour's memory is not what it was: {kept:?}");
        ensure!(self.db.status().await?.oom_kills == 0, "The neighbour ran out of memory");
        Ok(())
    }
}
