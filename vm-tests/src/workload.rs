//! [`Workload`]: the program in a guest that holds and verifies memory, for
//! asynchronous callers.
//!
//! The workload's own client blocks, and a guest under memory pressure may
//! take its time: each call runs on a thread of its own, one at a time, so
//! that everything else goes on.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use dynmem_units::Bytes;
use dynmem_workload::{
    client::{Client, ClientError},
    message::{Grouped, Request, Spiked, Status, Verified},
};
use tokio::task::spawn_blocking;

/// For an answer that the guest gives at once; emulated guests share cores.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a check of every page.
const VERIFY_PATIENCE: Duration = Duration::from_mins(2);

/// A connection to one guest's workload.
#[derive(Debug)]
pub struct Workload {
    vm: String,
    client: Option<Client>,
}

impl Workload {
    /// Connects to the socket of `vm`, and waits until the guest is up.
    pub async fn connect(vm: &str, socket: &Path, boots_within: Duration) -> Result<Self> {
        let client = Client::connect(socket)
            .with_context(|| format!("Could not connect to the workload of {vm} at {}", socket.display()))?;
        let mut workload = Self { vm: vm.to_owned(), client: Some(client) };
        workload.with("come up", move |client| client.wait_until_up(boots_within)).await?;
        Ok(workload)
    }

    /// Raises what is to be held; the guest follows at `per_second`.
    pub async fn grow(&mut self, bytes: Bytes, per_second: Option<Bytes>) -> Result<Bytes> {
        self.with("grow", move |client| client.grow(bytes, per_second, PATIENCE)).await
    }

    /// Lowers what is to be held.
    pub async fn shrink(&mut self, bytes: Bytes) -> Result<Bytes> {
        self.with("shrink", move |client| client.shrink(bytes, PATIENCE)).await
    }

    /// Waits until the guest holds what it is to hold; returns how much of it is
    /// in memory and not in swap. An error if it does not
    /// within `limit`, or if the guest's out-of-memory killer took some of it.
    pub async fn settle(&mut self, limit: Duration) -> Result<Bytes> {
        let status = self.with("settle", move |client| client.settle(limit)).await?;
        anyhow::ensure!(
            status.is_settled(),
            "{} holds {} of {} after {} s: {status:?}",
            self.vm,
            status.held_bytes,
            status.goal_bytes,
            limit.as_secs()
        );
        anyhow::ensure!(status.oom_kills == 0, "{} ran out of memory: {status:?}", self.vm);
        Ok(status.held_bytes.saturating_sub(status.swap_used_bytes))
    }

    /// How it goes.
    pub async fn status(&mut self) -> Result<Status> {
        self.with("tell its status", |client| client.status(PATIENCE)).await
    }

    /// Checks every page that is held.
    pub async fn verify(&mut self) -> Result<Verified> {
        self.with("verify", |client| client.verify(VERIFY_PATIENCE)).await
    }

    /// Allocates as fast as the guest can, and watches for the host's help.
    pub async fn spike(&mut self, bytes: Bytes, wait: Duration) -> Result<Spiked> {
        self.with("spike", move |client| client.spike(bytes, wait, wait + VERIFY_PATIENCE)).await
    }

    /// Restarts, powers off or crashes the guest, as from inside.
    pub async fn leave(&mut self, how: Request) -> Result<()> {
        self.with("leave", move |client| client.call(how, PATIENCE).map(drop)).await
    }

    /// Does something to the guest's agent or balloon.
    pub async fn mischief(&mut self, what: Request) -> Result<()> {
        self.with("do mischief", move |client| client.call(what, PATIENCE).map(drop)).await
    }

    /// Tries memory groups on the guest's kernel.
    pub async fn groups(&mut self) -> Result<Grouped> {
        self.with("try memory groups", |client| client.groups(PATIENCE)).await
    }

    async fn with<T: Send + 'static>(
        &mut self,
        what: &str,
        call: impl FnOnce(&mut Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T> {
        let mut client = self.client.take().context("An earlier call was cut off")?;
        let (client, outcome) = spawn_blocking(move || {
            let outcome = call(&mut client);
            (client, outcome)
        })
        .await?;
        self.client = Some(client);
        outcome.with_context(|| format!("The guest of {} did not {what}", self.vm))
    }
}
