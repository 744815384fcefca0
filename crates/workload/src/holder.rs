//! The process that holds the memory: follows the goal that the controller
//! gives it, and is the first that the OOM killer takes.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use dynmem_agent_protocol::{LineDecoder, Message, ProtocolError, encode};
use dynmem_units::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::{
    message::{DEFAULT_GROWTH, Verified},
    pages::{CHUNK, Pages},
};

/// How often some pages are checked while nothing else is to do.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How many. 512 KiB a second is next to no work, and keeps hardly a page
/// from being swapped out.
const CHECK_PAGES: usize = 128;

/// From the controller to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    /// Hold so much from now on.
    Goal {
        /// How much.
        bytes: Bytes,
        /// How fast to grow, per second; as fast as possible if not given.
        bytes_per_second: Option<Bytes>,
        /// Answer with [`Event::Reached`] when it is held.
        tell: bool,
    },
    /// Check every page.
    Verify,
}

/// From the holder to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Something changed.
    Progress {
        /// What is held now.
        held_bytes: Bytes,
    },
    /// Pages were checked: all of them if `complete`.
    Checked {
        /// The outcome.
        #[serde(flatten)]
        verified: Verified,
        /// Answers [`Command::Verify`].
        complete: bool,
    },
    /// The goal that was to be told is held.
    Reached,
    /// The kernel refused; the goal is given up at what is held.
    Stopped {
        /// Its reason.
        reason: String,
    },
}

impl Message for Command {
    fn check(&self) -> Result<(), ProtocolError> {
        Ok(())
    }
}

impl Message for Event {
    fn check(&self) -> Result<(), ProtocolError> {
        Ok(())
    }
}

/// Runs the holder on its standard input and output until the input ends.
pub fn run() -> anyhow::Result<()> {
    // A child may always make itself a likelier victim.
    std::fs::write("/proc/self/oom_score_adj", "1000").context("Cannot offer this process to the OOM killer")?;
    // The controller's priority is not for the load that it controls.
    let _ = rustix::process::setpriority_process(None, 0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut holder = Holder {
        pages: Pages::new(u64::from(now.subsec_nanos())),
        goal: Bytes::ZERO,
        growth: None,
        tell: false,
        next_step: Instant::now(),
    };
    let (mut input, mut decoder, mut buffer) = (io::stdin().lock(), LineDecoder::new(), [0; 4096]);
    loop {
        let wait = holder.next_step.saturating_duration_since(Instant::now());
        if wait_for_input(&input, wait)? {
            let length = input.read(&mut buffer).context("Cannot read the controller's commands")?;
            if length == 0 {
                return Ok(());
            }
            let mut chunk = &buffer[..length];
            while let Some(command) = decoder.next(&mut chunk) {
                holder.obey(command?)?;
            }
        } else {
            holder.step()?;
        }
    }
}

struct Holder {
    pages: Pages,
    goal: Bytes,
    growth: Option<Bytes>,
    tell: bool,
    next_step: Instant,
}

impl Holder {
    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Goal { bytes, bytes_per_second, tell } => {
                self.goal = self.pages.whole(bytes);
                self.growth = bytes_per_second;
                self.tell = tell;
                self.next_step = Instant::now();
                self.pages.shrink_to(self.goal).context("Cannot give memory back")?;
                say(&Event::Progress { held_bytes: self.pages.held() })
            }
            Command::Verify => say(&Event::Checked { verified: self.pages.verify(), complete: true }),
        }
    }

    /// Grows by a chunk, or checks a few pages, and sets the time of the next
    /// step.
    fn step(&mut self) -> anyhow::Result<()> {
        let missing = self.goal.saturating_sub(self.pages.held());
        if missing.is_zero() {
            if std::mem::take(&mut self.tell) {
                say(&Event::Reached)?;
            }
            self.next_step = Instant::now() + CHECK_EVERY;
            let verified = self.pages.verify_some(CHECK_PAGES);
            return if verified.pages == 0 { Ok(()) } else { say(&Event::Checked { verified, complete: false }) };
        }
        let (chunk, started) = (missing.min(CHUNK), Instant::now());
        if let Err(error) = self.pages.grow(chunk) {
            (self.goal, self.tell) = (self.pages.held(), false);
            return say(&Event::Stopped { reason: format!("The guest's kernel gives no more memory: {error}") });
        }
        // A step that took too long, in a starving guest, is not made up for.
        let pause = self.growth.map_or(Duration::ZERO, |growth| time_for(chunk, growth));
        self.next_step = started + pause;
        say(&Event::Progress { held_bytes: self.pages.held() })
    }
}

/// How long `amount` takes at `rate` a second; a zero rate is the default one.
fn time_for(amount: Bytes, rate: Bytes) -> Duration {
    let rate = if rate.is_zero() { DEFAULT_GROWTH } else { rate };
    Duration::from_micros(amount.scale(1_000_000, rate.get()).get())
}

fn wait_for_input(input: &impl AsFd, wait: Duration) -> anyhow::Result<bool> {
    let timeout = Timespec::try_from(wait).context("A step is too far away")?;
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("Cannot wait for the controller"),
    }
}

fn say(event: &Event) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(&encode(event)?).and_then(|()| output.flush()).context("The controller is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_paced() {
        assert_eq!(time_for(CHUNK, Bytes::from_mib(64)), Duration::from_micros(62_500));
        assert_eq!(time_for(CHUNK, Bytes::ZERO), Duration::from_micros(62_500));
        assert_eq!(time_for(CHUNK, Bytes::MAX), Duration::ZERO);
    }
}
