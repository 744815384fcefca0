//! Each shape, as a sentence.

use proptest::prelude::*;

use super::*;

const HOUR_MS: u64 = 3_600_000;

const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

/// Whole mebibytes of anonymous memory at each of these times.
fn levels<const N: usize>(workload: &Workload, times_ms: [u64; N]) -> [u64; N] {
    times_ms.map(|now_ms| workload.need(now_ms, now_ms).anonymous.mib())
}

#[test]
fn a_spike_comes_once() {
    let spike = Workload::spike(mib(100), mib(900), 5_000, 2_000);
    assert_eq!(levels(&spike, [0, 4_999, 5_000, 6_999, 7_000, 100_000]), [100, 100, 100, 900, 100, 100]);
    // All of it is committed at once and touched at 4 GiB/s.
    let begun = spike.need(5_100, 5_100);
    assert_eq!((begun.anonymous.mib(), begun.committed_beyond.mib()), (509, 390));
}

#[test]
fn a_square_is_low_first_and_high_for_its_duty() {
    let square = Workload::square(mib(100), mib(900), 10_000, Percent::new(30));
    assert_eq!(levels(&square, [0, 6_999, 7_200, 9_999, 10_000, 17_200]), [100, 100, 900, 900, 100, 900]);
    assert_eq!(levels(&Workload::square(mib(1), mib(9), 10, Percent::new(0)), [0, 9]), [1, 1]);
    assert_eq!(levels(&Workload::square(mib(1), mib(9), 10, Percent::new(300)), [3, 9]), [9, 9]);
}

#[test]
fn a_collected_heap_rises_falls_and_stays_committed() {
    let heap = Workload::sawtooth(mib(200), mib(600), 10_000);
    assert_eq!(levels(&heap, [0, 5_000, 9_999, 10_000, 12_500]), [200, 400, 599, 200, 300]);
    for now_ms in [0, 3_333, 9_000] {
        let need = heap.need(now_ms, 0);
        assert_eq!(need.anonymous.saturating_add(need.committed_beyond), mib(600));
    }
}

#[test]
fn a_day_is_low_at_midnight_and_high_at_noon() {
    let day = Workload::diurnal(mib(100), mib(500));
    assert_eq!(levels(&day, [0, 6, 12, 18, 24, 36].map(|hour| hour * HOUR_MS)), [100, 300, 500, 300, 100, 500]);
    let morning = levels(&day, [1, 3, 5, 7, 9, 11].map(|hour| hour * HOUR_MS));
    assert!(morning.is_sorted());
    let shifted = day.shifted(12 * HOUR_MS);
    assert_eq!(levels(&shifted, [0, 12 * HOUR_MS]), [500, 100]);
}

#[test]
fn a_leak_grows_with_the_time_that_the_programs_run() {
    let leak = Workload::leak(mib(100), mib(2), mib(400));
    assert_eq!(leak.need(0, 50_000).anonymous, mib(200));
    assert_eq!(leak.need(1_000_000, 0).anonymous, mib(100), "restarted");
    assert_eq!(leak.need(0, 10_000_000).anonymous, mib(400));
}

#[test]
fn a_recording_is_replayed_in_straight_lines_and_begins_anew() {
    let recorded = Workload::samples([mib(100), mib(200), mib(50)], 1_000);
    assert_eq!(levels(&recorded, [0, 500, 1_000, 1_500, 2_000, 2_500, 3_000]), [100, 150, 200, 125, 50, 75, 100]);
    assert_eq!(levels(&Workload::samples([], 1_000), [0, 5_000]), [0, 0]);
    assert_eq!(levels(&Workload::samples([mib(7)], 0), [0, 5_000]), [7, 7]);
}

#[test]
fn a_build_compiles_links_and_rests() {
    let plan = BuildPlan::default();
    let build = Workload::build(plan).seed(1);
    let compiling: Vec<u64> = (0..240).map(|second| build.need(second * 1_000, 0).anonymous.mib()).collect();
    let mean = compiling.iter().sum::<u64>() / 240;
    // Four jobs, each at half its size in the mean, some of them three times that.
    assert!((150 + 350..150 + 750).contains(&mean), "{mean}");
    let swing = compiling.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max();
    assert!(swing > Some(200), "{swing:?}");
    assert_eq!(levels(&build, [240_000, 250_000, 259_999]), [150 + 512, 150 + 2048, 150 + 2048]);
    assert_eq!(levels(&build, [260_000, 379_999]), [150, 150]);
    assert_eq!(build.need(100_000, 0).file_read_per_second, plan.reads_per_second);
    assert_eq!(build.need(300_000, 0).file_read_per_second, Bytes::ZERO);
    assert_ne!(build.need(1_000, 0), build.need(381_000, 0), "the next build is another one");
    assert_ne!(build.need(1_000, 0), Workload::build(plan).seed(2).need(1_000, 0));
}

