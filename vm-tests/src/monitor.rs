//! [`Monitor`]: QEMU's own word, past the daemon.
//!
//! A checker that used the product's QMP code would share its mistakes, so
//! this is a small client of its own: one question, one answer, events
//! skipped. It speaks to `monitor.sock`, which the daemon leaves to others.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use dynmem_units::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// QEMU answers in a millisecond; on a crowded machine, later.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to one machine's second monitor.
#[derive(Debug)]
pub struct Monitor {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// What QEMU lends to its guest now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lent {
    /// Boot memory less what the balloon holds.
    pub balloon_actual: Bytes,
    /// Plugged by virtio-mem.
    pub plugged: Bytes,
}

impl Lent {
    /// All of it.
    pub fn assigned(self) -> Bytes {
        self.balloon_actual.saturating_add(self.plugged)
    }
}

impl Monitor {
    /// Connects to the monitor at `socket`.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("Could not connect to the monitor {}", socket.display()))?;
        let (reader, writer) = stream.into_split();
        let mut monitor = Self { lines: BufReader::new(reader), writer };
        monitor.line().await.context("QEMU did not greet")?;
        monitor.ask("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    /// Sends one command and waits for its answer.
    pub async fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        self.writer.write_all(request.as_bytes()).await.with_context(|| format!("Could not send {command}"))?;
        loop {
            let mut answer = self.line().await.with_context(|| format!("No answer to {command}"))?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
        }
    }

    /// What the guest holds now, by QEMU's own count.
    pub async fn lent(&mut self) -> Result<Lent> {
        let balloon = self.ask("query-balloon", json!({})).await?;
        let actual = balloon["actual"].as_u64().context("query-balloon has no actual")?;
        let devices = self.ask("query-memory-devices", json!({})).await?;
        let plugged = devices.as_array().context("query-memory-devices is no list")?.iter();
        let plugged = plugged
            .filter(|device| device["type"] == "virtio-mem")
            .filter_map(|device| device["data"]["size"].as_u64());
        Ok(Lent { balloon_actual: Bytes::new(actual), plugged: Bytes::new(plugged.sum()) })
    }

    async fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.lines.read_line(&mut line)).await.context("QEMU is silent")??;
        if read == 0 {
            bail!("QEMU closed the monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU sent what is not JSON: {line:?}"))
    }
}
