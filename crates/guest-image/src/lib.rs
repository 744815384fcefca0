//! Test guests: a stock Debian kernel and a small initramfs with the agent and
//! the workload in it.
//!
//! ```text
//!  apt ──packages──▶ cache ──▶ kernel
//!                      ├─ modules ──in load order──┐
//!                      └─ busybox ─────────────────┼──▶ initramfs
//!  agent, workload, guest/* ───────────────────────┘
//! ```
//!
//! Nothing is installed on the host, and no privileges are needed: [`packages`]
//! downloads and unpacks into a cache folder, [`modules`] finds what the
//! kernel's virtio drivers need, [`initramfs`] writes the archive. What is
//! there already is used again; delete the cache folder to get newer packages.

use std::{
    env,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, bail, ensure};

pub mod initramfs;
pub mod modules;
pub mod packages;

use initramfs::Archive;
use modules::Modules;
use packages::Packages;

/// How many archives for different agents and workloads are kept.
const KEPT_ARCHIVES: usize = 6;

/// What an image is built from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where packages and images are kept: see [`cache_dir`].
    pub cache_dir: PathBuf,
    /// `dynmem-agent`, statically linked.
    pub agent_bin: PathBuf,
    /// `dynmem-workload`, statically linked.
    pub workload_bin: PathBuf,
}

/// A guest to boot with `-kernel`, `-initrd` and `-append`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel's release, as its modules' folder is named.
    pub release: String,
}

/// Where images are kept: `$DYNMEM_CACHE`, or `guest-cache` in the build's
/// target folder.
pub fn cache_dir(target: &Path) -> PathBuf {
    env::var_os("DYNMEM_CACHE").map_or_else(|| target.join("guest-cache"), PathBuf::from)
}

impl Image {
    /// Builds what is not there yet. Two builds at once in one cache wait for
    /// each other.
    ///
    /// Fails, saying what to do, if `apt` has no such packages and can't
    /// download them, a driver is missing from the kernel, or a program is not
    /// there or not statically linked.
    pub fn build(options: &Options) -> anyhow::Result<Self> {
        let cache = &options.cache_dir;
        fs::create_dir_all(cache).with_context(|| format!("Cannot make the folder {}", cache.display()))?;
        let cache = fs::canonicalize(cache).with_context(|| format!("Cannot find the folder {}", cache.display()))?;
        let lock = File::create(cache.join("lock")).with_context(|| format!("Cannot write to {}", cache.display()))?;
        lock.lock().with_context(|| format!("Cannot lock the folder {}", cache.display()))?;

        let packages = Packages::get(&cache)?;
        let modules = Modules::find(&packages.kernel, &packages.busybox_program())?;
        let kernel = packages.kernel.join("boot").join(format!("vmlinuz-{}", modules.release));
        ensure!(
            kernel.is_file(),
            "The kernel package has no {}: delete the folder {}",
            kernel.display(),
            cache.display()
        );

        let agent = program(&options.agent_bin)?;
        let workload = program(&options.workload_bin)?;
        let archive = archive(&packages, &modules, &agent, &workload)?;
        let initrd = cache.join(format!("initrd-{:016x}.cpio", fingerprint(&archive)));
        if !initrd.is_file() {
            replace(&initrd, &archive)?;
            forget_old_archives(&cache)?;
        }
        Ok(Self { kernel, initrd, release: modules.release })
    }

    /// The kernel's command line, with the agent running in the guest or not.
    ///
    /// Swap comes by itself with a virtio disk whose serial is `swap`; for
    /// another disk add ` dynmem.swap=vdb`.
    pub fn cmdline(&self, agent: bool) -> String {
        let agent = if agent { "" } else { " dynmem.agent=off" };
        // psi=1: some kernels measure stalls only if asked. online_movable:
        // what is plugged can be unplugged again. panic=-1: a crashed guest
        // restarts at once, as a server would. swiotlb=noforce: a machine whose
        // memory may grow beyond 4 GiB else reserves 64 MiB for devices that
        // reach no further; virtio devices do.
        format!("console=ttyS0 quiet panic=-1 psi=1 memhp_default_state=online_movable swiotlb=noforce{agent}")
    }
}

fn archive(packages: &Packages, modules: &Modules, agent: &[u8], workload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let busybox = packages.busybox_program();
    let mut archive = Archive::new();
    for folder in ["bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "lib", "lib/modules", "proc", "run", "sys", "tmp"]
    {
        archive.folder(folder)?;
    }
    archive.device("dev/console", 5, 1)?;
    archive.device("dev/null", 1, 3)?;
    archive.file("bin/busybox", 0o755, &fs::read(&busybox).with_context(|| unreadable(&busybox))?)?;
    for applet in packages::run(Command::new(&busybox).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    archive.link("init", "bin/busybox")?;
    archive.link("sbin", "bin")?;
    archive.file("bin/dynmem-agent", 0o755, agent)?;
    archive.file("bin/dynmem-workload", 0o755, workload)?;
    archive.file("etc/rc", 0o755, include_bytes!("../guest/rc"))?;
    archive.file("etc/agent", 0o755, include_bytes!("../guest/agent"))?;
    archive.file("etc/inittab", 0o644, include_bytes!("../guest/inittab"))?;
    archive.file("etc/profile", 0o644, include_bytes!("../guest/profile"))?;
    archive.file("etc/acpi/PWRF/00000080", 0o755, include_bytes!("../guest/power-button"))?;
    let mut order = String::new();
    for module in &modules.load_order {
        let path = format!("lib/modules/{}.ko", module.name);
        archive.file(&path, 0o644, &module.read(&busybox)?)?;
        order.extend(["/", &path, "\n"]);
    }
    archive.file("etc/modules", 0o644, order.as_bytes())?;
    archive.finish()
}

/// Reads a program that the guest is to run.
fn program(path: &Path) -> anyhow::Result<Vec<u8>> {
    let content = fs::read(path).with_context(|| unreadable(path))?;
    // The dynamic loader's name is in every program that needs one, and the
    // guest has none.
    let loader = b"/lib64/ld-linux";
    if !content.starts_with(b"\x7fELF") || content.windows(loader.len()).any(|window| window == loader) {
        bail!(
            "{} is not a statically linked program: build it with RUSTFLAGS=\"-C target-feature=+crt-static\" \
             --profile guest --target x86_64-unknown-linux-gnu",
            path.display()
        );
    }
    Ok(content)
}

fn unreadable(path: &Path) -> String {
    format!("Cannot read {}", path.display())
}

fn fingerprint(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// Writes a file so that it is there whole or not at all.
fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let naming = || format!("Cannot write {}", path.display());
    let folder = path.parent().with_context(naming)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(naming)?;
    file.write_all(content).with_context(naming)?;
    // A machine may run as another user than the one who built its image.
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).with_context(naming)?;
    file.persist(path).with_context(naming)?;
    Ok(())
}

fn forget_old_archives(cache: &Path) -> anyhow::Result<()> {
    let mut archives: Vec<(SystemTime, PathBuf)> = fs::read_dir(cache)
        .with_context(|| unreadable(cache))?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("initrd-"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    archives.sort();
    let excess = archives.len().saturating_sub(KEPT_ARCHIVES);
    for (_, path) in &archives[..excess] {
        // A guest that booted from it has it in memory.
        fs::remove_file(path).with_context(|| format!("Cannot delete {}", path.display()))?;
    }
    Ok(())
}
