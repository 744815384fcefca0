//! Memory groups: on temporary trees in both versions, and on the host's own
//! where it lets us.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use dynmem_linux::{Cgroups, GroupError, GroupEvents, GroupLimit, HostReader, MemoryGroup};
use dynmem_units::Bytes;
use tempfile::TempDir;

fn lay_out(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("a temporary tree");
    }
}

fn text(group: &MemoryGroup, name: &str) -> String {
    fs::read_to_string(group.path().join(name)).expect("a temporary tree")
}

fn limit(mib: u64) -> GroupLimit {
    GroupLimit { soft: Bytes::from_mib(mib), hard: Bytes::from_mib(mib + 64), swap: Bytes::ZERO }
}

const V1_HARD: &str = "memory.limit_in_bytes";
const V1_WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

/// A group in a tree that looks like the unified hierarchy.
fn v2() -> (TempDir, MemoryGroup) {
    let mount = tempfile::tempdir().expect("a temporary folder");
    lay_out(mount.path(), &[("cgroup.subtree_control", "cpu")]);
    fs::create_dir(mount.path().join("dynmem")).expect("a temporary tree");
    lay_out(&mount.path().join("dynmem"), &[("cgroup.subtree_control", "cpu memory\n")]);
    let group = Cgroups::V2(mount.path().to_owned()).create_group("dynmem".as_ref(), "web01").expect("created");
    assert_eq!(group.path(), mount.path().join("dynmem/vm-web01"));
    let files = [
        ("cgroup.procs", "12\n34\n"),
        ("memory.current", "314572800\n"),
        ("memory.stat", "anon 1048576\nfile 209715200\nshmem 103809024\nslab_unreclaimable 0\npagetables 0\n"),
        ("memory.high", "max\n"),
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
    ];
    lay_out(group.path(), &files);
    (mount, group)
}

fn v1() -> (TempDir, MemoryGroup) {
    let mount = tempfile::tempdir().expect("a temporary folder");
    let group = Cgroups::V1(mount.path().to_owned()).create_group("dynmem".as_ref(), "web01").expect("created");
    let files = [
        ("cgroup.procs", ""),
        ("memory.usage_in_bytes", "314572800\n"),
        ("memory.stat", "cache 5\nrss 7\nshmem 9\ntotal_rss 1048576\ntotal_shmem 103809024\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
        ("memory.swappiness", "60\n"),
    ];
    lay_out(group.path(), &files);
    (mount, group)
}

#[test]
fn version_2_enables_the_controller_where_it_is_not() {
    let (mount, _) = v2();
    assert_eq!(fs::read_to_string(mount.path().join("cgroup.subtree_control")).expect("written"), "+memory");
    let parent = fs::read_to_string(mount.path().join("dynmem/cgroup.subtree_control")).expect("there");
    assert_eq!(parent, "cpu memory\n", "what was delegated with it is left alone");
}

#[test]
fn version_2_limits_memory_and_forbids_swap() {
    let (_mount, group) = v2();
    group.set_limit(limit(512)).expect("above what is held");
    assert_eq!(text(&group, "memory.swap.max"), "0");
    assert_eq!(text(&group, "memory.high"), "536870912");
    assert_eq!(text(&group, "memory.max"), "603979776");
    fs::remove_file(group.path().join("memory.swap.max")).expect("there");
    group.set_limit(limit(256)).expect("a kernel without swap accounting");
    assert!(!group.path().join("memory.swap.max").exists());
}

#[test]
fn version_1_limits_memory_and_forbids_swap() {
    let (_mount, group) = v1();
    group.set_limit(limit(512)).expect("above what is held");
    for name in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] {
        assert_eq!(text(&group, name), "603979776");
    }
    assert_eq!(text(&group, "memory.swappiness"), "0");
}

