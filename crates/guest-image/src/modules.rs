//! [`Modules`]: the drivers that a guest needs, and the order to load them in.
//!
//! Kernels differ: in Debian 12's 6.1 all of virtio is modules, in 6.12 a part
//! is built in, and newer packages compress modules. `modules.dep` tells, and
//! where a package comes without (Debian's installer makes it), busybox's
//! `depmod` does.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::packages::run;

/// What a guest can't do without, in an order that makes sense.
const NEEDED: [&str; 5] = ["virtio_pci", "virtio_console", "virtio_balloon", "virtio_mem", "virtio_blk"];
/// For the power button: a kernel without them still boots.
const WELCOME: [&str; 2] = ["button", "evdev"];

/// The drivers of one kernel.
#[derive(Clone, Debug)]
pub struct Modules {
    /// The kernel's release.
    pub release: String,
    /// Each after what it depends on.
    pub load_order: Vec<Module>,
}

/// A driver's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The driver's name, with underscores.
    pub name: String,
    /// Its file: `.ko`, maybe compressed.
    pub path: PathBuf,
}

impl Modules {
    /// Finds the needed drivers in an unpacked kernel package; `busybox` is the
    /// program.
    pub fn find(package: &Path, busybox: &Path) -> anyhow::Result<Self> {
        let root = modules_folder(package)?;
        let release = only_entry(&root)?;
        let folder = root.join(&release);
        let table = folder.join("modules.dep");
        if !table.is_file() {
            // depmod looks for lib/modules under its base.
            let base = root.parent().and_then(Path::parent).context("The kernel package has no lib/modules")?;
            run(Command::new(busybox).arg("depmod").arg("-b").arg(base).arg(&release))?;
        }
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("Cannot read {}", path.display()));
        let (dependencies, builtin) = (read(&table)?, read(&folder.join("modules.builtin"))?);
        let table = Table::parse(&dependencies, &builtin);
        let load_order = table.load_order(&release)?;
        let load_order =
            load_order.into_iter().map(|path| Module { name: name_of(path), path: folder.join(path) }).collect();
        Ok(Self { release, load_order })
    }
}

impl Module {
    /// The driver, uncompressed: not every guest kernel can do that itself.
    pub fn read(&self, busybox: &Path) -> anyhow::Result<Vec<u8>> {
        let applet = match self.path.extension().and_then(|extension| extension.to_str()) {
            Some("ko") => return fs::read(&self.path).with_context(|| format!("Cannot read {}", self.path.display())),
            Some("xz") => "xzcat",
            Some("gz") => "zcat",
            _ => bail!("The driver {} is compressed in a way that busybox does not know", self.path.display()),
        };
        let output = Command::new(busybox).arg(applet).arg(&self.path).output().context("Cannot run busybox")?;
        ensure!(output.status.success(), "Cannot unpack {}: it is damaged", self.path.display());
        Ok(output.stdout)
    }
}

/// `lib/modules`, which newer packages have under `usr`.
fn modules_folder(package: &Path) -> anyhow::Result<PathBuf> {
    ["lib/modules", "usr/lib/modules"]
        .map(|path| package.join(path))
        .into_iter()
        .find(|path| path.is_dir())
        .with_context(|| format!("The kernel package in {} has no lib/modules", package.display()))
}

fn only_entry(folder: &Path) -> anyhow::Result<String> {
    let mut entries = fs::read_dir(folder).with_context(|| format!("Cannot read {}", folder.display()))?.flatten();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry.file_name().to_string_lossy().into_owned()),
        _ => bail!("{} is not of exactly one kernel: delete the cache folder", folder.display()),
    }
}

/// `kernel/drivers/virtio/virtio-rng.ko.xz` is `virtio_rng`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// What needs what.
struct Table<'text> {
    /// By name: the file, and the files it needs.
    modules: HashMap<String, (&'text str, Vec<&'text str>)>,
    builtin: Vec<String>,
}

impl<'text> Table<'text> {
    fn parse(dependencies: &'text str, builtin: &str) -> Self {
        let modules = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| (name_of(path), (path, needs.split_whitespace().collect())))
            .collect();
        Self { modules, builtin: builtin.lines().map(name_of).collect() }
    }

    /// The files to load, each after what it needs.
    fn load_order(&self, release: &str) -> anyhow::Result<Vec<&'text str>> {
        let (mut seen, mut order) = (HashSet::new(), Vec::new());
        for name in NEEDED {
            self.visit(name, &mut seen, &mut order).with_context(|| {
                format!("The kernel {release} has no driver {name}, neither as a module nor built in")
            })?;
        }
        for name in WELCOME {
            let _ = self.visit(name, &mut seen, &mut order);
        }
        Ok(order)
    }

    /// Adds `name`, and before it what it needs. `None` if there is no such
    /// driver.
    fn visit(&self, name: &str, seen: &mut HashSet<&'text str>, order: &mut Vec<&'text str>) -> Option<()> {
        if self.builtin.iter().any(|builtin| builtin == name) {
            return Some(());
        }
        let (path, needs) = self.modules.get(name)?;
        if seen.insert(path) {
            for need in needs {
                self.visit(&name_of(need), seen, order)?;
            }
            order.push(path);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian 12's 6.1 has it: everything is modules.
    const OLD: &str = "\
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_balloon.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_mem.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
";

    /// As 6.12 has it: a part is built in, the rest is compressed.
    const NEW: &str = "kernel/drivers/virtio/virtio_balloon.ko.xz:\nkernel/drivers/virtio/virtio-mem.ko.xz:\n\
                       kernel/drivers/acpi/button.ko.xz:\n";
    const NEW_BUILTIN: &str = "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/char/virtio_console.ko\n\
                               kernel/drivers/block/virtio_blk.ko\n";

    fn names(dependencies: &str, builtin: &str) -> Vec<String> {
        let table = Table::parse(dependencies, builtin);
        table.load_order("x").expect("complete").into_iter().map(name_of).collect()
    }

    #[test]
    fn each_driver_comes_after_what_it_needs_and_once() {
        let names = names(OLD, "");
        let at = |name: &str| names.iter().position(|it| it == name).expect(name);
        assert_eq!(names.len(), 8);
        assert!(at("virtio_ring") < at("virtio") && at("virtio") < at("virtio_pci"));
        assert!(at("virtio_pci_modern_dev") < at("virtio_pci"));
        assert!(at("virtio") < at("virtio_mem"));
    }

    #[test]
    fn what_is_built_in_is_not_loaded() {
        assert_eq!(names(NEW, NEW_BUILTIN), ["virtio_balloon", "virtio_mem", "button"]);
    }

    #[test]
    fn a_kernel_without_a_needed_driver_is_refused_by_name() {
        let table = Table::parse(NEW, "");
        let error = table.load_order("6.1.0-x").expect_err("virtio_pci is missing");
        assert!(error.to_string().contains("6.1.0-x has no driver virtio_pci"), "{error}");
    }
}
