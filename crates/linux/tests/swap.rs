//! Swap files on the host's own kernel, where it lets us.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use dynmem_linux::{HostReader, SwapError, SwapFile, may_swap};
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
