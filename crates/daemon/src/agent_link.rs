//! The line to one guest's agent: bytes of a stranger in, bounded reports out.
//!
//! ```text
//!  agent.sock ──bytes──▶ LineDecoder ──Report──▶ believe() ──GuestReport──▶ supervisor
//!       ▲   (so many per second)                 (or count it, with the complaint)
//!       └── welcome, assigned (newest, at most one a second) ◀── supervisor
//! ```
//!
//! Whatever the guest does, it costs a bounded share of the processor: only so
//! many bytes are read in a moment, only the newest of too many reports goes
//! on, and what can't be true stays here. A guest that does not read is not
//! waited for.

mod believe;

use std::{io, path::PathBuf, time::Duration};

use dynmem_agent_protocol::{Assigned, GuestMessage, HostMessage, LineDecoder, PROTOCOL, Reason, Welcome, encode};
use dynmem_core::{Event, GuestReport};
use tokio::{
    io::AsyncReadExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

pub(crate) use believe::Limits;

use crate::fact::FactSender;

/// The longest time without a report that we ask for.
const HEARTBEAT_MS: u32 = 2_000;
/// Two reports that go on are at least this far apart: 100 a second.
const REPORT_GAP: Duration = Duration::from_millis(10);
/// In each window at most so many bytes are read. An honest agent's busiest
/// moment is less than half of it.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_BYTES: usize = 16 << 10;
const CHUNK_BYTES: usize = 4 << 10;
/// So many full windows in a row are a flood: a second.
const FLOOD_WINDOWS: u32 = 10;
/// Two messages to the guest are at least this far apart.
const TELL_GAP: Duration = Duration::from_secs(1);
/// A line on which nothing is heard for this long is opened anew. QEMU shuts
/// the guest's end of it ("throttle on") while the host does not read; if the
/// host goes in that moment, it stays shut for the next one: a connection's
/// beginning does not open it, only the end of one does.
const SILENCE: Duration = Duration::from_secs(10);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LAST: Duration = Duration::from_secs(5);

/// What is known about a guest's agent, apart from what it reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentStatus {
    /// Its version and its kernel, since it said hello.
    pub(crate) hello: Option<(String, String)>,
    /// When the last report that could be believed came.
    pub(crate) reported_at: Option<Instant>,
    /// Reports that were believed and told to the engine.
    pub(crate) taken: u64,
    /// Messages that were refused.
    pub(crate) refused: u64,
    /// Why the last of them was, and when.
    pub(crate) complaint: Option<String>,
    pub(crate) refused_at: Option<Instant>,
    /// When it had last sent more than is read, for a second on end.
    pub(crate) flooded_at: Option<Instant>,
}

/// One agent's line. Dropping its task ends it.
pub(crate) struct AgentLink {
    pub(crate) path: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) facts: FactSender,
    pub(crate) assigned: watch::Receiver<Assigned>,
    pub(crate) status: watch::Sender<AgentStatus>,
}

/// The state of one connection.
struct Connection {
    decoder: LineDecoder,
    /// The newest report, while it is too early for it.
    waiting: Option<GuestReport>,
    delivered_at: Option<Instant>,
    heard_at: Instant,
    window_began: Instant,
    window_bytes: usize,
    /// Windows in a row that were full.
    full_windows: u32,
    greeted: bool,
    /// What is still to be written.
    out: Vec<u8>,
    told_at: Option<Instant>,
    /// `assigned` changed since it was last told.
    news: bool,
}

impl Connection {
    fn new() -> Self {
        Self {
            decoder: LineDecoder::new(),
            waiting: None,
            delivered_at: None,
            heard_at: Instant::now(),
            window_began: Instant::now(),
            window_bytes: 0,
            full_windows: 0,
            greeted: false,
            out: Vec::new(),
            told_at: None,
            news: true,
        }
    }

    /// When reading may go on.
    fn read_at(&self) -> Instant {
        if self.window_bytes < WINDOW_BYTES { self.window_began } else { self.window_began + WINDOW }
    }

    /// So many bytes were read. A full window ends when the next one begins.
    fn count(&mut self, bytes: usize) {
        let now = Instant::now();
        if bytes > 0 {
            self.heard_at = now;
        }
        if now >= self.window_began + WINDOW {
            let follows = now < self.window_began + WINDOW * FLOOD_WINDOWS;
            let was_full = self.window_bytes >= WINDOW_BYTES;
            self.full_windows = if was_full && follows { self.full_windows + 1 } else { 0 };
            self.window_began = now;
            self.window_bytes = 0;
        }
        self.window_bytes += bytes;
    }

    /// More comes than is read, and has for a while.
    fn floods(&self) -> bool {
        self.full_windows >= FLOOD_WINDOWS
    }

    fn deliver_at(&self) -> Instant {
        self.delivered_at.map_or_else(Instant::now, |at| at + REPORT_GAP)
    }

    fn tell_at(&self) -> Instant {
        self.told_at.map_or_else(Instant::now, |at| at + TELL_GAP)
    }

