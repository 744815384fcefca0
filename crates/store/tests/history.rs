//! The history: it keeps what it was told at every age, in little room, and
//! always opens.

use std::{collections::BTreeMap, fs, path::PathBuf};

use dynmem_store::history::{
    COLUMNS_MAX, ChunkError, Column, History, Kept, Piece, Point, Reading, Sample, Series, Subject, decode, encode,
    fold, series,
};
use proptest::prelude::*;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// A Monday at midnight.
const START: u64 = 1_767_571_200;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

struct State(TempDir);

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("history.db")
    }

    /// Opens the history, which must need no excuse.
    fn open(&self) -> History {
        let (history, notice) = History::open(&self.path()).expect("it opens");
        assert!(notice.is_none(), "{notice:?}");
        history
    }

    /// Bytes on the disk, the write-ahead log included.
    fn bytes(&self) -> u64 {
        let files = fs::read_dir(self.0.path()).expect("listable").flatten();
        files.map(|file| file.metadata().expect("there").len()).sum()
    }
}

fn web01() -> Subject {
    Subject::Vm("web01".to_owned())
}

/// A VM that needs so much, and has what it needs.
fn sample(at_unix_s: u64, demand_mib: u64) -> Sample {
    let size = Some(demand_mib * MIB);
    let values = [size, size, size, Some(2048 * MIB), Some(0), Some(100), Some(0), Some(0), Some(3)];
    Sample::new(web01().columns(), at_unix_s, &values)
}

/// Writes samples of `web01` as the daemon does: a minute at a time.
fn write(history: &mut History, seconds: impl Iterator<Item = (u64, u64)>) {
    let samples: Vec<Sample> = seconds.map(|(at, demand)| sample(at, demand)).collect();
    for minute in samples.chunk_by(|a, b| a.at_unix_s / 60 == b.at_unix_s / 60) {
        history.write(&[(web01(), minute.to_vec())]).expect("writable");
    }
}

fn read(history: &History, from: u64, to: u64, step: Option<u64>) -> Series {
    let pieces = history.read(&web01(), from, to).expect("readable");
    series(pieces, web01().columns(), (from, to), step, 10_500)
}

fn demand_mib(point: &Point) -> [u64; 3] {
    let demand = point.values[1].expect("it was sampled");
    [demand.average, demand.minimum, demand.maximum].map(|value| web01().columns()[1].unpacked(value) / MIB)
}

#[test]
fn the_last_hour_is_told_by_the_second_and_outlives_the_daemon() {
    let state = State::new();
    let mut history = state.open();
    write(&mut history, (0..2 * HOUR).map(|second| (START + second, second % 1000)));
    std::mem::forget(history); // as SIGKILL leaves it: nothing closed, the write-ahead log in place
    let history = state.open();
    let hour = read(&history, START + HOUR, START + 2 * HOUR, None);
    assert_eq!((hour.step_seconds, hour.points.len()), (1, 3600));
    assert_eq!(demand_mib(&hour.points[7]), [607; 3]);
    assert_eq!(hour.points[7].at_unix_s, START + HOUR + 7);
    let both = read(&history, START, START + 2 * HOUR, None);
    assert_eq!((both.step_seconds, both.points.len()), (60, 120), "the hour before is told by the minute");
}

#[test]
fn a_spike_of_seconds_is_seen_in_the_minute_and_in_the_hour_in_which_it_was() {
    let state = State::new();
    let mut history = state.open();
    let spike = 30 * 60 + 17;
    let demand = |second| if (spike..spike + 3).contains(&second) { 1900 } else { 100 };
    write(
        &mut history,
        (0..9 * DAY)
            .filter(|second| second % 10 == 0 || second.abs_diff(spike) < 60)
            .map(|second| (START + second, demand(second))),
    );
    let week = read(&history, START, START + 9 * DAY, None);
    assert_eq!(week.step_seconds, 3600, "the beginning is told by the hour");
    assert_eq!(demand_mib(&week.points[0])[1..], [100, 1900]);
    assert_eq!(demand_mib(&week.points[1]), [100; 3]);

    let state = State::new();
    let mut history = state.open();
    write(&mut history, (0..3 * HOUR).map(|second| (START + second, demand(second))));
    let minutes = read(&history, START, START + 3 * HOUR, None);
    assert_eq!(demand_mib(&minutes.points[30]), [(57 * 100 + 3 * 1900) / 60, 100, 1900]);
    assert_eq!(demand_mib(&minutes.points[29]), [100; 3]);
    assert!(minutes.points.iter().all(|point| point.samples == 60), "each second counts once");
}

