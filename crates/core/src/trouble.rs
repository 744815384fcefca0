//! What is wrong with a guest, whoever found it out: one list for each machine.
//!
//! ```text
//!  stall:    stuck, pinned ─────────┐
//!  clocks:   silent ────────────────┼──▶ begins ──▶ Conduct ──▶ snapshot, an event
//!  doubt:    implausible ───────────┤    ends   ──▶           ──▶ an event
//!  daemon:   driver, agent, limit ──┘
//! ```
//! The list decides nothing: each of them has its own consequences where it is
//! found out, and ends by itself once the guest behaves. Decisions never read
//! it, so it is boxed.

use std::fmt;

use serde::Serialize;

use crate::{Instant, NoticeKind};

/// What can be wrong with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleKind {
    /// No balloon driver answers: it was unloaded, or has never been loaded.
    NoDriver,
    /// Its devices don't move the memory that they were asked to.
    Stuck,
    /// virtio-mem finds nothing more that it could give back; the balloon gives
    /// instead.
    Pinned,
    /// It doesn't report.
    Silent,
    /// What it reports can't be true.
    Implausible,
    /// Its agent sends what is refused.
    AgentRefused,
    /// Its agent sends more than is read.
    AgentFloods,
    /// It uses memory that it was not lent, and is held at its limit.
    AtMemoryLimit,
    /// It has taken memory out of its balloon on its own.
    BalloonEmptied,
}

impl TroubleKind {
    /// The name for people and programs, and of the event when it begins.
    pub fn name(self) -> &'static str {
        self.notice().name()
    }

    /// True if the VM is left what it holds while this lasts.
    pub fn freezes(self) -> bool {
        matches!(self, Self::NoDriver | Self::Stuck | Self::Silent)
    }

    /// The kind of the event when it begins.
    pub(crate) fn notice(self) -> NoticeKind {
        match self {
            Self::NoDriver => NoticeKind::NoDriver,
            Self::Stuck => NoticeKind::Stuck,
            Self::Pinned => NoticeKind::Pinned,
            Self::Silent => NoticeKind::Silent,
            Self::Implausible => NoticeKind::Implausible,
            Self::AgentRefused => NoticeKind::AgentRefused,
            Self::AgentFloods => NoticeKind::AgentFloods,
            Self::AtMemoryLimit => NoticeKind::AtMemoryLimit,
            Self::BalloonEmptied => NoticeKind::BalloonEmptied,
        }
    }

    /// What the guest does once it is over, said of it.
    pub(crate) fn over(self) -> &'static str {
        match self {
            Self::NoDriver => "has a balloon driver that answers again",
            Self::Stuck => "moves its memory again",
            Self::Pinned => "gives back hot-added memory again",
            Self::Silent => "reports again",
            Self::Implausible => "reports what can be true again",
            Self::AgentRefused => "sends nothing that is refused any more",
            Self::AgentFloods => "no longer sends more than is read",
            Self::AtMemoryLimit => "is no longer held at its memory limit",
            Self::BalloonEmptied => "holds no more than it was lent again",
        }
    }

    /// True if somebody outside tells of its end, too: it goes on over a reset.
    fn is_told(self) -> bool {
        matches!(self, Self::AgentRefused | Self::AgentFloods | Self::AtMemoryLimit | Self::BalloonEmptied)
    }
}

impl fmt::Display for TroubleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: TroubleKind,
    pub(crate) since: Instant,
    /// What the guest does, said of it: `does not move its memory: …`.
    pub(crate) detail: String,
}

/// How a guest behaves.
#[derive(Clone, Debug)]
pub(crate) struct Conduct {
    /// Its machine began, or was reset, or found.
    pub(crate) since: Instant,
    /// Its balloon driver has not answered since, although it was asked to.
    pub(crate) mute_driver: bool,
    troubles: Vec<Trouble>,
}

impl Conduct {
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, mute_driver: false, troubles: Vec::new() }
    }

    /// All that is wrong, in the order in which it began.
    pub(crate) fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    pub(crate) fn has(&self, kind: TroubleKind) -> bool {
        self.troubles.iter().any(|trouble| trouble.kind == kind)
    }

    /// Notes it; false if it is known and has only a new `detail`.
    pub(crate) fn begins(&mut self, since: Instant, kind: TroubleKind, detail: String) -> bool {
        if let Some(known) = self.troubles.iter_mut().find(|trouble| trouble.kind == kind) {
            known.detail = detail;
            return false;
        }
        self.troubles.push(Trouble { kind, since, detail });
        true
    }

    /// Forgets it; false if it was not known.
    pub(crate) fn ends(&mut self, kind: TroubleKind) -> bool {
        let known = self.troubles.len();
        self.troubles.retain(|trouble| trouble.kind != kind);
        self.troubles.len() < known
    }

    /// The guest starts anew at `now`. Says what is over with that.
    pub(crate) fn starts_anew(&mut self, now: Instant) -> Vec<TroubleKind> {
        let (kept, over): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.troubles).into_iter().partition(|trouble| trouble.kind.is_told());
        *self = Self { troubles: kept, ..Self::new(now) };
        over.iter().map(|trouble| trouble.kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_noted_once_with_its_newest_detail() {
        let mut conduct = Conduct::new(Instant(0));
        assert!(conduct.begins(Instant(1), TroubleKind::Stuck, "stays at 3".to_owned()));
        assert!(!conduct.begins(Instant(2), TroubleKind::Stuck, "stays at 2".to_owned()));
        let [Trouble { since: Instant(1), detail, .. }] = conduct.troubles() else { panic!("{conduct:?}") };
        assert_eq!(detail, "stays at 2");
        assert!(conduct.ends(TroubleKind::Stuck) && !conduct.ends(TroubleKind::Stuck));
    }

    #[test]
    fn a_reset_ends_what_the_guest_did_and_not_what_others_tell_of_it() {
        let mut conduct = Conduct::new(Instant(0));
        conduct.mute_driver = true;
        for kind in [TroubleKind::Stuck, TroubleKind::AtMemoryLimit, TroubleKind::Silent] {
            conduct.begins(Instant(1), kind, String::new());
        }
        assert_eq!(conduct.starts_anew(Instant(9)), [TroubleKind::Stuck, TroubleKind::Silent]);
        assert!(conduct.has(TroubleKind::AtMemoryLimit) && !conduct.mute_driver && conduct.since == Instant(9));
    }
}
