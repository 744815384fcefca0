//! What each command does: it asks the daemon and gives a model to
//! [`Output`].

use clap::CommandFactory;
use clap_complete::{generate, shells};
use dynmem_api::Client;

use crate::{
    args::{Cli, Command, Form, HostCommand, Shell},
    hyperv, man,
    render::{Host, Output, printable},
};

mod advice;
mod confirm;
mod console;
mod counters;
mod dry_run;
mod events;
mod explain;
mod history;
mod interrupt;
mod memory;
mod meter;
mod operate;
mod progress;
mod select;
mod token;
mod vm;
mod watch;

/// How a command ended that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was done.
    Done,
    /// Some VMs refused; each was told.
    SomeFailed,
}

/// Carries out one command line.
pub(crate) async fn run(cli: Cli, form: Form) -> anyhow::Result<Outcome> {
    let mut output = Output::new(form);
    match cli.command {
        Command::Completion { shell } => {
            output.refuse_forms("a script comes")?;
            output.raw(&completion(shell))?;
        }
        Command::Cmdlets => {
            output.refuse_forms("names are listed")?;
            hyperv::names().try_for_each(|name| output.line(name))?;
        }
        Command::Man { folder } => {
            output.refuse_forms("pages are written")?;
            let count = man::write(&folder)?;
            output.line(&format!("Wrote {count} pages to {}", printable(&folder.display().to_string())))?;
        }
        Command::Token(command) => token::run(command, &mut output)?,
        command => return ask(command, &cli.place.client()?, &mut output).await,
    }
    Ok(Outcome::Done)
}

/// Carries out a command that asks the daemon.
async fn ask(command: Command, client: &Client, output: &mut Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Host { command: None } => output.show(&Host(&client.host().await?))?,
        Command::Host { command: Some(HostCommand::History(span)) } => {
            history::of_host(&span, client, output).await?;
        }
        Command::Vm(command) => return vm::run(command, client, output).await,
        Command::Memory(command) => return memory::run(command, client, output).await,
        Command::Explain { names } => explain::run(&names, client, output).await?,
        Command::Advice { names } => advice::run(&names, client, output).await?,
        Command::Meter(command) => return meter::run(command, client, output).await,
        Command::Counters(args) => counters::run(&args, client, output).await?,
        Command::Events(args) => events::run(&args, client, output).await?,
        Command::Watch(args) => watch::run(&args, client, output).await?,
        Command::Top => {
            output.refuse_forms("a screen comes")?;
            crate::top::run(client).await?;
        }
        Command::Completion { .. } | Command::Cmdlets | Command::Man { .. } | Command::Token(_) => {} // they ask nobody
    }
    Ok(Outcome::Done)
}

/// The script that completes our command line in `shell`.
fn completion(shell: Shell) -> String {
    let (mut script, mut command) = (Vec::new(), Cli::command());
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "dynmem", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "dynmem", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "dynmem", &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completion(shell);
            for word in ["memory", "console", "--demand-model", "--force"] {
                let word = word.trim_start_matches('-'); // fish has them without
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
        }
    }
}
