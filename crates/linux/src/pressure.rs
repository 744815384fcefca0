//! `/proc/pressure/memory`: how long tasks wait for memory (PSI).

use std::{io, time::Duration};

use rustix::io::Errno;

use crate::{HostReader, ReadError};

/// Shares of time in which tasks of the host waited for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPressure {
    /// At least one task waited.
    pub some: Stall,
    /// Every task that had work waited.
    pub full: Stall,
}

/// One line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// The share of the last 10 s, hundredths of a per cent: 0–10000.
    pub avg10: u32,
    /// All the time since boot.
    pub total: Duration,
}

impl HostReader {
    /// Reads `/proc/pressure/memory`; `None` where PSI is off or not built in.
    pub fn memory_pressure(&self) -> Result<Option<MemoryPressure>, ReadError> {
        match self.parse("/proc/pressure/memory", parse) {
            Ok(pressure) => Ok(Some(pressure)),
            Err(ReadError::Io { source, .. }) if is_off(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::OPNOTSUPP)
}

fn parse(text: &str) -> Result<MemoryPressure, &'static str> {
    Ok(MemoryPressure {
        some: stall(text, "some").ok_or("the line `some`")?,
        full: stall(text, "full").ok_or("the line `full`")?,
    })
}

fn stall(text: &str, kind: &str) -> Option<Stall> {
    let mut words = text.lines().map(str::split_ascii_whitespace).find_map(|mut words| {
        let is_it = words.next() == Some(kind);
        is_it.then_some(words)
    })?;
    let avg10 = hundredths(words.find_map(|word| word.strip_prefix("avg10="))?)?;
    let total = words.find_map(|word| word.strip_prefix("total="))?.parse().ok()?;
    Some(Stall { avg10, total: Duration::from_micros(total) })
}

/// `12.34` → 1234, at most 10000.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    if part.len() != 2 || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(format!("{whole}{part}").parse::<u32>().ok()?.min(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_hundredths_of_a_per_cent() {
        let text =
            "some avg10=12.34 avg60=0.50 avg300=0.00 total=98765\nfull avg10=0.07 avg60=0.00 avg300=0.00 total=4\n";
        let pressure = parse(text).expect("well-formed");
        assert_eq!(pressure.some, Stall { avg10: 1234, total: Duration::from_micros(98_765) });
        assert_eq!(pressure.full.avg10, 7);
        assert_eq!(hundredths("100.00"), Some(10_000));
        assert_eq!(hundredths("250.00"), Some(10_000));
    }

    #[test]
    fn a_malformed_line_is_named() {
        for avg10 in ["", "1", "1.5", "-1.00", "nan", "1.+5", "99999999999.00"] {
            let text = format!("some avg10={avg10} avg60=0.00 total=0\n");
            assert_eq!(parse(&text), Err("the line `some`"), "{avg10}");
        }
        assert_eq!(parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"), Err("the line `full`"));
    }
}
