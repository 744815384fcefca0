//! [`Definitions`]: a folder with one TOML file for each VM.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use dynmem_definition::{DefinitionError, RuleError, VmDefinition, check_name};
use rustix::fs::OFlags;

const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// A thousand times what a person writes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The folder of definitions. Calls block on the disk.
#[derive(Debug)]
pub struct Definitions {
    folder: PathBuf,
    /// Makes the names of temporary files differ.
    written: AtomicU64,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The definitions that keep every rule, by name.
    pub definitions: Vec<VmDefinition>,
    /// The files that don't, by path.
    pub damaged: Vec<Damaged>,
}

/// A file that is no definition. It is left as it is.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// Why: a sentence that names the file.
    #[source]
    pub error: DefinitionsError,
}

/// Why the folder, or a file in it, was not read or not changed.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// The disk or the rights to it.
    #[error("Can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The text of a file is no definition.
    #[error(transparent)]
    Text(#[from] DefinitionError),
    /// The definition breaks a rule, and nothing was written.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A file that is not read, whatever its text.
    #[error("File {} is not read: {reason}", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A copy that was not renamed, perhaps.
    #[error("File {} defines the VM {name:?}: name the file {name}.toml, or the VM after the file", path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// The name in its text.
        name: String,
    },
    /// The name is taken, if only by a file that can't be read.
    #[error("A VM named {name} is defined already, in {}", path.display())]
    Exists {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
}

impl Definitions {
    /// Opens `folder`, creates it if needed, and sweeps what an interrupted
    /// write left behind.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, DefinitionsError> {
        let folder = folder.into();
        let created = fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder);
        created.map_err(|source| failed("create", &folder, source))?;
        let definitions = Self { folder, written: AtomicU64::new(0) };
        for path in definitions.files()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') && name.ends_with(".tmp") {
                let _ = fs::remove_file(&path); // never read, so no harm in it
            }
        }
        Ok(definitions)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads every `*.toml` file. One that can't be read or breaks a rule is
    /// told among the damaged and hides no other. Fails only if the folder
    /// itself can't be listed.
    pub fn load_all(&self) -> Result<Loaded, DefinitionsError> {
        let mut loaded = Loaded::default();
        let mut paths = self.files()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || !name.ends_with(".toml") {
                continue;
            }
            match load(&path) {
                Ok(definition) => loaded.definitions.push(definition),
                Err(error) => loaded.damaged.push(Damaged { path, error }),
            }
        }
        Ok(loaded)
    }

    /// Keeps a new definition. Refused if a file of that name is there, even
    /// one that can't be read.
    pub fn create(&self, definition: &VmDefinition) -> Result<(), DefinitionsError> {
        let path = self.path(&definition.name);
        self.write(definition, |temporary| match fs::hard_link(temporary, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(DefinitionsError::Exists { name: definition.name.clone(), path: path.clone() })
            }
            linked => linked.map_err(|source| failed("create", &path, source)),
        })
    }

    /// Keeps a definition in place of the one with its name, if there is one.
    /// Comments that a person wrote into the old file are gone.
    pub fn put(&self, definition: &VmDefinition) -> Result<(), DefinitionsError> {
        let path = self.path(&definition.name);
        self.write(definition, |temporary| {
            fs::rename(temporary, &path).map_err(|source| failed("replace", &path, source))
        })
    }

    /// Removes the definition of a VM; false if there was none.
    pub fn remove(&self, name: &str) -> Result<bool, DefinitionsError> {
        check_name(name)?; // also keeps the path inside of the folder
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            removed => removed.map_err(|source| failed("remove", &path, source))?,
        }
        self.sync_folder()?;
        Ok(true)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    fn files(&self) -> Result<Vec<PathBuf>, DefinitionsError> {
        let list = || fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
        list().map_err(|source| failed("list", &self.folder, source))
    }

    /// Writes a checked definition to a temporary file and lets `place` give
    /// it its name.
    fn write(
        &self,
        definition: &VmDefinition,
        place: impl FnOnce(&Path) -> Result<(), DefinitionsError>,
    ) -> Result<(), DefinitionsError> {
        let text = definition.to_toml()?; // checks every rule, the name's first
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!(".{}.toml.{}-{count}.tmp", definition.name, std::process::id()));
        let placed = write_synced(&temporary, &text)
            .map_err(|source| failed("write", &temporary, source))
            .and_then(|()| place(&temporary));
        let _ = fs::remove_file(&temporary); // renamed already, or one name too many
        placed?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), DefinitionsError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| failed("sync", &self.folder, source))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> DefinitionsError {
    DefinitionsError::Io { action, path: path.to_owned(), source }
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?; // whatever the umask
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn load(path: &Path) -> Result<VmDefinition, DefinitionsError> {
    let definition = VmDefinition::from_toml(&read(path)?, path)?;
    if path.file_stem() != Some(definition.name.as_ref()) {
        return Err(DefinitionsError::OtherName { path: path.to_owned(), name: definition.name });
    }
    Ok(definition)
}

/// The text of a regular file of bounded size. A link could lead anywhere, a
/// pipe would block, a device would never end.
fn read(path: &Path) -> Result<String, DefinitionsError> {
    let not_read = |reason| DefinitionsError::NotRead { path: path.to_owned(), reason };
    let cant_read = |source| failed("read", path, source);
    let kind = fs::symlink_metadata(path).map_err(cant_read)?.file_type();
    if !kind.is_file() {
        return Err(not_read("a definition is a regular file, not a link or a folder"));
    }
    // The path may have changed since: the flags keep links and pipes out.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cant_read)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cant_read)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(not_read("a definition has at most 1MiB"));
    }
    String::from_utf8(bytes).map_err(|_| not_read("a definition is text in UTF-8"))
}
