//! What is in the packages, as `dpkg-deb` sees it. They are made of the programs beside this
//! one: `cargo xtask test` builds them first. Making the host's takes seconds, so one
//! test looks at all of it.

use std::process::Command;

use super::*;

fn dpkg_deb(option: &str, package: &Path) -> String {
    shell::output(Command::new("dpkg-deb").arg(option).arg(package)).expect("a package")
}

/// Mode, owner and path of each entry.
fn entries(package: &Path) -> Vec<(String, String, String)> {
    let list = dpkg_deb("--contents", package);
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[0].to_owned(), words[1].to_owned(), words[5..].join(" "))
    };
    list.lines().map(entry).collect()
}

fn has(entries: &[(String, String, String)], mode: &str, path: &str) {
    assert!(
        entries.iter().any(|(own, owner, at)| own == mode && owner == "root/root" && at == path),
        "no {mode} {path} in {entries:#?}"
    );
}

const PROGRAM: &str = "-rwxr-xr-x";
const DATA: &str = "-rw-r--r--";

#[test]
fn the_packages_hold_what_they_should() {
    let out = tempfile::tempdir().expect("a folder");
    let programs = Programs::in_folder(&Profile::Dev.folder());
    let packages = pack(&programs, out.path()).expect("packages: `cargo xtask build` builds what is in them");
    the_host_has_programs_links_unit_pages_completions_and_settings(&packages.host);
    a_guest_has_the_agent_and_what_starts_it(&packages.guest);
    for package in [&packages.host, &packages.guest] {
        everything_is_roots_and_nothing_is_writable_by_others(package);
    }
    control_files_are_filled_in_and_settings_are_the_administrators(&packages);
}

#[test]
fn the_same_sources_give_the_same_package() {
    let out = ["a", "b"].map(|_| tempfile::tempdir().expect("a folder"));
    let programs = Programs::in_folder(&Profile::Dev.folder());
    let packages = out.each_ref().map(|out| {
        let release = Release::of_the_sources().expect("sources");
        let package = guest::pack(&programs, &release, out.path()).expect("a package");
        fs::read(package).expect("it is there")
    });
    assert!(packages[0] == packages[1], "the packages differ");
}

fn the_host_has_programs_links_unit_pages_completions_and_settings(package: &Path) {
    let entries = entries(package);
    for program in ["dynmemd", "dynmem"] {
        has(&entries, PROGRAM, &format!("./usr/bin/{program}"));
    }
    for path in [
        "etc/dynmem/dynmemd.toml",
        "usr/lib/systemd/system/dynmemd.service",
        "usr/lib/sysusers.d/dynmem.conf",
        "usr/share/bash-completion/completions/dynmem",
        "usr/share/zsh/vendor-completions/_dynmem",
        "usr/share/fish/vendor_completions.d/dynmem.fish",
        "usr/share/man/man1/dynmem.1.gz",
        "usr/share/man/man1/dynmem-vm-start.1.gz",
        "usr/share/man/man8/dynmemd.8.gz",
        "usr/share/doc/dynmem/copyright",
        "usr/share/doc/dynmem/changelog.gz",
        "usr/share/doc/dynmem/built-with.txt.gz",
        "usr/share/doc/dynmem/examples/dynmemd.toml",
        "usr/share/doc/dynmem/examples/prometheus/dynmem.rules.yml",
    ] {
        has(&entries, DATA, &format!("./{path}"));
    }
    for cmdlet in ["Get-VM", "Set-VMMemory", "Get-Counter"] {
        has(&entries, "lrwxrwxrwx", &format!("./usr/bin/{cmdlet} -> dynmem"));
        has(&entries, "lrwxrwxrwx", &format!("./usr/share/man/man1/{cmdlet}.1.gz -> dynmem.1.gz"));
    }
}

fn a_guest_has_the_agent_and_what_starts_it(package: &Path) {
    let entries = entries(package);
    has(&entries, PROGRAM, "./usr/bin/dynmem-agent");
    for path in [
        "usr/lib/systemd/system/dynmem-agent.service",
        "usr/lib/udev/rules.d/70-dynmem-agent.rules",
        "usr/share/man/man8/dynmem-agent.8.gz",
        "usr/share/doc/dynmem-agent/copyright",
    ] {
        has(&entries, DATA, &format!("./{path}"));
    }
}

fn everything_is_roots_and_nothing_is_writable_by_others(package: &Path) {
    for (mode, owner, path) in entries(package) {
        assert_eq!(owner, "root/root", "{path}");
        assert!(["drwxr-xr-x", PROGRAM, DATA, "lrwxrwxrwx"].contains(&mode.as_str()), "{mode} {path}");
    }
}

fn control_files_are_filled_in_and_settings_are_the_administrators(packages: &Packages) {
    let control = dpkg_deb("--field", &packages.host);
    for line in [
        "Package: dynmem",
        &format!("Version: {}", env!("CARGO_PKG_VERSION")),
        "Depends: libc6 (>= 2.",
        "qemu-system-x86 (>= 1:7.2)",
        "Section: admin",
    ] {
        assert!(control.contains(line), "no {line:?} in {control}");
    }
    let guests = dpkg_deb("--field", &packages.guest);
    assert!(guests.contains("Package: dynmem-agent\n") && !guests.contains("Depends:"), "{guests}");
    assert_eq!(control.matches('@').count(), 1, "the maintainer has one, and no blank is left: {control}");
    let settings = shell::output(Command::new("dpkg-deb").args(["--info"]).arg(&packages.host).arg("conffiles"));
    assert_eq!(settings.expect("a list").trim(), "/etc/dynmem/dynmemd.toml");
}
