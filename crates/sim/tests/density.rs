//! Density on small made-up traces, where the right answer is plain.

use dynmem_sim::{
    density::{draw, smallest_host},
    policy::Dynmem,
    trace::{Trace, TracedVm},
};
use dynmem_units::Bytes;

const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

fn vm(number: usize, samples: Vec<Bytes>) -> TracedVm {
    TracedVm { name: format!("vm{number}"), configured: mib(8192), samples: samples.into() }
}

/// VMs that need 4 GiB one after the other, and 600 MiB otherwise.
fn in_turns(count: usize) -> Trace {
    let samples = |turn: usize| (0..count * 3).map(|at| if at / 3 == turn { mib(4096) } else { mib(600) }).collect();
    Trace { interval_ms: 300_000, vms: (0..count).map(|turn| vm(turn, samples(turn))).collect() }
}

#[test]
fn vms_that_need_memory_in_turns_share_it() {
    let trace = in_turns(4);
    let density = smallest_host(&trace, &[0, 1, 2, 3], &|host| Box::new(Dynmem::new(host)));
    assert_eq!(density.configured, mib(4 * 8192));
    assert_eq!(density.clairvoyant, mib(4096 + 3 * 600));
    let (ours, bound) = (density.ratio(), density.clairvoyant_ratio());
    assert!(ours <= bound && ours >= 0.75 * bound, "{ours} of {bound}");
}

#[test]
fn a_draw_takes_each_vm_once_and_follows_its_seed() {
    let trace = in_turns(9);
    let drawn = |seed| draw(&trace, 5, &mut fastrand::Rng::with_seed(seed));
    let mut sorted = drawn(1);
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 5);
    assert!(sorted.iter().all(|index| *index < 9));
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}
