//! [`Tally`]: what the samples say about the promises. Pure, so that it can be
//! tested with samples of broken worlds.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    time::Duration,
};

use dynmem_api::{DriverView, VmState, VmView};
use dynmem_units::Bytes;
use dynmem_vm_tests::Lent;

use super::observer::{Sample, Sighting};

/// Counts over all samples; sizes are QEMU's own word, not the daemon's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) samples: usize,
    /// Samples in which the machines together held more than the pool.
    pub(crate) pool_exceeded: usize,
    /// Who held what in the first of them.
    pub(crate) exceeded_by: Vec<String>,
    /// Samples in which a guest held less than its minimum.
    pub(crate) below_minimum: usize,
    /// The longest time in which a guest held less than its demand without a
    /// break while there was memory to give.
    pub(crate) starved_longest: Duration,
    /// Who that was.
    pub(crate) starved_guest: Option<String>,
    /// The same for each guest that ever did.
    pub(crate) starved: BTreeMap<String, Duration>,
}

/// In so many samples it is told who held what.
const EXCEEDED_TOLD: usize = 8;

impl Tally {
    /// A sentence if the pool was ever exceeded, with all that helps to find out
    /// why: a run is not easily repeated.
    pub(crate) fn pool_broken(&self) -> Option<String> {
        let Self { samples, pool_exceeded, exceeded_by, .. } = self;
        let sentence = || format!("The pool was exceeded in {pool_exceeded} of {samples} samples");
        (*pool_exceeded > 0).then(|| format!("{}:\n    {}", sentence(), exceeded_by.join("\n    ")))
    }
}

/// Goes through the samples in their order.
///
/// `pool` is what may be lent, overhead included. While the daemon is silent
/// its last word about demand, target and overhead holds: a guest does not
/// stop needing memory because the daemon died.
pub(crate) fn tally(samples: &[Sample], pool: Bytes) -> Tally {
    tally_excusing(samples, pool, |_, _| false)
}

/// The same, without the hunger of a guest that is `excused` at that time.
pub(crate) fn tally_excusing(samples: &[Sample], pool: Bytes, excused: impl Fn(&str, Duration) -> bool) -> Tally {
    let mut tally = Tally { samples: samples.len(), ..Tally::default() };
    let mut known: HashMap<&str, &VmView> = HashMap::new();
    let mut overhead: HashMap<&str, Overhead> = HashMap::new();
    let mut starving_since: HashMap<&str, Duration> = HashMap::new();
    for sample in samples {
        for guest in &sample.guests {
            if let Some(view) = &guest.view {
                known.insert(&guest.name, view);
            }
        }
        for view in sample.guests.iter().filter_map(|guest| guest.view.as_ref()) {
            overhead.entry(&view.name).or_default().hear(sample.at, view);
        }
        for own in overhead.values_mut() {
            own.forget(sample.at);
        }
        let view_of = |guest: &Sighting| known.get(guest.name.as_str()).copied();
        let held = charges(&sample.guests, &overhead, &view_of);
        let charged = held.iter().map(Charge::bytes).sum();
        if charged > pool {
            tally.pool_exceeded += 1;
            if tally.exceeded_by.len() < EXCEEDED_TOLD {
                let of: Vec<String> = held.iter().map(ToString::to_string).collect();
                let at = sample.at.as_secs_f64();
                tally.exceeded_by.push(format!("[{at:7.2} s] {charged} of {pool}: {}", of.join(", ")));
            }
        }
        tally.below_minimum += usize::from(sample.guests.iter().any(|guest| is_below_minimum(guest, &view_of)));
        for guest in &sample.guests {
            let free = pool.saturating_sub(charged).saturating_add(surplus(&sample.guests, &view_of));
            let short = view_of(guest).is_some_and(|view| is_short(guest, view)) && !excused(&guest.name, sample.at);
            if !short || free < Bytes::BLOCK {
                starving_since.remove(guest.name.as_str());
                continue;
            }
            let since = *starving_since.entry(&guest.name).or_insert(sample.at);
            let starved = sample.at.saturating_sub(since);
            if starved > Duration::ZERO {
                let longest = tally.starved.entry(guest.name.clone()).or_default();
                *longest = starved.max(*longest);
            }
            if starved > tally.starved_longest {
                tally.starved_longest = starved;
                tally.starved_guest = Some(guest.name.clone());
            }
        }
    }
    tally
}

/// The hypervisor's own memory grows without being lent, also while guests have
/// all the rest: so long they may take to give that much back. The first that is
/// asked may stand still and is given up after ten seconds, and so may the next.
const GIVEN_BACK_WITHIN: Duration = Duration::from_mins(1);

