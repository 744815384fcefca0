//! [`Limit`]: how much a machine's memory group may hold. Pure.
//!
//! ```text
//!  order that is about to be sent ──promise()──▶ wider at once
//!  what the devices hold ──────────seen()──────▶ tighter, once they gave it
//!  what QEMU holds for itself ─────measured()──▶ OwnMemory: charged, allowed
//!                                                 │
//!                          group_limit() ◀────────┘
//! ```
//!
//! The rule, for each of the two devices as in the ledger's charge: **the
//! larger of what was promised, and of what it holds without ever having
//! gained.** So what was promised is always allowed, what was asked back is
//! allowed until it is back, and a guest that takes more on its own (it
//! empties its balloon, it touches ballooned pages) never widens its limit.
//!
//! And what a guest can't use it does not hold, whatever its devices say: the
//! ledger is told no more than the limit allows ([`Limit::hold_to`]). So nobody
//! else gives up memory for a guest that emptied its balloon, and a balloon
//! whose driver is away for a moment finds its order unchanged.

use std::collections::VecDeque;

use dynmem_core::{DeviceFacts, Paged};
use dynmem_linux::GroupLimit;
use dynmem_units::Bytes;

/// Room beside what is known: caches of disk images, what QEMU may take
/// between two measurements. Nobody is charged for it, and nobody innocent
/// fills it with anything but caches.
const ROOM: Bytes = Bytes::from_mib(32);
/// The page tables of guest memory that is touched for the first time, QEMU's
/// and the second-level ones: 16 bytes for each page of 4 KiB.
const ROOM_PER_GUEST: (u64, u64) = (16, 4096);
/// Readings whose largest counts: QEMU's memory goes up and down with its
/// work, and a charge that follows it would be news all the time.
const READINGS: usize = 4;
/// The charge sinks only by so much at least.
const SINK_LEAST: Bytes = Bytes::from_mib(4);

/// Memory by device, as in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    balloon: Bytes,
    plugged: Bytes,
}

impl Parts {
    const UNBOUNDED: Self = Self { balloon: Bytes::MAX, plugged: Bytes::MAX };

    fn each(self, other: Self, choose: fn(Bytes, Bytes) -> Bytes) -> Self {
        Self { balloon: choose(self.balloon, other.balloon), plugged: choose(self.plugged, other.plugged) }
    }
}

/// What may be where, while the machine pages: its devices hold more than its
/// memory does, and say nothing about it.
#[derive(Clone, Copy, Debug)]
struct Paging {
    /// Guest memory that may be in memory: what was promised last.
    memory: Bytes,
    /// The size of the file.
    file: Bytes,
    /// Whether more may be put into it.
    is_open: bool,
    /// The reset has not happened yet: what is ordered meanwhile is for the
    /// boot, and no promise.
    resetting: bool,
}

/// The limit of one machine.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// What the guest may hold. Unbounded for a machine that was found and has
    /// not been looked at.
    guest: Parts,
    /// What it was promised last; of a machine that was found, what it held.
    promised: Option<Parts>,
    /// While a part of the guest's memory may be in a swap file.
    paging: Option<Paging>,
    own: OwnMemory,
}

impl Limit {
    /// Of a machine that is about to be launched with `boot`; `estimate` is
    /// its plan's overhead.
    pub(super) fn launched(boot: Bytes, estimate: Bytes) -> Self {
        let guest = Parts { balloon: boot, plugged: Bytes::ZERO };
        Self { guest, promised: Some(guest), paging: None, own: OwnMemory::new(estimate) }
    }

    /// Of a machine that runs already: what it holds when it is first seen is
    /// its own, as in the ledger; and so is what QEMU holds for itself (`own`),
    /// if it has grown up.
    pub(super) fn found(estimate: Bytes, own: Option<Bytes>) -> Self {
        let own_memory = own.map_or_else(|| OwnMemory::new(estimate), |own| OwnMemory::grown_up(estimate, own));
        Self { guest: Parts::UNBOUNDED, promised: None, paging: None, own: own_memory }
    }

