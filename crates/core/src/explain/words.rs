//! An explanation in words: one sentence for what is so, one for each thing that
//! would change it.

use std::fmt;

use dynmem_units::Bytes;

use super::{Explanation, Owed, Rank, Remedy, Shortage, Why};
use crate::{TroubleKind, VmState};

/// `300 MiB`, the last one begun.
struct Mib(Bytes);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.align_up(Bytes::MIB).mib())
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Need => "need",
            Self::Demand => "demand",
            Self::Buffer => "buffer",
        })
    }
}

impl Why {
    /// The word for programs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Off(_) => "off",
            Self::WaitsToStart { .. } => "waits-to-start",
            Self::Boots => "boots",
            Self::Ends => "ends",
            Self::Paused => "paused",
            Self::Pages { .. } => "pages",
            Self::Static => "static",
            Self::Held { .. } => "held",
            Self::Grows => "grows",
            Self::Gives => "gives",
            Self::WaitsForOthers => "waits-for-others",
            Self::Shares(_) => "shares",
            Self::Maximum => "maximum",
            Self::Minimum => "minimum",
            Self::Surplus => "surplus",
            Self::Satisfied => "satisfied",
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, has) = (&self.name, Mib(self.assigned));
        let wants = Wants(self);
        match &self.why {
            Why::Off(state) => write!(f, "{name} has no memory: it is {}", off(*state)),
            Why::WaitsToStart { needs, available } => {
                let (needs, available) = (Mib(*needs), Mib(*available));
                write!(f, "{name} waits for memory: it needs {needs}, {available} are free{}", From(&self.owed))
            }
            Why::Boots => write!(f, "{name} has {has} to boot with: nothing moves before its guest is up"),
            Why::Ends => write!(f, "{name} keeps its {has} until it is off"),
            Why::Paused => write!(f, "{name} keeps its {has} while it is paused"),
            Why::Pages { file } => {
                let file = Mib(*file);
                write!(f, "{name} has {has} and a file of {file}, from its restart: its guest gives that back")
            }
            Why::Static => write!(f, "{name} has {has}: its memory is static"),
            Why::Held { trouble: None } => write!(f, "{name} keeps its {has}: its guest has not said anything yet"),
            Why::Held { trouble: Some((_, detail)) } => write!(f, "{name} keeps its {has}: its guest {detail}"),
            Why::Grows => write!(f, "{name} has {has} and is taking {}: {wants}", Mib(self.promised)),
            Why::Gives => write!(f, "{name} has {has} and gives back all but {}: others need it", Mib(self.promised)),
            Why::WaitsForOthers => {
                write!(f, "{name} has {has}, its due is {}: {wants}{}", Mib(self.due), From(&self.owed))
            }
            Why::Shares(shortage) => self.shares(f, shortage),
            Why::Maximum => write!(f, "{name} has {has}: {wants}, and its maximum is {}", Mib(self.maximum)),
            Why::Minimum => write!(f, "{name} has {has}: {wants}, and its minimum is {}", Mib(self.minimum)),
            Why::Surplus => write!(f, "{name} has {has}, more than it wants, and nobody needs that: {wants}"),
            Why::Satisfied => write!(f, "{name} has {has}, what it wants: {wants}"),
        }
    }
}

impl Explanation {
    fn shares(&self, f: &mut fmt::Formatter<'_>, shortage: &Shortage) -> fmt::Result {
        let Shortage { rank, wanted, room } = *shortage;
        let (name, has, due, weight) = (&self.name, Mib(self.assigned), Mib(self.due), self.weight);
        let (wants, wanted, room) = (Wants(self), Mib(wanted), Mib(room));
        let all = self.sharers_total + 1;
        let what = match rank {
            Rank::Need => "what they need now",
            Rank::Demand => "their demand",
            Rank::Buffer => "demand and buffers",
        };
        let shared = match all {
            1 => format!("for {what} {wanted} are wanted and {room} there"),
            all => format!("for {what}, {all} VMs want {wanted} and share {room} by weight"),
        };
        write!(f, "{name} has {has}: {wants}, but {shared}; with weight {weight} its due is {due}")
    }
}

fn off(state: VmState) -> &'static str {
    match state {
        VmState::Saved => "saved, and goes on from its file when it is started",
        VmState::Failed => "off since it failed",
        _ => "off",
    }
}

/// `its demand is 900 MiB and with its buffer it wants 1080 MiB`.
struct Wants<'a>(&'a Explanation);

impl fmt::Display for Wants<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { demand, wanted, .. } = self.0;
        write!(f, "its demand is {} and with its buffer it wants {}", Mib(*demand), Mib(*wanted))
    }
}

/// `; 300 MiB are on their way back from web02, 20 MiB from db`.
struct From<'a>(&'a [Owed]);

impl fmt::Display for From<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, owed) in self.0.iter().take(3).enumerate() {
            let Owed { name, bytes, .. } = owed;
            let bytes = Mib(*bytes);
            match index {
                0 => write!(f, "; {bytes} are on their way back from {name}")?,
                _ => write!(f, ", {bytes} from {name}")?,
            }
        }
        match self.0.len().saturating_sub(3) {
            0 => Ok(()),
            more => write!(f, " and more from {more} others"),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maximum { at_least } => {
                write!(f, "A maximum of {} would let it have what it wants; that can be set now", Mib(*at_least))
            }
            Self::Minimum => f.write_str("A lower minimum would let others have what it does not use"),
            Self::Weight(weight) => write!(f, "A weight above {weight} would give it a larger share"),
            Self::Memory { missing } => {
                let missing = Mib(*missing);
                write!(
                    f,
                    "{missing} more would do for everybody: stop a VM, lower a minimum, or add memory to the host"
                )
            }
            Self::Host { withheld } => {
                let withheld = Mib(*withheld);
                write!(f, "Other programs use the host's memory: {withheld} more can be lent when they give it back")
            }
            Self::Owed => {
                f.write_str("It comes when those who owe it give it back; to stop one of them frees all of its")
            }
            Self::Guest(kind) => f.write_str(guest(*kind)),
            Self::Agent => f.write_str("It begins when the guest speaks: install dynmem-agent and load virtio_balloon"),
            Self::Dynamic => f.write_str("Turn dynamic memory on for it while it is off"),
        }
    }
}

/// What a person can do about a guest that does not move its memory.
fn guest(kind: TroubleKind) -> &'static str {
    match kind {
        TroubleKind::NoDriver => "Load the virtio_balloon driver in the guest",
        TroubleKind::Silent => "See whether the guest hangs, and whether dynmem-agent runs in it",
        TroubleKind::Pinned => "A restart of the guest makes memory that it has pinned movable again",
        _ => "See what the guest does with its memory; a restart of it begins anew",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_owes_is_named_and_the_rest_is_counted() {
        let owed = |name: &str, mib| Owed { name: name.to_owned(), bytes: Bytes::from_mib(mib), stuck: false };
        let all = [owed("web02", 300), owed("db", 20), owed("c", 2), owed("d", 2), owed("e", 2)];
        assert_eq!(From(&all[..0]).to_string(), "");
        assert_eq!(From(&all[..1]).to_string(), "; 300 MiB are on their way back from web02");
        let many = "; 300 MiB are on their way back from web02, 20 MiB from db, 2 MiB from c and more from 2 others";
        assert_eq!(From(&all).to_string(), many);
    }
}
