//! [`Groups`]: where the machines of this daemon have their memory groups.
//!
//! `<hierarchy>/<parent>/<id>/vm-<name>`. The parent is `dynmem` at the
//! hierarchy's root unless the settings name another. It is not the daemon's
//! own group, although systemd would delegate that: guests outlive the daemon,
//! the daemon's group does not (and on v2 a group with groups in it has no
//! processes of its own, so that the next daemon could not be started there).
//! The id is made of the state directory: two daemons never meet, and the next
//! daemon of the same directory finds the groups of the one before.

use std::path::{Path, PathBuf};

use dynmem_linux::{Cgroups, GroupError, HostReader, MemoryGroup};
use dynmem_units::Bytes;
use tokio::time::{Duration, sleep};

use crate::config::CgroupSetting;

/// The parent if the settings name none.
const PARENT: &str = "dynmem";
/// A process that has ended may be in its group for a moment more.
const EMPTY_TRIES: u32 = 50;
const EMPTY_PAUSE: Duration = Duration::from_millis(20);

/// The folder of this daemon's groups.
#[derive(Debug)]
pub(crate) struct Groups {
    cgroups: Cgroups,
    /// Relative to the hierarchy.
    parent: PathBuf,
    /// The same, from the root of all files.
    folder: PathBuf,
}

impl Groups {
    /// Makes the folder. An error is a sentence for people: without groups the
    /// machines run all the same.
    pub(crate) fn open(setting: &CgroupSetting, state_dir: &Path) -> Result<Option<Self>, String> {
        let parent = match setting {
            CgroupSetting::Off => return Ok(None),
            CgroupSetting::Auto => Path::new(PARENT),
            CgroupSetting::Parent(parent) => parent,
        };
        let cgroups = HostReader::at("/").cgroups().map_err(|error| with_source(&error))?;
        Self::below(cgroups, &parent.join(id_of(state_dir))).map(Some).map_err(|error| with_source(&error))
    }

    fn below(cgroups: Cgroups, parent: &Path) -> Result<Self, GroupError> {
        let folder = cgroups.create_parent(parent)?;
        Ok(Self { cgroups, parent: parent.to_owned(), folder })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether one machine can be allowed to swap, and the others not. An error
    /// is a sentence for people.
    pub(crate) fn can_swap(&self) -> Result<(), String> {
        let counts = |name: &str| self.folder.join(name).exists();
        if !counts("memory.swap.max") && !counts("memory.memsw.limit_in_bytes") {
            return Err(
                "The kernel counts no swap for memory groups: it takes swapaccount=1 on its command line".to_owned()
            );
        }
        // Version 1 has a swappiness for each group, which is set with its limit.
        if counts("memory.swap.max") && HostReader::at("/").swappiness().is_ok_and(|swappiness| swappiness == 0) {
            return Err("The kernel rather kills than swaps: it takes a vm.swappiness above 0".to_owned());
        }
        Ok(())
    }

    /// What all machines in their groups hold that can't be taken from them, if
    /// that can be told.
    pub(crate) fn held(&self) -> Option<Bytes> {
        let group = self.cgroups.parent(&self.parent).ok()??;
        Some(group.usage().ok()?.held)
    }

    /// A machine's group, made if need be.
    pub(crate) fn make(&self, name: &str) -> Result<MemoryGroup, GroupError> {
        self.cgroups.create_group(&self.parent, name)
    }

    /// The group that a running machine is in, if it is.
    pub(crate) fn of_process(&self, name: &str, pid: u32) -> Option<MemoryGroup> {
        let group = self.cgroups.group(&self.parent, name).ok()??;
        group.processes().is_ok_and(|processes| processes.contains(&pid)).then_some(group)
    }

    /// Removes a machine's group, if there is one, after the machine has ended.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), GroupError> {
        let Some(group) = self.cgroups.group(&self.parent, name)? else { return Ok(()) };
        for _ in 1..EMPTY_TRIES {
            if group.remove().is_ok() {
                return Ok(());
            }
            sleep(EMPTY_PAUSE).await;
        }
        group.remove()
    }

    /// Removes the groups of machines that no longer run; `runs` knows which
    /// do. Sentences about what is worth knowing.
    pub(crate) fn clear(&self, runs: impl Fn(&str) -> bool) -> Vec<String> {
        let names = match self.cgroups.group_names(&self.parent) {
            Ok(names) => names,
            Err(error) => return vec![with_source(&error)],
        };
        names.iter().filter(|name| !runs(name)).filter_map(|name| self.clear_one(name)).collect()
    }