#[test]
fn a_stretch_without_samples_is_a_gap_at_every_age() {
    let state = State::new();
    let mut history = state.open();
    let on = |second: &u64| !(20 * 60..80 * 60).contains(second);
    write(&mut history, (0..4 * HOUR).filter(on).map(|second| (START + second, 512)));
    let told = read(&history, START, START + 4 * HOUR, None);
    let minutes: Vec<u64> = told.points.iter().map(|point| (point.at_unix_s - START) / 60).collect();
    assert_eq!(minutes, (0..20).chain(80..240).collect::<Vec<_>>());
    assert!(told.points.iter().all(|point| demand_mib(point) == [512; 3]), "no zero was made up");
}

#[test]
fn a_clock_that_is_set_back_or_ahead_costs_nothing_that_was_kept() {
    let state = State::new();
    let mut history = state.open();
    write(&mut history, (0..600).map(|second| (START + second, 100)));
    write(&mut history, (0..600).map(|second| (second, 200))); // 1970
    write(&mut history, (0..600).map(|second| (START + 300 + second, 300)));
    write(&mut history, [(u64::MAX, 1), (START * 100, 400)].into_iter());
    write(&mut history, (900..1000).map(|second| (START + second, 500)));
    let told = read(&history, START, START + 1000, None);
    assert_eq!(told.points.len(), 1000);
    assert_eq!(demand_mib(&told.points[10]), [100; 3]);
    let twice = &told.points[310];
    assert_eq!((demand_mib(twice), twice.samples), ([200, 100, 300], 2), "a second that was told twice");
    assert_eq!(demand_mib(&told.points[999]), [500; 3]);
    assert_eq!(read(&history, 0, 600, None).points.len(), 600);
    assert_eq!(read(&history, START * 100, START * 100 + 1, None).points.len(), 1);
}

#[test]
fn the_file_stops_growing_whatever_the_clock_does() {
    let state = State::new();
    let mut history = state.open();
    let mut random = fastrand::Rng::with_seed(7);
    let mut fill = |history: &mut History| {
        for _ in 0..500 {
            let at = random.u64(0..1 << 40); // a clock gone mad
            let samples = (0..60).map(|second| sample(at + second, random.u64(0..4096))).collect();
            history.write(&[(web01(), samples)]).expect("writable");
        }
        state.bytes()
    };
    let early = fill(&mut history);
    let late = fill(&mut history);
    assert!(late <= early + early / 10, "{early} bytes, then {late}");
}

#[test]
fn a_vm_that_is_forgotten_leaves_nothing_and_its_room_is_free() {
    let state = State::new();
    let mut history = state.open();
    let db01 = Subject::Vm("db01".to_owned());
    write(&mut history, (0..HOUR).map(|second| (START + second, second * 37 % 1000)));
    history
        .write(&[(db01.clone(), vec![sample(START, 1)]), (Subject::Host, vec![sample(START, 1)])])
        .expect("writable");
    drop(history);
    let large = state.bytes();
    let mut history = state.open();
    history.forget("web01").expect("it is there");
    history.forget("never-seen").expect("nothing to do");
    assert!(read(&history, START, START + HOUR, None).points.is_empty());
    assert_eq!(history.read(&db01, START, START + 1).expect("readable").len(), 1);
    history.forget_unknown(|name| name != "db01").expect("writable");
    assert!(history.read(&db01, START, START + 1).expect("readable").is_empty());
    assert_eq!(history.read(&Subject::Host, START, START + 1).expect("readable").len(), 1, "the host stays");
    drop(history);
    assert!(state.bytes() < large, "{} of {large} bytes", state.bytes());
    let file = rusqlite::Connection::open(state.path()).expect("ours");
    let free: i64 = file.pragma_query_value(None, "freelist_count", |row| row.get(0)).expect("a pragma");
    assert_eq!(free, 0, "pages are kept that nobody uses");
}

