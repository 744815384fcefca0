//! The first half of a decision on its own: what everybody should have, and what
//! there is not enough of. For explanations, which ask a copy of the engine.

use dynmem_units::Bytes;

use super::{Engine, bytes};
use crate::{Instant, Rank, Shortage, VmId};

/// What everybody should have.
pub(in crate::engine) struct Outlook {
    /// What is shared by weight, if there is not enough.
    pub(in crate::engine) shortage: Option<Shortage>,
    /// Of each elastic VM.
    pub(in crate::engine) dues: Vec<(VmId, Bytes)>,
}

impl Engine {
    /// What the decision at `now` would say that everybody should have.
    pub(in crate::engine) fn outlook(mut self, now: Instant) -> Outlook {
        let (survey, _, _, short_of) = self.claims(now);
        let shortage = short_of.map(|rank| {
            let wanted = match rank {
                Rank::Need => survey.needs,
                Rank::Demand => survey.demands,
                Rank::Buffer => survey.targets,
            };
            Shortage { rank, wanted: bytes(wanted), room: bytes(survey.room) }
        });
        let dues = survey.entries.iter().map(|entry| (entry.id, bytes(u64::from(entry.entitled)))).collect();
        Outlook { shortage, dues }
    }
}