#[test]
fn an_idle_guest_moves_by_a_mebibyte() {
    let idle = Workload::idle(mib(80)).seed(3);
    let seen: Vec<Bytes> = (0..1_000).map(|second| idle.need(second * 1_000, 0).anonymous).collect();
    assert!(seen.iter().all(|level| (mib(79)..=mib(81)).contains(level)));
    let (least, most) = (seen.iter().min().expect("some"), seen.iter().max().expect("some"));
    assert!(most.saturating_sub(*least) > Bytes::MIB, "{least} {most}");
}

#[test]
fn a_walk_stays_near_its_mean_and_moves_smoothly() {
    let walk = Workload::walk(mib(1_000), Percent::new(2), 5_000).seed(9);
    let seen: Vec<u64> = (0..20_000).map(|tenth| walk.need(tenth * 100, 0).anonymous.get()).collect();
    assert!(seen.iter().all(|level| (980 << 20..=1020 << 20).contains(level)));
    let mean = seen.iter().sum::<u64>() / 20_000;
    assert!(mean.abs_diff(1_000 << 20) < 2 << 20, "{mean}");
    // At most the whole range in a slot of 50 samples.
    let jump = seen.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max();
    assert!(jump <= Some((40 << 20) / 50 + 1), "{jump:?}");
}

#[test]
fn another_seed_is_another_noise() {
    let walk = |seed| Workload::walk(mib(1_000), Percent::new(2), 5_000).seed(seed);
    let differing = (0..100).filter(|seed| walk(*seed).need(12_345, 0) != walk(seed + 1).need(12_345, 0)).count();
    assert!(differing > 95, "{differing}");
}

#[test]
fn files_and_commitments_are_added_to_any_shape() {
    let web = Workload::steady(mib(300)).hot_file(mib(100)).reads(mib(5)).commits_beyond(mib(50));
    let expected =
        Need { anonymous: mib(300), hot_file: mib(100), file_read_per_second: mib(5), committed_beyond: mib(50) };
    assert_eq!(web.need(1, 1), expected);
    assert_eq!(expected.working_set(), mib(400));
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(2), any::<u64>(), Just(u64::MAX), 0_u64..1 << 40]
}

proptest! {
    #[test]
    fn no_number_is_too_odd(
        (low, high, noise) in (extreme(), extreme(), extreme()),
        (one_ms, other_ms, slot_ms) in (extreme(), extreme(), extreme()),
        (now_ms, running_ms, seed, jobs) in (extreme(), extreme(), any::<u64>(), any::<u8>()),
    ) {
        let (low, high) = (Bytes::new(low), Bytes::new(high));
        let duty = Percent::new(u32::from(jobs));
        let plan = BuildPlan {
            base: low, per_job: high, jobs, job_ms: slot_ms, compile_ms: one_ms, link: high, link_ms: other_ms,
            pause_ms: slot_ms, reads_per_second: low,
        };
        let shapes = [
            Shape::Spike { low, high, at_ms: one_ms, hold_ms: other_ms },
            Shape::Square { low, high, period_ms: one_ms, duty },
            Shape::Sawtooth { low, high, rise_ms: one_ms },
            Shape::Build(plan),
            Shape::Diurnal { low, high, period_ms: one_ms },
            Shape::Leak { base: low, per_second: high, limit: high },
            Shape::Samples { samples: [low, high].into(), every_ms: one_ms },
        ];
        for shape in shapes {
            let bounded = !matches!(shape, Shape::Build(_) | Shape::Leak { .. });
            let workload = Workload::from(shape).seed(seed).shifted(other_ms);
            let calm = workload.need(now_ms, running_ms);
            if bounded {
                prop_assert!((low.min(high)..=low.max(high)).contains(&calm.anonymous));
            }
            let noisy = workload.noise(Bytes::new(noise), slot_ms).need(now_ms, running_ms);
            let moved = noisy.anonymous.get().abs_diff(calm.anonymous.get());
            prop_assert!(moved <= noise, "{} by a noise of {}", moved, noise);
        }
    }
}
