//! One VM's driver: the task that owns its [`Machine`].
//!
//! ```text
//!  supervisor ──Order──▶ Handle ──▶ task: carries out orders in their order,
//!       ▲                           looks at the devices at its own pace (pace),
//!       └──────────Fact──────────── reads statistics while no agent speaks (statistics),
//!                                   keeps the limit of its memory group (fence)
//! ```
//!
//! A machine that hangs keeps its own driver waiting and nobody else. Orders
//! wait in the [`Handle`], where the newest order to the memory devices takes
//! the place of the one before; an order to end the machine overtakes all.

mod fence;
mod limit;
mod machine;
mod pace;
mod paging;
mod save;
mod start;
mod statistics;

use std::{collections::VecDeque, fmt, path::PathBuf};

use dynmem_agent_protocol::Assigned;
use dynmem_core::Paged;
use dynmem_hypervisor::{Machine, MachineRecord, RunDir, SavedDir};
use dynmem_units::Bytes;
use tokio::sync::{mpsc, watch};

pub(crate) use fence::{LimitView, overhead_of_found};
pub(crate) use machine::devices_of;
pub(crate) use start::{Attached, Lost, Start, Workshop, run};

use crate::{agent_link::AgentStatus, paging::Place};

/// Orders that are on their way to a driver at once.
const ORDERS_MAX: usize = 16;
/// Orders that wait for their turn. A person's orders are bounded by the
/// requests that may wait; orders to the memory devices take one place.
const BACKLOG_MAX: usize = 64;

/// What the driver should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Tell the memory devices what to hold.
    Memory {
        /// Boot memory less the balloon.
        balloon: Bytes,
        /// Memory plugged by virtio-mem.
        plugged: Bytes,
    },
    /// Press the power button.
    PowerDown,
    /// Hold the machine for a reset.
    HoldForReset,
    /// Let the held reset happen.
    ContinueReset,
    /// Make a smart paging file for the reset that is held.
    BeginPaging(Paged),
    /// Empty the file and delete it.
    EndPaging,
    /// Let the machine stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Write all of it to a file, and end it.
    Save,
}

/// An order without its amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderKind {
    Memory,
    PowerDown,
    HoldForReset,
    ContinueReset,
    BeginPaging,
    EndPaging,
    Pause,
    Resume,
    Save,
}

impl Order {
    fn kind(self) -> OrderKind {
        match self {
            Self::Memory { .. } => OrderKind::Memory,
            Self::PowerDown => OrderKind::PowerDown,
            Self::HoldForReset => OrderKind::HoldForReset,
            Self::ContinueReset => OrderKind::ContinueReset,
            Self::BeginPaging(_) => OrderKind::BeginPaging,
            Self::EndPaging => OrderKind::EndPaging,
            Self::Pause => OrderKind::Pause,
            Self::Resume => OrderKind::Resume,
            Self::Save => OrderKind::Save,
        }
    }
}

impl fmt::Display for OrderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "move memory",
            Self::PowerDown => "press the power button",
            Self::HoldForReset => "hold the machine for a reset",
            Self::ContinueReset => "reset the machine",
            Self::BeginPaging => "begin smart paging",
            Self::EndPaging => "end smart paging",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Save => "save",
        })
    }
}

/// A machine's particulars, for people.
#[derive(Clone, Debug)]
pub(crate) struct MachineInfo {
    /// `kvm` or `tcg`.
    pub(crate) accelerator: String,
    /// QEMU's process.
    pub(crate) pid: Option<u32>,
    /// The serial console's socket.
    pub(crate) console: PathBuf,
    /// The second QMP socket.
    pub(crate) monitor: PathBuf,
    /// When it was launched.
    pub(crate) started_unix_ms: u64,
    /// The most memory that it can ever have.
    pub(crate) reach: Bytes,
}

impl MachineInfo {
    pub(crate) fn of(machine: &Machine) -> Self {
        Self::new(machine.record(), machine.run_dir(), machine.pid())
    }

    pub(crate) fn new(record: &MachineRecord, dir: &RunDir, pid: Option<u32>) -> Self {
        Self {
            accelerator: record.accelerator.to_string(),
            pid,
            console: dir.console(),
            monitor: dir.monitor(),
            started_unix_ms: record.started_unix_ms,
            reach: record.boot_bytes.saturating_add(record.plug_max_bytes),
        }
    }
}

