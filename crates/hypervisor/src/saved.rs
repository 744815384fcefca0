//! [`SavedDir`]: a machine that is no more, in a folder: all that it takes to go
//! on from there.
//!
//! ```text
//! <state_dir>/saved/web01/   0700
//!   memory.partial           0600  QEMU's stream, being written
//!   memory                   0600  the whole of it
//!   saved.json               0600  of what machine it is: the VM is saved
//!   resumed.json                   the same, once its machine goes on
//! <state_dir>/saved/.web01.void-0/ its machine went on: being removed
//! ```
//! # If somebody is killed
//! The file `saved.json` decides. **While it is there, no machine of this VM
//! runs its processors**: it appears after the machine has come to a halt for
//! good and all of its memory is on the disk, and it changes its name before the
//! processors of the machine that was made of it run. So whoever finds it may
//! end what machine there is and has everything; whoever does not find it must
//! let the machine go on, and what lies here is worthless. At no instant is
//! there neither.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use dynmem_core::DeviceFacts;
use dynmem_definition::VmDefinition;
use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::{MachineRecord, RunDir};

/// The longest `saved.json` that is read: a definition's own bound, and more.
const RECORD_BYTES_MAX: u64 = 4 << 20;
/// In the name of a folder whose machine has gone on.
const VOID: &str = "void";

/// What was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRecord {
    /// The hardware of the machine, as it was launched.
    pub definition: VmDefinition,
    /// What it was launched with.
    pub machine: MachineRecord,
    /// What the balloon left of the boot memory.
    pub balloon_bytes: Bytes,
    /// What was hot-added.
    pub plugged_bytes: Bytes,
    /// The size of the file `memory`.
    pub file_bytes: Bytes,
    /// When it was saved, milliseconds since 1970.
    pub saved_unix_ms: u64,
}

impl SavedRecord {
    /// What its devices hold as soon as it runs again.
    pub fn devices(&self) -> DeviceFacts {
        DeviceFacts {
            boot: self.machine.boot_bytes,
            balloon_actual: self.balloon_bytes,
            plugged: self.plugged_bytes,
            plug_max: self.machine.plug_max_bytes,
            plug_block: self.machine.plug_block_bytes,
            overhead: self.machine.overhead_bytes,
        }
    }
}

/// The folder of one VM's saved state, whether it exists or not. Calls block on
/// the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedDir(PathBuf);

impl SavedDir {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn partial(&self) -> PathBuf {
        self.0.join("memory.partial")
    }

    fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }

    fn record(&self) -> PathBuf {
        self.0.join("saved.json")
    }

    fn resumed(&self) -> PathBuf {
        self.0.join("resumed.json")
    }

    /// True if a whole machine is here, as far as a look tells.
    pub fn is_whole(&self) -> bool {
        self.record().exists()
    }

    /// What is saved here; `None` if nothing is. An error if that can't be read,
    /// or if its memory is not as long as it says.
    pub fn read(&self) -> io::Result<Option<SavedRecord>> {
        let length = match fs::metadata(self.record()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found?.len(),
        };
        let invalid = |reason: String| io::Error::new(ErrorKind::InvalidData, reason);
        if length > RECORD_BYTES_MAX {
            return Err(invalid("it is too large to be the record of a saved machine".to_owned()));
        }
        let record: SavedRecord = serde_json::from_slice(&fs::read(self.record())?)?;
        let there = Bytes::new(fs::metadata(self.memory())?.len());
        if there != record.file_bytes {
            return Err(invalid(format!(
                "its memory should be a file of {}, and is one of {there}",
                record.file_bytes
            )));
        }
        Ok(Some(record))
    }

    /// An empty file for a machine's memory. What was left of another is gone.
    pub(crate) fn begin(&self) -> io::Result<File> {
        self.discard()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        sync(self.0.parent())?;
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.partial())
    }

    /// All of the machine is in `file`, which [`SavedDir::begin`] gave. When this
    /// returns, that is so on the disk, and the VM is saved.
    pub(crate) fn commit(&self, file: &File, mut record: SavedRecord) -> io::Result<()> {
        file.sync_all()?;
        record.file_bytes = Bytes::new(file.metadata()?.len());
        fs::rename(self.partial(), self.memory())?;
        let fresh = self.record().with_extension("json.new");
        let mut text = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        text.write_all(&serde_json::to_vec_pretty(&record)?)?;
        text.sync_all()?;
        sync(Some(&self.0))?;
        fs::rename(&fresh, self.record())?;
        sync(Some(&self.0))
    }

    /// The memory, to be read.
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(self.memory())
    }

    /// The machine that was made of this is about to run.
    pub(crate) fn begin_to_resume(&self) -> io::Result<()> {
        fs::rename(self.record(), self.resumed())?;
        sync(Some(&self.0))
    }

    /// It did not run after all.
    pub(crate) fn resumed_not(&self) -> io::Result<()> {
        fs::rename(self.resumed(), self.record())?;
        sync(Some(&self.0))
    }

    /// Removes everything, and what makes it whole first.
    pub fn discard(&self) -> io::Result<()> {
        match fs::remove_file(self.record()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => {
                removed?;
                sync(Some(&self.0))?;
            }
        }
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what is no whole machine: a save that was interrupted, or one
    /// that goes on. True if there was anything.
    pub fn sweep(&self) -> io::Result<bool> {
        if self.is_whole() || !self.0.exists() {
            return Ok(false);
        }
        self.discard().map(|()| true)
    }

    /// Moves what can't be read out of the way, for people to look at; says
    /// where it is.
    pub fn move_aside(&self) -> io::Result<PathBuf> {
        self.rename_to("damaged")
    }

    /// Gives the folder another name, to be removed in its own time: a large
    /// file takes seconds, and the next save may begin meanwhile. Returns that
    /// name; [`SavedDir::is_void`] knows it.
    pub(crate) fn put_away(&self) -> io::Result<PathBuf> {
        self.rename_to(VOID)
    }

    /// True of the name of a folder that somebody was about to remove.
    pub fn is_void(name: &str) -> bool {
        let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
        name.starts_with('.') && kind.strip_prefix(VOID).is_some_and(|number| number.starts_with('-'))
    }

    fn rename_to(&self, kind: &str) -> io::Result<PathBuf> {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free = (0_u32..1000).map(|number| self.0.with_file_name(format!(".{name}.{kind}-{number}")));
        let aside = free.into_iter().find(|path| !path.exists());
        let aside = aside.ok_or_else(|| io::Error::other("there are a thousand of them already"))?;
        fs::rename(&self.0, &aside)?;
        sync(self.0.parent())?;
        Ok(aside)
    }
}