#[test]
fn a_group_that_may_swap_may_swap_so_much_and_no_more() {
    let paged = GroupLimit { swap: Bytes::from_mib(128), ..limit(512) };
    let (_mount, group) = v2();
    group.set_limit(paged).expect("above what is held");
    assert_eq!((text(&group, "memory.max"), text(&group, "memory.swap.max")), mib_pair(576, 128));
    group.set_limit(limit(640)).expect("paging is over");
    assert_eq!((text(&group, "memory.max"), text(&group, "memory.swap.max")), mib_pair(704, 0));

    let (_mount, group) = v1();
    group.set_limit(paged).expect("above what is held");
    assert_eq!((text(&group, V1_HARD), text(&group, V1_WITH_SWAP)), mib_pair(576, 704));
    assert_ne!(text(&group, "memory.swappiness"), "0", "the kernel would swap nothing");
    group.set_limit(limit(640)).expect("paging is over");
    assert_eq!((text(&group, V1_HARD), text(&group, V1_WITH_SWAP)), mib_pair(704, 704));
    assert_eq!(text(&group, "memory.swappiness"), "0");
}

fn mib_pair(one: u64, other: u64) -> (String, String) {
    (Bytes::from_mib(one).get().to_string(), Bytes::from_mib(other).get().to_string())
}

#[test]
fn what_may_be_swapped_out_does_not_have_to_fit_into_memory() {
    for (_mount, group) in [v2(), v1()] {
        let part = |swap| GroupLimit { soft: Bytes::from_mib(60), hard: Bytes::from_mib(60), swap };
        group.set_limit(part(Bytes::from_mib(40))).expect("60 of memory and 40 of swap take the 100 that it holds");
        let error = group.set_limit(part(Bytes::from_mib(38))).expect_err("98 don't");
        assert!(matches!(error, GroupError::BelowUsage { .. }), "{error:?}");
    }
}

#[test]
fn a_limit_that_would_kill_the_machine_is_refused_and_changes_nothing() {
    for (_mount, group) in [v2(), v1()] {
        let usage = group.usage().expect("readable");
        assert_eq!((usage.total, usage.held), (Bytes::from_mib(300), Bytes::from_mib(100)));
        // 300 MiB are charged, but two thirds are caches.
        group
            .set_limit(GroupLimit { soft: usage.held, hard: usage.held, swap: Bytes::ZERO })
            .expect("as much as is held");
        let hard = Bytes::from_mib(98);
        let error = group.set_limit(GroupLimit { soft: hard, hard, swap: Bytes::ZERO }).expect_err("below");
        assert!(matches!(error, GroupError::BelowUsage { .. }), "{error:?}");
        assert!(error.to_string().contains("to 98MiB: its processes hold 100MiB"), "{error}");
        let name = if group.path().join("memory.max").exists() { "memory.max" } else { "memory.limit_in_bytes" };
        assert_eq!(text(&group, name), "104857600");
    }
}

#[test]
fn the_kernels_part_counts_as_held_however_it_is_counted() {
    let kernel_of = |group: &MemoryGroup| {
        let usage = group.usage().expect("readable");
        (usage.kernel.mib(), usage.held.mib())
    };
    let (_mount, group) = v2();
    assert_eq!(kernel_of(&group), (0, 100));
    lay_out(
        group.path(),
        &[("memory.stat", "anon 104857600\nslab_reclaimable 5242880\nkernel 15728640\nsock 2097152\n")],
    );
    assert_eq!(kernel_of(&group), (12, 112), "caches of the kernel's are not held");
    lay_out(group.path(), &[("memory.stat", "anon 104857600\npagetables 6291456\nkernel_stack 1048576\n")]);
    assert_eq!(kernel_of(&group), (7, 107), "a kernel that does not count it all");

    let (_mount, group) = v1();
    lay_out(group.path(), &[("memory.kmem.usage_in_bytes", "3145728\n")]);
    assert_eq!(kernel_of(&group), (3, 103));
}

