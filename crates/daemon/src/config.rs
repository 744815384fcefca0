//! The daemon's own settings: one TOML file, every key optional.
//!
//! Text → [`Config::from_toml`] → a value that keeps every rule; an error
//! names the file, the line and the rule. What depends on the host ("auto")
//! is settled by [`HostSection::settle`] and [`QemuSection::settle`].

mod qemu;
mod tcp;

use std::{
    fmt, fs, io,
    path::{Component, Path, PathBuf},
};

use dynmem_core::HostConfig;
use dynmem_definition::Accelerator;
use dynmem_units::Bytes;
use serde::{Deserialize, Deserializer, de};

pub use qemu::{QemuSection, QemuUser};
pub use tcp::TcpSection;

/// Where the settings are unless `--config` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/dynmem/dynmemd.toml";
/// A settings file larger than this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Linux's `sun_path`, less its final zero.
const SOCKET_BYTES_MAX: usize = 107;

/// The daemon's settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Definitions, events and machines' sockets live here.
    pub state_dir: PathBuf,
    /// Where the HTTP API listens.
    pub socket: PathBuf,
    /// What runs the machines.
    pub backend: BackendKind,
    /// For VMs whose own accelerator is `auto`.
    pub accelerator: Accelerator,
    /// What may be lent.
    pub host: HostSection,
    /// Who QEMU runs as.
    pub qemu: QemuSection,
    /// Where the HTTP API listens for other machines; `None` for nowhere.
    pub tcp: Option<TcpSection>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/dynmem".into(),
            socket: dynmem_api::DEFAULT_SOCKET.into(),
            backend: BackendKind::default(),
            accelerator: Accelerator::default(),
            host: HostSection::default(),
            qemu: QemuSection::default(),
            tcp: None,
        }
    }
}

/// What runs the machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// QEMU.
    #[default]
    Qemu,
    /// Machines that exist in memory only: for trying things out.
    Fake,
}

/// The table `[host]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostSection {
    /// Memory that the host and all VMs share; `auto` is all there is.
    pub memory: AutoSize,
    /// The part of it that is never lent; `auto` is 384 MiB + 30 MiB per GiB.
    pub reserve: AutoSize,
    /// Where machines have their memory groups.
    pub cgroup: CgroupSetting,
}

/// Where machines have their memory groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum CgroupSetting {
    /// In `dynmem` at the hierarchy's root.
    #[default]
    Auto,
    /// Nowhere: no machine is limited.
    Off,
    /// Below this path of the hierarchy.
    Parent(PathBuf),
}

impl From<String> for CgroupSetting {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Self::Auto,
            "off" => Self::Off,
            _ => Self::Parent(text.into()),
        }
    }
}

/// A size, or what the host suggests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoSize {
    /// What the host suggests.
    #[default]
    Auto,
    /// This much.
    Size(Bytes),
}

impl AutoSize {
    /// The size that was set, if one was.
    pub(crate) fn size(self) -> Option<Bytes> {
        match self {
            Self::Auto => None,
            Self::Size(size) => Some(size),
        }
    }
}

impl<'de> Deserialize<'de> for AutoSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = AutoSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", a size such as \"16GB\", or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AutoSize, E> {
                if text == "auto" {
                    return Ok(AutoSize::Auto);
                }
                text.parse().map(AutoSize::Size).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<AutoSize, E> {
                let bytes = u64::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))?;
                Ok(AutoSize::Size(Bytes::new(bytes)))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("Could not read the settings file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not TOML, an unknown key, a value of the wrong kind, or a rule broken.
    #[error("Settings file {}, line {line}, column {column}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted in characters from 1.
        column: usize,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

/// A rule that a readable file breaks: where to point, and what to say.
struct Broken {
    key: &'static str,
    problem: String,
}

impl Config {
    /// Reads `path`; without one, the default file if it exists, else the
    /// defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        let unreadable = |source| ConfigError::Unreadable { path: file.to_owned(), source };
        match fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => return Ok(Self::default()),
            Err(error) => return Err(unreadable(error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
            }
            Ok(_) => {}
        }
        Self::from_toml(&fs::read_to_string(file).map_err(unreadable)?, file)
    }

    /// Reads settings and checks every rule. `path` is only named in errors.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let fault = |offset: usize, problem: String| {
            let before = &text[..text.floor_char_boundary(offset)];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            ConfigError::Malformed {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                problem,
            }
        };
        let config: Self = toml::from_str(text)
            .map_err(|error| fault(error.span().map_or(0, |span| span.start), capitalised(error.message())))?;
        config.check().map_err(|Broken { key, problem }| fault(offset_of(text, key), problem))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Broken> {
        for (key, path) in [("state_dir", &self.state_dir), ("socket", &self.socket)] {
            if !path.is_absolute() {
                let problem =
                    format!("Setting {key} can't be {:?}: it must be an absolute path", path.to_string_lossy());
                return Err(Broken { key, problem });
            }
        }
        if self.socket.as_os_str().len() > SOCKET_BYTES_MAX {
            let problem = format!(
                "Setting socket can't be {:?}: the path of a socket has at most {SOCKET_BYTES_MAX} bytes",
                self.socket.to_string_lossy()
            );
            return Err(Broken { key: "socket", problem });
        }
        if let CgroupSetting::Parent(parent) = &self.host.cgroup {
            let is_plain = parent.components().all(|step| matches!(step, Component::Normal(_)));
            if !is_plain || parent.as_os_str().is_empty() {
                let problem = format!(
                    "Setting host.cgroup can't be {:?}: it must be \"auto\", \"off\", or a path that begins at the root of the memory controller's hierarchy, such as \"dynmem\" or \"machine.slice/dynmem\"",
                    parent.to_string_lossy()
                );
                return Err(Broken { key: "cgroup", problem });
            }
        }
        if let (AutoSize::Size(memory), AutoSize::Size(reserve)) = (self.host.memory, self.host.reserve)
            && reserve >= memory
        {
            let problem =
                format!("Setting host.reserve can't be {reserve}: it must be less than host.memory, {memory}");
            return Err(Broken { key: "reserve", problem });
        }
        Ok(())
    }
}

