//! What a week costs on the disk: at most half a megabyte for each VM.
//!
//! `DYNMEM_HISTORY_VMS=100` writes it for a hundred VMs, which takes minutes,
//! and `--no-capture` shows the figures.

use std::fs;

use dynmem_store::history::{History, Sample, Subject, series};

const MIB: u64 = 1 << 20;
const WEEK: u64 = 7 * 24 * 3600;
const START: u64 = 1_767_571_200;
const PER_VM_MAX: u64 = 500_000;

/// A VM whose demand wanders with the hour of the day, trembles each second,
/// and leaps now and then; the host follows it block by block.
struct Vm {
    random: fastrand::Rng,
    base_mib: f64,
    leap_mib: f64,
    assigned_mib: u64,
}

impl Vm {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let base_mib = 300.0 + random.f64() * 6000.0;
        Self { random, base_mib, leap_mib: 0.0, assigned_mib: 512 }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an imitation"
    )]
    fn at(&mut self, second: u64) -> [Option<u64>; 9] {
        let day = (second as f64 / 86_400.0 * std::f64::consts::TAU).sin();
        self.base_mib = (self.base_mib + (self.random.f64() - 0.5) * 4.0).clamp(200.0, 12_000.0);
        if self.random.f64() < 0.002 {
            self.leap_mib = self.random.f64() * 2000.0;
        }
        self.leap_mib *= 0.98;
        let tremble = self.random.f64() * 0.01 * self.base_mib;
        let demand = (self.base_mib * (1.0 + 0.3 * day) + self.leap_mib + tremble) * MIB as f64;
        let (demand, wanted) = (demand as u64, demand * 1.2 / MIB as f64);
        if wanted as u64 > self.assigned_mib || self.random.f64() < 0.01 {
            self.assigned_mib = (wanted as u64).next_multiple_of(2);
        }
        let assigned = self.assigned_mib * MIB;
        let visible = assigned.max(4096 * MIB) - 37 * MIB;
        let stall = if self.leap_mib > 1500.0 { self.random.u64(0..40) } else { 0 };
        let size = |bytes: u64| Some(bytes);
        [
            size(assigned),
            size(demand),
            size(demand / 5 * 6),
            size(visible),
            size(visible.saturating_sub(assigned)),
            Some(demand * 100 / assigned),
            Some(stall),
            Some(u64::from(demand > assigned) * 2),
            Some(3),
        ]
    }
}

#[test]
fn a_week_of_a_vm_that_never_rests_takes_half_a_megabyte_at_most() {
    let vms: u64 = std::env::var("DYNMEM_HISTORY_VMS").ok().map_or(1, |vms| vms.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("history.db");
    let (mut history, _) = History::open(&path).expect("it opens");
    let subjects: Vec<Subject> = (0..vms).map(|vm| Subject::Vm(format!("vm{vm:04}"))).collect();
    let mut imitations: Vec<Vm> = (0..vms).map(Vm::new).collect();
    for minute in 0..WEEK / 60 {
        let of = |(subject, vm): (&Subject, &mut Vm)| {
            let seconds = minute * 60..(minute + 1) * 60;
            let samples = seconds.map(|second| Sample::new(subject.columns(), START + second, &vm.at(second)));
            (subject.clone(), samples.collect())
        };
        let batch: Vec<(Subject, Vec<Sample>)> = subjects.iter().zip(&mut imitations).map(of).collect();
        history.write(&batch).expect("writable");
    }
    let span = (START, START + WEEK);
    let told = series(
        history.read(&subjects[0], span.0, span.1).expect("readable"),
        subjects[0].columns(),
        span,
        None,
        20_000,
    );
    assert_eq!((told.step_seconds, told.points.len()), (60, 10_080), "a minute is kept for a week");
    drop(history); // the write-ahead log is merged
    let bytes = fs::metadata(&path).expect("there").len();
    println!("{vms} VMs, a week: {bytes} bytes, {} for each VM", bytes / vms);
    assert!(bytes <= PER_VM_MAX * vms, "{bytes} bytes for {vms} VMs");
}
