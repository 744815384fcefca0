//! [`Model`]: an imitated guest's memory, and how it moves. No I/O, no clock.

use std::time::Duration;

use dynmem_units::Bytes;

use super::{Behaviour, DeviceMood};
use crate::MachinePlan;

/// The memory of one guest.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) plan: MachinePlan,
    /// What the balloon was told to leave of the boot memory.
    pub(super) balloon_target: Bytes,
    /// What it really leaves.
    pub(super) balloon_actual: Bytes,
    /// What the device says it leaves: after a reset stale until the guest's
    /// driver moves again, as in QEMU.
    pub(super) balloon_told: Bytes,
    /// What virtio-mem was asked to plug.
    pub(super) requested: Bytes,
    /// What it has plugged.
    pub(super) plugged: Bytes,
}

/// What has moved in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) balloon: bool,
    pub(super) plug: bool,
}

impl Model {
    pub(super) fn new(plan: MachinePlan) -> Self {
        let (balloon, none) = (plan.boot, Bytes::ZERO);
        let (balloon_target, balloon_actual, balloon_told) = (balloon, balloon, balloon);
        Self { plan, balloon_target, balloon_actual, balloon_told, requested: none, plugged: none }
    }

    /// A reset gives the guest its boot memory and nothing else. The targets
    /// stay, and so does what the balloon says.
    pub(super) fn reset(&mut self) {
        self.balloon_actual = self.plan.boot;
        self.plugged = Bytes::ZERO;
    }

    /// Memory that the guest has.
    pub(super) fn assigned(&self) -> Bytes {
        self.balloon_actual.saturating_add(self.plugged)
    }

    /// Memory that the guest's memory manager says it has.
    pub(super) fn visible(&self, behaviour: &Behaviour) -> Bytes {
        self.assigned().saturating_sub(behaviour.reserved)
    }

    /// Whether anything would move in a step.
    pub(super) fn is_restless(&self, behaviour: &Behaviour) -> bool {
        self.clone().step(Duration::from_secs(1), behaviour) != Moved::default()
    }

    /// The guest's drivers work for so long.
    pub(super) fn step(&mut self, elapsed: Duration, behaviour: &Behaviour) -> Moved {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let stride = behaviour.rate.scale(nanos, 1_000_000_000).max(Bytes::BLOCK).align_down(Bytes::BLOCK);
        // A guest gives what it does not use: the kernel's own, then programs.
        let used = behaviour.reserved.saturating_add(behaviour.demand);
        let balloon = moved(
            self.balloon_actual,
            self.balloon_target,
            stride,
            used.saturating_sub(self.plugged),
            behaviour.balloon,
        );
        let balloon_moved = balloon != self.balloon_actual;
        self.balloon_actual = balloon;
        let floor = used.saturating_sub(self.balloon_actual).align_up(self.plan.plug_block);
        let plugged = moved(self.plugged, self.requested, stride, floor, behaviour.plug);
        let plug_moved = plugged != self.plugged;
        self.plugged = plugged;
        if balloon_moved {
            self.balloon_told = balloon;
        }
        Moved { balloon: balloon_moved, plug: plug_moved }
    }
}

/// Where a device gets in a stride on its way to `target`. It shrinks no
/// further than `floor`, and not at all below what it has if that is less.
fn moved(now: Bytes, target: Bytes, stride: Bytes, floor: Bytes, mood: DeviceMood) -> Bytes {
    let floor = match mood {
        DeviceMood::Stuck => return now,
        DeviceMood::Willing => floor,
        DeviceMood::Partial(least) => floor.max(least),
    };
    if target >= now {
        return now.saturating_add(stride).min(target);
    }
    now.saturating_sub(stride).max(target).max(floor.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChosenAccelerator;

    fn model() -> Model {
        Model::new(MachinePlan {
            accelerator: ChosenAccelerator::Tcg,
            boot: Bytes::from_mib(512),
            plug_max: Bytes::from_mib(1024),
            plug_block: Bytes::BLOCK,
            overhead: Bytes::ZERO,
        })
    }

    fn settle(model: &mut Model, behaviour: &Behaviour) {
        while model.step(Duration::from_millis(10), behaviour) != Moved::default() {}
        assert!(!model.is_restless(behaviour));
    }

    #[test]
    fn a_willing_guest_gives_what_it_does_not_use_and_no_more() {
        let (mut model, behaviour) = (model(), Behaviour::default()); // uses 96 MiB
        model.balloon_target = Bytes::from_mib(128);
        settle(&mut model, &behaviour);
        assert_eq!(model.balloon_actual, Bytes::from_mib(128));
        model.balloon_target = Bytes::BLOCK;
        settle(&mut model, &behaviour);
        assert_eq!(model.balloon_actual, Bytes::from_mib(96));
    }

    #[test]
    fn memory_that_is_in_use_is_not_unplugged() {
        let (mut model, mut behaviour) = (model(), Behaviour::default());
        model.requested = Bytes::from_mib(512);
        settle(&mut model, &behaviour);
        behaviour.demand = Bytes::from_mib(732); // with the kernel's 32: 764
        model.requested = Bytes::ZERO;
        settle(&mut model, &behaviour);
        assert_eq!(model.plugged, Bytes::from_mib(252));
    }

    #[test]
    fn moods_bind_the_devices() {
        let mut model = model();
        let stuck = Behaviour { balloon: DeviceMood::Stuck, ..Behaviour::default() };
        model.balloon_target = Bytes::from_mib(128);
        settle(&mut model, &stuck);
        assert_eq!(model.balloon_actual, Bytes::from_mib(512));
        let partial = Behaviour { balloon: DeviceMood::Partial(Bytes::from_mib(300)), ..Behaviour::default() };
        settle(&mut model, &partial);
        assert_eq!(model.balloon_actual, Bytes::from_mib(300));
    }

    #[test]
    fn after_a_reset_the_balloon_tells_an_old_figure_until_it_moves() {
        let (mut model, behaviour) = (model(), Behaviour::default());
        model.balloon_target = Bytes::from_mib(256);
        settle(&mut model, &behaviour);
        model.reset();
        assert_eq!((model.balloon_actual, model.balloon_told), (Bytes::from_mib(512), Bytes::from_mib(256)));
        model.step(Duration::from_millis(1), &behaviour);
        assert_eq!(model.balloon_actual, model.balloon_told);
    }
}
