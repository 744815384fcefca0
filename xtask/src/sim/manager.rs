//! The memory managers that can be put in a simulated world, by name.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use dynmem_core::HostConfig;
use dynmem_sim::{
    clairvoyant::Clairvoyant,
    peers::Peer,
    policy::{Dynmem, Policy},
};

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    /// The real engine.
    Dynmem,
    /// The bound: it knows the future.
    Clairvoyant,
    /// What others use.
    Peer(Peer),
}

impl Manager {
    /// Everybody, in the order of the tables: the bound, ours, the others.
    pub(crate) fn all() -> Vec<Self> {
        [Self::Clairvoyant, Self::Dynmem].into_iter().chain(Peer::ALL.map(Self::Peer)).collect()
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dynmem => "dynmem",
            Self::Clairvoyant => "clairvoyant",
            Self::Peer(peer) => peer.name(),
        }
    }

    /// It, at work on a host.
    pub(crate) fn policy(self, host: HostConfig) -> Box<dyn Policy> {
        match self {
            Self::Dynmem => Box::new(Dynmem::new(host)),
            Self::Clairvoyant => Box::new(Clairvoyant::new(host)),
            Self::Peer(peer) => peer.policy(host),
        }
    }

    /// Reads its name; a wrong one is answered with the names that there are.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        let named = |name: String| Self::all().into_iter().find(|manager| manager.name() == name);
        PossibleValuesParser::new(Self::all().iter().map(|manager| manager.name()))
            .map(move |name| named(name).expect("one of the names above"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_calls_itself_what_people_call_it() {
        let host = HostConfig { memory: dynmem_units::Bytes::GIB.scale(8, 1), reserve: dynmem_units::Bytes::GIB };
        for manager in Manager::all() {
            assert_eq!(manager.policy(host).name(), manager.name());
        }
    }
}