    /// Greets whoever has not been greeted; once for each hello.
    fn greet(&mut self) {
        if !std::mem::replace(&mut self.greeted, true) && self.out.is_empty() {
            self.news = true;
            self.queue(&HostMessage::Welcome(Welcome { protocol: PROTOCOL, heartbeat_ms: HEARTBEAT_MS }));
        }
    }

    fn queue(&mut self, message: &HostMessage) {
        // Our own messages are small and right; one that is not is not sent.
        if let Ok(line) = encode(message) {
            self.out.extend_from_slice(&line);
        }
    }
}

impl AgentLink {
    /// Connects, again and again, until the task is dropped or the supervisor
    /// is gone.
    pub(crate) async fn run(mut self) {
        let mut pause = RECONNECT_FIRST;
        loop {
            if let Ok(stream) = UnixStream::connect(&self.path).await {
                let began = Instant::now();
                if self.talk(stream).await.is_none() {
                    return; // nobody wants to hear
                }
                if began.elapsed() > RECONNECT_LAST {
                    pause = RECONNECT_FIRST;
                }
            }
            self.status.send_modify(|status| status.hello = None);
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_LAST);
        }
    }

    /// Talks until the connection ends, or nothing is heard of the guest for a
    /// while. `None` if the supervisor is gone.
    async fn talk(&mut self, stream: UnixStream) -> Option<()> {
        let (mut reader, mut writer): (OwnedReadHalf, OwnedWriteHalf) = stream.into_split();
        let mut connection = Connection::new();
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let (read_at, deliver_at, tell_at) = (connection.read_at(), connection.deliver_at(), connection.tell_at());
            let (may_read, silent_at) = (read_at <= Instant::now(), connection.heard_at + SILENCE);
            tokio::select! {
                read = reader.read(&mut chunk), if may_read => match read {
                    Ok(0) | Err(_) => return Some(()),
                    Ok(bytes) => {
                        connection.count(bytes);
                        if connection.floods() {
                            self.status.send_modify(|status| status.flooded_at = Some(Instant::now()));
                        }
                        self.take(&mut connection, &chunk[..bytes]).await?;
                    }
                },
                () = sleep_until(read_at), if !may_read => connection.count(0),
                () = sleep_until(deliver_at), if connection.waiting.is_some() => self.deliver(&mut connection).await?,
                changed = self.assigned.changed(), if !connection.news => {
                    changed.ok()?;
                    connection.news = true;
                }
                () = sleep_until(tell_at), if connection.greeted && connection.news && connection.out.is_empty() => {
                    self.tell(&mut connection);
                }
                () = sleep_until(silent_at) => return Some(()),
                ready = writer.writable(), if !connection.out.is_empty() => {
                    if ready.is_err() || !write_some(&mut writer, &mut connection.out) {
                        return Some(());
                    }
                }
            }
        }
    }

    /// Takes bytes of the guest.
    async fn take(&mut self, connection: &mut Connection, mut bytes: &[u8]) -> Option<()> {
        while let Some(message) = connection.decoder.next::<GuestMessage>(&mut bytes) {
            match message {
                Ok(GuestMessage::Report(report)) => match self.limits.believe(&report) {
                    Ok(believed) => {
                        // An agent that was there before us says no hello.
                        connection.greet();
                        connection.waiting = Some(believed);
                        let urgent = report.reason == Reason::Pressure;
                        if urgent || bytes.is_empty() {
                            self.deliver_if_due(connection).await?;
                        }
                    }
                    Err(complaint) => self.refuse(complaint),
                },
                Ok(GuestMessage::Hello(hello)) => self.greet(connection, hello.agent_version, hello.kernel),
                Ok(GuestMessage::Unknown) => {}
                Err(error) => self.refuse(error.to_string()),
            }
        }
        self.deliver_if_due(connection).await
    }

    async fn deliver_if_due(&mut self, connection: &mut Connection) -> Option<()> {
        if connection.deliver_at() <= Instant::now() { self.deliver(connection).await } else { Some(()) }
    }

    async fn deliver(&mut self, connection: &mut Connection) -> Option<()> {
        let Some(report) = connection.waiting.take() else { return Some(()) };
        let now = Instant::now();
        connection.delivered_at = Some(now);
        self.status.send_modify(|status| {
            status.reported_at = Some(now);
            status.taken += 1;
        });
        self.facts.vm(Event::Report(report)).await
    }

    fn greet(&mut self, connection: &mut Connection, agent_version: String, kernel: String) {
        self.status.send_modify(|status| status.hello = Some((agent_version, kernel)));
        connection.greeted = false;
        connection.greet();
    }

    fn tell(&mut self, connection: &mut Connection) {
        let assigned = self.assigned.borrow_and_update().clone();
        connection.news = false;
        connection.told_at = Some(Instant::now());
        connection.queue(&HostMessage::Assigned(assigned));
    }

    fn refuse(&self, complaint: String) {
        self.status.send_modify(|status| {
            status.refused += 1;
            status.complaint = Some(complaint);
            status.refused_at = Some(Instant::now());
        });
    }
}

/// Writes what fits without waiting. False if the connection is over.
fn write_some(writer: &mut OwnedWriteHalf, out: &mut Vec<u8>) -> bool {
    match writer.try_write(out) {
        Ok(written) => {
            out.drain(..written);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests;
