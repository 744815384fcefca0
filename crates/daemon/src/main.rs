//! `dynmemd`: see the library of this package.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory, Parser};
use dynmem_daemon::{Daemon, Reload, config::Config, probe};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

mod manual;

const AFTER_HELP: &str = "\
Virtual machines go on while it is stopped, with the memory that they have; it
takes them over when it starts again.

Files:
  /etc/dynmem/dynmemd.toml  settings, each with its default
  /var/lib/dynmem           definitions, events, history (state_dir)
  /run/dynmem/dynmem.sock   where dynmem asks (socket)

Environment:
  DYNMEM_LOG  what is logged: error, warn, info (as without it), debug or trace

Examples:
  dynmemd
  DYNMEM_LOG=debug dynmemd --config ./dynmemd.toml";

/// Gives each virtual machine the memory it needs now.
#[derive(Debug, Parser)]
#[command(name = "dynmemd", version, after_help = AFTER_HELP)]
struct Args {
    /// Settings file [default: /etc/dynmem/dynmemd.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Writes dynmemd(8) and ends
    #[arg(long, hide = true)]
    manual: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.manual {
        // Nobody is left to tell if that fails.
        let written = manual::write(Args::command(), &mut std::io::stdout());
        return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let filter = EnvFilter::try_from_env("DYNMEM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dynmemd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref())?;
    // One thread, and one for clients: nothing here computes for long, and a
    // host's processors belong to its guests.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("Could not start the runtime")?;
    let outcome = runtime.block_on(async {
        let stop = stop_signal()?;
        let hypervisor = probe(&config).await?;
        let mut hangup = signal(SignalKind::hangup()).context("Could not listen for SIGHUP")?;
        let daemon = Daemon::prepare(&config, hypervisor).await?;
        let reload = daemon.reload();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload_access(reload.as_ref());
            }
        });
        daemon.serve(stop).await;
        Ok(())
    });
    runtime.shutdown_background();
    outcome
}

/// What SIGHUP does.
fn reload_access(reload: Option<&Reload>) {
    match reload.map(Reload::reload) {
        None => tracing::info!("There is nothing to read again: the API is not served over TCP"),
        Some(Ok(())) => tracing::info!("Certificate and tokens were read again"),
        Some(Err(error)) => tracing::error!("Certificate and tokens are those from before: {error}"),
    }
}

/// Waits for SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("Could not listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Could not listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
