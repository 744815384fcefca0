//! Why a VM has the memory that it has: [`ExplanationView`].

use dynmem_core::{Explanation, Owed, Sharer, Shortage, Why};
use dynmem_units::{Bytes, Weight};
use serde::{Deserialize, Serialize};

/// Why a VM has what it has, in a sentence and in figures: the answer of
/// `GET /v1/vms/{name}/explanation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ExplanationView {
    /// Its name.
    pub name: String,
    /// Why, for people.
    pub sentence: String,
    /// What decides, in a word: `off`, `waits-to-start`, `boots`, `ends`,
    /// `paused`, `pages`, `static`, `held`, `grows`, `gives`,
    /// `waits-for-others`, `shares`, `maximum`, `minimum`, `surplus`,
    /// `satisfied`; others may come.
    pub why: String,
    /// What is lent to it.
    pub assigned_bytes: Bytes,
    /// Where that is going.
    pub promised_bytes: Bytes,
    /// What its guest needs.
    pub demand_bytes: Bytes,
    /// Demand and buffer, whatever minimum and maximum say.
    pub wanted_bytes: Bytes,
    /// The same between minimum and maximum.
    pub target_bytes: Bytes,
    /// What it should have now: its target, or by its weight where there is not
    /// enough.
    pub due_bytes: Bytes,
    /// Its minimum.
    pub minimum_bytes: Bytes,
    /// Its maximum.
    pub maximum_bytes: Bytes,
    /// Its weight.
    pub weight: Weight,
    /// What there is not enough of, if memory is shared by weight for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<ShortageView>,
    /// Others that share, those that hold most first, eight at most.
    #[serde(default)]
    pub sharers: Vec<SharerView>,
    /// How many there are.
    pub sharers_total: u64,
    /// Memory on its way back from others, most first, eight at most.
    #[serde(default)]
    pub owed: Vec<OwedView>,
    /// All that is on its way back.
    pub owed_bytes: Bytes,
    /// What the host can still lend.
    pub available_bytes: Bytes,
    /// What the host may lend at all, now.
    pub lendable_bytes: Bytes,
    /// What would change it: sentences.
    #[serde(default)]
    pub remedies: Vec<String>,
}

/// There is not enough for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ShortageView {
    /// What is shared by weight: `need` (what guests need now), `demand` (what
    /// they needed lately, on top), or `buffer` (on top of demand).
    pub rank: String,
    /// What all VMs that share want, down to that rank.
    pub wanted_bytes: Bytes,
    /// What there is for it.
    pub room_bytes: Bytes,
}

/// Another VM of those that share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SharerView {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: Weight,
    /// What it has.
    pub assigned_bytes: Bytes,
    /// What it needs.
    pub demand_bytes: Bytes,
    /// What it should have.
    pub due_bytes: Bytes,
}

/// Memory on its way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OwedView {
    /// Who gives it.
    pub name: String,
    /// How much is still to come.
    pub bytes: Bytes,
    /// It does not come: the guest's devices do not move.
    pub stuck: bool,
}

impl From<&Explanation> for ExplanationView {
    fn from(explanation: &Explanation) -> Self {
        Self {
            name: explanation.name.clone(),
            sentence: explanation.to_string(),
            why: explanation.why.name().to_owned(),
            assigned_bytes: explanation.assigned,
            promised_bytes: explanation.promised,
            demand_bytes: explanation.demand,
            wanted_bytes: explanation.wanted,
            target_bytes: explanation.target,
            due_bytes: explanation.due,
            minimum_bytes: explanation.minimum,
            maximum_bytes: explanation.maximum,
            weight: explanation.weight,
            shortage: match &explanation.why {
                Why::Shares(shortage) => Some(shortage.into()),
                _ => None,
            },
            sharers: explanation.sharers.iter().map(SharerView::from).collect(),
            sharers_total: explanation.sharers_total as u64,
            owed: explanation.owed.iter().map(OwedView::from).collect(),
            owed_bytes: explanation.owed_bytes,
            available_bytes: explanation.available,
            lendable_bytes: explanation.lendable,
            remedies: explanation.remedies.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Shortage> for ShortageView {
    fn from(shortage: &Shortage) -> Self {
        let Shortage { rank, wanted, room } = *shortage;
        Self { rank: rank.to_string(), wanted_bytes: wanted, room_bytes: room }
    }
}

impl From<&Sharer> for SharerView {
    fn from(sharer: &Sharer) -> Self {
        let Sharer { name, weight, assigned, demand, due } = sharer.clone();
        Self { name, weight, assigned_bytes: assigned, demand_bytes: demand, due_bytes: due }
    }
}

impl From<&Owed> for OwedView {
    fn from(owed: &Owed) -> Self {
        let Owed { name, bytes, stuck } = owed.clone();
        Self { name, bytes, stuck }
    }
}
