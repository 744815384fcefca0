//! Swap files on the host's own kernel, where it lets us.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use dynmem_linux::{GroupError, GroupLimit, HostReader, MemoryGroup, SwapError, SwapFile, may_swap};
use dynmem_units::Bytes;
use tempfile::TempDir;

const SIZE: Bytes = Bytes::from_mib(16);

/// A folder whose swap files are given back whatever happens: an active one
/// could not even be deleted.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a disk"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("web01.swap")
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.0.path()).expect("readable").next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let areas = HostReader::default().swap_areas().unwrap_or_default();
        for area in areas.iter().filter(|area| area.path.starts_with(self.0.path())) {
            if let Ok(Some(file)) = SwapFile::open(&area.path) {
                let _ = file.deactivate();
            }
        }
    }
}

/// An active file, unless this kernel doesn't let us have one.
fn active(path: &Path) -> Option<SwapFile> {
    let file = SwapFile::create(path, SIZE).expect("room for it");
    match file.activate() {
        Err(error @ (SwapError::NotPermitted(_) | SwapError::Unsuitable { .. })) => {
            assert!(!may_swap() || matches!(error, SwapError::Unsuitable { .. }));
            eprintln!("SKIPPED: {error}");
            None
        }
        outcome => {
            assert!(may_swap());
            outcome.map(|()| Some(file)).expect("a file that the kernel likes")
        }
    }
}

#[test]
fn a_file_is_made_used_given_up_and_deleted() {
    let (folder, host) = (Folder::new(), HostReader::default());
    let Some(file) = active(&folder.file()) else { return };
    let metadata = fs::metadata(folder.file()).expect("there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "a guest's memory is nobody else's business");
    let areas = host.swap_areas().expect("readable");
    let ours = areas.iter().find(|area| area.path == folder.file()).expect("in use");
    assert_eq!(ours.size, SIZE, "all of it is for pages");
    assert!(areas.iter().all(|area| area == ours || area.priority <= ours.priority), "filled first: {areas:?}");
    assert_eq!(file.used(&host).expect("readable"), Some(ours.used));

    file.deactivate().expect("nothing is in it");
    assert_eq!(file.used(&host).expect("readable"), None);
    file.deactivate().expect("fine a second time");
    file.delete().expect("an ordinary file by now");
    assert!(folder.is_empty());
}

#[test]
fn a_file_in_use_is_not_deleted_and_is_found_again() {
    let (folder, host) = (Folder::new(), HostReader::default());
    let Some(file) = active(&folder.file()) else { return };
    drop(file); // whoever made it has died
    let file = SwapFile::open(&folder.file()).expect("readable").expect("there");
    let refused = file.delete();
    assert!(matches!(refused, Err(SwapError::Io { action: "delete", .. })), "{refused:?}");
    let file = SwapFile::open(&folder.file()).expect("readable").expect("still there");
    assert!(file.used(&host).expect("readable").is_some());
    file.deactivate().expect("nothing is in it");
    file.delete().expect("an ordinary file by now");
    assert!(SwapFile::open(&folder.file()).expect("readable").is_none());
}

#[test]
fn a_file_whose_folder_was_moved_is_still_ours() {
    let (folder, host) = (Folder::new(), HostReader::default());
    let (old, new) = (folder.0.path().join("old"), folder.0.path().join("new one"));
    fs::create_dir(&old).expect("a folder");
    let Some(file) = active(&old.join("web01.swap")) else { return };
    fs::rename(&old, &new).expect("the kernel lets us");
    assert_eq!(file.path().expect("known"), new.join("web01.swap"));
    assert!(file.used(&host).expect("readable").is_some());
    file.deactivate().expect("nothing is in it");
    file.delete().expect("an ordinary file by now");
    assert!(fs::read_dir(new).expect("readable").next().is_none());
}

#[test]
fn a_file_that_was_deleted_already_is_fine() {
    let folder = Folder::new();
    let file = SwapFile::create(&folder.file(), SIZE).expect("room for it");
    fs::remove_file(folder.file()).expect("not in use");
    fs::write(folder.file(), "somebody else's").expect("written");
    file.delete().expect("nothing to do");
    assert_eq!(fs::read_to_string(folder.file()).expect("untouched"), "somebody else's");
}

#[test]
fn what_is_there_is_neither_overwritten_nor_followed() {
    let folder = Folder::new();
    fs::write(folder.file(), "precious").expect("written");
    let link = folder.0.path().join("link");
    symlink(folder.0.path().join("nowhere"), &link).expect("a link");
    for path in [folder.file(), link.clone()] {
        let error = SwapFile::create(&path, SIZE).expect_err("taken");
        assert!(matches!(&error, SwapError::Exists(taken) if *taken == path), "{error:?}");
    }
    assert_eq!(fs::read_to_string(folder.file()).expect("still there"), "precious");
    assert!(!folder.0.path().join("nowhere").exists());
    assert!(SwapFile::open(&link).is_err(), "a link is not one of ours");
    assert!(SwapFile::open(folder.0.path()).is_err(), "nor is a folder");
}

#[test]
fn a_disk_that_would_be_full_is_left_as_it_is() {
    let folder = Folder::new();
    let error = SwapFile::create(&folder.file(), Bytes::from_mib(8 << 20)).expect_err("8 TiB");
    assert!(matches!(error, SwapError::Full { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("it takes") && text.contains("are kept free"), "{text}");
    assert!(folder.is_empty(), "nothing is left behind");
}

#[test]
fn a_file_system_without_swap_files_is_named_as_the_reason() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return eprintln!("SKIPPED: no tmpfs at /dev/shm") };
    let path = folder.path().join("web01.swap");
    let file = SwapFile::create(&path, SIZE).expect("room for it");
    let error = file.activate().expect_err("a tmpfs is memory itself");
    if let SwapError::NotPermitted(_) = error {
        return eprintln!("SKIPPED: {error}");
    }
    assert!(error.to_string().starts_with(&format!("Can't swap to {}: its file system", path.display())), "{error}");
    file.delete().expect("an ordinary file");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = Folder::new();
    let path = folder.0.path().join("missing/web01.swap");
    let error = SwapFile::create(&path, SIZE).expect_err("no folder");
    assert!(error.to_string().starts_with(&format!("Can't create {}: No such file", path.display())), "{error}");
    assert!(SwapFile::open(&path).expect("readable").is_none());
}

/// A process that holds 32 MiB once it is told to, in a group of its own.
struct Holder {
    process: Child,
    group: MemoryGroup,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
        let parent = self.group.path().parent().map(Path::to_owned);
        let _ = self.group.remove();
        let _ = parent.map(fs::remove_dir);
    }
}

