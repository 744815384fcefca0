//! The command line as typed values. clap checks the form of everything here,
//! so that a command never starts with half of what it needs; the rules about
//! values as a whole are the daemon's.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use dynmem_api::MAX_EVENTS;
use dynmem_definition::NamePattern;

use crate::usage::Usage;

mod counters;
mod form;
mod host;
mod memory;
mod meter;
mod place;
mod values;
mod vm;

pub(crate) use counters::CountersArgs;
pub(crate) use form::Form;
pub(crate) use host::{HostCommand, Span};
pub(crate) use memory::{GetArgs, MemoryCommand, SetArgs};
pub(crate) use meter::MeterCommand;
pub(crate) use place::{Place, TokenCommand};
pub(crate) use vm::{CreateArgs, HistoryArgs, StartArgs, VmCommand};

/// Dynamic memory for QEMU/KVM virtual machines.
#[derive(Debug, Parser)]
#[command(name = "dynmem", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    /// How to show it: for people (wide: with all columns), or for programs [default: table]
    #[arg(long, short, global = true, value_name = "FORM", display_order = 903, value_parser = values::form())]
    output: Option<Form>,
    /// Short for --output json: sizes are in bytes
    #[arg(long, global = true, display_order = 904)]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Sizes are binary: 2G, 2GB and 2GiB are the same; a number alone is bytes.
NAMES may be patterns: * is any characters, ? is one. Quote them: 'Dev-*'.
With --url, the token is in $DYNMEM_TOKEN, or in the file that $DYNMEM_TOKEN_FILE names.

Exit codes:
  0  done
  1  refused or failed; with several VMs, at least one of them
  2  the command line is wrong
  3  the daemon can't be reached

Examples:
  dynmem vm create web01 --dynamic --maximum 4G --disk web01.qcow2 --network user
  dynmem vm start web01
  dynmem memory set 'Dev-*' --minimum 256M --buffer 30
  dynmem watch";

