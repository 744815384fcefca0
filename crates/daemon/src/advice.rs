//! Advice: what could be set better, from what is seen. Pure.
//!
//! ```text
//!  VmView, Usage (the history in figures) ──rules──▶ candidates ──Steady──▶ advice
//! ```
//! A rule sees one VM at one moment and gives at most one piece of advice of its
//! kind. `Steady` lets it appear once it has held for a while, and go once it
//! has not held for as long: what comes and goes is no advice. The history's
//! thread does all of it, beside its other work; the snapshots have the result.

mod adviser;
mod rules;
mod steady;
mod usage;

use std::collections::BTreeMap;

use dynmem_api::AdviceView;

pub(crate) use adviser::Adviser;
use usage::{Usage, usage};

/// All advice there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) host: Vec<AdviceView>,
    /// By name; VMs without any are left out.
    pub(crate) vms: BTreeMap<String, Vec<AdviceView>>,
}

impl Advice {
    /// What concerns a VM.
    pub(crate) fn of(&self, vm: &str) -> Vec<AdviceView> {
        self.vms.get(vm).cloned().unwrap_or_default()
    }
}