/// What a machine's hypervisor holds for itself.
#[derive(Clone, Debug, Default)]
struct Overhead {
    pid: Option<u32>,
    is_measured: bool,
    /// What it was from when on.
    figures: VecDeque<(Duration, Bytes)>,
    /// The largest figure of all: the estimate, or what it grew to.
    most: Bytes,
}

impl Overhead {
    /// What is measured is believed; an estimate while there is nothing better.
    /// A new daemon has not measured yet what the one before had.
    fn hear(&mut self, at: Duration, view: &VmView) {
        let same = self.pid == view.pid;
        if same && self.is_measured && !view.overhead_measured {
            return;
        }
        if !same {
            self.figures.clear();
        }
        (self.pid, self.is_measured) = (view.pid, view.overhead_measured);
        self.most = self.most.max(view.overhead_bytes);
        if self.figures.back().is_none_or(|(_, figure)| *figure != view.overhead_bytes) {
            self.figures.push_back((at, view.overhead_bytes));
        }
    }

    /// Drops what has been replaced for long enough.
    fn forget(&mut self, now: Duration) {
        while self.figures.get(1).is_some_and(|(at, _)| *at + GIVEN_BACK_WITHIN <= now) {
            self.figures.pop_front();
        }
    }

    /// Its limit allows it to grow back to the estimate, which is not lent either.
    fn room(&self) -> Bytes {
        self.most.saturating_sub(self.bytes())
    }

    /// What counts of it: growth does not at once.
    fn bytes(&self) -> Bytes {
        self.figures.iter().map(|(_, figure)| *figure).min().unwrap_or_default()
    }
}

/// What one machine counts for.
#[derive(Clone, Copy, Debug)]
struct Charge<'a> {
    guest: &'a str,
    /// By QEMU's word.
    assigned: Bytes,
    /// Of the hypervisor itself.
    own: Bytes,
    /// Of its memory group, less the [`room`] that was not lent.
    limit: Bytes,
    state: Option<VmState>,
}

impl Charge<'_> {
    /// QEMU's figures are not all of the truth: a guest whose balloon driver is
    /// gone has taken back what was lent to others, one that boots on a smart
    /// paging file has a part of its memory there, and one that is restored
    /// holds nothing of what it may. What none of them can exceed is the limit
    /// of its memory group.
    fn bytes(&self) -> Bytes {
        self.assigned.saturating_add(self.own).min(self.limit)
    }
}

impl fmt::Display for Charge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guest, assigned, own, limit, state } = self;
        let state = state.map_or("unknown", VmState::as_str);
        write!(f, "{guest} ({state}) {assigned} + {own}")?;
        if *limit == Bytes::MAX { write!(f, " without a limit") } else { write!(f, " up to {limit}") }
    }
}

/// What all machines that exist hold, the hypervisor's own memory included.
fn charges<'a>(
    guests: &'a [Sighting],
    overhead: &HashMap<&str, Overhead>,
    view_of: &impl Fn(&'a Sighting) -> Option<&'a VmView>,
) -> Vec<Charge<'a>> {
    let charge = |guest: &'a Sighting| {
        let (view, own) = (view_of(guest), overhead.get(guest.name.as_str()));
        let spare = own.map_or(Bytes::ZERO, Overhead::room);
        let limited = |limit: Bytes| limit.saturating_sub(room(limit)).saturating_sub(spare);
        // One that is restored says its boot size until its state is read, and
        // at first its group has no limit.
        let restored = |view: &&VmView| view.state == VmState::Starting;
        let limit = view.and_then(|view| view.memory_limit_bytes).map(limited);
        let limit = limit.or_else(|| view.filter(restored).map(|view| view.charged_bytes));
        Charge {
            guest: &guest.name,
            assigned: guest.assigned_least,
            own: own.map_or(Bytes::ZERO, Overhead::bytes),
            limit: limit.unwrap_or(Bytes::MAX),
            state: view.map(|view| view.state),
        }
    };
    guests.iter().filter(|guest| guest.lent.is_some()).map(charge).collect()
}

/// The part of a limit that nobody is charged for: 32 MiB for caches, and page
/// tables for 16 bytes a page (`driver/limit.rs` of the daemon).
fn room(limit: Bytes) -> Bytes {
    Bytes::from_mib(32).saturating_add(limit.scale(16, 4096))
}

fn is_below_minimum<'a>(guest: &'a Sighting, view_of: &impl Fn(&'a Sighting) -> Option<&'a VmView>) -> bool {
    let minimum = view_of(guest).map_or(Bytes::ZERO, |view| view.settings.minimum_bytes);
    guest.lent.is_some_and(|lent| lent.assigned() < minimum)
}

