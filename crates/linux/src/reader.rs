//! [`HostReader`]: bounded reads below a root folder, and the sample that the
//! engine wants.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use dynmem_core::HostFacts;
use dynmem_units::Bytes;

use crate::MemoryPressure;

/// More than any file here has; what is longer is cut, and its parser sees it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the host's files. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct HostReader {
    root: PathBuf,
}

/// Why a file of the host told nothing. The path is the one that was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel did not give it.
    #[error("Can't read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("Can't understand {}: {expected} is missing or malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
}

/// What the host has and how it is, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSample {
    /// Memory that this host can lend at all: `MemTotal` less the pools of
    /// huge pages, which are set apart for those who ask for them.
    pub memory: Bytes,
    /// The engine's view. Without PSI the stall is 0: never measured is not a
    /// reason to take memory back.
    pub facts: HostFacts,
    /// Stalls in full; `None` where the kernel doesn't measure them.
    pub pressure: Option<MemoryPressure>,
    /// Size of the host's swap.
    pub swap_total: Bytes,
    /// Part of it in use.
    pub swap_used: Bytes,
}

impl Default for HostReader {
    fn default() -> Self {
        Self::at("/")
    }
}

impl HostReader {
    /// A reader of the host whose `/` is `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Memory and health of the host now.
    pub fn sample(&self) -> Result<HostSample, ReadError> {
        let info = self.memory_info()?;
        let pressure = self.memory_pressure()?;
        Ok(HostSample {
            memory: info.total.saturating_sub(info.huge_pages),
            facts: HostFacts {
                available: info.available,
                stall: pressure.map_or(0, |pressure| pressure.some.avg10),
                machines: None,
            },
            pressure,
            swap_total: info.swap_total,
            swap_used: info.swap_total.saturating_sub(info.swap_free),
        })
    }

    /// The absolute `path` of the host, below this reader's root.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Reads the absolute `path` of the host and parses it; a parser returns
    /// what it missed.
    pub(crate) fn parse<T>(
        &self,
        path: impl AsRef<Path>,
        parser: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Result<T, ReadError> {
        let path = self.path(path);
        let text = read(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
        parser(&text).map_err(|expected| ReadError::Malformed { path, expected })
    }
}

/// A file's text, at most a mebibyte of it. Bytes that are no UTF-8 (a
/// process's name may hold any) become the replacement character.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The amount of a line such as `MemTotal:  24684092 kB`, if `text` has it.
pub(crate) fn kib_line(text: &str, key: &str) -> Option<Bytes> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(Bytes::KIB.scale(kib, 1))
}
