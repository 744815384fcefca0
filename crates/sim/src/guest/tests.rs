//! Each behaviour of a guest, as a sentence.

use super::*;

const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

/// Devices at rest with this boot memory, and 4 GiB that could be plugged.
fn machine(boot: Bytes) -> DeviceFacts {
    DeviceFacts {
        boot,
        balloon_actual: boot,
        plugged: Bytes::ZERO,
        plug_max: mib(4096),
        plug_block: Bytes::BLOCK,
        overhead: mib(50),
    }
}

/// A guest with this boot memory, its kernel included.
fn guest(boot: u64) -> Guest {
    Guest::boot(GuestConfig::default(), machine(mib(boot)))
}

fn without_swap(boot: u64) -> Guest {
    Guest::boot(GuestConfig { swap_bytes: Bytes::ZERO, ..GuestConfig::default() }, machine(mib(boot)))
}

fn programs(anonymous: u64) -> Need {
    Need { anonymous: mib(anonymous), ..Need::default() }
}

fn with_files(anonymous: u64, hot_file: u64) -> Need {
    Need { hot_file: mib(hot_file), ..programs(anonymous) }
}

/// Lets time pass in steps of 10 ms; all that was lived through.
fn run(guest: &mut Guest, millis: u64, need: Need) -> Step {
    run_by(guest, millis, 10, need)
}

fn run_by(guest: &mut Guest, millis: u64, step_ms: u64, need: Need) -> Step {
    let mut total = Step::default();
    for _ in 0..millis / step_ms {
        let step = guest.step(step_ms, need);
        assert!(step.stalled_ms <= step_ms);
        total.moved |= step.moved;
        total.stalled_ms += step.stalled_ms;
        total.oom |= step.oom;
    }
    total
}

fn cache(guest: &Guest) -> Bytes {
    guest.statistics().cached.saturating_sub(guest.report().hot_file)
}

/// Programs and their memory.

#[test]
fn a_guest_with_enough_memory_never_stalls() {
    let mut guest = guest(1024);
    let lived = run(&mut guest, 2_000, with_files(500, 200));
    assert_eq!(lived, Step::default());
    let report = guest.report();
    assert_eq!((report.visible, report.hot_file, report.stall), (mib(960), mib(200), 0));
    assert_eq!(report.committed, Some(mib(500)));
    assert_eq!(report.reserved, Some(mib(64)));
    // Hot files are available like any page cache; the kernel's 1 % is not.
    let kept = Bytes::new(960 << 20).scale(1, 100);
    assert_eq!(report.available, mib(460).saturating_sub(kept));
}

#[test]
fn what_is_needed_is_exactly_enough() {
    for (anonymous, hot_file) in [(0, 0), (100, 0), (500, 200), (3_000, 1_000), (20_000, 0)] {
        let need = with_files(anonymous, hot_file);
        let needed = guest(64).needed(need);
        let lived = |boot: Bytes| {
            let mut guest =
                Guest::boot(GuestConfig { swap_bytes: mib(1 << 20), ..GuestConfig::default() }, machine(boot));
            run(&mut guest, 30_000, need);
            run(&mut guest, 1_000, need)
        };
        assert_eq!(lived(needed), Step::default(), "{need:?}");
        if anonymous > 0 {
            let little_less = lived(needed.saturating_sub(mib(8)));
            assert!(little_less.stalled_ms > 0, "{need:?}");
        }
    }
}

#[test]
fn programs_grow_as_fast_as_they_touch_memory() {
    let mut guest = guest(4096);
    run(&mut guest, 100, programs(3_000));
    let used = guest.report().visible.saturating_sub(guest.report().available);
    let kept = guest.report().visible.scale(1, 100);
    assert_eq!(used.saturating_sub(kept).mib(), 4096 / 10);
}

#[test]
fn what_programs_free_is_free_at_once() {
    let mut guest = guest(1024);
    run(&mut guest, 1_000, programs(800));
    guest.step(1, programs(100));
    assert_eq!(guest.statistics().free, mib(860));
}

