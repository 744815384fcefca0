//! A host laid out in a temporary tree, and the one that this runs on.

use std::{fs, path::Path, time::Duration};

use dynmem_linux::{Cgroups, HostReader, ReadError};
use dynmem_units::Bytes;

fn lay_out(root: &Path, files: &[(&str, &str)]) -> HostReader {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary tree");
        fs::write(path, text).expect("a temporary tree");
    }
    HostReader::at(root)
}

const MEMINFO: (&str, &str) = (
    "proc/meminfo",
    "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\nHugetlb: 2097152 kB\n",
);

#[test]
fn a_sample_leaves_out_what_huge_pages_have_set_apart() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let psi = "some avg10=1.50 avg60=0.00 avg300=0.00 total=70\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=30\n";
    let host = lay_out(root.path(), &[MEMINFO, ("proc/pressure/memory", psi)]);
    let sample = host.sample().expect("readable");
    assert_eq!(sample.memory, Bytes::from_mib(6 << 10));
    assert_eq!(sample.facts.available, Bytes::from_mib(4 << 10));
    assert_eq!(sample.facts.stall, 150);
    assert_eq!(sample.pressure.expect("measured").full.total, Duration::from_micros(30));
    assert_eq!((sample.swap_total, sample.swap_used), (Bytes::from_mib(2), Bytes::from_mib(1)));
}

#[test]
fn a_host_without_psi_is_not_under_pressure() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let sample = lay_out(root.path(), &[MEMINFO]).sample().expect("readable");
    assert_eq!((sample.pressure, sample.facts.stall), (None, 0));
}

#[test]
fn an_error_names_the_file_that_was_read() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().join("proc/meminfo");
    let error = HostReader::at(root.path()).sample().expect_err("nothing there");
    assert_eq!(error.to_string(), format!("Can't read {}", path.display()));
    let error = lay_out(root.path(), &[("proc/meminfo", "MemTotal: 1 kB\n")]).sample().expect_err("torn");
    assert!(matches!(error, ReadError::Malformed { expected: "MemAvailable", .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("Can't understand {}: MemAvailable is missing or malformed", path.display()));
}

#[test]
fn a_file_without_end_is_cut() {
    let host = HostReader::at("/");
    assert!(host.process(u32::MAX).expect("no such process is no error").is_none());
    let root = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(root.path().join("proc")).expect("a temporary tree");
    std::os::unix::fs::symlink("/dev/zero", root.path().join("proc/meminfo")).expect("a temporary tree");
    assert!(matches!(HostReader::at(root.path()).memory_info(), Err(ReadError::Malformed { .. })));
}

#[test]
fn this_host_has_memory() {
    let sample = HostReader::default().sample().expect("readable");
    assert!(sample.memory > Bytes::ZERO && sample.facts.available <= sample.memory, "{sample:?}");
    assert!(sample.facts.stall <= 10_000);
}

#[test]
fn the_memory_controller_is_found_in_either_version() {
    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let find = |mounts, controllers| {
        let root = tempfile::tempdir().expect("a temporary folder");
        let files = [("proc/self/mountinfo", mounts), ("sys/fs/cgroup/unified/cgroup.controllers", controllers)];
        let found = lay_out(root.path(), &files).cgroups().expect("readable");
        let below = |path: std::path::PathBuf| path.strip_prefix(root.path()).expect("below the root").to_owned();
        match found {
            Cgroups::V1(mount) => Cgroups::V1(below(mount)),
            Cgroups::V2(mount) => Cgroups::V2(below(mount)),
            Cgroups::Missing => Cgroups::Missing,
        }
    };
    assert_eq!(find(V1, "hugetlb\n"), Cgroups::V1("sys/fs/cgroup/mem ory".into()));
    assert_eq!(find(V1, "cpu memory io\n"), Cgroups::V2("sys/fs/cgroup/unified".into()));
    assert_eq!(find("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\ngarbage\n", ""), Cgroups::Missing);
}