    /// The devices are about to be told to hold so much.
    pub(super) fn promise(&mut self, balloon: Bytes, plugged: Bytes) {
        let promised = Parts { balloon, plugged };
        self.promised = Some(promised);
        self.guest = self.guest.each(promised, Bytes::max);
    }

    /// From now on a part of the guest's memory may be in a file; orders up to
    /// the next [`Limit::reset`] change nothing about it.
    pub(super) fn page(&mut self, paged: Paged, resetting: bool) {
        let Paged { memory, file } = paged;
        self.paging = Some(Paging { memory, file, is_open: true, resetting });
    }

    /// The held machine is reset.
    pub(super) fn reset(&mut self) {
        if let Some(paging) = &mut self.paging {
            paging.resetting = false;
        }
    }

    /// The engine has ordered this: so much may be in memory, while a part of
    /// the guest is in a file. What was ordered for the boot may be sent again
    /// after it, and is no promise then either; so this is not [`Limit::promise`].
    pub(super) fn hold(&mut self, memory: Bytes) {
        if let Some(paging) = self.paging.as_mut().filter(|paging| !paging.resetting) {
            paging.memory = memory;
        }
    }

    /// Whether more may be put into the file.
    pub(super) fn open_file(&mut self, is_open: bool) {
        if let Some(paging) = &mut self.paging {
            paging.is_open = is_open;
        }
    }

    /// The file is gone.
    pub(super) fn unpage(&mut self) {
        self.paging = None;
    }

    /// The devices hold so much.
    pub(super) fn seen(&mut self, devices: &DeviceFacts) {
        let held = Parts { balloon: devices.balloon_actual, plugged: devices.plugged };
        let promised = *self.promised.get_or_insert(held);
        self.guest = promised.each(self.guest.each(held, Bytes::min), Bytes::max);
    }

    /// Makes of what the devices say what the guest can use, where the limit
    /// is in force. Gives what it has taken on its own. Of a machine that pages
    /// the devices tell what is to be given back, and stay as they are.
    pub(super) fn hold_to(&self, devices: &mut DeviceFacts) -> Bytes {
        if self.paging.is_some() {
            return Bytes::ZERO;
        }
        let said = devices.assigned();
        devices.balloon_actual = devices.balloon_actual.min(self.guest.balloon);
        devices.plugged = devices.plugged.min(self.guest.plugged);
        said.saturating_sub(devices.assigned())
    }

    /// QEMU holds so much for itself.
    pub(super) fn measured(&mut self, own: Bytes) {
        self.own.measured(own);
    }

    /// What is charged for QEMU itself, and whether that was measured.
    pub(super) fn overhead(&self) -> (Bytes, bool) {
        (self.own.charged, self.own.is_measured)
    }

    /// What the group may hold; `None` while nobody knows.
    pub(super) fn group_limit(&self) -> Option<GroupLimit> {
        let (guest, in_memory) = if let Some(Paging { memory, file, .. }) = self.paging {
            (memory.saturating_add(file), memory)
        } else {
            let guest = self.guest.balloon.checked_add(self.guest.plugged)?;
            (guest, guest)
        };
        let file = self.paging.filter(|paging| paging.is_open).map(|paging| paging.file);
        let (per, bytes) = ROOM_PER_GUEST;
        let room = ROOM.saturating_add(guest.scale(per, bytes));
        let known = in_memory.saturating_add(self.own.allowed());
        Some(GroupLimit {
            // Slowed down half-way, killed at the end.
            soft: known.saturating_add(room.scale(1, 2)).align_up(Bytes::BLOCK),
            hard: known.saturating_add(room).align_up(Bytes::BLOCK),
            swap: file.unwrap_or_default(),
        })
    }
}