impl Holder {
    /// None where we may have no groups.
    fn new() -> Option<Self> {
        let cgroups = HostReader::default().cgroups().expect("mounts are readable");
        let parent = format!("dynmem-swap-test-{}", std::process::id());
        let group = match cgroups.create_group(parent.as_ref(), "paged") {
            Ok(group) => group,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                return None;
            }
        };
        let mut command = Command::new("sh");
        command.args(["-c", "read go; exec dd if=/dev/zero bs=32M count=1 status=none"]);
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh runs");
        group.add_process(process.id()).expect("moved before it holds anything");
        Some(Self { process, group })
    }

    fn limit(&self, memory: u64, swap: u64) -> Result<(), GroupError> {
        let (hard, swap) = (Bytes::from_mib(memory), Bytes::from_mib(swap));
        self.group.set_limit(GroupLimit { soft: hard, hard, swap })
    }

    /// It has touched all of it when somebody can read the first byte.
    fn fill(&mut self) {
        self.process.stdin.take().expect("piped").write_all(b"go\n").expect("it reads");
        self.process.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it holds the memory now");
    }

    /// The rest of its 32 MiB, read to the end: all zeros, and it ends well.
    fn is_intact(&mut self) -> bool {
        let mut rest = Vec::new();
        self.process.stdout.take().expect("piped").read_to_end(&mut rest).expect("readable");
        let ended_well = self.process.wait().expect("our child").success();
        ended_well && rest.len() + 1 == 32 << 20 && rest.iter().all(|byte| *byte == 0)
    }
}

#[test]
fn what_does_not_fit_goes_to_the_file_and_comes_back_only_with_room_for_it() {
    let (folder, host) = (Folder::new(), HostReader::default());
    let Some(mut holder) = Holder::new() else { return };
    let Some(file) = active(&folder.file()) else { return };
    holder.limit(24, 16).expect("an empty group takes any limit");
    holder.fill();
    let used = file.used(&host).expect("readable").expect("active");
    assert!(used >= Bytes::from_mib(6), "{used} of 32 MiB with 24 of memory");
    // No more swap: version 1 sees that it does not fit, and version 2 lets
    // nothing more out. Emptying the file now would kill the process.
    let _ = holder.limit(24, 0);
    assert_eq!(holder.process.try_wait().expect("our child"), None, "it lives");
    holder.limit(64, 0).expect("room for all of it");
    file.deactivate().expect("there is room");
    file.delete().expect("an ordinary file by now");
    assert!(holder.is_intact());
}