#[test]
fn the_page_cache_fills_what_is_free_and_costs_nobody_anything() {
    let mut guest = guest(1024);
    let need = Need { file_read_per_second: mib(100), ..programs(300) };
    run(&mut guest, 1_000, need);
    let before = guest.report();
    assert_eq!(cache(&guest), mib(100));
    let lived = run(&mut guest, 60_000, need);
    assert_eq!(lived, Step::default());
    assert_eq!(guest.report(), before, "page cache is available, however much there is");
    assert!(guest.statistics().free < mib(10));
}

#[test]
fn the_page_cache_is_dropped_before_anything_is_swapped() {
    let mut guest = guest(1024);
    run(&mut guest, 60_000, Need { file_read_per_second: mib(100), ..with_files(300, 100) });
    assert!(cache(&guest) > mib(500));
    let lived = run(&mut guest, 2_000, with_files(840, 100));
    assert_eq!((lived.stalled_ms, guest.report().swap_used), (0, Bytes::ZERO));
    assert!(cache(&guest) < mib(20));
    assert_eq!(guest.report().hot_file, mib(100));
}

#[test]
fn hot_files_are_lost_before_anything_is_swapped_and_are_missed() {
    let mut guest = guest(1024);
    run(&mut guest, 2_000, with_files(700, 200));
    let lived = run(&mut guest, 2_000, with_files(900, 200));
    let report = guest.report();
    assert_eq!(report.swap_used, Bytes::ZERO);
    assert_eq!(report.hot_file.mib(), 960 - 9 - 900 - 1);
    assert!(report.refault_per_second > mib(50), "{}", report.refault_per_second);
    assert!(report.stall > 2_000 && lived.stalled_ms > 500, "{} {}", report.stall, lived.stalled_ms);
}

#[test]
fn a_guest_too_small_swaps_and_stalls_and_its_report_says_so() {
    let mut guest = guest(512);
    let lived = run(&mut guest, 10_000, programs(700));
    let report = guest.report();
    // 700 of 448 less 1 %.
    assert_eq!(report.swap_used.mib(), 700 - 443 - 1);
    assert_eq!(report.available, Bytes::ZERO);
    assert_eq!(report.committed, Some(mib(700)));
    assert!(report.swap_in_per_second > mib(80), "{}", report.swap_in_per_second);
    // 256 MiB are missing, which takes 1.28 s of each 2.28 s.
    assert_eq!(report.stall / 100, 56);
    assert!((5_000..7_500).contains(&lived.stalled_ms), "{}", lived.stalled_ms);
    assert!(!lived.oom);
}

#[test]
fn the_more_is_missing_the_longer_it_stalls() {
    let stalls: Vec<u32> = [440, 450, 500, 600, 900]
        .into_iter()
        .map(|need| {
            let mut guest = guest(512);
            run(&mut guest, 20_000, programs(need));
            guest.report().stall
        })
        .collect();
    assert_eq!(stalls[0], 0);
    assert!(stalls.is_sorted_by(|less, more| less < more), "{stalls:?}");
    assert!(stalls[4] < 10_000, "it still runs: {stalls:?}");
}

#[test]
fn growth_that_finds_no_room_waits_for_swap() {
    let mut guest = guest(512);
    run(&mut guest, 1_000, programs(443));
    let lived = run(&mut guest, 500, programs(700));
    assert_eq!(guest.report().swap_used.mib(), 100, "half a second at 200 MiB/s");
    assert!(lived.stalled_ms >= 490, "{}", lived.stalled_ms);
}

#[test]
fn only_the_time_without_room_is_lost() {
    // 443 MiB of room are touched in 108 ms at 4 GiB/s.
    let mut guest = without_swap(512);
    assert_eq!(guest.step(100, programs(700)).stalled_ms, 0);
    assert_eq!(guest.step(100, programs(700)).stalled_ms, 91);
    assert_eq!(guest.step(100, programs(700)).stalled_ms, 100);
}

#[test]
fn growth_is_blocked_for_as_long_as_swapping_out_takes() {
    let mut guest = guest(512);
    run(&mut guest, 1_000, programs(443));
    // The 9.5 MiB without room take 47 ms of this step, and in the rest of it
    // they are missed a little: 47 ms of each 1047 ms.
    assert_eq!(guest.step(100, programs(453)).stalled_ms, 47 + 2);
}