fn sync(folder: Option<&Path>) -> io::Result<()> {
    folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// What a machine in `dir` was launched as: kept for the day on which it is
/// saved. Its hardware stays the same, whatever becomes of its definition.
pub(crate) fn keep_definition(dir: &RunDir, definition: &VmDefinition) -> io::Result<()> {
    fs::write(dir.definition(), serde_json::to_vec(definition)?)
}

/// What [`keep_definition`] has kept.
pub(crate) fn kept_definition(dir: &RunDir) -> io::Result<VmDefinition> {
    let length = fs::metadata(dir.definition())?.len();
    if length > RECORD_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is too large to be a definition"));
    }
    Ok(serde_json::from_slice(&fs::read(dir.definition())?)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{ChosenAccelerator, MachinePlan};

    fn record() -> SavedRecord {
        let plan = MachinePlan {
            accelerator: ChosenAccelerator::Tcg,
            boot: Bytes::from_mib(512),
            plug_max: Bytes::from_mib(1024),
            plug_block: Bytes::BLOCK,
            overhead: Bytes::from_mib(64),
        };
        let definition = VmDefinition::new("web01");
        SavedRecord {
            machine: MachineRecord::new(&definition, &plan, "7.2", 1, 2),
            definition,
            balloon_bytes: Bytes::from_mib(300),
            plugged_bytes: Bytes::from_mib(2),
            file_bytes: Bytes::ZERO,
            saved_unix_ms: 7,
        }
    }

    fn saved() -> (tempfile::TempDir, SavedDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let saved = SavedDir::new(folder.path().join("saved/web01"));
        let mut file = saved.begin().expect("an empty file");
        file.write_all(b"memory").expect("room");
        saved.commit(&file, record()).expect("saved");
        (folder, saved)
    }

    #[test]
    fn what_was_saved_is_found_and_nobody_else_may_read_it() {
        let (_folder, saved) = saved();
        let found = saved.read().expect("readable").expect("whole");
        assert_eq!((found.file_bytes, &found.definition), (Bytes::new(6), &record().definition));
        assert_eq!(found.devices().assigned(), Bytes::from_mib(302));
        let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(saved.0.clone()), mode(saved.memory()), mode(saved.record())), (0o700, 0o600, 0o600));
        assert!(!saved.sweep().expect("swept"), "nothing to sweep");
        saved.discard().expect("discarded");
        assert!(saved.read().expect("readable").is_none() && !saved.0.exists());
        saved.discard().expect("twice is the same");
    }

    /// Every state in which a crash can leave the folder, and whether a machine
    /// is whole in it.
    #[test]
    fn at_every_step_there_is_a_whole_machine_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let saved = SavedDir::new(folder.path().join("saved/web01"));
        assert!(saved.read().expect("readable").is_none(), "nothing is there yet");
        let mut file = saved.begin().expect("an empty file");
        file.write_all(b"mem").expect("room");
        assert!(saved.read().expect("readable").is_none(), "being written");
        fs::rename(saved.partial(), saved.memory()).expect("renamed");
        fs::write(saved.record().with_extension("json.new"), "{").expect("written");
        assert!(saved.read().expect("readable").is_none(), "its record is being written");
        assert!(saved.sweep().expect("swept") && !saved.0.exists(), "worthless");

        let (_other, saved) = self::saved();
        saved.begin_to_resume().expect("renamed");
        assert!(saved.read().expect("readable").is_none(), "its machine is about to run");
        saved.resumed_not().expect("renamed back");
        assert!(saved.read().expect("readable").is_some());
        saved.begin_to_resume().expect("renamed");
        assert!(saved.sweep().expect("swept"), "its machine went on");
    }

    #[test]
    fn what_is_torn_is_told_and_moved_aside() {
        let (_folder, saved) = saved();
        OpenOptions::new().write(true).open(saved.memory()).and_then(|file| file.set_len(3)).expect("torn");
        let error = saved.read().expect_err("torn").to_string();
        assert_eq!(error, "its memory should be a file of 6B, and is one of 3B");
        fs::write(saved.record(), "{").expect("torn");
        assert!(saved.read().is_err());
        let aside = saved.move_aside().expect("moved");
        assert!(aside.join("memory").exists() && !saved.0.exists() && saved.read().expect("readable").is_none());
    }

    #[tokio::test]
    async fn removing_what_is_void_does_not_reach_the_next_save() {
        let (folder, saved) = saved();
        saved.begin_to_resume().expect("renamed");
        let removal = crate::save::forget(&saved); // slow: it has not even begun
        let file = saved.begin().expect("an empty file");
        saved.commit(&file, record()).expect("saved again");
        let names =
            || fs::read_dir(folder.path().join("saved")).expect("there").flatten().map(|entry| entry.file_name());
        assert_eq!(names().filter(|name| SavedDir::is_void(&name.to_string_lossy())).count(), 1);
        removal.await;
        assert!(saved.read().expect("readable").is_some());
        assert_eq!(names().collect::<Vec<_>>(), ["web01"], "the void one is gone");
        assert!(!SavedDir::is_void("web01.void-0") && !SavedDir::is_void(".web01.damaged-0"));
    }

    #[test]
    fn a_new_save_takes_the_place_of_an_old_one() {
        let (_folder, saved) = saved();
        drop(saved.begin().expect("an empty file"));
        assert!(saved.read().expect("readable").is_none(), "the old one is void as soon as its machine has run");
    }
}