#[test]
fn a_full_disk_refuses_samples_and_loses_nothing_that_was_kept() {
    let state = State::new();
    let mut history = state.open();
    write(&mut history, (0..60).map(|second| (START + second, 100)));
    let other = rusqlite::Connection::open(state.path()).expect("ours");
    other.execute_batch("BEGIN IMMEDIATE").expect("ours"); // as bad as a full disk
    let error = history.write(&[(web01(), vec![sample(START + 60, 1)])]).expect_err("locked");
    assert!(!error.is_damage(), "{error}");
    drop(other);
    history.write(&[(web01(), vec![sample(START + 60, 1)])]).expect("free again");
    assert_eq!(read(&history, START, START + 61, None).points.len(), 61);
}

#[test]
fn a_damaged_chunk_is_a_gap_and_a_damaged_file_is_set_aside() {
    let state = State::new();
    let mut history = state.open();
    write(&mut history, (0..180).map(|second| (START + second, 100)));
    let other = rusqlite::Connection::open(state.path()).expect("ours");
    let flipped = "UPDATE chunk SET points = CAST(x'00112233445566' AS BLOB) WHERE start = ?1";
    other.execute(flipped, [i64::try_from(START + 60).expect("small")]).expect("ours");
    drop(other);
    assert_eq!(read(&history, START, START + 180, None).points.len(), 120);
    write(&mut history, [(START + 70, 5)].into_iter());
    assert_eq!(read(&history, START, START + 180, None).points.len(), 121, "it is mended by what comes");
    drop(history);
    fs::write(state.path(), "not a database at all, whoever wrote it; and longer than its head would be")
        .expect("ours");
    let (mut history, notice) = History::open(&state.path()).expect("a fresh one");
    let notice = notice.expect("it says so").to_string();
    assert!(notice.starts_with("The history ") && notice.contains("history.db.damaged-"), "{notice}");
    write(&mut history, [(START, 5)].into_iter());
    assert_eq!(read(&history, START, START + 180, None).points.len(), 1);
}

#[test]
fn a_file_torn_anywhere_opens_and_takes_samples() {
    let whole = {
        let state = State::new();
        let mut history = state.open();
        write(&mut history, (0..600).map(|second| (START + second, second % 77)));
        drop(history);
        fs::read(state.path()).expect("there")
    };
    let state = State::new();
    for kept in (0..whole.len()).step_by(1511) {
        for end in [&[][..], &[0], &[0xA5, 0x5A, 0xFF]] {
            let rest = end.iter().cycle().take(if end.is_empty() { 0 } else { whole.len() - kept });
            let torn: Vec<u8> = whole[..kept].iter().chain(rest).copied().collect();
            for entry in fs::read_dir(state.0.path()).expect("listable").flatten() {
                fs::remove_file(entry.path()).expect("ours");
            }
            fs::write(state.path(), torn).expect("writable");
            let (mut history, _) = History::open(&state.path()).unwrap_or_else(|error| panic!("{kept}: {error}"));
            write(&mut history, [(START + 999, 5)].into_iter());
            let told = read(&history, START + 999, START + 1000, None);
            assert_eq!(told.points.len(), 1, "{kept} bytes");
        }
    }
}

#[test]
fn the_step_is_what_was_asked_or_what_there_is_and_never_too_fine() {
    let columns = web01().columns();
    let piece = |period_seconds, from: u64, to: u64| Piece {
        period_seconds,
        points: (from..to)
            .step_by(60)
            .map(|at| Point { at_unix_s: at, samples: 1, values: [None; COLUMNS_MAX] })
            .collect(),
    };
    let step = |pieces: Vec<Piece>, span, asked| series(pieces, columns, span, asked, 1000).step_seconds;
    assert_eq!(step(vec![piece(1, 0, 600)], (0, 600), None), 1);
    assert_eq!(step(vec![piece(1, 0, 600)], (0, 600), Some(7)), 7);
    assert_eq!(step(vec![piece(1, 0, 600), piece(60, 600, 900)], (0, 900), Some(7)), 60);
    assert_eq!(step(vec![piece(1, 0, 600), piece(60, 600, 900)], (0, 600), Some(7)), 7, "minutes are not in the span");
    assert_eq!(step(vec![piece(60, 0, 600)], (0, 600), Some(90)), 120, "a minute is not divided");
    assert_eq!(step(vec![piece(60, 0, 600)], (0, 600), Some(240)), 240);
    assert_eq!(step(vec![], (0, 10_000), Some(1)), 15, "at most a thousand");
    assert_eq!(step(vec![], (0, 1 << 40), None), (1_u64 << 40).div_ceil(999));
    assert_eq!(step(vec![piece(1, 0, 1)], (5, 5), Some(u64::MAX)), u64::MAX);
}

