//! Lives full of faults: every invariant at every step, and a way back from
//! every failure to its story.

use std::time::{SystemTime, UNIX_EPOCH};

use dynmem_sim::fault::{self, Report};

/// What is lived through in each test run.
const VM_STEPS: u64 = 3_000_000;

/// Lives that broke an invariant while engine, world and checks were made.
/// `crates/core/tests/lives.rs` has what was wrong in the engine, in small. (A
/// seed means another life once the dice are thrown in another order.)
const ONCE_BROKEN: [u64; 54] = [
    3_114_053_619_271_302_762,
    4_672_064_935_750_269_975,
    5_182_512_743_470_994_928,
    5_951_956_182_467_946_918,
    6_808_554_184_443_334_371,
    12_403_330_564_561_341_334,
    808_196_491_044_592_156,
    1_504_778_928_632_463_421,
    1_690_170_567_535_090_425,
    1_785_688_653_077_942_466,
    1_847_537_496_640_338_450,
    2_335_114_357_273_407_055,
    2_868_053_673_282_802_892,
    2_936_340_266_296_909_718,
    2_985_304_833_875_058_154,
    3_081_251_696_030_599_739,
    4_134_209_272_728_174_081,
    4_502_277_552_242_019_033,
    6_708_084_359_876_830,
    7_197_595_761_156_619_830,
    7_216_891_815_683_365_704,
    7_706_952_169_838_672_579,
    7_944_332_392_244_505_436,
    8_195_237_237_126_968_761,
    9_851_787_880_037_274_203,
    11_168_034_603_498_703_870,
    11_828_389_778_830_673_623,
    12_186_577_169_517_438_961,
    12_333_003_614_474_408_764,
    12_681_349_783_656_822_995,
    13_214_248_908_189_651_927,
    13_388_605_875_880_922_311,
    13_878_434_345_080_127_420,
    15_997_237_259_192_702_023,
    16_028_540_878_717_345_921,
    16_152_250_852_098_033_746,
    13_329_424_861_962_082_797,
    5_324_385_151_375_308_420,
    15_057_905_694_731_195_167,
    4_182_520_305_325_502_740,
    16_100_276_980_187_341_552,
    15_202_000_136_862_589_885,
    7_562_335_740_367_280_737,
    10_552_565_971_422_731_029,
    13_964_895_990_238_026_680,
    12_392_014_237_103_823_325,
    4_572_631_233_378_363_400,
    11_377_813_318_476_970_997,
    14_996_169_736_375_922_227,
    9_833_438_121_699_375_131,
    9_985_116_223_957_522_098,
    6_363_763_702_615_373_066,
    9_203_547_380_350_130_544,
    13_939_719_335_259_289_583,
];

/// A seed for today, unless the environment names one: what is never the same
/// for long finds more, and what it found can be repeated.
fn seed() -> u64 {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    std::env::var("DYNMEM_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(today)
}

/// The first failure with its story, and how to see it again.
fn explain(report: &Report) -> Option<String> {
    let (life, broken) = report.broken.first()?;
    let (_, story) = fault::replay(*life);
    let count = report.broken.len();
    Some(format!("{story}\n{broken}\n{count} of {} lives broke. Repeat: cargo xtask sim --life {life}", report.lives))
}

#[test]
fn lives_full_of_faults_break_no_invariant() {
    let seed = seed();
    println!("DYNMEM_SIM_SEED={seed}");
    let report = fault::live_many(seed, VM_STEPS);
    assert!(report.vm_steps >= VM_STEPS, "{report:?}");
    if let Some(story) = explain(&report) {
        panic!("{story}");
    }
}

#[test]
fn lives_that_broke_once_do_not_break_again() {
    for life in ONCE_BROKEN {
        let outcome = fault::live(life);
        if let Some(broken) = &outcome.broken {
            panic!("{}\n{broken}\nRepeat: cargo xtask sim --life {life}", fault::replay(life).1);
        }
    }
}

#[test]
fn a_life_is_a_function_of_its_seed() {
    let seeds = [1, 2, 3].map(|number| fault::seed_of_life(7, number));
    let digests = seeds.map(|seed| fault::live(seed).digest);
    assert_eq!(digests, seeds.map(|seed| fault::replay(seed).0.digest), "a replay is the same life");
    assert!(digests[0] != digests[1] && digests[1] != digests[2], "and each seed has its own");
    assert_eq!(fault::live_many(7, 100_000), fault::live_many(7, 100_000), "on however many cores");
}

#[test]
fn a_story_tells_of_the_host_and_of_what_was_decided() {
    let (_, story) = fault::replay(fault::seed_of_life(7, 1));
    assert!(story.starts_with("A host of ") && story.contains("vm0: "), "{story}");
    assert!(story.contains("──▶"), "{story}");
}
