//! How long one decision takes: `cargo xtask bench engine`.
//!
//! Timed is one call that decides for everybody: a fact about one VM comes in
//! (its weight has changed), and the orders for all come out. The once-a-second
//! tick, which also writes the event log's sentences, passes untimed.
//!
//! *Plenty*: every target fits, nothing moves. *Shortage*: demand exceeds the
//! host and changes between two decisions, so every decision shares by weight
//! and orders; the harder case, and the one that the target speaks of.
//!
//! Numbers of VMs up to 100,000 show how the time grows with them.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dynmem_core::{
    DeviceFacts, Effect, Engine, Event, GuestReport, HostConfig, Input, Instant, MemorySettings, ReportSource, VmId,
};
use dynmem_units::{Bytes, Weight};

const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

const COUNTS: [u32; 5] = [1_000, 3_000, 10_000, 30_000, 100_000];
/// Rounds before the first that counts: memory is at hand, and the fleet as it
/// will stay.
const WARM_UP_ROUNDS: usize = 4;
/// Samples of a measurement. Most of a round is not timed, so many take long.
const SAMPLES: usize = 30;

/// Cheap, and the same every time.
fn scramble(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

fn report(held: Bytes, needed: Bytes) -> GuestReport {
    GuestReport {
        committed: Some(needed),
        reserved: Some(Bytes::ZERO),
        ..GuestReport::new(ReportSource::Agent, held, held.saturating_sub(needed))
    }
}

fn devices() -> DeviceFacts {
    let boot = mib(1024);
    let overhead = mib(64);
    DeviceFacts {
        boot,
        balloon_actual: boot,
        plugged: Bytes::ZERO,
        plug_max: mib(8192),
        plug_block: Bytes::BLOCK,
        overhead,
    }
}

fn settings(weight: u64) -> MemorySettings {
    MemorySettings {
        dynamic: true,
        startup: mib(1024),
        minimum: mib(128),
        maximum: mib(4096),
        weight: Weight::new(weight).expect("1..=10000"),
        ..MemorySettings::default()
    }
}

/// Running VMs that need 256–1279 MiB each, another amount each round.
struct Fleet {
    engine: Engine,
    now: Instant,
    devices: Vec<DeviceFacts>,
    round: u64,
}

impl Fleet {
    /// `count` VMs on a host that has `memory_each` for each of them.
    fn new(count: u32, memory_each: Bytes) -> Self {
        let memory = memory_each.scale(u64::from(count), 1);
        let mut engine = Engine::new(HostConfig { memory, reserve: Bytes::ZERO });
        for id in (0..count).map(VmId) {
            let settings = settings(1 + scramble(u64::from(id.0)) % 10_000);
            engine.handle(Instant(0), Input::Vm(id, Event::Defined { name: format!("vm{}", id.0), settings }));
            engine.handle(
                Instant(0),
                Input::Vm(id, Event::Adopted { devices: devices(), paused: false, known: true, paging: None }),
            );
        }
        Self { engine, now: Instant(0), devices: vec![devices(); count as usize], round: 0 }
    }

    /// Every guest reports. Within the pause between decisions, so that none
    /// is taken here.
    fn report(&mut self) {
        self.round += 1;
        self.now = self.now.plus_millis(1);
        for (id, devices) in (0..).map(VmId).zip(&self.devices) {
            let needed = mib(256 + scramble(u64::from(id.0) + self.round) % 1024);
            let report = report(devices.assigned(), needed);
            self.engine.handle(self.now, Input::Vm(id, Event::Report(report)));
        }
    }

    /// The decision, timed; afterwards the devices do what was ordered. Returns
    /// the number of orders too.
    fn decide(&mut self) -> (Duration, usize) {
        self.now = self.now.plus_millis(500);
        let heavier = Event::Configured(settings(1 + self.round % 10_000));
        let begun = std::time::Instant::now();
        let effects = black_box(self.engine.handle(self.now, Input::Vm(VmId(0), heavier)));
        let took = begun.elapsed();
        let mut orders = self.carry_out(effects);
        self.now = self.now.plus_millis(499);
        let effects = self.engine.handle(self.now, Input::Tick);
        orders += self.carry_out(effects);
        (took, orders)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> usize {
        let mut orders = 0;
        for effect in effects {
            let Effect::Order { vm, balloon, plugged } = effect else { continue };
            orders += 1;
            let devices = &mut self.devices[vm.0 as usize];
            (devices.balloon_actual, devices.plugged) = (balloon, plugged);
            let devices = *devices;
            self.engine.handle(self.now, Input::Vm(vm, Event::Devices(devices)));
        }
        orders
    }
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    group.sample_size(SAMPLES);
    for (situation, memory_each) in [("plenty", mib(4096)), ("shortage", mib(1000))] {
        for count in COUNTS {
            let mut fleet = Fleet::new(count, memory_each);
            for _ in 0..WARM_UP_ROUNDS {
                fleet.report();
                fleet.decide();
            }
            let mut moved = 0;
            group.bench_function(BenchmarkId::new(situation, count), |bencher| {
                bencher.iter_custom(|rounds| {
                    (0..rounds)
                        .map(|_| {
                            fleet.report();
                            let (took, orders) = fleet.decide();
                            moved += orders;
                            took
                        })
                        .sum()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