#[test]
fn memory_that_arrives_ends_the_stall() {
    let mut guest = guest(512);
    run(&mut guest, 10_000, programs(600));
    assert!(guest.report().stall > 3_000);
    guest.order(mib(512), mib(512));
    run(&mut guest, 1_500, programs(600));
    assert_eq!(guest.report().swap_used, Bytes::ZERO, "swapped pages come back at 200 MiB/s");
    assert_eq!(run(&mut guest, 2_000, programs(600)).stalled_ms, 0);
    assert!(guest.report().stall < 100 && guest.report().swap_in_per_second < Bytes::MIB);
    run(&mut guest, 10_000, programs(600));
    assert_eq!((guest.report().stall, guest.report().swap_in_per_second), (0, Bytes::ZERO));
}

#[test]
fn without_room_or_swap_the_programs_are_killed_after_five_seconds_and_begin_again() {
    let mut guest = without_swap(512);
    assert!(!run(&mut guest, 5_000, programs(700)).oom);
    assert_eq!(guest.report().stall, 9_999, "nothing else happens any more");
    assert!(run(&mut guest, 200, programs(700)).oom);
    assert!(guest.report().available < mib(300), "they grow again");
    assert!(run_by(&mut without_swap(512), 20_000, 20_000, programs(700)).oom, "in one long step as well");
}

#[test]
fn a_killed_program_leaves_no_swap_behind() {
    let mut guest = guest(512);
    let mut killed = false;
    for _ in 0..20_000 {
        if guest.step(1, programs(3_000)).oom {
            killed = true;
            break;
        }
    }
    assert!(killed);
    assert_eq!((guest.report().swap_used, guest.statistics().free), (Bytes::ZERO, mib(448)));
}

#[test]
fn help_within_five_seconds_saves_the_programs() {
    let mut guest = without_swap(512);
    assert!(!run(&mut guest, 4_000, programs(700)).oom);
    guest.order(mib(512), mib(512));
    let lived = run(&mut guest, 10_000, programs(700));
    assert!(!lived.oom && lived.stalled_ms < 200, "{lived:?}");
}

#[test]
fn files_that_cool_down_become_page_cache() {
    let mut guest = guest(1024);
    run(&mut guest, 2_000, with_files(300, 200));
    run(&mut guest, 10, with_files(300, 50));
    assert_eq!((guest.report().hot_file, cache(&guest)), (mib(50), mib(150)));
}

#[test]
fn statistics_know_free_cached_and_active_pages() {
    let mut guest = guest(1024);
    run(&mut guest, 10_000, Need { file_read_per_second: mib(2), ..with_files(300, 100) });
    let statistics = guest.statistics();
    assert_eq!(statistics.cached.mib(), 119, "100 hot and 20 read");
    assert_eq!(statistics.active.mib(), 300 + 100 + 19);
    assert_eq!(statistics.free.mib(), 960 - 300 - 120);
}

#[test]
fn a_guest_below_its_kernel_has_nothing_to_give() {
    let mut guest = without_swap(32);
    guest.order(Bytes::ZERO, Bytes::ZERO);
    let lived = run(&mut guest, 1_000, programs(100));
    assert!(!lived.moved && lived.stalled_ms == 1_000);
    let killed = (0..200).filter(|_| guest.step(100, programs(100)).oom).count();
    assert_eq!(killed, 4, "one after the other, every five seconds");
    assert_eq!((guest.report().visible, guest.report().reserved), (Bytes::ZERO, Some(mib(32))));
}

/// Time.

