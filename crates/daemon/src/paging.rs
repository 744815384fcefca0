//! Smart paging files: where they are made, what is remembered of them, and
//! how they come and go. Who gets one, and when, is the engine's decision; what
//! a machine's driver makes of it is in `driver/paging.rs`.
//!
//! ```text
//!   <state_dir>/paging/web01.json   which file, and how much the machine may hold beside it
//!   <folder>/web01.swap             the file; the folder is the same, or the one that a person chose
//! ```
//! The record is there before the file and after it. So the next daemon finds
//! every file that an earlier one has made, wherever it is, and nobody else's:
//! other programs' swap is not ours to touch.
//!
//! Everything here may block for as long as the disk likes.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use dynmem_core::Paged;
use dynmem_linux::{HostReader, SwapError, SwapFile};
use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

/// A record is not longer.
const RECORD_BYTES_MAX: u64 = 16 << 10;
/// What went wrong with a smart paging file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PagingError {
    /// With the file itself.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// With its folder or its record.
    #[error("Can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It was not done to its end: a bug of ours.
    #[error("The work on it broke down: {0}")]
    BrokeDown(String),
    /// There is one that does not do.
    #[error("File {} has {there}, and {needs} are needed: it is from an earlier restart and not empty yet", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        there: Bytes,
        /// What was asked.
        needs: Bytes,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PagingError {
    let path = path.to_owned();
    move |source| PagingError::Io { action, path, source }
}

/// Where a VM's file is made, and where that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    record: PathBuf,
    file: PathBuf,
}

/// What is remembered of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    file: PathBuf,
    /// What it was made for.
    file_bytes: Bytes,
    /// What the machine may hold in memory besides, its overhead excluded.
    memory_bytes: Bytes,
}

/// A file in use. Dropping it changes nothing.
#[derive(Debug)]
pub(crate) struct PagingFile {
    place: Place,
    record: Record,
    swap: SwapFile,
}

impl Place {
    /// The place of VM `name`; `folder` is the one that a person chose for it.
    pub(crate) fn new(root: &Path, folder: Option<&Path>, name: &str) -> Self {
        Self { record: root.join(format!("{name}.json")), file: folder.unwrap_or(root).join(format!("{name}.swap")) }
    }

    /// Where the file is, or would be.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Makes the file and lets the kernel use it; if that fails, nothing is
    /// left behind. One that is in use already serves again.
    pub(crate) fn begin(&self, paged: Paged) -> Result<PagingFile, PagingError> {
        if let Some(mut there) = self.find()? {
            let Record { file, file_bytes, .. } = &there.record;
            if *file_bytes < paged.file {
                return Err(PagingError::TooSmall { path: file.clone(), there: *file_bytes, needs: paged.file });
            }
            there.remember(paged.memory)?;
            return Ok(there);
        }
        // Before it is remembered as ours: a daemon that dies in between would
        // let the next one delete it.
        if self.file.symlink_metadata().is_ok() {
            return Err(SwapError::Exists(self.file.clone()).into());
        }
        let root = self.record.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed("create", root))?;
        let record = Record { file: self.file.clone(), file_bytes: paged.file, memory_bytes: paged.memory };
        record.write(&self.record)?;
        let made = SwapFile::create(&record.file, paged.file).map_err(PagingError::from).and_then(|swap| {
            match swap.activate() {
                Ok(()) => Ok(swap),
                Err(error) => {
                    let _ = swap.delete(); // why it is of no use says more
                    Err(error.into())
                }
            }
        });
        match made {
            Ok(swap) => Ok(PagingFile { place: self.clone(), record, swap }),
            Err(error) => {
                let _ = fs::remove_file(&self.record); // the same
                Err(error)
            }
        }
    }

    /// The file that an earlier daemon, or an earlier try, has left in use. What
    /// is left of one that is not is cleared away.
    pub(crate) fn find(&self) -> Result<Option<PagingFile>, PagingError> {
        let Some(record) = self.recall()? else { return Ok(None) };
        let Some(swap) = SwapFile::open(&record.file)? else { return self.forget().map(|()| None) };
        let file = PagingFile { place: self.clone(), record, swap };
        if file.used()?.is_some() {
            return Ok(Some(file));
        }
        file.swap.delete()?;
        self.forget().map(|()| None)
    }

    /// Gives up whatever was left of a file whose machine is gone.
    pub(crate) fn clear(&self) -> Result<(), PagingError> {
        match self.find()? {
            Some(file) => file.end().map_err(|failed| failed.1),
            None => Ok(()),
        }
    }

    fn recall(&self) -> Result<Option<Record>, PagingError> {
        match fs::metadata(&self.record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &self.record)(error)),
            Ok(found) if found.len() > RECORD_BYTES_MAX => {
                return Err(failed("read", &self.record)(io::Error::other("it is too long")));
            }
            Ok(_) => {}
        }
        let text = fs::read(&self.record).map_err(failed("read", &self.record))?;
        // One that can't be read is no reason to lose a file in the usual place.
        Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| Record {
            file: self.file.clone(),
            file_bytes: Bytes::ZERO,
            memory_bytes: Bytes::ZERO,
        })))
    }

    fn forget(&self) -> Result<(), PagingError> {
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &self.record)(error)),
            _ => Ok(()),
        }
    }
}