/// The limit for a group that holds more than its limit already: what it has
/// it keeps, because less would kill it for what was no offence when it began,
/// and not a block comes to it.
pub(super) fn frozen(limit: GroupLimit, held: Bytes) -> GroupLimit {
    let hard = held.saturating_sub(limit.swap).align_up(Bytes::BLOCK).saturating_add(Bytes::BLOCK);
    GroupLimit { hard: limit.hard.max(hard), ..limit }
}

/// What QEMU holds for itself: estimated until it is measured.
#[derive(Clone, Debug)]
struct OwnMemory {
    estimate: Bytes,
    /// The last ones, newest at the end.
    readings: VecDeque<Bytes>,
    charged: Bytes,
    is_measured: bool,
}

impl OwnMemory {
    fn new(estimate: Bytes) -> Self {
        Self { estimate, readings: VecDeque::with_capacity(READINGS), charged: estimate, is_measured: false }
    }

    /// Of a QEMU that was watched by an earlier daemon: its charge goes on, and
    /// no guest has to give memory because the daemon is another.
    fn grown_up(estimate: Bytes, own: Bytes) -> Self {
        let mut memory = Self::new(estimate);
        (0..READINGS).for_each(|_| memory.measured(own));
        memory
    }

    /// More than this is never charged or allowed: a guest that makes its QEMU
    /// grow without end ends at its own limit.
    fn most(&self) -> Bytes {
        self.estimate.scale(2, 1).saturating_add(Bytes::from_mib(256))
    }

    fn measured(&mut self, own: Bytes) {
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back(own);
        let most = self.readings.iter().copied().max().unwrap_or_default();
        let charge = most.align_up(Bytes::BLOCK).min(self.most());
        // A young QEMU still grows: the estimate holds until it was watched.
        let sinks = self.readings.len() == READINGS && charge.saturating_add(SINK_LEAST) <= self.charged;
        if charge > self.charged || sinks {
            self.charged = charge;
        }
        self.is_measured |= self.readings.len() == READINGS || charge >= self.charged;
    }

