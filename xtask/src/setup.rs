//! What the machine must have, and how it gets there.
//!
//! As root, or where `sudo` asks for no password, missing packages are
//! installed, after saying so. Anybody else learns what is missing and the
//! command that an administrator would run.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// A program that we call and the Debian package that has it.
struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const NEEDS: [Need; 2] = [
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86", why: "runs the guests" },
    Need { program: "dpkg-deb", package: "dpkg", why: "unpacks the guest's kernel" },
];

/// What the dashboard takes, where somebody builds or tests it.
const NODE: [Need; 2] = [
    Need { program: "node", package: "nodejs", why: "builds the dashboard" },
    Need { program: "npm", package: "npm", why: "gets what the dashboard is built with" },
];

/// What its tests take.
const BROWSER: [Need; 2] = [
    Need { program: "chromium", package: "chromium", why: "shows the dashboard" },
    Need { program: "openssl", package: "openssl", why: "makes a certificate for a daemon" },
];

/// What packages are made with.
const PACKAGING: [Need; 1] =
    [Need { program: "strip", package: "binutils", why: "takes from programs what only a debugger reads" }];
/// What packages are tried with.
const TRYING: [Need; 2] = [
    Need { program: "lintian", package: "lintian", why: "knows what Debian expects of a package" },
    Need { program: "mmdebstrap", package: "mmdebstrap", why: "makes a Debian to try packages in" },
];

/// Installs what guests take, or says how to.
pub(crate) fn run() -> Result<()> {
    install(&NEEDS)
}

/// Installs what the dashboard is built with, or says how to.
pub(crate) fn node() -> Result<()> {
    install(&NODE)
}

/// Installs what the dashboard is tested with, or says how to.
pub(crate) fn browser() -> Result<()> {
    install(&BROWSER)
}

/// Installs what is missing for making packages, or says how to.
pub(crate) fn packaging() -> Result<()> {
    install(&PACKAGING)
}

/// Installs what is missing for trying packages, or says how to.
pub(crate) fn trying_packages() -> Result<()> {
    install(&TRYING)
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !installed(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    for need in &missing {
        eprintln!("{} is missing: package {}, {}", need.program, need.package, need.why);
    }
    let install = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    let Some(elevate) = elevation() else {
        bail!("Can't install packages as an ordinary user. Ask an administrator to run: {install}");
    };
    eprintln!("Installing now: {install}");
    if apt(elevate, &install_arguments(&packages)).is_err() {
        eprintln!("Trying again with new package lists");
        apt(elevate, &["update"])?;
        apt(elevate, &install_arguments(&packages))?;
    }
    match missing.iter().find(|need| !installed(need.program)) {
        Some(need) => bail!("{} is still missing after installing package {}", need.program, need.package),
        None => Ok(()),
    }
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    arguments
}

/// What to write before a command so that it runs as root; `None` if nothing
/// helps.
fn elevation() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    shell::succeeds("sudo", &["-n", "true"]).then_some(&["sudo", "-n"])
}

fn apt(elevate: &[&str], arguments: &[&str]) -> Result<()> {
    let words: Vec<&str> = elevate.iter().copied().chain(["apt-get"]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    shell::run(&mut command)
}

fn installed(program: &str) -> bool {
    // OpenSSL has a word for it, others an option.
    shell::succeeds(program, &["--version"]) || shell::succeeds(program, &["version"])
}