impl Record {
    /// Replaces the record, whole or not at all.
    fn write(&self, path: &Path) -> Result<(), PagingError> {
        let fresh = path.with_extension("json.new");
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            // Not synced: a machine and its file don't outlive the host.
            fs::rename(&fresh, path)
        };
        write().map_err(failed("write", path))
    }
}

impl PagingFile {
    /// How the machine's memory is parted.
    pub(crate) fn paged(&self) -> Paged {
        Paged { memory: self.record.memory_bytes, file: self.record.file_bytes }
    }

    /// What lies in it; `None` if it is not in use any more.
    pub(crate) fn used(&self) -> Result<Option<Bytes>, PagingError> {
        Ok(self.swap.used(&HostReader::default())?)
    }

    /// The machine may hold so much from now on: for the next daemon.
    pub(crate) fn remember(&mut self, memory: Bytes) -> Result<(), PagingError> {
        if self.record.memory_bytes == memory {
            return Ok(());
        }
        self.record.memory_bytes = memory;
        self.record.write(&self.place.record)
    }

    /// Fetches everything back and deletes the file. There must be memory for
    /// it: see [`SwapFile::deactivate`]. If it fails the file is still in use.
    pub(crate) fn end(self) -> Result<(), Box<(Self, PagingError)>> {
        if let Err(error) = self.swap.deactivate() {
            return Err(Box::new((self, error.into())));
        }
        let Self { place, swap, .. } = self;
        let over = swap.delete().map_err(PagingError::from).and_then(|()| place.forget());
        if let Err(error) = over {
            // An ordinary file by now, which harms nobody but the disk; it is
            // cleared away with the next one, or by the next daemon.
            tracing::warn!(%error, "a smart paging file was given up, and something is left of it");
        }
        Ok(())
    }
}

/// The VMs that something is remembered of.
pub(crate) fn remembered(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let name = |path: PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned());
    entries.flatten().filter_map(|entry| name(entry.path())).collect()
}