/// Points as the codec takes them: one for a place, in order.
fn points(columns: &'static [Column]) -> impl Strategy<Value = Vec<Point>> {
    let reading = prop_oneof![
        1 => Just(None),
        4 => (0..u32::MAX, 0..4096_u32, 0..4096_u32).prop_map(|(average, below, above)| {
            let (minimum, maximum) = (average.saturating_sub(below), average.saturating_add(above).min(u32::MAX - 1));
            Some(Reading { average, minimum, maximum })
        }),
    ];
    let values = proptest::collection::vec(reading, COLUMNS_MAX);
    let place = (1..=3600_u32, values);
    proptest::collection::btree_map(0..168_u64, place, 0..168).prop_map(move |places: BTreeMap<_, _>| {
        let point = |(place, (samples, readings)): (u64, (u32, Vec<Option<Reading>>))| {
            let mut values = [None; COLUMNS_MAX];
            for ((value, reading), column) in values.iter_mut().zip(readings).zip(columns) {
                let spread = column.kept == Kept::Spread;
                *value = reading.map(|reading| if spread { reading } else { Reading::of(reading.average) });
            }
            Point { at_unix_s: START + place * 60, samples, values }
        };
        places.into_iter().map(point).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_decoded_is_what_was_encoded(points in points(web01().columns())) {
        let columns = web01().columns();
        let bytes = encode(&points, columns, START, 60);
        prop_assert_eq!(decode(&bytes, columns, START, 60, 168), Ok(points.clone()));
        let last = points.last().map_or(0, |point| (point.at_unix_s - START) / 60 + 1);
        if last > 0 {
            prop_assert!(decode(&bytes, columns, START, 60, last - 1).is_err(), "a place beyond the chunk");
        }
    }

    #[test]
    fn a_chunk_with_a_byte_changed_or_gone_is_an_error(points in points(web01().columns()), at: prop::sample::Index, bit in 0..8) {
        let columns = web01().columns();
        let mut bytes = encode(&points, columns, START, 60);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(decode(&bytes, columns, START, 60, 168).is_err());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(decode(&bytes[..at], columns, START, 60, 168).is_err());
    }

    #[test]
    fn bytes_that_are_no_chunk_are_an_error_and_no_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        // With the right checksum and version, so that the rest is looked at.
        let mut bytes = vec![1];
        bytes.extend(body);
        let sum = bytes.iter().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let mut whole = sum.to_le_bytes().to_vec();
        whole.extend(bytes);
        match decode(&whole, web01().columns(), START, 60, 168) {
            Ok(points) => prop_assert!(points.len() <= 168),
            Err(error) => prop_assert!(error != ChunkError::Checksum),
        }
    }

    #[test]
    fn folding_in_two_steps_keeps_what_one_step_keeps(demands in proptest::collection::vec(0..8192_u64, 1..400)) {
        let columns = web01().columns();
        let points = || (0..).zip(&demands).map(|(second, demand)| Point::from(&sample(START + second, *demand))).collect();
        let at_once = fold(points(), columns, 600);
        let in_two = fold(fold(points(), columns, 60), columns, 600);
        prop_assert_eq!(at_once.len(), in_two.len());
        for (one, two) in at_once.iter().zip(&in_two) {
            prop_assert_eq!((one.at_unix_s, one.samples), (two.at_unix_s, two.samples));
            for ((one, two), column) in one.values.iter().zip(&two.values).zip(columns) {
                let (one, two) = (one.expect("it was sampled"), two.expect("it was sampled"));
                prop_assert!(one.average.abs_diff(two.average) <= 1, "{}: {:?} {:?}", column.name, one, two);
                if column.kept == Kept::Spread {
                    prop_assert_eq!((one.minimum, one.maximum), (two.minimum, two.maximum));
                }
            }
        }
    }
}
