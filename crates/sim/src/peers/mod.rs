//! The peers: other memory managers, written from their descriptions.
//!
//! ```text
//! Input ──▶ manager: machines, last reports, starts that wait ──▶ Effect
//!               │ views                     ▲ targets
//!               ▼                           │
//!            balancer: MOM, Proxmox, squeezed, qmemman, …   (a few rules, pure)
//! ```
//! Each peer is a `Balancer`: the rules of the original and nothing else. One
//! adapter, the manager, gives all of them the same life around it: it starts
//! and stops machines, keeps what they last said, and turns targets into orders.
//! So two peers differ by their rules alone.
//!
//! All have the best configuration that their makers document or that a careful
//! administrator would choose; each file says which.

mod esx;
mod fixed;
mod hyperv;
mod life;
mod manager;
#[cfg(test)]
mod manager_tests;
mod mom;
#[cfg(test)]
mod properties;
mod proxmox;
mod qmemman;
#[cfg(test)]
mod sample;
mod squeezed;

use std::fmt;

use dynmem_core::{GuestReport, HostConfig, Instant, MemorySettings, VmId};
use dynmem_units::{Bytes, Percent};

use crate::policy::{MachineShape, Policy, Statistics};

/// A memory manager that others use today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// No dynamic memory: each VM has a fixed size.
    Static,
    /// oVirt's Memory Overcommitment Manager with its default rules.
    Mom,
    /// Proxmox VE's automatic memory allocation.
    Proxmox,
    /// Xen's squeezed, of the XAPI toolstack.
    Squeezed,
    /// Qubes OS's qmemman.
    Qmemman,
    /// Hyper-V's Dynamic Memory, as documented.
    HyperV,
    /// `VMware` ESX, as published.
    Esx,
}

impl Peer {
    /// Every peer, in the order of the tables.
    pub const ALL: [Self; 7] =
        [Self::Static, Self::Mom, Self::Proxmox, Self::Squeezed, Self::Qmemman, Self::HyperV, Self::Esx];

    /// The peers that somebody could really run, which is all of them: none
    /// knows the future.
    pub fn practical() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    /// Its name, as the tables print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Mom => "mom",
            Self::Proxmox => "proxmox",
            Self::Squeezed => "squeezed",
            Self::Qmemman => "qmemman",
            Self::HyperV => "hyper-v",
            Self::Esx => "esx",
        }
    }

    /// This manager for a host.
    pub fn policy(self, config: HostConfig) -> Box<dyn Policy> {
        Box::new(manager::Manager::new(self, config))
    }

    /// Its rules, with nothing in memory.
    fn balancer(self) -> Box<dyn Balancer> {
        match self {
            Self::Static => Box::new(fixed::Fixed::default()),
            Self::Mom => Box::new(mom::Mom::default()),
            Self::Proxmox => Box::new(proxmox::Proxmox),
            Self::Squeezed => Box::new(squeezed::Squeezed::default()),
            Self::Qmemman => Box::new(qmemman::Qmemman::default()),
            Self::HyperV => Box::new(hyperv::HyperV),
            Self::Esx => Box::new(esx::Esx::default()),
        }
    }
}

/// The host as a manager sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostView {
    /// All of its memory (`MemTotal`).
    pub(crate) memory: Bytes,
    /// What its kernel says is available (`MemAvailable`); without such facts,
    /// the same as `free`.
    pub(crate) available: Bytes,
    /// What nobody holds and may be lent: the reserve is left out.
    pub(crate) free: Bytes,
    /// What the start or reset that waits longest needs; zero if none waits.
    pub(crate) asked: Bytes,
}

/// A VM as a manager sees it: booted, dynamic, and its guest has spoken.
#[derive(Clone, Debug)]
pub(crate) struct VmView {
    pub(crate) id: VmId,
    /// Guaranteed, in bytes; at most `maximum`.
    pub(crate) minimum: Bytes,
    /// Never exceeded; at most what the machine reaches.
    pub(crate) maximum: Bytes,
    /// 1–10000.
    pub(crate) weight: u64,
    pub(crate) buffer: Percent,
    /// What the devices say that it holds.
    pub(crate) held: Bytes,
    /// In: the last target. Out: the new one.
    pub(crate) target: Bytes,
    /// The guest's last report.
    pub(crate) report: GuestReport,
    /// The balloon's last statistics.
    pub(crate) statistics: Statistics,
}

/// The rules of one manager. Pure: the same calls give the same targets.
pub(crate) trait Balancer: fmt::Debug {
    /// Milliseconds until it wants to be called again; `waiting` while a start
    /// or a reset waits for memory.
    fn period_ms(&self, waiting: bool) -> u64;

    /// True if each report of a guest is an occasion to balance.
    fn on_report(&self) -> bool {
        false
    }

    /// True if it makes room for starts and resets (by [`HostView::asked`]).
    /// For the others a reset is the guest's own affair.
    fn makes_room(&self) -> bool {
        false
    }

    /// Memory that must stay free when a start is admitted.
    fn margin(&self) -> Bytes {
        Bytes::ZERO
    }

    /// The VMs that exist have changed: `lendable` is what may be lent to all
    /// of them, their overheads excluded, and `maximums` the sum of their
    /// maximums.
    fn defined(&mut self, _lendable: Bytes, _maximums: Bytes) {}

    /// The machine that it would start: by default one that the balloon
    /// reaches whole.
    fn machine(&self, _config: &HostConfig, settings: &MemorySettings) -> MachineShape {
        MachineShape { boot: settings.most(), plug_max: Bytes::ZERO }
    }

    /// What a machine holds when it starts.
    fn at_start(&self, settings: &MemorySettings) -> Bytes {
        settings.startup
    }

    /// Sets each VM's target.
    fn balance(&mut self, now: Instant, host: &HostView, vms: &mut [VmView]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Peer::ALL.into_iter().map(Peer::name).collect();
        assert_eq!(names.len(), Peer::ALL.len());
        for peer in Peer::ALL {
            let config = HostConfig { memory: Bytes::GIB, reserve: Bytes::ZERO };
            assert_eq!(peer.policy(config).name(), peer.name());
        }
    }
}
