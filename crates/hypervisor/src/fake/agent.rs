//! [`Agent`]: the imitated guest's agent, in the real agent's words.

use std::time::Duration;

use dynmem_agent_protocol::{GuestMessage, Hello, HostMessage, LineDecoder, Reason, Report, encode};
use dynmem_units::Bytes;
use tokio::time::Instant;

use super::{AgentMood, Behaviour, connection::Peer, model::Model};

/// Reports that nobody asked for more often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two bursts of an agent that floods.
const FLOOD_PAUSE: Duration = Duration::from_millis(5);
const FLOOD_BYTES: usize = 16 << 10;
/// The swap of every imitated guest.
const SWAP: Bytes = Bytes::from_mib(4096);

/// The agent of one guest, and the host's end of its port.
#[derive(Debug)]
pub(super) struct Agent {
    peer: Option<Peer>,
    decoder: LineDecoder,
    greeted: bool,
    heartbeat: Duration,
    report_at: Instant,
    started_at: Instant,
    seq: u64,
    told_assigned: Option<Bytes>,
}

impl Default for Agent {
    fn default() -> Self {
        let (decoder, now) = (LineDecoder::new(), Instant::now());
        Self {
            peer: None,
            decoder,
            greeted: false,
            heartbeat: HEARTBEAT,
            report_at: now,
            started_at: now,
            seq: 0,
            told_assigned: None,
        }
    }
}

impl Agent {
    /// The host's end of the port has a new owner; the last one counts.
    pub(super) fn connected(&mut self, peer: Peer) {
        self.peer = Some(peer);
        self.decoder.reset();
        self.greeted = false;
        self.hurry();
    }

    pub(super) fn disconnected(&mut self, id: u64) {
        if self.hears(id) {
            self.peer = None;
        }
    }

    pub(super) fn hears(&self, id: u64) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.id == id)
    }

    /// The guest has started anew, and its agent with it.
    pub(super) fn restarted(&mut self) {
        let peer = self.peer.take();
        *self = Self { peer, ..Self::default() };
    }

    /// Something changed: the next report is due at once.
    pub(super) fn hurry(&mut self) {
        self.report_at = Instant::now();
    }

    pub(super) fn told_assigned(&self) -> Option<Bytes> {
        self.told_assigned
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while let Some(message) = self.decoder.next::<HostMessage>(&mut bytes) {
            match message {
                Ok(HostMessage::Welcome(welcome)) => {
                    self.heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(100, 60_000)));
                }
                Ok(HostMessage::Assigned(assigned)) => self.told_assigned = Some(assigned.assigned_bytes),
                Ok(HostMessage::Unknown) | Err(_) => {}
            }
        }
    }

    pub(super) fn wake_at(&self, behaviour: &Behaviour) -> Option<Instant> {
        let speaks = self.peer.is_some() && behaviour.agent != AgentMood::Silent;
        speaks.then_some(self.report_at)
    }

    /// Says what is due.
    pub(super) fn live(&mut self, now: Instant, model: &Model, behaviour: &Behaviour) {
        if now < self.report_at || self.peer.is_none() {
            return;
        }
        self.report_at = now + self.heartbeat;
        match &behaviour.agent {
            AgentMood::Silent => {}
            AgentMood::Healthy => self.report(now, model, behaviour),
            AgentMood::Line(line) => self.send([line.as_slice(), b"\n"].concat()),
            AgentMood::Flood => {
                self.report_at = now + FLOOD_PAUSE;
                self.send(vec![b'x'; FLOOD_BYTES]);
            }
        }
    }

    fn report(&mut self, now: Instant, model: &Model, behaviour: &Behaviour) {
        if !std::mem::replace(&mut self.greeted, true) {
            self.say(&GuestMessage::Hello(Hello::new("0.1.0", "6.1.0-imitated")));
        }
        let visible = model.visible(behaviour);
        let short = behaviour.demand.saturating_sub(visible);
        // The share of the work that waits for memory.
        let stall = short.scale(10_000, behaviour.demand.get().max(1)).get().min(10_000);
        let report = Report {
            seq: self.seq,
            uptime_ms: u64::try_from(now.duration_since(self.started_at).as_millis()).unwrap_or(u64::MAX),
            visible_bytes: visible,
            available_bytes: visible.saturating_sub(behaviour.demand),
            free_bytes: visible.saturating_sub(behaviour.demand),
            committed_bytes: Some(behaviour.demand),
            hot_file_bytes: Bytes::ZERO,
            reserved_bytes: Some(behaviour.reserved),
            ballooned_bytes: Some(model.plan.boot.saturating_sub(model.balloon_actual)),
            swap_total_bytes: SWAP,
            swap_used_bytes: short.min(SWAP),
            swap_in_bytes_per_s: short.scale(1, 4),
            refault_bytes_per_s: Bytes::ZERO,
            stall_hundredths: u32::try_from(stall).unwrap_or(10_000),
            psi_available: true,
            reason: if short.is_zero() { Reason::Periodic } else { Reason::Pressure },
        };
        self.seq += 1;
        self.say(&GuestMessage::Report(report));
    }

    fn say(&mut self, message: &GuestMessage) {
        match encode(message) {
            Ok(line) => self.send(line),
            Err(error) => tracing::warn!(%error, "an imitated guest has a behaviour that no real one has"),
        }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        if let Some(peer) = &self.peer {
            peer.send(bytes); // a host that does not read misses it
        }
    }
}
