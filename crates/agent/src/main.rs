//! `dynmem-agent`: runs the agent, or asks the running one.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use dynmem_agent::{
    agent::{Agent, Options, brace_for_hard_times},
    status::{self, SOCKET_PATH},
};

const HELP: &str = "\
Tells the host what memory this guest needs, so that the host can lend it.

Usage: dynmem-agent [--port DEVICE]   run the agent
       dynmem-agent status [--json]   show what this guest has, needs and may hold

Options:
  --port DEVICE  the virtio-serial device (default: the port named org.dynmem.agent.0)
  --json         the status as one JSON document
  --help         this text
  --version      the version
";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dynmem-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => work(None),
        ["--port", device] => work(Some(device.into())),
        ["status"] => {
            print!("{}", status::ask(SOCKET_PATH.as_ref())?);
            Ok(())
        }
        ["status", "--json"] => {
            println!("{}", serde_json::to_string(&status::ask(SOCKET_PATH.as_ref())?)?);
            Ok(())
        }
        ["--help" | "-h" | "help"] => {
            print!("{HELP}");
            Ok(())
        }
        ["--version" | "-V"] => {
            println!("dynmem-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => bail!("Unknown arguments {words:?}: see dynmem-agent --help"),
    }
}

fn work(port: Option<PathBuf>) -> anyhow::Result<()> {
    for trouble in brace_for_hard_times() {
        eprintln!("dynmem-agent: {trouble}");
    }
    let options = Options { root: "/".into(), port, status: SOCKET_PATH.into() };
    match Agent::new(options)?.run()? {}
}