impl HostSection {
    /// What may be lent on a host with `present` bytes of memory, or a
    /// sentence why these settings can't hold there.
    pub fn settle(&self, present: Bytes) -> Result<HostConfig, String> {
        let memory = match self.memory {
            AutoSize::Auto => present,
            AutoSize::Size(memory) => memory,
        };
        if memory > present {
            return Err(format!(
                "Setting host.memory can't be {memory}: this host has {present}. Set less, or \"auto\""
            ));
        }
        let reserve = match self.reserve {
            AutoSize::Auto => HostConfig::default_reserve(memory),
            AutoSize::Size(reserve) => reserve,
        };
        if reserve >= memory {
            return Err(format!(
                "Setting host.reserve is {reserve}, and host.memory is {memory}: nothing is left to lend. Set a smaller host.reserve"
            ));
        }
        Ok(HostConfig { memory, reserve })
    }
}

/// Where a key stands: the first line that sets it.
fn offset_of(text: &str, key: &str) -> usize {
    let sets = |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if sets(line) {
            return offset;
        }
        offset += line.len();
    }
    0
}

fn capitalised(message: &str) -> String {
    let mut characters = message.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::from_toml(text, Path::new("/etc/dynmem/dynmemd.toml"))
    }

    fn complaint(text: &str) -> String {
        read(text).expect_err(text).to_string()
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(read("").expect("nothing is required"), Config::default());
        assert_eq!(Config::default().socket, Path::new("/run/dynmem/dynmem.sock"));
    }

    #[test]
    fn the_example_is_the_defaults_and_names_every_key() {
        let example = include_str!("../../../packaging/dynmemd.toml");
        assert_eq!(read(example).expect("the example is right"), Config::default());
        for key in
            ["state_dir", "socket", "backend", "accelerator", "[host]", "memory", "reserve", "cgroup", "[qemu]", "user"]
        {
            assert!(example.contains(key), "{key} is missing");
        }
    }

    #[test]
    fn a_fault_names_file_line_and_rule() {
        let error = complaint("state_dir = '/x'\nsockt = '/y'\n");
        assert!(
            error.starts_with("Settings file /etc/dynmem/dynmemd.toml, line 2, column 1: Unknown field `sockt`"),
            "{error}"
        );
        let error = complaint("\n\nsocket = 'run/x.sock'\n");
        assert!(
            error.contains("line 3, column 1: Setting socket can't be \"run/x.sock\": it must be an absolute path"),
            "{error}"
        );
        let error = complaint("[host]\nmemory = '2G'\nreserve = '2G'\n");
        assert!(error.contains("line 3") && error.contains("it must be less than host.memory, 2GiB"), "{error}");
        let error = complaint("[host]\nmemory = 'much'\n");
        assert!(error.contains("line 2") && error.contains("\"much\" is not a size"), "{error}");
        let error = complaint("backend = 'xen'");
        assert!(error.contains("line 1") && error.contains("`qemu` or `fake`"), "{error}");
        let error = complaint(&format!("socket = '/{}'", "x".repeat(107)));
        assert!(error.contains("at most 107 bytes"), "{error}");
        assert!(complaint("[host]\nmemory = -1").contains("line 2"));
        for path in ["/sys/fs/cgroup/dynmem", "../dynmem", ""] {
            let error = complaint(&format!("[host]\n\ncgroup = '{path}'"));
            assert!(error.contains("line 3") && error.contains("Setting host.cgroup can't be"), "{error}");
        }
    }

    #[test]
    fn groups_are_where_one_says_or_nowhere() {
        let cgroup = |text: &str| read(&format!("[host]\ncgroup = '{text}'")).expect(text).host.cgroup;
        assert_eq!((cgroup("auto"), cgroup("off")), (CgroupSetting::Auto, CgroupSetting::Off));
        assert_eq!(cgroup("machine.slice/dynmem"), CgroupSetting::Parent("machine.slice/dynmem".into()));
    }

    #[test]
    fn auto_follows_the_host_and_more_than_there_is_is_refused() {
        let present = Bytes::from_mib(8 * 1024);
        let auto = HostSection::default().settle(present).expect("8 GiB are enough");
        assert_eq!((auto.memory, auto.reserve), (present, HostConfig::default_reserve(present)));
        let of = |memory, reserve| HostSection {
            memory: AutoSize::Size(Bytes::from_mib(memory)),
            reserve: AutoSize::Size(Bytes::from_mib(reserve)),
            ..HostSection::default()
        };
        assert!(of(9 * 1024, 0).settle(present).expect_err("too much").contains("this host has 8GiB"));
        assert!(of(512, 512).settle(present).expect_err("nothing left").contains("nothing is left to lend"));
        assert!(HostSection { reserve: AutoSize::Auto, ..of(256, 0) }.settle(present).is_err());
    }

    #[test]
    fn a_missing_file_matters_only_if_it_was_named() {
        let error = Config::load(Some(Path::new("/nonexistent/x.toml"))).expect_err("named");
        assert!(error.to_string().starts_with("Could not read the settings file /nonexistent/x.toml"));
    }
}
