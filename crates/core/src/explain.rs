//! Why a VM has the memory that it has: facts ([`Explanation`]), and their words.
//!
//! ```text
//! Engine::explain ──▶ Explanation { figures, Why, who shares, who owes, Remedy… }
//!                                            └─ Display ─▶ one sentence each
//! ```
//! The figures are those of the decision itself, which is made once more on a
//! copy of the engine: an explanation can't differ from what is done.

mod words;

use dynmem_units::{Bytes, Weight};

use crate::{TroubleKind, VmState};

/// The most VMs that an explanation names, of those who share and of those who
/// owe.
pub const NAMED_MAX: usize = 8;

/// What memory is shared for while there is not enough: the first rank that can't
/// be served in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// What guests need now.
    Need,
    /// What they needed lately, on top of that.
    Demand,
    /// Buffers, on top of demand.
    Buffer,
}

/// There is not enough for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What is shared by weight.
    pub rank: Rank,
    /// What all VMs that share want, down to that rank.
    pub wanted: Bytes,
    /// What there is for it.
    pub room: Bytes,
}

/// The one thing that decides what a VM has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has no machine.
    Off(VmState),
    /// It waits for memory to start, or to go on after a reset.
    WaitsToStart {
        /// What it needs, overhead included.
        needs: Bytes,
        /// What is free.
        available: Bytes,
    },
    /// It boots with its startup memory; nothing moves before its guest is up.
    Boots,
    /// It is being stopped or saved.
    Ends,
    /// It is halted, and keeps what it holds.
    Paused,
    /// A part of its memory is in a file since its restart.
    Pages {
        /// The size of the file.
        file: Bytes,
    },
    /// Static: it has its startup memory.
    Static,
    /// Its guest's memory can't be moved: it is left what it holds.
    Held {
        /// What is wrong, if more is known than that it has not spoken.
        trouble: Option<(TroubleKind, String)>,
    },
    /// It has been promised more, and its guest is taking it.
    Grows,
    /// It was asked for memory, and its guest is giving it back.
    Gives,
    /// It wants more, which is its due, and others have to give that back first.
    WaitsForOthers,
    /// There is not enough for everybody: it has its share.
    Shares(Shortage),
    /// Its maximum keeps it from having what it wants.
    Maximum,
    /// It wants less than its minimum, which it always has.
    Minimum,
    /// It has more than it wants, and nobody needs that.
    Surplus,
    /// It has what it wants.
    Satisfied,
}

/// Another VM of those that share what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: Weight,
    /// What it has.
    pub assigned: Bytes,
    /// What it needs.
    pub demand: Bytes,
    /// What it should have.
    pub due: Bytes,
}

/// Memory on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Who gives it.
    pub name: String,
    /// How much is still to come.
    pub bytes: Bytes,
    /// It does not come: the guest's devices do not move.
    pub stuck: bool,
}

/// What would change it. Each is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A larger maximum, which may be set while it runs.
    Maximum {
        /// It would have all that it wants with this one.
        at_least: Bytes,
    },
    /// A smaller minimum would leave others what it does not use.
    Minimum,
    /// A larger weight would make its share larger.
    Weight(Weight),
    /// More memory for VMs.
    Memory {
        /// With so much more everybody has what is shared.
        missing: Bytes,
    },
    /// Others use the host's memory.
    Host {
        /// So much less may be lent because of that.
        withheld: Bytes,
    },
    /// Those who owe memory have to give it, by themselves or by being stopped.
    Owed,
    /// The guest has to load its driver, or to move again.
    Guest(TroubleKind),
    /// Nothing reports from the guest.
    Agent,
    /// Dynamic memory, which can be turned on while the VM is off.
    Dynamic,
}

/// Why a VM has what it has. [`fmt::Display`](std::fmt::Display) says it in a
/// sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its name.
    pub name: String,
    /// What is lent to it.
    pub assigned: Bytes,
    /// Where that is going.
    pub promised: Bytes,
    /// What its guest needs.
    pub demand: Bytes,
    /// Demand and buffer, whatever minimum and maximum say.
    pub wanted: Bytes,
    /// The same between minimum and maximum.
    pub target: Bytes,
    /// What it should have now, by its weight where there is not enough.
    pub due: Bytes,
    /// Its minimum.
    pub minimum: Bytes,
    /// Its maximum.
    pub maximum: Bytes,
    /// Its weight.
    pub weight: Weight,
    /// What decides.
    pub why: Why,
    /// Others that share, those that hold most first, at most [`NAMED_MAX`].
    pub sharers: Vec<Sharer>,
    /// How many there are.
    pub sharers_total: usize,
    /// Memory on its way back, most first, at most [`NAMED_MAX`].
    pub owed: Vec<Owed>,
    /// All that is on its way back.
    pub owed_bytes: Bytes,
    /// What can still be lent.
    pub available: Bytes,
    /// What may be lent at all, now.
    pub lendable: Bytes,
    /// What would change it.
    pub remedies: Vec<Remedy>,
}