    fn clear_one(&self, name: &str) -> Option<String> {
        let group = self.cgroups.group(&self.parent, name).ok()??;
        if group.processes().is_ok_and(|processes| !processes.is_empty()) {
            return None; // a machine that nobody could take over: told elsewhere
        }
        let killed = group.events().is_ok_and(|events| events.oom_kills > 0);
        if let Err(error) = group.remove() {
            return Some(format!("The memory group of {name} stays: {}", with_source(&error)));
        }
        killed.then(|| format!("QEMU of {name} was killed for want of memory while no daemon ran"))
    }
}

impl Drop for Groups {
    /// The folder goes with the last machine: as long as one runs the kernel
    /// keeps it. The parent stays, which other daemons may be about to use.
    fn drop(&mut self) {
        let _ = self.cgroups.remove_parent(&self.parent);
    }
}

/// An error and what the kernel said, in one sentence.
pub(crate) fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A name for a state directory: FNV-1a, because it must be the same in the
/// next version, which the standard library's hash need not be.
fn id_of(state_dir: &Path) -> String {
    let path = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned());
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What looks like a version 1 hierarchy.
    fn hierarchy() -> (tempfile::TempDir, Cgroups) {
        let mount = tempfile::tempdir().expect("a folder");
        let cgroups = Cgroups::V1(mount.path().to_owned());
        (mount, cgroups)
    }

    #[test]
    fn an_id_is_the_same_tomorrow_and_another_one_for_another_directory() {
        assert_eq!(id_of(Path::new("/nonexistent/state")), "eb227f26b186c1cb");
        assert_ne!(id_of(Path::new("/nonexistent/state")), id_of(Path::new("/nonexistent/other")));
    }

    #[test]
    fn only_groups_of_our_own_that_nobody_needs_are_cleared() {
        let (mount, cgroups) = hierarchy();
        let ours = Groups::below(cgroups.clone(), Path::new("dynmem/ours")).expect("made");
        let theirs = Groups::below(cgroups, Path::new("dynmem/theirs")).expect("made");
        for (groups, name) in [(&ours, "runs"), (&ours, "gone"), (&theirs, "gone")] {
            groups.make(name).expect("made");
        }
        assert_eq!(ours.clear(|name| name == "runs"), Vec::<String>::new());
        let left = |folder: &str| {
            let entries = fs::read_dir(mount.path().join("dynmem").join(folder)).expect("there").flatten();
            entries.map(|entry| entry.file_name().into_string().expect("a name")).collect::<Vec<_>>()
        };
        assert_eq!((left("ours"), left("theirs")), (vec!["vm-runs".to_owned()], vec!["vm-gone".to_owned()]));
        drop(ours);
        assert_eq!(left("ours"), ["vm-runs"], "a machine runs in it");
    }

    #[test]
    fn what_all_machines_hold_is_what_their_folder_holds_where_the_kernel_sums_up() {
        let (_mount, cgroups) = hierarchy();
        let groups = Groups::below(cgroups, Path::new("dynmem/ours")).expect("made");
        assert_eq!(groups.held(), None, "not readable, not known");
        let lay_out = |name: &str, text: &str| fs::write(groups.folder().join(name), text).expect("written");
        lay_out("memory.usage_in_bytes", "9999999\n");
        lay_out("memory.stat", "rss 5\ntotal_rss 1048576\ntotal_shmem 2097152\n");
        assert_eq!(groups.held(), Some(Bytes::from_mib(3)));
        lay_out("memory.use_hierarchy", "0\n");
        assert_eq!(groups.held(), None);
        for name in ["memory.usage_in_bytes", "memory.stat", "memory.use_hierarchy"] {
            fs::remove_file(groups.folder().join(name)).expect("there");
        }
    }

    #[tokio::test]
    async fn the_folder_goes_with_its_last_group() {
        let (mount, cgroups) = hierarchy();
        let groups = Groups::below(cgroups, Path::new("dynmem/ours")).expect("made");
        groups.make("web01").expect("made");
        groups.remove("web01").await.expect("empty");
        groups.remove("web01").await.expect("gone already");
        drop(groups);
        let left: Vec<_> = fs::read_dir(mount.path().join("dynmem")).expect("it stays").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_group_that_can_not_be_removed_and_a_kill_are_told() {
        let (mount, cgroups) = hierarchy();
        let groups = Groups::below(cgroups, Path::new("dynmem/ours")).expect("made");
        let group = groups.make("web01").expect("made");
        fs::write(group.path().join("memory.oom_control"), "oom_kill 1\n").expect("written");
        let [told] = &groups.clear(|_| false)[..] else { panic!("one sentence") };
        assert!(told.starts_with("The memory group of web01 stays: Can't remove "), "{told}");
        drop(mount);
    }
}