/// The supervisor's end of a driver. Dropping it ends the driver and leaves
/// the machine running.
#[derive(Debug)]
pub(crate) struct Handle {
    orders: mpsc::Sender<Order>,
    backlog: VecDeque<Order>,
    end: watch::Sender<bool>,
    assigned: watch::Sender<Assigned>,
    agent: watch::Receiver<AgentStatus>,
    place: watch::Sender<Place>,
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Mailbox {
    orders: mpsc::Receiver<Order>,
    end: watch::Receiver<bool>,
    assigned: watch::Receiver<Assigned>,
    agent: watch::Sender<AgentStatus>,
    place: watch::Receiver<Place>,
    /// Where the machine is saved.
    saved: SavedDir,
}

impl Mailbox {
    /// Where the next smart paging file is made.
    fn place(&self) -> Place {
        self.place.borrow().clone()
    }
}

/// Both ends, of a machine whose smart paging file is made at `place`, and which
/// is saved in `saved`.
pub(crate) fn mailbox(place: Place, saved: SavedDir) -> (Handle, Mailbox) {
    let (orders_tx, orders) = mpsc::channel(ORDERS_MAX);
    let (end_tx, end) = watch::channel(false);
    let (assigned_tx, assigned) = watch::channel(Assigned::default());
    let (agent, agent_rx) = watch::channel(AgentStatus::default());
    let (place_tx, place) = watch::channel(place);
    let handle = Handle {
        orders: orders_tx,
        backlog: VecDeque::new(),
        end: end_tx,
        assigned: assigned_tx,
        agent: agent_rx,
        place: place_tx,
    };
    (handle, Mailbox { orders, end, assigned, agent, place, saved })
}

impl Handle {
    /// Puts an order in line.
    pub(crate) fn push(&mut self, order: Order) {
        let full = self.backlog.len() >= BACKLOG_MAX;
        match self.backlog.back_mut() {
            // The newer order of a kind says it all.
            Some(last) if last.kind() == order.kind() => *last = order,
            _ if full => tracing::warn!(?order, "a machine's orders are too many: one is dropped"),
            _ => self.backlog.push_back(order),
        }
        self.flush();
    }

    /// Hands over as many orders as the driver takes now.
    pub(crate) fn flush(&mut self) {
        while let Some(order) = self.backlog.front() {
            if self.orders.try_send(*order).is_err() {
                return; // full, or the driver is about to end
            }
            self.backlog.pop_front();
        }
    }

    /// Ends the machine, whatever else its driver is at.
    pub(crate) fn end(&self) {
        self.end.send_replace(true);
    }

    /// Where the next smart paging file is made.
    pub(crate) fn set_place(&self, place: Place) {
        self.place.send_replace(place);
    }

    /// What the guest's agent may tell people inside.
    pub(crate) fn tell_agent(&self, assigned: Assigned) {
        self.assigned.send_if_modified(|last| {
            let news = *last != assigned;
            *last = assigned;
            news
        });
    }

    /// What is known about the agent.
    pub(crate) fn agent(&self) -> AgentStatus {
        self.agent.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(mib: u64) -> Order {
        Order::Memory { balloon: Bytes::from_mib(mib), plugged: Bytes::ZERO }
    }

    #[test]
    fn a_driver_that_hangs_costs_a_bounded_backlog_and_gets_the_newest_order() {
        let (mut handle, mut mailbox) = mailbox(Place::default(), SavedDir::new("/nowhere"));
        for mib in 0..10_000 {
            handle.push(memory(mib));
        }
        assert_eq!(handle.backlog.len(), 1, "waiting orders to the memory devices are one");
        let mut last = None;
        while let Ok(order) = mailbox.orders.try_recv() {
            last = Some(order);
        }
        handle.flush();
        assert_eq!(mailbox.orders.try_recv().ok(), Some(memory(9_999)), "after {last:?}");
        for _ in 0..1_000 {
            handle.push(Order::Pause);
            handle.push(Order::Resume);
        }
        assert!(handle.backlog.len() <= BACKLOG_MAX);
    }

    #[test]
    fn orders_of_different_kinds_keep_their_order() {
        let (mut handle, mut mailbox) = mailbox(Place::default(), SavedDir::new("/nowhere"));
        let orders = [memory(1), Order::ContinueReset, memory(2), Order::Pause];
        for order in orders {
            handle.push(order);
        }
        let received: Vec<_> = std::iter::from_fn(|| mailbox.orders.try_recv().ok()).collect();
        assert_eq!(received, orders);
    }
}
