//! A conversation with a program: what it asks is awaited, then answered, as a
//! person at a terminal would.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
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
        eprintln!("# {line}");
        talk(&mut self.enter(line), answers, limit).map(|said| eprintln!("{said}"))
    }
}

/// Runs a command, answers its prompts, and ends it. Gives all that it said.
fn talk(command: &mut Command, answers: &[(String, String)], limit: Duration) -> Result<String> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("Could not start whom to talk with")?;
    let input = child.stdin.take().context("It has an input")?;
    let mut output = child.stdout.take().context("It has an output")?;
    let (said, heard) = mpsc::channel();
    // It ends once nobody writes or hears any more. That may be later than we do: what the command
    // has started in a container holds the pipe until the container ends.
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut piece) {
            if said.send(String::from_utf8_lossy(&piece[..count]).into_owned()).is_err() {
                break;
            }
        }
    });
    let outcome = Talk { child: &mut child, input, heard }.answer(answers, limit);
    let _ = child.kill().and_then(|()| child.wait()); // it may have ended already
    outcome
}

struct Talk<'c> {
    child: &'c mut Child,
    input: ChildStdin,
    heard: Receiver<String>,
}

impl Talk<'_> {
    fn answer(&mut self, answers: &[(String, String)], limit: Duration) -> Result<String> {
        let mut all = String::new();
        for (prompt, typed) in answers {
            all.push_str(&self.until(prompt, limit)?);
            if !typed.is_empty() {
                self.say(typed)?;
            }
        }
        Ok(all)
    }

    /// What is said until the prompt stands there.
    fn until(&mut self, prompt: &str, limit: Duration) -> Result<String> {
        let (mut said, deadline) = (String::new(), Instant::now() + limit);
        while !said.contains(prompt) {
            match self.heard.recv_timeout(WAKE.min(limit)) {
                Ok(piece) => said.push_str(&piece),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => self.say("")?,
                Err(_) => bail!("The prompt {prompt:?} does not come; what came: {said}"),
            }
        }
        Ok(said)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            bail!("Nobody is there any more to hear {line:?}");
        }
        Ok(writeln!(self.input, "{line}").and_then(|()| self.input.flush())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks twice, and says in between what it heard.
    const GUEST: &str = "printf 'web01 login: '; read -r who; printf 'hello %s\\n%s@web01:~# ' \"$who\" \"$who\"; \
                         read -r line; printf 'ran %s\\nroot@web01:~# ' \"$line\"; exec sleep 600";

    fn answers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(prompt, typed)| ((*prompt).to_owned(), (*typed).to_owned())).collect()
    }

    #[test]
    fn each_prompt_is_awaited_answered_and_the_last_one_ends_it() {
        let answers = answers(&[("web01 login:", "root"), ("root@web01:~#", "free"), ("root@web01:~#", "")]);
        let said = talk(Command::new("sh").args(["-c", GUEST]), &answers, Duration::from_mins(1)).expect("a talk");
        assert!(said.contains("hello root\n") && said.contains("ran free\n"), "{said}");
    }

    #[test]
    fn a_prompt_that_never_comes_is_named_with_what_came() {
        let answers = answers(&[("web01 login:", "root"), ("admin@web01:~#", "free")]);
        let outcome = talk(Command::new("sh").args(["-c", GUEST]), &answers, Duration::from_millis(300));
        let error = outcome.expect_err("no such prompt").to_string();
        assert!(error.contains("admin@web01") && error.contains("hello root"), "{error}");
        let outcome = talk(Command::new("sh").args(["-c", "echo bye"]), &answers, Duration::from_mins(1));
        assert!(outcome.expect_err("it has ended").to_string().contains("bye"));
    }
}