    fn allowed(&self) -> Bytes {
        self.estimate.max(self.charged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTIMATE: Bytes = Bytes::from_mib(96);

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    fn devices(balloon: u64, plugged: u64) -> DeviceFacts {
        DeviceFacts { boot: mib(512), balloon_actual: mib(balloon), plugged: mib(plugged), ..DeviceFacts::default() }
    }

    /// A machine of 512 MiB, ballooned to so many.
    fn ballooned(to: u64) -> Limit {
        let mut limit = Limit::launched(mib(512), ESTIMATE);
        limit.promise(mib(to), Bytes::ZERO);
        limit.seen(&devices(to, 0));
        limit
    }

    /// What the guest may hold.
    fn guest(limit: &Limit) -> u64 {
        (limit.guest.balloon.mib()).saturating_add(limit.guest.plugged.mib())
    }

    #[test]
    fn the_limit_is_wider_before_an_order_and_tighter_after_the_memory_is_back() {
        let mut limit = Limit::launched(mib(512), ESTIMATE);
        limit.promise(mib(512), mib(256));
        assert_eq!(guest(&limit), 768, "before the guest has anything of it");
        limit.seen(&devices(512, 128));
        assert_eq!(guest(&limit), 768, "it is promised");
        limit.seen(&devices(512, 256));
        limit.promise(mib(300), Bytes::ZERO);
        assert_eq!(guest(&limit), 768, "it has all of it still");
        limit.seen(&devices(512, 100));
        assert_eq!(guest(&limit), 612);
        limit.seen(&devices(400, 0));
        assert_eq!(guest(&limit), 400);
        limit.seen(&devices(300, 0));
        assert_eq!(guest(&limit), 300);
    }

    #[test]
    fn a_guest_that_empties_its_balloon_never_widens_its_limit() {
        let mut limit = ballooned(200);
        for held in [300, 512] {
            limit.seen(&devices(held, 0));
            assert_eq!(guest(&limit), 200);
        }
        limit.seen(&devices(512, 300)); // nor one that plugs, if that could be
        assert_eq!(guest(&limit), 200);
    }

    #[test]
    fn what_a_grown_up_qemu_holds_for_itself_is_charged_from_the_first_moment() {
        assert_eq!(Limit::found(ESTIMATE, None).overhead(), (ESTIMATE, false));
        assert_eq!(Limit::found(ESTIMATE, Some(mib(49))).overhead(), (mib(50), true));
        assert_eq!(Limit::found(ESTIMATE, Some(mib(130))).overhead(), (mib(130), true));
    }

    #[test]
    fn what_a_guest_took_on_its_own_is_not_told_and_what_it_was_given_is() {
        let told = |limit: &Limit, mut devices: DeviceFacts| {
            let taken = limit.hold_to(&mut devices);
            (devices.balloon_actual.mib(), devices.plugged.mib(), taken.mib())
        };
        let mut limit = ballooned(200);
        limit.seen(&devices(512, 0));
        assert_eq!(told(&limit, devices(512, 0)), (200, 0, 312));
        // An order is a gift, though the guest has taken it already.
        limit.promise(mib(300), Bytes::ZERO);
        limit.seen(&devices(512, 0));
        assert_eq!(told(&limit, devices(512, 0)), (300, 0, 212));
        limit.promise(mib(512), mib(64));
        assert_eq!(told(&limit, devices(512, 10)), (512, 10, 0), "on its way");
        limit.promise(mib(256), Bytes::ZERO);
        limit.seen(&devices(400, 64));
        assert_eq!(told(&limit, devices(400, 64)), (400, 64, 0), "on its way back");
        let found = Limit::found(ESTIMATE, None);
        assert_eq!(told(&found, devices(400, 64)), (400, 64, 0));
        let mut pages = ballooned(200);
        pages.page(Paged { memory: mib(200), file: mib(312) }, false);
        assert_eq!(told(&pages, devices(512, 0)), (512, 0, 0));
    }

    #[test]
    fn one_device_may_give_while_the_other_takes() {
        let mut limit = Limit::launched(mib(512), ESTIMATE);
        limit.promise(mib(300), mib(200));
        limit.seen(&devices(300, 200));
        // The same sum, and for a moment the guest has both.
        limit.promise(mib(500), Bytes::ZERO);
        limit.seen(&devices(500, 200));
        assert_eq!(guest(&limit), 700);
        limit.seen(&devices(500, 0));
        assert_eq!(guest(&limit), 500);
    }

    #[test]
    fn a_machine_that_was_found_is_limited_to_what_it_is_seen_with() {
        let mut limit = Limit::found(ESTIMATE, None);
        assert_eq!(limit.group_limit(), None, "nobody knows yet");
        limit.seen(&devices(400, 64));
        assert_eq!(guest(&limit), 464);
        limit.seen(&devices(512, 64));
        assert_eq!(guest(&limit), 464);
        let mut limit = Limit::found(ESTIMATE, None);
        limit.promise(mib(100), Bytes::ZERO);
        assert_eq!(limit.group_limit(), None, "an order does not tell what it holds");
        limit.seen(&devices(400, 0));
        assert_eq!(guest(&limit), 400);
    }

    #[test]
    fn qemu_has_its_allowance_and_room_and_is_slowed_down_before_it_is_killed() {
        let limit = ballooned(256).group_limit().expect("known");
        assert_eq!(limit.hard, mib(256 + 96 + 32 + 2), "room, and the page tables of 256 MiB");
        assert!(limit.soft < limit.hard && limit.soft >= mib(256 + 96 + 16), "{limit:?}");
        assert_eq!(limit.swap, Bytes::ZERO);
    }

    #[test]
    fn a_machine_that_pages_may_hold_its_promise_and_swap_as_much_as_its_file_has() {
        let mut limit = ballooned(200);
        let before = limit.group_limit().expect("known");
        limit.page(Paged { memory: mib(200), file: mib(312) }, true);
        let in_memory = |limit: &Limit| limit.group_limit().expect("known").hard.saturating_sub(before.hard);
        // What the devices are told for the boot is no promise of memory.
        limit.hold(mib(512));
        limit.promise(mib(512), Bytes::ZERO);
        limit.seen(&devices(512, 0));
        assert!(in_memory(&limit) <= mib(2), "room for the page tables of all of it");
        assert_eq!(limit.group_limit().expect("known").swap, mib(312));
        limit.reset();
        limit.promise(mib(512), Bytes::ZERO); // sent again
        assert!(in_memory(&limit) <= mib(2));
        limit.hold(mib(260));
        limit.promise(mib(260), Bytes::ZERO);
        limit.seen(&devices(512, 0));
        assert!((mib(60)..=mib(62)).contains(&in_memory(&limit)), "{:?}", limit.group_limit());
        // The file is emptied: nothing more comes to it, and the promise stays.
        limit.seen(&devices(260, 0));
        limit.open_file(false);
        assert_eq!(limit.group_limit().expect("known").swap, Bytes::ZERO);
        assert!((mib(60)..=mib(62)).contains(&in_memory(&limit)));
        limit.open_file(true);
        assert_eq!(limit.group_limit().expect("known").swap, mib(312), "it could not be");
        limit.unpage();
        assert_eq!((in_memory(&limit), limit.group_limit().expect("known").swap), (mib(60), Bytes::ZERO));
    }

    #[test]
    fn a_group_beyond_its_limit_keeps_what_it_has_and_gets_nothing() {
        let limit = ballooned(200).group_limit().expect("known");
        let kept = frozen(limit, mib(600));
        assert_eq!((kept.hard, kept.soft), (mib(602), limit.soft));
        assert_eq!(frozen(limit, mib(100)), limit, "it has given meanwhile");
    }

    #[test]
    fn what_was_measured_is_charged_in_whole_blocks_once_qemu_was_watched() {
        let mut limit = ballooned(200);
        assert_eq!(limit.overhead(), (ESTIMATE, false));
        for _ in 1..READINGS {
            limit.measured(mib(69).saturating_add(Bytes::KIB));
            assert_eq!(limit.overhead(), (ESTIMATE, false), "a young QEMU still grows");
        }
        limit.measured(mib(60));
        assert_eq!(limit.overhead(), (mib(70), true), "the most of the last readings");
        assert_eq!(limit.own.allowed(), ESTIMATE, "it may be as large as was estimated all the same");
    }

    #[test]
    fn a_steady_machine_is_no_news() {
        let mut limit = ballooned(200);
        for _ in 0..READINGS {
            limit.measured(mib(70));
        }
        let before = limit.overhead();
        for reading in [70, 67, 69, 66, 70, 67, 68, 67, 67, 67] {
            limit.measured(mib(reading));
            assert_eq!(limit.overhead(), before);
        }
        for _ in 0..READINGS {
            limit.measured(mib(60));
        }
        assert_eq!(limit.overhead(), (mib(60), true));
    }

    #[test]
    fn more_than_was_estimated_counts_at_once_and_is_bounded() {
        let mut limit = ballooned(200);
        let before = limit.group_limit().expect("known");
        limit.measured(mib(150));
        assert_eq!(limit.overhead(), (mib(150), true));
        assert_eq!(limit.group_limit().expect("known").hard, before.hard.saturating_add(mib(150 - 96)));
        limit.measured(Bytes::MAX);
        assert_eq!(limit.overhead(), (mib(2 * 96 + 256), true));
        let hard = limit.group_limit().expect("known").hard;
        assert!(hard <= mib(200 + 2 * 96 + 256 + 34), "{hard}");
    }
}