/// True if `folder`, or what would hold it, is on the disk that the system is
/// on: paging there slows everything down.
pub(crate) fn is_on_system_disk(folder: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    let there = folder.ancestors().find_map(device);
    there.is_some() && there == device(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGED: Paged = Paged { memory: Bytes::from_mib(100), file: Bytes::from_mib(16) };

    /// A folder whose files are given up whatever happens.
    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Self {
            Self(tempfile::tempdir_in("/var/tmp").expect("a folder on a disk"))
        }

        fn place(&self) -> Place {
            Place::new(self.0.path(), None, "web01")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).expect("readable").flatten();
            let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = self.place().clear();
        }
    }

    /// The file, unless this host has none.
    fn begin(place: &Place) -> Option<PagingFile> {
        match place.begin(PAGED) {
            Err(error @ PagingError::Swap(SwapError::NotPermitted(_) | SwapError::Unsuitable { .. })) => {
                eprintln!("SKIPPED: {error}");
                None
            }
            begun => Some(begun.expect("a file")),
        }
    }

    #[test]
    fn a_file_is_remembered_from_before_its_beginning_to_after_its_end() {
        let root = Root::new();
        let Some(mut file) = begin(&root.place()) else { return };
        assert_eq!(root.names(), ["web01.json", "web01.swap"]);
        assert_eq!(remembered(root.0.path()), ["web01"]);
        assert_eq!(file.paged(), PAGED);
        file.remember(Bytes::from_mib(120)).expect("writable");
        drop(file); // the daemon has died

        let file = root.place().find().expect("readable").expect("in use");
        assert_eq!(file.paged(), Paged { memory: Bytes::from_mib(120), ..PAGED });
        assert!(file.used().expect("readable").is_some());
        file.end().expect("nothing is in it");
        assert_eq!(root.names(), [""; 0]);
        assert!(root.place().find().expect("readable").is_none());
    }

    #[test]
    fn a_file_in_use_serves_again_if_it_is_large_enough() {
        let root = Root::new();
        let Some(file) = begin(&root.place()) else { return };
        drop(file);
        let more = Paged { file: Bytes::from_mib(32), ..PAGED };
        let error = root.place().begin(more).expect_err("16 MiB are no 32");
        assert!(matches!(error, PagingError::TooSmall { .. }), "{error:?}");
        let less = Paged { memory: Bytes::from_mib(110), file: Bytes::from_mib(6) };
        let file = root.place().begin(less).expect("large enough");
        assert_eq!(file.paged(), Paged { file: PAGED.file, ..less });
        file.end().expect("nothing is in it");
    }

    #[test]
    fn a_file_is_found_where_it_was_made_even_if_another_place_is_chosen_since() {
        let (root, chosen) = (Root::new(), Root::new());
        let place = Place::new(root.0.path(), Some(chosen.0.path()), "web01");
        let Some(file) = begin(&place) else { return };
        drop(file);
        assert_eq!((root.names(), chosen.names()), (vec!["web01.json".to_owned()], vec!["web01.swap".to_owned()]));
        root.place().clear().expect("nothing is in it");
        assert_eq!((root.names(), chosen.names()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_a_dead_daemon_has_left_half_done_is_cleared_away() {
        let root = Root::new();
        let record = Record { file: root.place().file, file_bytes: PAGED.file, memory_bytes: PAGED.memory };
        // Before the file was made; and before it was used.
        record.write(&root.place().record).expect("writable");
        root.place().clear().expect("nothing else is there");
        assert_eq!(root.names(), [""; 0]);
        record.write(&root.place().record).expect("writable");
        SwapFile::create(&record.file, record.file_bytes).expect("room for it");
        assert!(root.place().find().expect("readable").is_none(), "not in use");
        assert_eq!(root.names(), [""; 0]);
        // A damaged record means a file in the usual place.
        fs::write(&root.place().record, "{").expect("writable");
        SwapFile::create(&record.file, record.file_bytes).expect("room for it");
        root.place().clear().expect("not in use");
        assert_eq!(root.names(), [""; 0]);
    }

    #[test]
    fn a_file_that_can_not_be_made_leaves_nothing_behind() {
        let root = Root::new();
        fs::write(&root.place().file, "precious").expect("writable");
        let error = root.place().begin(PAGED).expect_err("taken").to_string();
        assert!(error.contains("there is something of this name"), "{error}");
        assert_eq!(root.names(), ["web01.swap"]);
        let missing = Place::new(root.0.path(), Some(&root.0.path().join("missing")), "web01");
        let error = missing.begin(PAGED).expect_err("no folder").to_string();
        assert!(error.contains("missing/web01.swap: No such file"), "{error}");
        assert_eq!(root.names(), ["web01.swap"]);
        let huge = Paged { file: Bytes::from_mib(8 << 20), ..PAGED };
        let elsewhere = Place::new(root.0.path(), None, "web02");
        assert!(matches!(elsewhere.begin(huge), Err(PagingError::Swap(SwapError::Full { .. }))));
        assert_eq!(root.names(), ["web01.swap"]);
    }
}
