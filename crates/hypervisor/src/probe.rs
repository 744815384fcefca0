//! [`Qemu`]: which QEMU this host has, and whether KVM works.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use dynmem_definition::{Accelerator, VmDefinition};
use dynmem_linux::Account;
use dynmem_units::Bytes;
use tokio::{process::Command, time};

use crate::{ChosenAccelerator, LaunchError, MachinePlan, ProbeError, files, kvm_proof};

/// The oldest QEMU that we know how to drive.
const OLDEST: (u32, u32) = (7, 2);
/// How long QEMU may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// QEMU on this host, found and tried. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Qemu(Arc<Probed>);

#[derive(Debug)]
struct Probed {
    program: PathBuf,
    version: String,
    sandbox: bool,
    user: Option<Account>,
    host_memory: Bytes,
    kvm: Result<(), String>,
    accelerator: ChosenAccelerator,
    description: String,
}

impl Qemu {
    /// Finds QEMU and, unless `accelerator` is TCG, proves that KVM works by
    /// running something with it. `program` is a path or a name in `PATH`;
    /// `host_memory` is all of the host's memory: what hot-add devices are
    /// sized to. Machines run as `user`, or as we do: another needs root.
    pub async fn probe(
        program: &Path,
        accelerator: Accelerator,
        host_memory: Bytes,
        user: Option<Account>,
    ) -> Result<Self, ProbeError> {
        // What QEMU does not support it refuses before it prints the version.
        let confined = run(program, &["-sandbox", "on", "-version"]).await?;
        let sandbox = confined.status.success();
        let output = if sandbox { confined } else { run(program, &["-version"]).await? };
        let version = check_version(program, &output)?;
        let kvm = match accelerator {
            Accelerator::Tcg => Err("this host is configured for emulation".to_owned()),
            Accelerator::Auto | Accelerator::Kvm => prove_kvm(program, user.as_ref()).await,
        };
        let (chosen, description) = match (&kvm, accelerator) {
            (Err(reason), Accelerator::Kvm) => return Err(ProbeError::KvmUnusable(reason.clone())),
            (Ok(()), _) => (ChosenAccelerator::Kvm, "KVM: a trial machine ran with it".to_owned()),
            (Err(_), Accelerator::Tcg) => (ChosenAccelerator::Tcg, "Emulation: it was asked for".to_owned()),
            (Err(reason), Accelerator::Auto) => {
                (ChosenAccelerator::Tcg, format!("Emulation, which is slow: KVM can't be used here: {reason}"))
            }
        };
        let program = program.to_owned();
        Ok(Self(Arc::new(Probed {
            program,
            version,
            sandbox,
            user,
            host_memory,
            kvm,
            accelerator: chosen,
            description,
        })))
    }

    /// The version, such as `7.2.22`.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// What `accelerator = "auto"` means here.
    pub fn accelerator(&self) -> ChosenAccelerator {
        self.0.accelerator
    }

    /// A sentence: what was chosen, and why.
    pub fn description(&self) -> &str {
        &self.0.description
    }

    pub(crate) fn program(&self) -> &Path {
        &self.0.program
    }

    /// Who machines run as; `None` if as we do.
    pub(crate) fn user(&self) -> Option<&Account> {
        self.0.user.as_ref()
    }

    pub(crate) fn sandbox(&self) -> bool {
        self.0.sandbox
    }

    pub(crate) fn plan(&self, definition: &VmDefinition) -> Result<MachinePlan, LaunchError> {
        let accelerator = match (definition.accelerator, &self.0.kvm) {
            (Accelerator::Tcg, _) => ChosenAccelerator::Tcg,
            (Accelerator::Auto, _) => self.0.accelerator,
            (Accelerator::Kvm, Ok(())) => ChosenAccelerator::Kvm,
            (Accelerator::Kvm, Err(reason)) => {
                let (name, reason) = (definition.name.clone(), reason.clone());
                return Err(LaunchError::KvmUnusable { name, reason });
            }
        };
        Ok(MachinePlan::new(definition, accelerator, self.0.host_memory))
    }
}

