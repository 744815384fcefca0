//! `cargo xtask`: everything that is done with this project beside building
//! it. A program and not a pile of scripts, so that it is read, linted and
//! tested like the rest.
//!
//! ```text
//! demo   four real guests on a small pool; --check verifies the promises
//! test   everything that is tested            bench  how fast it is
//! sim    a simulated host, looked at closely  image  the guest they boot
//! setup  installs what the others need        ci     all that must hold
//! build  the programs they run           fuzz   what outsiders can send
//! ui     the dashboard                   package  Debian packages of it
//! manual the user manual                 tutorial  the manual's, as it stands
//! ```
//!
//! People read stderr; stdout is for results, so that `--json` can be piped.

mod bench;
mod build;
mod chaos;
mod ci;
mod debian;
mod demo;
mod fuzz;
mod manual;
mod package;
mod report;
mod setup;
mod shell;
mod sim;
mod test;
mod tools;
mod tutorial;
mod ui;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own build tool")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows dynamic memory at work: four real guests on a pool too small for all of them
    Demo(demo::Options),
    /// Lets everything go wrong for a while, on real guests, and verifies all promises
    Chaos(chaos::Options),
    /// Tests everything, real guests included
    Test(test::Options),
    /// Measures how fast it is
    Bench(bench::Options),
    /// Throws made-up input at everything that reads what outsiders send
    Fuzz(fuzz::Options),
    /// Simulates a host with guests, and says what they lived through
    Sim(sim::Options),
    /// Builds the dashboard, checks it, or tests it in a browser
    Ui(ui::Options),
    /// Installs what the other commands need, and says so; as an ordinary user, says what is missing
    Setup,
    /// Builds the programs and the guest's image for demo and tests
    Build,
    /// Builds the image that the demo and the tests boot
    Image,
    /// Builds Debian packages: dynmem for the host, dynmem-agent for its guests
    Package(package::Options),
    /// Makes a book of the user manual
    Manual(manual::Options),
    /// Runs the manual's tutorial as it stands in a clean Debian, as root
    Tutorial(tutorial::Options),
    /// Becomes a container
    #[command(hide = true)]
    Contain(debian::Contain),
    /// Runs everything that must hold before a change lands
    Ci(ci::Options),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Ui(options) => ui::run(&options),
        Command::Setup => setup::run().and_then(|()| setup::packaging()).and_then(|()| setup::trying_packages()),
        Command::Build => build::run(build::Profile::Dev),
        Command::Image => build::image().map(drop),
        Command::Package(options) => package::run(&options),
        Command::Manual(options) => manual::run(&options),
        Command::Tutorial(options) => tutorial::run(&options),
        Command::Contain(options) => debian::contain(&options),
        Command::Ci(options) => ci::run(&options),
    }
}
