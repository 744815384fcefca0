//! A conversation with a program in a container: what it asks is awaited, then
//! answered, as a person at a terminal would.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::Container;

/// A prompt that was there before we came is shown again for an empty line.
const WAKE: Duration = Duration::from_secs(5);

impl Container {
    /// Runs a line and answers each prompt with what stands beside it; ends it after the last.
    pub(crate) fn talk(&self, line: &str, answers: &[(String, String)], limit: Duration) -> Result<()> {
        let mut child = self.enter(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let input = child.stdin.take().context("It has an input")?;
        let mut output = child.stdout.take().context("It has an output")?;
        let (said, heard) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                if said.send(String::from_utf8_lossy(&piece[..count]).into_owned()).is_err() {
                    break;
                }
            }
        });
        let outcome = Talk { child: &mut child, input, heard }.answer(answers, limit);
        let _ = child.kill().and_then(|()| child.wait());
        let _ = reader.join();
        outcome
    }
}

struct Talk<'c> {
    child: &'c mut Child,
    input: ChildStdin,
    heard: Receiver<String>,
}

impl Talk<'_> {
    fn answer(&mut self, answers: &[(String, String)], limit: Duration) -> Result<()> {
        for (prompt, typed) in answers {
            let said = self.until(prompt, limit)?;
            eprint!("{said}");
            if !typed.is_empty() {
                self.say(typed)?;
            }
        }
        eprintln!();
        Ok(())
    }

    /// What is said until the prompt stands there.
    fn until(&mut self, prompt: &str, limit: Duration) -> Result<String> {
        let (mut said, deadline) = (String::new(), Instant::now() + limit);
        while !said.contains(prompt) {
            match self.heard.recv_timeout(WAKE) {
                Ok(piece) => said.push_str(&piece),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => self.say("")?,
                Err(_) => bail!("The prompt {prompt:?} does not come; what came: {said}"),
            }
        }
        Ok(said)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let ended = self.child.try_wait()?.is_some();
        if ended {
            bail!("Nobody is there any more to hear {line:?}");
        }
        Ok(writeln!(self.input, "{line}").and_then(|()| self.input.flush())?)
    }
}