#[test]
fn what_happened_to_a_group_is_told_in_either_version() {
    let (_mount, group) = v2();
    lay_out(group.path(), &[("memory.events", "low 9\nhigh 4\nmax 3\noom 2\noom_kill 1\noom_group_kill 7\n")]);
    let events = GroupEvents { ooms: 2, oom_kills: 1 };
    assert_eq!(group.events().expect("readable"), events);
    assert_eq!(group.peak(), None, "an old kernel");
    lay_out(group.path(), &[("memory.peak", "1048576\n")]);
    assert_eq!(group.peak(), Some(Bytes::MIB));

    let (_mount, group) = v1();
    lay_out(group.path(), &[("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")]);
    assert_eq!(group.events().expect("readable"), GroupEvents { ooms: 1, oom_kills: 1 });
}

#[test]
fn groups_are_found_again_and_their_folder_goes_when_it_is_empty() {
    let mount = tempfile::tempdir().expect("a temporary folder");
    let cgroups = Cgroups::V1(mount.path().to_owned());
    let parent = Path::new("dynmem/one");
    assert_eq!(cgroups.group_names(parent).expect("nothing is there"), Vec::<String>::new());
    let group = cgroups.create_group(parent, "web01").expect("created");
    fs::create_dir(mount.path().join("dynmem/one/somebody-elses")).expect("a temporary tree");
    assert_eq!(cgroups.group_names(parent).expect("readable"), ["web01"]);
    assert_eq!(cgroups.group(parent, "web01").expect("there"), Some(group.clone()));
    assert_eq!(cgroups.group(parent, "db").expect("a name"), None);

    assert!(cgroups.remove_parent(parent).is_err(), "not with groups in it");
    group.remove().expect("empty");
    fs::remove_dir(mount.path().join("dynmem/one/somebody-elses")).expect("empty");
    cgroups.remove_parent(parent).expect("empty");
    assert!(mount.path().join("dynmem").is_dir(), "the folder of all daemons stays");
}

#[test]
fn processes_are_listed_and_moved_in() {
    let (_mount, group) = v2();
    assert_eq!(group.processes().expect("readable"), [12, 34]);
    group.add_process(56).expect("writable");
    assert_eq!(text(&group, "cgroup.procs"), "56");
    lay_out(group.path(), &[("cgroup.procs", "x")]);
    assert!(matches!(group.processes(), Err(GroupError::Malformed { .. })));
}

#[test]
fn an_existing_group_is_taken_up_and_a_missing_one_removed_in_peace() {
    let mount = tempfile::tempdir().expect("a temporary folder");
    let cgroups = Cgroups::V1(mount.path().to_owned());
    let group = cgroups.create_group("a/b".as_ref(), "memory.max").expect("created");
    assert_eq!(cgroups.create_group("a/b".as_ref(), "memory.max").expect("there already"), group);
    group.remove().expect("empty");
    group.remove().expect("gone already");
    assert!(!group.path().exists());
}

#[test]
fn no_name_leads_out_of_the_hierarchy() {
    let mount = tempfile::tempdir().expect("a temporary folder");
    let cgroups = Cgroups::V1(mount.path().to_owned());
    for (parent, name) in [("", "a"), ("..", "a"), ("/etc", "a"), ("a/../..", "a"), ("a", "/../../b"), ("a", "b\n")] {
        let error = cgroups.create_group(parent.as_ref(), name).expect_err(name);
        assert!(matches!(error, GroupError::Name(_)), "{parent} {name}: {error:?}");
    }
    assert!(matches!(Cgroups::Missing.create_group("a".as_ref(), "b"), Err(GroupError::Missing)));
}

#[test]
fn an_error_names_the_file_and_what_was_tried() {
    let (_mount, group) = v2();
    fs::remove_file(group.path().join("memory.high")).expect("there");
    let error = group.set_limit(limit(512)).expect_err("no such file");
    let path = group.path().join("memory.high");
    assert_eq!(error.to_string(), format!("Can't write 536870912 to {}", path.display()));
    assert!(!path.exists(), "never invented");
}

/// A group of the host's own, removed at the end whatever happens.
struct RealGroup(MemoryGroup);

impl Drop for RealGroup {
    fn drop(&mut self) {
        let parent = self.0.path().parent().map(Path::to_owned);
        let _ = self.0.remove();
        let _ = parent.map(fs::remove_dir);
    }
}

