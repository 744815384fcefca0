//! `/proc/PID`: what a process costs, and whether it is still the same one.

use std::{io, time::Duration};

use dynmem_units::Bytes;
use rustix::io::Errno;

use crate::{HostReader, ReadError, reader::kib_line};

/// What a process has used and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Clock ticks from the host's boot to the process's start. A process id
    /// is used again some day; id and start together, within one boot, are
    /// not.
    pub started_ticks: u64,
    /// Processor time in user and kernel mode, ended threads included.
    pub cpu: Duration,
    /// Memory that it holds (`VmRSS`), pages that it shares included. Not the
    /// exact sum of `smaps_rollup`, which walks every page of a guest under
    /// the lock that the guest's page faults need.
    pub resident: Bytes,
    /// Its anonymous part: QEMU's own heap, and guest memory without a file.
    pub resident_anonymous: Bytes,
    /// Its shared part: guest memory in a memfd.
    pub resident_shared: Bytes,
    /// Its page tables (`VmPTE`).
    pub page_tables: Bytes,
    /// Memory that the host has swapped out.
    pub swapped: Bytes,
}

impl HostReader {
    /// Reads the facts of process `pid`; `None` if there is none, or only its
    /// zombie.
    pub fn process(&self, pid: u32) -> Result<Option<ProcessFacts>, ReadError> {
        let read = || {
            let stat = self.parse(format!("/proc/{pid}/stat"), parse_stat)?;
            let memory = self.parse(format!("/proc/{pid}/status"), |text| Ok(parse_status(text)))?;
            Ok((stat, memory))
        };
        let (stat, memory) = match read() {
            Ok(both) => both,
            Err(ReadError::Io { source, .. }) if is_gone(&source) => return Ok(None),
            Err(error) => return Err(error),
        };
        if matches!(stat.state, 'Z' | 'X') {
            return Ok(None);
        }
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let cpu_micros = u128::from(stat.cpu_ticks) * 1_000_000 / u128::from(ticks_per_second);
        Ok(Some(ProcessFacts {
            started_ticks: stat.started_ticks,
            cpu: Duration::from_micros(u64::try_from(cpu_micros).unwrap_or(u64::MAX)),
            ..memory
        }))
    }
}

/// A process may end between opening and reading.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::SRCH)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    cpu_ticks: u64,
    started_ticks: u64,
}

fn parse_stat(text: &str) -> Result<Stat, &'static str> {
    // The name is in parentheses and may hold any character, these included:
    // the last closing one ends it.
    let (_, rest) = text.rsplit_once(')').ok_or("the process's name")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc(5) counts from 1 and the state is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Ok(Stat {
        state: fields.first().and_then(|state| state.chars().next()).ok_or("the state")?,
        cpu_ticks: number(14)
            .zip(number(15))
            .and_then(|(user, system)| user.checked_add(system))
            .ok_or("utime, stime")?,
        started_ticks: number(22).ok_or("starttime")?,
    })
}

/// A zombie has none of these lines.
fn parse_status(text: &str) -> ProcessFacts {
    let line = |key| kib_line(text, key).unwrap_or_default();
    ProcessFacts {
        started_ticks: 0,
        cpu: Duration::ZERO,
        resident: line("VmRSS"),
        resident_anonymous: line("RssAnon"),
        resident_shared: line("RssShmem"),
        page_tables: line("VmPTE"),
        swapped: line("VmSwap"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_full_of_parentheses_confuses_nobody() {
        let text = "7 (a) R 1 (b)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 322357 3133440 362 1";
        assert_eq!(parse_stat(text), Ok(Stat { state: 'S', cpu_ticks: 300, started_ticks: 322_357 }));
    }

    #[test]
    fn a_torn_stat_is_refused() {
        let text = "7 (qemu) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 322357";
        for cut in 0..text.len() - 6 {
            assert!(parse_stat(&text[..cut]).is_err(), "{}", &text[..cut]);
        }
    }

    #[test]
    fn this_very_process_holds_memory_and_stays_the_same() {
        let host = HostReader::default();
        let first = host.process(std::process::id()).expect("readable").expect("alive");
        let second = host.process(std::process::id()).expect("readable").expect("alive");
        assert!(first.resident >= Bytes::MIB.scale(1, 2), "{first:?}");
        assert!(first.resident >= first.resident_anonymous);
        assert_eq!(first.started_ticks, second.started_ticks);
        assert!(second.cpu >= first.cpu);
    }

    #[test]
    fn an_ended_process_is_none_as_a_zombie_and_after() {
        let host = HostReader::default();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat runs");
        let pid = child.id();
        assert!(host.process(pid).expect("readable").is_some());
        child.kill().expect("ours to kill");
        // A pidfd becomes readable when the process is a zombie, and doesn't reap it.
        let raw = rustix::process::Pid::from_child(&child);
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(raw), options).expect("our child");
        assert_eq!(host.process(pid).expect("readable"), None);
        child.wait().expect("our child");
        assert_eq!(host.process(pid).expect("readable"), None);
    }
}
