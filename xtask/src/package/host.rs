//! The package `dynmem`: what a host gets.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Programs, Release, tree::Tree};
use crate::shell;

/// Where each file of the sources goes.
const FILES: [(&str, &str); 9] = [
    ("etc/dynmem/dynmemd.toml", "packaging/dynmemd.toml"),
    ("usr/lib/systemd/system/dynmemd.service", "packaging/dynmemd.service"),
    ("usr/lib/sysusers.d/dynmem.conf", "packaging/sysusers.d/dynmem.conf"),
    ("usr/share/doc/dynmem/examples/dynmemd.toml", "packaging/dynmemd.toml"),
    ("usr/share/doc/dynmem/examples/grafana/dynmem.json", "packaging/grafana/dynmem.json"),
    ("usr/share/doc/dynmem/examples/prometheus/dynmem.rules.yml", "packaging/prometheus/dynmem.rules.yml"),
    ("usr/share/doc/dynmem/openapi.json", "docs/openapi.json"),
    ("usr/share/doc/dynmem/counters.md", "docs/counters.md"),
    ("usr/share/doc/dynmem/from-hyper-v.md", "docs/from-hyper-v.md"),
];

/// What completes the command line in each shell.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/dynmem"),
    ("zsh", "usr/share/zsh/vendor-completions/_dynmem"),
    ("fish", "usr/share/fish/vendor_completions.d/dynmem.fish"),
];

/// Makes the package in `out`.
pub(super) fn pack(programs: &Programs, release: &Release, out: &Path) -> Result<PathBuf> {
    let tree = Tree::new("dynmem", release)?;
    tree.program("usr/bin/dynmemd", &programs.dynmemd)?;
    tree.program("usr/bin/dynmem", &programs.dynmem)?;
    let libraries = libraries(&[tree.place("usr/bin/dynmemd")?, tree.place("usr/bin/dynmem")?])?;
    for (path, source) in FILES {
        tree.file(path, source)?;
    }
    pages(&tree, programs)?;
    for (shell, path) in COMPLETIONS {
        let script = shell::output(Command::new(&programs.dynmem).args(["completion", shell]))?;
        tree.text(path, script.as_bytes())?;
    }
    for name in shell::output(Command::new(&programs.dynmem).arg("cmdlets"))?.lines() {
        tree.link(&format!("usr/bin/{name}"), "dynmem")?;
        tree.link(&format!("usr/share/man/man1/{name}.1.gz"), "dynmem.1.gz")?;
    }
    tree.papers(&["dynmemd", "dynmem-cli"])?;
    tree.finish(&libraries, out)
}

/// The manual's pages, as the programs write them.
fn pages(tree: &Tree<'_>, programs: &Programs) -> Result<()> {
    let daemon = shell::output(Command::new(&programs.dynmemd).arg("--manual"))?;
    tree.text("usr/share/man/man8/dynmemd.8", daemon.as_bytes())?;
    tree.compress("usr/share/man/man8/dynmemd.8")?;
    let page = tree.place("usr/share/man/man1/dynmem.1")?;
    let folder = page.parent().context("A page is in a folder")?;
    shell::output(Command::new(&programs.dynmem).arg("man").arg(folder))?;
    let pages: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    pages.iter().try_for_each(|page| tree.compress(&format!("usr/share/man/man1/{}", page.file_name().display())))
}

/// The packages of the libraries that programs are linked with, in the oldest version
/// that has what they use: the C library names it in each of its symbols.
fn libraries(programs: &[PathBuf]) -> Result<String> {
    let mut newest = (0, 0);
    for program in programs {
        let bytes = fs::read(program).with_context(|| format!("Could not read {}", program.display()))?;
        newest = newest.max(glibc(&bytes));
    }
    Ok(format!("libc6 (>= {}.{}), libgcc-s1", newest.0, newest.1))
}

/// The newest version of the C library's symbols that a program names.
fn glibc(program: &[u8]) -> (u32, u32) {
    const MARK: &[u8] = b"GLIBC_";
    let places = program.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK);
    let versions = places.filter_map(|(at, _)| {
        let rest = &program[at + MARK.len()..];
        let text = str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()?;
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    versions.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_decides_which_c_library_is_needed() {
        assert_eq!(glibc(b"..\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0"), (2, 34));
        assert_eq!(glibc(b"static"), (0, 0));
    }
}