#[test]
fn step_size_does_not_change_the_outcome_much() {
    let outcome = |step_ms: u64| {
        let mut guest = guest(1024);
        let mut stalled_ms = 0;
        stalled_ms += run_by(&mut guest, 12_000, step_ms, with_files(500, 100)).stalled_ms;
        guest.order(mib(400), Bytes::ZERO);
        stalled_ms += run_by(&mut guest, 12_000, step_ms, with_files(500, 100)).stalled_ms;
        let (held, swapped) = (guest.held(), guest.report().swap_used);
        guest.order(mib(1024), mib(1024));
        stalled_ms += run_by(&mut guest, 12_000, step_ms, with_files(1_500, 100)).stalled_ms;
        (stalled_ms, held.mib(), swapped.mib(), guest.held().mib())
    };
    let fine = outcome(1);
    assert!(fine.0 > 2_000, "{fine:?}");
    for step_ms in [3, 10, 50, 100, 1_000, 4_000, 12_000] {
        let coarse = outcome(step_ms);
        let differs = fine.0.abs_diff(coarse.0);
        assert!(differs < fine.0 / 20, "{step_ms} ms: {coarse:?} instead of {fine:?}");
        assert!(fine.1.abs_diff(coarse.1) <= 1 && fine.2.abs_diff(coarse.2) <= 1, "{step_ms} ms: {coarse:?}");
        assert_eq!(fine.3, coarse.3);
    }
}

#[test]
fn the_stall_that_is_told_is_that_of_the_last_half_second() {
    let mut guest = guest(512);
    run(&mut guest, 20_000, programs(600));
    let full = guest.report().stall;
    run(&mut guest, 500, programs(0));
    // e⁻¹ is left.
    assert!(guest.report().stall.abs_diff(full * 368 / 1000) <= 10, "{} of {full}", guest.report().stall);
}

/// Devices.

#[test]
fn devices_begin_to_move_after_a_delay_and_at_their_speeds() {
    let mut guest = guest(1024);
    run(&mut guest, 100, programs(100));
    guest.order(mib(512), Bytes::ZERO);
    assert!(!run(&mut guest, 10, programs(100)).moved);
    assert!(run(&mut guest, 1_000, programs(100)).moved);
    assert_eq!(guest.held().mib(), 1024 - 307);
    assert_eq!(guest.report().ballooned.map(Bytes::mib), Some(306), "307 less a rounding");
    run(&mut guest, 1_000, programs(100));
    assert_eq!(guest.ordered(), (mib(512), Bytes::ZERO));
    assert_eq!(guest.held(), mib(512));

    guest.order(mib(1024), mib(2048));
    run(&mut guest, 110, programs(100));
    assert_eq!(guest.devices().balloon_actual.mib(), 512 + 153);
    assert_eq!(guest.devices().plugged.mib(), 1228);
    run(&mut guest, 1_000, programs(100));
    assert_eq!(guest.held(), mib(3072));
    assert!(!run(&mut guest, 1_000, programs(100)).moved);
}

#[test]
fn an_opposite_order_cancels_the_former() {
    let mut guest = guest(1024);
    guest.order(mib(256), Bytes::ZERO);
    run(&mut guest, 510, programs(100));
    let held = guest.held();
    assert!(held < mib(900));
    guest.order(mib(1024), Bytes::ZERO);
    run(&mut guest, 10, programs(100));
    assert_eq!(guest.held().mib(), held.mib() + 15, "at once: the driver is at work already");
}

#[test]
fn orders_in_quick_succession_do_not_keep_devices_from_moving() {
    let mut guest = guest(1024);
    for less in 0..100 {
        guest.order(mib(1024 - less), Bytes::ZERO);
        run_by(&mut guest, 5, 5, programs(100));
    }
    assert!(guest.held() < mib(940), "{}", guest.held());
}

#[test]
fn no_order_goes_beyond_the_devices() {
    let mut guest = guest(512);
    guest.order(mib(4096), mib(9_000));
    assert_eq!(guest.ordered(), (mib(512), mib(4096)));
    guest.order(Bytes::ZERO, Bytes::new((7 << 20) + 5));
    assert_eq!(guest.ordered(), (Bytes::ZERO, mib(6)));
}

#[test]
fn the_balloon_slows_down_where_it_must_swap_and_stops_where_it_can_not() {
    let mut guest = guest(1024);
    run(&mut guest, 1_000, programs(500));
    guest.order(Bytes::ZERO, Bytes::ZERO);
    run(&mut guest, 2_000, programs(500));
    let held = guest.held();
    assert!(held < mib(576), "all that is spare went quickly: {held}");
    run(&mut guest, 1_000, programs(500));
    assert_eq!(held.saturating_sub(guest.held()).mib(), 307 / 8);

    let mut without_swap = without_swap(1024);
    run(&mut without_swap, 1_000, programs(500));
    without_swap.order(Bytes::ZERO, Bytes::ZERO);
    let lived = run(&mut without_swap, 60_000, programs(500));
    assert_eq!(
        without_swap.held(),
        mib(64 + 500 + 5).saturating_add(without_swap.report().visible.scale(1, 100)).saturating_sub(mib(5))
    );
    assert_eq!((lived.stalled_ms, lived.oom), (0, false), "it does not kill");
}

