//! Every file of the corpus, in every run of the tests: seeds, what the fuzzer
//! kept, and what once crashed. And a few moments of blind mutation, with the
//! same random numbers each time: no fuzzer, but it needs nothing.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use dynmem_fuzz::{TARGETS, Target};
use fastrand::Rng;

/// Mutants of each file.
const MUTANTS: usize = 200;
/// Mutations of one mutant, at most.
const MUTATIONS_MAX: usize = 4;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", folder.display());
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

fn mutate(rng: &mut Rng, data: &mut Vec<u8>) {
    let at = rng.usize(..=data.len());
    match rng.u8(..6) {
        0 => data.truncate(at),
        1 => data.insert(at, rng.u8(..)),
        2 => {
            let (from, to) = (at, rng.usize(at..=data.len()));
            data.drain(from..to);
        }
        3 => {
            let piece = data[at..].iter().take(64).copied().collect::<Vec<_>>();
            let to = rng.usize(..=data.len());
            data.splice(to..to, piece);
        }
        4 => {
            let number: &[u8] =
                rng.choice([b"0", b"-1" as &[u8], b"18446744073709551616", b"1e999", b"\"\\u0000\""]).expect("some");
            data.splice(at..at, number.iter().copied());
        }
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
    }
}

#[test]
fn no_file_of_the_corpus_breaks_a_property() {
    for target in &TARGETS {
        for (path, data) in corpus(target) {
            let outcome = catch_unwind(|| target.judge(&data));
            assert!(outcome.is_ok(), "{} breaks a property of {}", path.display(), target.name);
        }
    }
}

#[test]
fn no_mutant_of_the_corpus_breaks_a_property() {
    for target in &TARGETS {
        let mut rng = Rng::with_seed(7);
        for (path, data) in corpus(target) {
            for _ in 0..MUTANTS {
                let mut mutant = data.clone();
                for _ in 0..rng.usize(1..=MUTATIONS_MAX) {
                    mutate(&mut rng, &mut mutant);
                }
                let outcome = catch_unwind(AssertUnwindSafe(|| target.judge(&mutant)));
                assert!(
                    outcome.is_ok(),
                    "{}, mutated, breaks {}: {:?}",
                    path.display(),
                    target.name,
                    mutant.escape_ascii().to_string()
                );
            }
        }
    }
}
