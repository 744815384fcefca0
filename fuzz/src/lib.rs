//! What outsiders can send (guests, QEMU, people, programs), thrown at the
//! code that reads it.
//!
//! ```text
//!                      ┌─ fuzz (libFuzzer, instrumented): makes bytes up, keeps what finds new code
//!  corpus/TARGET/* ────┤                                                   │ crash
//!       ▲              └─ tests/corpus.rs: replays every file, always      │
//!       └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A [`Target`] takes bytes, calls one reader and asserts what holds for each
//! outcome: nothing panics; what is accepted keeps its rules, and is the same
//! after being written and read again; a refusal is a short plain sentence;
//! and memory stays within a multiple of the input ([`Target::judge`]).
//! `cargo xtask fuzz` builds and runs them. See docs/testing.md.

pub mod meter;
mod targets;

use std::fmt::Display;

pub use targets::TARGETS;

/// A reader, and the properties that hold whatever it is given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the corpus's folder, and on the command line.
    pub name: &'static str,
    /// Calls the reader and asserts.
    run: fn(&[u8]),
    /// Memory that it may hold for each byte of input.
    bytes_per_byte: usize,
}

/// Memory that any target may hold, however small its input.
const ALLOWANCE_BYTES: usize = 64 << 10;

/// The longest refusal that anybody gets to read, in bytes.
const REFUSAL_BYTES_MAX: usize = 2048;

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs the target on `data`; panics if a property does not hold.
    pub fn judge(&self, data: &[u8]) {
        let peak = meter::peak_of(|| (self.run)(data));
        let most = data.len().saturating_mul(self.bytes_per_byte).saturating_add(ALLOWANCE_BYTES);
        assert!(peak <= most, "{} bytes of input took {peak} bytes of memory: at most {most} are expected", data.len());
    }
}

/// A refusal is read in terminals and logs: short, and nothing they obey.
fn assert_readable(refusal: &impl Display) {
    let text = refusal.to_string();
    assert!(text.len() <= REFUSAL_BYTES_MAX, "a refusal of {} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "a refusal with control characters: {text:?}");
}