#[test]
fn a_stuck_balloon_does_not_move_and_hot_add_does() {
    let mut guest = guest(1024);
    guest.defects.balloon_stuck = true;
    guest.order(mib(512), mib(512));
    run(&mut guest, 5_000, programs(100));
    assert_eq!((guest.devices().balloon_actual, guest.devices().plugged), (mib(1024), mib(512)));
    guest.defects = Defects { plug_refused: true, unplug_refused: true, ..Defects::default() };
    guest.order(mib(512), mib(1024));
    run(&mut guest, 5_000, programs(100));
    assert_eq!((guest.devices().balloon_actual, guest.devices().plugged), (mib(512), mib(512)));
    guest.order(mib(512), Bytes::ZERO);
    assert!(!run(&mut guest, 5_000, programs(100)).moved);
}

#[test]
fn a_slow_guest_moves_a_page_at_a_time() {
    let mut guest = guest(1024);
    guest.defects.slow = true;
    guest.order(mib(512), mib(512));
    run(&mut guest, 10_020, programs(100));
    assert_eq!((guest.report().ballooned.map(Bytes::mib), guest.devices().plugged), (Some(10), mib(10)));
}

#[test]
fn unplug_takes_whole_blocks_at_its_speed() {
    let mut guest = guest(512);
    guest.order(mib(512), mib(2048));
    run(&mut guest, 1_000, programs(100));
    guest.order(mib(512), Bytes::ZERO);
    let mut seen = 0;
    for _ in 0..101 {
        let moved = guest.step(10, programs(100)).moved;
        assert!(guest.devices().plugged.is_multiple_of(Bytes::BLOCK));
        seen += u32::from(moved);
    }
    assert!(guest.devices().plugged.mib().abs_diff(2048 - 410) <= 2, "{}", guest.devices().plugged);
    assert!(seen > 90, "4 MiB in each step of 10 ms: {seen}");
}

#[test]
fn unplug_stops_at_what_is_unmovable() {
    let mut guest = guest(512);
    guest.order(mib(512), mib(1000));
    run(&mut guest, 1_000, programs(100));
    guest.defects.unmovable_percent = 30;
    guest.order(mib(512), Bytes::ZERO);
    run(&mut guest, 10_000, programs(100));
    assert_eq!(guest.devices().plugged, mib(300));
    guest.order(mib(512), mib(100));
    run(&mut guest, 10_000, programs(100));
    assert_eq!(guest.devices().plugged, mib(300), "asked again, it is still there");
    guest.defects.unmovable_percent = 0;
    run(&mut guest, 10_000, programs(100));
    assert_eq!(guest.devices().plugged, mib(100));
}

#[test]
fn unplug_stops_where_pages_find_no_room_elsewhere() {
    let mut guest = without_swap(512);
    guest.order(mib(512), mib(1024));
    let need = Need { file_read_per_second: mib(100), ..programs(800) };
    run(&mut guest, 20_000, need);
    assert!(cache(&guest) > mib(500));
    guest.order(mib(512), Bytes::ZERO);
    let lived = run(&mut guest, 20_000, need);
    assert_eq!(guest.devices().plugged.mib(), 362, "what 800 MiB and the kernel leave of 512 MiB, in blocks");
    assert_eq!(lived.stalled_ms, 0, "nothing was lost");
}

#[test]
fn unplug_goes_on_slowly_where_pages_must_be_swapped_first() {
    let mut guest = guest(512);
    guest.order(mib(512), mib(1024));
    run(&mut guest, 20_000, programs(800));
    guest.order(mib(512), Bytes::ZERO);
    run(&mut guest, 20_000, programs(800));
    assert!(guest.devices().plugged < mib(362), "beyond what is spare");
    assert!(guest.report().swap_used > Bytes::ZERO);
}
