//! The package `dynmem-agent`: what a guest gets.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Programs, Release, tree::Tree};

/// Where each file of the sources goes.
const FILES: [(&str, &str); 3] = [
    ("usr/lib/systemd/system/dynmem-agent.service", "packaging/agent/dynmem-agent.service"),
    ("usr/lib/udev/rules.d/70-dynmem-agent.rules", "packaging/agent/70-dynmem-agent.rules"),
    ("usr/share/lintian/overrides/dynmem-agent", "packaging/debian/dynmem-agent/lintian-overrides"),
];
const PAGE: &str = "usr/share/man/man8/dynmem-agent.8";

/// Makes the package in `out`. The agent is static: any guest will do.
pub(super) fn pack(programs: &Programs, release: &Release, out: &Path) -> Result<PathBuf> {
    let tree = Tree::new("dynmem-agent", release)?;
    tree.program("usr/bin/dynmem-agent", &programs.agent)?;
    for (path, source) in FILES {
        tree.file(path, source)?;
    }
    tree.file(PAGE, "packaging/agent/dynmem-agent.8")?;
    tree.compress(PAGE)?;
    tree.papers(&["dynmem-agent"])?;
    tree.finish("", out)
}