impl Cli {
    /// The form that was asked for. More than one is an error, wherever they
    /// stand: clap sees only those that stand together.
    pub(crate) fn form(&self) -> Result<Form, Usage> {
        let csv = match &self.command {
            Command::Vm(VmCommand::History(HistoryArgs { span, .. }))
            | Command::Host { command: Some(HostCommand::History(span)) } => span.csv,
            _ => false,
        };
        let asked = [self.output, self.json.then_some(Form::Json), csv.then_some(Form::Csv)];
        let mut asked = asked.into_iter().flatten();
        let form = asked.next().unwrap_or_default();
        match asked.find(|other| *other != form) {
            Some(other) => Err(Usage(format!(
                "Both --output {} and --output {} are asked for (--json and --csv are short for such): leave one out",
                form.as_str(),
                other.as_str()
            ))),
            None => Ok(form),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the host's memory and who has it
    #[command(after_help = "\
Examples:
  dynmem host
  dynmem host --output yaml
  dynmem host history --last 7d")]
    Host {
        #[command(subcommand)]
        command: Option<HostCommand>,
    },
    /// Define, run and look at VMs
    #[command(subcommand, after_help = "Examples:\n  dynmem vm list\n  dynmem vm start web01\n  dynmem vm show web01")]
    Vm(VmCommand),
    /// Show and change memory settings
    #[command(subcommand, after_help = "Examples:\n  dynmem memory get\n  dynmem memory set web01 --maximum 8G")]
    Memory(MemoryCommand),
    /// Tell why VMs have the memory that they have, and what would change it
    #[command(after_help = "\
Without names, all VMs are explained in a sentence each.

Examples:
  dynmem explain web01
  dynmem explain 'Dev-*' --json")]
    Explain {
        /// Only these VMs, by name or pattern
        #[arg(value_name = "NAMES")]
        names: Vec<NamePattern>,
    },
    /// Show what could be set better, and why
    #[command(after_help = "\
It is told once it has held for ten minutes, and follows from the settings, the
guests' behaviour and their history. It decides nothing.

Examples:
  dynmem advice
  dynmem advice 'web*' --json")]
    Advice {
        /// Only of these VMs, by name or pattern
        #[arg(value_name = "NAMES")]
        names: Vec<NamePattern>,
    },
    /// Read performance counters of the host and its VMs, once or repeatedly
    #[command(after_help = "\
Names of VMs and of counters narrow each other down. Case does not matter.

Examples:
  dynmem counters web01
  dynmem counters 'web*' '*Pressure' --interval 5 --samples 3
  dynmem counters '\\Dynamic Memory VM(*)\\Average Pressure' --json
  dynmem counters --list")]
    Counters(CountersArgs),
    /// Meter memory over a period: average, minimum and maximum
    #[command(subcommand, after_help = "Examples:\n  dynmem meter enable --all\n  dynmem meter show")]
    Meter(MeterCommand),
    /// Show what happened
    #[command(after_help = "Examples:\n  dynmem events --limit 20\n  dynmem events --vm web01 --follow")]
    Events(EventsArgs),
    /// Watch memory move: a live table of all VMs
    #[command(after_help = "\
Columns that do not fit the terminal are left out, the least important first.
Ctrl-C ends it. Without a terminal, each moment is a block of its own.

Examples:
  dynmem watch
  dynmem watch 'Dev-*' --interval 0.5
  dynmem watch --interval 5 --count 3 --json")]
    Watch(WatchArgs),
    /// Make tokens for those who use the daemon from other machines
    #[command(subcommand, after_help = "Examples:\n  dynmem token new monitoring --role read")]
    Token(TokenCommand),
    /// Watch all VMs and the host on a screen of their own, by the keyboard
    #[command(after_help = "\
It needs a terminal of 40x8 at least. ? tells the keys, q ends it. NO_COLOR=1
leaves colours out; nothing is said by them alone.

Examples:
  dynmem top
  dynmem top --socket ./api.sock")]
    Top,
    /// Write a script that completes commands in a shell
    #[command(after_help = "\
Examples:
  dynmem completion bash > /etc/bash_completion.d/dynmem
  dynmem completion zsh > ~/.zfunc/_dynmem
  dynmem completion fish > ~/.config/fish/completions/dynmem.fish")]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// List the cmdlets of Hyper-V that are understood, for links of their names
    #[command(hide = true, after_help = "Example:\n  dynmem cmdlets")]
    Cmdlets,
    /// Write the manual: a page for each command
    #[command(hide = true, after_help = "Example:\n  dynmem man /usr/share/man/man1")]
    Man {
        /// The folder for the pages
        #[arg(value_name = "FOLDER", value_parser = values::path)]
        folder: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// VMs by name or pattern, at least one.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Names of VMs, or patterns such as 'Dev-*'
    #[arg(required = true, value_name = "NAMES")]
    pub(crate) names: Vec<NamePattern>,
}

/// VMs of which something would be lost.
#[derive(Debug, Args)]
pub(crate) struct NamesToLose {
    #[command(flatten)]
    pub(crate) names: Names,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

/// Whether what can't be undone is wanted.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Yes {
    /// Don't ask before something is lost; without a terminal it is needed
    #[arg(long, short)]
    yes: bool,
}

impl Yes {
    pub(crate) fn is_given(self) -> bool {
        self.yes
    }
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Wait for more events and show them as they come
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only events of this VM
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub(crate) vm: Option<String>,
    /// How many of the newest events to show, at most 1000 [default: 100]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EVENTS)))]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only these VMs, by name or pattern
    #[arg(value_name = "NAMES")]
    pub(crate) names: Vec<NamePattern>,
    /// Seconds between two looks, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = values::interval)]
    pub(crate) interval: Duration,
    /// End after this many looks
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

impl WatchArgs {
    /// These VMs, once a second, without end.
    pub(crate) fn of(names: Vec<NamePattern>) -> Self {
        Self { names, interval: Duration::from_secs(1), count: None }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;
    use crate::hyperv::tests::words;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_each_of_them_is_right() {
        fn check(command: &clap::Command, seen: &mut usize) {
            let help = command.get_after_help().unwrap_or_else(|| panic!("{command} says nothing")).to_string();
            let examples = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
            let mut count = 0;
            for line in examples.take_while(|line| !line.is_empty()) {
                let line = line.split(" #").next().and_then(|line| line.split(" > ").next()).unwrap_or_default();
                if let Err(error) = Cli::try_parse_from(words(line.trim())) {
                    panic!("{command}: {line}: {error}");
                }
                count += 1;
            }
            assert!(count > 0, "{command} has no example");
            *seen += 1;
            command.get_subcommands().for_each(|sub| check(sub, seen));
        }
        let mut seen = 0;
        check(&Cli::command(), &mut seen);
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn a_slip_of_the_finger_finds_what_was_meant() {
        for (line, meant) in [
            ("dynmem vm strat web01", "'start'"),
            ("dynmem evnets", "'events'"),
            ("dynmem vm list --ouput json", "'--output'"),
            ("dynmem vm list --output jsn", "'json'"),
            ("dynmem memory set web01 --maximun 2G", "'--maximum'"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line).to_string();
            assert!(error.contains("similar") && error.contains(meant), "{line}: {error}");
        }
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in
            [["dynmem", "--json", "--socket", "/x", "vm", "list"], ["dynmem", "vm", "list", "--socket", "/x", "--json"]]
        {
            let cli = Cli::try_parse_from(line).expect("a good line");
            assert_eq!(cli.form().expect("one form"), Form::Json);
            assert_eq!(cli.place.client().expect("a socket").socket(), Some(Path::new("/x")));
        }
    }

    #[test]
    fn a_form_is_asked_for_once_wherever_it_stands() {
        let form = |line: &str| Cli::try_parse_from(line.split(' ')).expect(line).form();
        for (line, expected) in [
            ("dynmem vm list", Form::Table),
            ("dynmem -o wide vm list", Form::Wide),
            ("dynmem vm list --output yaml", Form::Yaml),
            ("dynmem --json vm list --output json", Form::Json),
            ("dynmem vm history web01 --csv", Form::Csv),
            ("dynmem host history -o csv", Form::Csv),
            ("dynmem host history --csv", Form::Csv),
        ] {
            assert_eq!(form(line).expect(line), expected);
        }
        for line in [
            "dynmem vm list --json --output csv",
            "dynmem --json vm list --output csv",
            "dynmem --json vm history web01 --csv",
            "dynmem host history --csv --output table",
        ] {
            assert!(form(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_a_usage_error() {
        for line in [
            "dynmem",
            "dynmem vm start",
            "dynmem vm start a/b",
            "dynmem vm show Dev-*",
            "dynmem memory set web01",
            "dynmem memory set web01 --weight 0",
            "dynmem memory set web01 --startup 1.5G",
            "dynmem memory set web01 --dynamic maybe",
            "dynmem events --limit 0",
            "dynmem events --limit 1001",
            "dynmem counters --list --samples 2",
            "dynmem counters a,b",
            "dynmem counters --samples 0",
            "dynmem meter enable",
            "dynmem meter reset web01 --all",
            "dynmem watch --interval 0",
            "dynmem watch --interval NaN",
            "dynmem watch --count 0",
            "dynmem vm set web01",
            "dynmem vm set web01 --autostart maybe",
            "dynmem vm set web01 --start-delay -1",
            "dynmem vm stop web01 --timeout 0",
            "dynmem vm stop web01 --force --timeout 5",
            "dynmem completion tcsh",
            "dynmem vm list --output xml",
            "dynmem host --last 5m",
            "dynmem host history --last never",
            "dynmem token new web",
            "dynmem token new web --role root",
            "dynmem --socket /x --url https://h host",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
