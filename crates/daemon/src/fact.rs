//! [`Fact`]: what the tasks around the supervisor tell it.
//!
//! The channel is bounded. A sender waits when it is full, which slows down the
//! one who talks too much: drivers and agent links look at the newest state
//! when their turn comes, so nothing but repetition is lost.

use dynmem_core::{Event, HostFacts, VmId};
use dynmem_units::{Bytes, Percent};
use tokio::sync::mpsc;

use crate::driver::{LimitView, MachineInfo, OrderKind};

/// Facts under way. Twenty for each of a few hundred VMs in one instant.
pub(crate) const FACTS_MAX: usize = 4096;

/// Something that was measured or has happened.
#[derive(Debug)]
pub(crate) enum Fact {
    /// About the machine of one VM.
    Machine {
        /// The VM.
        vm: VmId,
        /// Which of its machines: news of an earlier one is ignored.
        run: u64,
        /// What.
        news: News,
    },
    /// About the host.
    Host(HostFacts),
}

/// What is new about a machine.
#[derive(Debug)]
pub(crate) enum News {
    /// For the engine.
    Event(Event),
    /// Who the machine is, known once it is launched or found.
    Info(Box<MachineInfo>),
    /// Processor time used lately; 100 is one host processor.
    Cpu(Percent),
    /// How its memory is limited.
    Limits(Box<LimitView>),
    /// So much of its memory is in the file that it is saved to.
    Saving(Bytes),
    /// What is wrong with the connection to the machine, if anything is.
    Trouble(Option<String>),
    /// An order was carried out, or why not.
    Done(OrderKind, Result<(), String>),
}

/// Speaks for one machine.
#[derive(Clone, Debug)]
pub(crate) struct FactSender {
    pub(crate) vm: VmId,
    pub(crate) run: u64,
    pub(crate) facts: mpsc::Sender<Fact>,
}

impl FactSender {
    /// Tells the engine. `None` if nobody listens any more: the daemon ends.
    pub(crate) async fn vm(&self, event: Event) -> Option<()> {
        self.tell(News::Event(event)).await
    }

    /// Tells the supervisor what it may miss.
    pub(crate) fn hint(&self, news: News) {
        let _ = self.facts.try_send(Fact::Machine { vm: self.vm, run: self.run, news });
    }

    /// Tells the supervisor. `None` if nobody listens any more.
    pub(crate) async fn tell(&self, news: News) -> Option<()> {
        self.facts.send(Fact::Machine { vm: self.vm, run: self.run, news }).await.ok()
    }
}