/// A process that waits for a line and then holds 32 MiB: its one large buffer,
/// which it can't get rid of, because nobody reads more than a byte of it.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn holder() -> Holder {
    let script = "read go; exec dd if=/dev/zero bs=32M count=1 status=none";
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    Holder(command.spawn().expect("sh runs"))
}

/// A group of the host's own; `None`, and a line that says so, where it lets
/// nobody have one.
fn real_group(name: &str) -> Option<RealGroup> {
    let cgroups = HostReader::default().cgroups().expect("mounts are readable");
    let parent = format!("dynmem-test-{name}-{}", std::process::id());
    match cgroups.create_group(parent.as_ref(), "real") {
        Ok(group) => return Some(RealGroup(group)),
        Err(GroupError::Io { source, path, .. }) if is_not_ours(&source) => {
            eprintln!("SKIPPED: no right to create memory groups at {}: {source}", path.display());
        }
        Err(GroupError::Missing) => eprintln!("SKIPPED: the host has no memory cgroups"),
        Err(error) => panic!("{error}: {error:?}"),
    }
    None
}

#[test]
fn whoever_goes_beyond_the_limit_is_killed_alone_and_the_group_says_so() {
    let Some(group) = real_group("kill") else { return };
    let group = &group.0;
    let limit = GroupLimit { soft: Bytes::from_mib(16), hard: Bytes::from_mib(16), swap: Bytes::ZERO };
    group.set_limit(limit).expect("an empty group takes any limit");
    assert_eq!(group.events().expect("readable"), GroupEvents::default());
    let mut holder = holder();
    group.add_process(holder.0.id()).expect("moved before it holds anything");
    holder.0.stdin.take().expect("piped").write_all(b"go\n").expect("it reads");
    let status = holder.0.wait().expect("our child");
    assert_eq!(status.signal(), Some(9), "it wants 32 MiB");
    let events = group.events().expect("readable");
    assert_eq!((events.oom_kills, events.ooms >= 1), (1, true), "{events:?}");
    assert!(group.peak().is_none_or(|peak| (Bytes::from_mib(15)..=limit.hard).contains(&peak)), "{:?}", group.peak());
}

#[test]
fn the_hosts_own_kernel_counts_and_keeps_the_limit() {
    let Some(group) = real_group("keep") else { return };
    let group = &group.0;
    // Up and down, with swap and without, in every order: the kernel refuses
    // memory above memory and swap.
    let steps = [(512, 0), (64, 0), (64, 512), (512, 64), (32, 128), (128, 0), (1024, 1024), (64, 0), (128, 0)];
    for (mib, swap) in steps {
        let limit = GroupLimit { swap: Bytes::from_mib(swap), ..limit(mib) };
        group.set_limit(limit).expect("an empty group takes any limit");
        assert_eq!(group.hard_limit().expect("readable"), limit.hard);
    }

    let mut holder = holder();
    group.add_process(holder.0.id()).expect("moved before it holds anything");
    assert_eq!(group.processes().expect("readable"), [holder.0.id()]);
    assert!(matches!(group.remove(), Err(GroupError::Io { .. })), "not while somebody is in it");
    holder.0.stdin.take().expect("piped").write_all(b"go\n").expect("it reads");
    holder.0.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it holds the memory now");
    let usage = group.usage().expect("readable");
    // The kernel counts per processor and may be some pages behind.
    assert!((Bytes::from_mib(30)..Bytes::from_mib(40)).contains(&usage.held), "{usage:?}");
    group.set_limit(limit(64)).expect("more than it holds");
    let hard = Bytes::from_mib(16);
    let refused = group.set_limit(GroupLimit { soft: hard, hard, swap: Bytes::ZERO });
    assert!(matches!(refused, Err(GroupError::BelowUsage { .. })), "{refused:?}");
    assert_eq!(holder.0.try_wait().expect("our child"), None, "it lives");

    drop(holder);
    group.remove().expect("empty again");
    assert!(!group.path().exists());
}

fn is_not_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
}
