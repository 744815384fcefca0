//! `cargo xtask tutorial`: the manual's tutorial, line by line as it stands, on a
//! Debian 12 that was just installed.
//!
//! ```text
//!  docs/manual/src/tutorial.md ──page.rs──▶ steps ──▶ Container (two packages in /root, nothing else)
//! ```
//! What a reader is to see is awaited, as a reader would look again. How long it
//! took until a guest was managed is told; only a generous limit is asserted.

mod page;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{debian::Container, package, shell};
use page::{Step, Then, shows, steps};

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only shows what would be run
    #[arg(long)]
    list: bool,
}

/// For what is awaited: an emulated guest on a busy machine.
const LIMIT: Duration = Duration::from_mins(8);
/// A reader looks again after this.
const PAUSE: Duration = Duration::from_secs(1);
/// The page's promise, from the first line to a managed guest.
const PROMISE: Duration = Duration::from_mins(10);
/// The word by which `dynmem vm list` says that a guest is managed.
const MANAGED: &str = "agent";

/// Runs the tutorial, or lists it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let path = shell::root().join("docs/manual/src/tutorial.md");
    let page = fs::read_to_string(&path).with_context(|| format!("Could not read {}", path.display()))?;
    let steps = steps(&page)?;
    if options.list {
        for Step { heading, script, .. } in &steps {
            eprintln!("## {heading}\n{script}\n");
        }
        return Ok(());
    }
    let packages = package::build(&shell::target_dir().join("debian"))?;
    let place = |path: &std::path::Path| {
        let name = path.file_name().context("A package has a name")?.to_string_lossy().into_owned();
        Ok::<_, anyhow::Error>((path.to_owned(), format!("/root/{name}")))
    };
    let debian = Container::boot(&[place(&packages.host)?, place(&packages.guest)?])?;

    let began = Instant::now();
    let mut managed = None;
    for step in &steps {
        take(&debian, step).with_context(|| format!("The tutorial fails in {:?}", step.heading))?;
        if matches!(&step.then, Then::Shows(text) if text.contains(MANAGED)) {
            managed.get_or_insert(began.elapsed());
        }
    }
    let managed = managed.context("The tutorial never shows a managed guest")?;
    eprintln!(
        "\nThe tutorial works. A managed guest after {} s (the page promises {} s), everything in {} s",
        managed.as_secs(),
        PROMISE.as_secs(),
        began.elapsed().as_secs()
    );
    Ok(())
}

/// Does what a reader does with one block.
fn take(debian: &Container, step: &Step) -> Result<()> {
    match &step.then {
        Then::Nothing => debian.must(&format!("set -e\n{}", step.script)).map(drop),
        Then::Talks(lines) => debian.talk(&step.script, lines, LIMIT),
        Then::Shows(expected) => {
            let deadline = Instant::now() + LIMIT;
            loop {
                let said = debian.must(&step.script)?;
                if shows(&said, expected) {
                    eprintln!("{said}");
                    return Ok(());
                }
                ensure!(Instant::now() < deadline, "It does not show\n{expected}\nbut\n{said}");
                std::thread::sleep(PAUSE);
            }
        }
    }
}