async fn prove_kvm(program: &Path, user: Option<&Account>) -> Result<(), String> {
    if !Path::new("/dev/kvm").exists() {
        let hint = "is virtualisation enabled in the firmware, and the kvm module loaded?";
        return Err(format!("/dev/kvm is missing; {hint}"));
    }
    let name = user.map_or("this user", |user| &user.name);
    match files::open_as(user, Path::new("/dev/kvm")) {
        Ok(()) => kvm_proof::prove(program, ChosenAccelerator::Kvm, user).await,
        Err(error) => Err(format!("/dev/kvm can't be opened by {name}: {error}; add {name} to the group kvm")),
    }
}

async fn run(program: &Path, arguments: &[&str]) -> Result<Output, ProbeError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let broken = |reason: String| ProbeError::Broken { path: program.to_owned(), reason };
    match time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(ProbeError::Missing(program.to_owned())),
        Ok(Err(error)) => Err(broken(error.to_string())),
        Err(_) => Err(broken(format!("it did not tell its version within {}s", PATIENCE.as_secs()))),
    }
}

fn check_version(program: &Path, output: &Output) -> Result<String, ProbeError> {
    let path = program.to_owned();
    let said = String::from_utf8_lossy(&output.stdout);
    let Some((version, numbers)) = parse_version(&said) else {
        let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(200).collect::<String>();
        let reason = format!("it does not tell its version ({}): {said}", output.status);
        return Err(ProbeError::Broken { path, reason });
    };
    if numbers < OLDEST { Err(ProbeError::TooOld { path, version }) } else { Ok(version) }
}

/// Reads `QEMU emulator version 7.2.22 (Debian …)`.
fn parse_version(said: &str) -> Option<(String, (u32, u32))> {
    let version = said.lines().next()?.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    let mut numbers = version.split('.').map(str::parse);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((version.to_owned(), (major, minor)))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn pretender(says: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("qemu");
        fs::write(&path, format!("#!/bin/sh\n{says}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        (directory, path)
    }

    /// A script that was just written may be "busy" while another test forks.
    async fn probe(program: &Path) -> Result<Qemu, ProbeError> {
        loop {
            let outcome = Qemu::probe(program, Accelerator::Tcg, Bytes::GIB, None).await;
            if !matches!(&outcome, Err(ProbeError::Broken { reason, .. }) if reason.contains("Text file busy")) {
                return outcome;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_missing_qemu_says_what_to_install() {
        let error = probe(Path::new("/nonexistent/qemu")).await.expect_err("nothing there");
        assert!(error.to_string().contains("qemu-system-x86"), "{error}");
    }

    #[tokio::test]
    async fn an_old_qemu_is_refused_with_its_version() {
        let (_directory, path) = pretender("echo 'QEMU emulator version 6.2.0 (Debian 1:6.2)'");
        let error = probe(&path).await.expect_err("too old");
        assert!(error.to_string().ends_with("is version 6.2.0: at least 7.2 is needed"), "{error}");
    }

    #[tokio::test]
    async fn something_that_is_no_qemu_is_refused_with_its_words() {
        let (_directory, path) = pretender("echo 'no such option' >&2; exit 3");
        let error = probe(&path).await.expect_err("no QEMU");
        assert!(
            error.to_string().contains("exit status: 3") && error.to_string().contains("no such option"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_sandbox_that_is_not_compiled_in_is_not_used() {
        let (_directory, path) =
            pretender("[ $1 = -sandbox ] && exit 1; echo 'QEMU emulator version 10.0.2 (v10.0.2)'");
        let qemu = probe(&path).await.expect("new enough");
        assert_eq!((qemu.version(), qemu.sandbox()), ("10.0.2", false));
    }

    #[tokio::test]
    async fn this_hosts_qemu_is_found_and_the_choice_is_explained() {
        let qemu = Qemu::probe(Path::new("qemu-system-x86_64"), Accelerator::Auto, Bytes::GIB, None).await;
        let qemu = qemu.expect("QEMU");
        assert!(!qemu.version().is_empty());
        assert!(qemu.description().contains("KVM"), "{}", qemu.description());
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("QEMU emulator version 10.0.2"), Some(("10.0.2".to_owned(), (10, 0))));
        assert!(parse_version("QEMU emulator version 7.10.0").expect("a version").1 > OLDEST);
        assert_eq!(parse_version("hello"), None);
        assert_eq!(parse_version(""), None);
    }
}