/// True if a guest needs at least a block more than it holds, and may have it.
fn is_short(guest: &Sighting, view: &VmView) -> bool {
    let wanted = view.demand_bytes.min(view.settings.maximum_bytes);
    let held = guest.lent.map_or(Bytes::MAX, Lent::assigned);
    view.state == VmState::Running && wanted.saturating_sub(held) >= Bytes::BLOCK
}

/// What could be taken from guests that hold more than their target.
fn surplus<'a>(guests: &'a [Sighting], view_of: &impl Fn(&'a Sighting) -> Option<&'a VmView>) -> Bytes {
    let beyond_target = |guest| {
        let view: &VmView = view_of(guest)?;
        let gives = view.state == VmState::Running && view.driver == DriverView::Ok;
        let keeps = view.target_bytes.max(view.settings.minimum_bytes);
        gives.then(|| guest.lent.map_or(Bytes::ZERO, Lent::assigned).saturating_sub(keeps))
    };
    guests.iter().filter_map(beyond_target).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POOL: Bytes = Bytes::from_mib(1000);

    /// A guest that holds, needs and aims at so many MiB; minimum 200, maximum
    /// 800, overhead 50.
    fn guest(name: &str, held: u64, demand: u64) -> Sighting {
        let mib = |mib: u64| Bytes::from_mib(mib).get();
        let view = json!({
            "name": name, "state": "running", "assigned_bytes": 0, "demand_bytes": mib(demand),
            "target_bytes": mib(demand * 12 / 10), "overhead_bytes": mib(50), "vcpus": 1,
            "integration": "agent", "driver": {"state": "ok"},
            "settings": {"dynamic": true, "startup_bytes": mib(400), "minimum_bytes": mib(200),
                "maximum_bytes": mib(800), "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"},
        });
        let lent = Lent { balloon_actual: Bytes::from_mib(held), plugged: Bytes::ZERO };
        Sighting {
            name: name.to_owned(),
            view: Some(serde_json::from_value(view).expect("a view")),
            lent: Some(lent),
            assigned_least: lent.assigned(),
        }
    }

    /// The same guests, second by second.
    fn story(seconds: &[&[Sighting]]) -> Tally {
        let sample = |(second, guests): (u64, &&[Sighting])| Sample {
            at: Duration::from_secs(second),
            host: None,
            guests: guests.to_vec(),
        };
        tally(&(0..).zip(seconds).map(sample).collect::<Vec<_>>(), POOL)
    }

    #[test]
    fn a_world_in_which_all_is_well_has_nothing_to_tell() {
        let calm = [guest("a", 400, 300), guest("b", 500, 400)];
        assert_eq!(story(&[&calm, &calm, &calm]), Tally { samples: 3, ..Tally::default() });
    }

    #[test]
    fn the_pool_counts_overhead_and_only_machines_that_exist() {
        let full = [guest("a", 400, 300), guest("b", 500, 400)];
        let over = [guest("a", 402, 300), guest("b", 500, 400)];
        let gone = [guest("a", 402, 300), Sighting { lent: None, ..guest("b", 500, 400) }];
        let tally = story(&[&full, &over, &gone]);
        assert_eq!(tally.pool_exceeded, 1);
        let told = "The pool was exceeded in 1 of 3 samples:\n    [   1.00 s] 1002MiB of 1000MiB: \
            a (running) 402MiB + 50MiB without a limit, b (running) 500MiB + 50MiB without a limit";
        assert_eq!(tally.pool_broken().as_deref(), Some(told));
        assert_eq!(story(&[&full]).pool_broken(), None);
    }

    #[test]
    fn a_guest_that_takes_back_what_others_have_counts_up_to_its_limit() {
        let limited = |limit: u64| {
            let mut guest = guest("b", 700, 400);
            let limit = Some(Bytes::from_mib(limit));
            guest.view = guest.view.map(|view| VmView { memory_limit_bytes: limit, ..view });
            guest
        };
        let exceeded = |limit| story(&[&[guest("a", 400, 300), limited(limit)]]).pool_exceeded;
        assert_eq!((exceeded(584), exceeded(586)), (0, 1), "32 MiB and page tables are nobody's");
    }

    #[test]
    fn a_hypervisor_that_was_estimated_larger_leaves_its_guest_no_more() {
        let seen = |second: u64, own: u64| {
            let mut guest = guest("a", 2000, 300);
            let view = guest.view.take().expect("a view");
            let limit = Some(Bytes::from_mib(1066));
            let view = VmView { overhead_bytes: Bytes::from_mib(own), memory_limit_bytes: limit, ..view };
            guest.view = Some(VmView { overhead_measured: second > 0, ..view });
            [guest]
        };
        // 1066 less 32 and page tables is 1029.8: beside an estimate of 100 the guest has 929.8 of it.
        let exceeded = |own| story(&[&seen(0, 100), &seen(1, own)]).pool_exceeded;
        assert_eq!((exceeded(100), exceeded(60)), (2, 1), "929.8 and 60 fit");
    }

    #[test]
    fn a_machine_that_is_restored_counts_what_it_was_charged() {
        let restored = |charged: u64| {
            let mut guest = guest("a", 2000, 300);
            let view = guest.view.take().expect("a view");
            let charged_bytes = Bytes::from_mib(charged);
            guest.view = Some(VmView { state: VmState::Starting, charged_bytes, ..view });
            [guest]
        };
        assert_eq!((story(&[&restored(1000)]).pool_exceeded, story(&[&restored(1002)]).pool_exceeded), (0, 1));
    }

    #[test]
    fn what_was_measured_of_a_process_counts_until_it_is_measured_again() {
        let seen = |pid: u32, overhead: u64, measured: bool| {
            let mut guest = guest("a", 900, 300);
            let view = guest.view.as_mut().expect("a view");
            (view.pid, view.overhead_bytes, view.overhead_measured) = (Some(pid), Bytes::from_mib(overhead), measured);
            guest
        };
        let exceeded = |story_of: &[(u32, u64, bool)]| {
            let seconds: Vec<[Sighting; 1]> =
                story_of.iter().map(|&(pid, own, measured)| [seen(pid, own, measured)]).collect();
            story(&seconds.iter().map(|second| &second[..]).collect::<Vec<_>>()).pool_exceeded
        };
        assert_eq!(exceeded(&[(1, 90, true), (1, 120, false)]), 0, "another daemon's estimate");
        assert_eq!(exceeded(&[(1, 90, true), (2, 120, false)]), 1, "another process");
        let grown = |seconds| [vec![(1, 90, true)], vec![(1, 120, true); seconds]].concat();
        assert_eq!(exceeded(&grown(60)), 0, "it grew by itself, and the guest gives it back");
        assert_eq!(exceeded(&grown(62)), 2, "it should have");
    }

    #[test]
    fn below_minimum_is_counted() {
        assert_eq!(story(&[&[guest("a", 200, 100)], &[guest("a", 198, 100)]]).below_minimum, 1);
    }

    #[test]
    fn starving_beside_free_memory_is_timed_without_a_break() {
        let (short, fine) = ([guest("a", 400, 500)], [guest("a", 600, 500)]);
        let tally = story(&[&short, &short, &fine, &short, &short, &short, &short]);
        assert_eq!((tally.starved_longest, tally.starved_guest.as_deref()), (Duration::from_secs(3), Some("a")));
        assert_eq!(tally.starved, BTreeMap::from([("a".to_owned(), Duration::from_secs(3))]));
    }

    #[test]
    fn hunger_that_is_excused_is_none() {
        let short = [guest("a", 400, 500), guest("b", 400, 500)];
        let sample = |second| Sample { at: Duration::from_secs(second), host: None, guests: short.to_vec() };
        let samples: Vec<Sample> = (0..5).map(sample).collect();
        let tally = tally_excusing(&samples, Bytes::from_mib(2000), |guest, at| guest == "a" || at.as_secs() == 2);
        assert_eq!(tally.starved, BTreeMap::from([("b".to_owned(), Duration::from_secs(1))]));
    }

    #[test]
    fn starving_beside_a_fat_neighbour_counts_and_a_true_shortage_does_not() {
        let fat = [guest("a", 400, 500), guest("b", 500, 100)];
        assert_eq!(story(&[&fat, &fat]).starved_longest, Duration::from_secs(1));
        let all_need_it = [guest("a", 400, 500), guest("b", 500, 600)];
        assert_eq!(story(&[&all_need_it, &all_need_it]).starved_longest, Duration::ZERO);
    }

    #[test]
    fn what_lies_beyond_the_maximum_is_nobodys_need() {
        let greedy = [guest("a", 800, 5000)];
        assert_eq!(story(&[&greedy, &greedy]).starved_longest, Duration::ZERO);
    }

    #[test]
    fn a_silent_daemon_does_not_end_hunger() {
        let short = [guest("a", 400, 500)];
        let unheard = [Sighting { view: None, ..guest("a", 400, 500) }];
        assert_eq!(story(&[&short, &unheard, &unheard]).starved_longest, Duration::from_secs(2));
    }
}
