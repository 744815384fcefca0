//! VMs that were saved, as the next daemon finds them.
//!
//! They are looked at before any machine is taken over: a machine whose whole
//! state is in a file must not go on beside it, and what is not whole is of no
//! use to anybody ([`SavedDir`] says why).

use std::{collections::BTreeMap, fs, path::Path};

use dynmem_core::DeviceFacts;
use dynmem_definition::VmDefinition;
use dynmem_hypervisor::{Hypervisor, SavedDir};

/// Folders that are looked into.
const FOLDERS_MAX: usize = 100_000;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// What the machines of VMs held when they were saved, by name.
    pub(crate) found: BTreeMap<String, DeviceFacts>,
    /// Sentences about what is of no use.
    pub(crate) complaints: Vec<String>,
}

/// Looks into the folders in `saved_root`, and ends machines in `run_root` that
/// are saved.
pub(crate) async fn look(
    hypervisor: &Hypervisor,
    saved_root: &Path,
    run_root: &Path,
    definitions: &[VmDefinition],
) -> Saved {
    let mut saved = Saved::default();
    let Ok(entries) = fs::read_dir(saved_root) else { return saved };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for name in folders.filter_map(|entry| entry.file_name().into_string().ok()).take(FOLDERS_MAX) {
        if SavedDir::is_void(&name) {
            saved.remove(&saved_root.join(name));
            continue;
        }
        if name.starts_with('.') {
            continue; // moved aside by a daemon before us
        }
        let is_defined = definitions.iter().any(|definition| definition.name == name);
        let (folder, run_dir) = (SavedDir::new(saved_root.join(&name)), run_root.join(&name));
        saved.take(hypervisor, name, folder, is_defined, &run_dir).await;
    }
    saved
}

impl Saved {
    /// A daemon before us did not come to that.
    fn remove(&mut self, folder: &Path) {
        if let Err(error) = fs::remove_dir_all(folder) {
            self.complaints.push(format!("{} is of no use, and stays: {error}", folder.display()));
        }
    }

    async fn take(
        &mut self,
        hypervisor: &Hypervisor,
        name: String,
        folder: SavedDir,
        is_defined: bool,
        run_dir: &Path,
    ) {
        let path = folder.path().to_owned();
        match folder.read() {
            Ok(Some(_)) if !is_defined => self.complaints.push(format!(
                "What was saved of {name} is in {}, and no definition of {name} can be read: it is left alone",
                path.display()
            )),
            Ok(Some(record)) => {
                // It was saved, and then its daemon came to no end with it; or
                // it was being restored, and had not run yet.
                if let Err(error) = hypervisor.end(run_dir).await {
                    self.complaints.push(format!("{name} is saved, and what is left of its machine stays: {error}"));
                }
                self.found.insert(name, record.devices());
            }
            Ok(None) => {
                if let Err(error) = folder.sweep() {
                    self.complaints.push(format!("What an unfinished save of {name} left stays: {error}"));
                }
            }
            Err(error) => {
                let kept = match folder.move_aside() {
                    Ok(aside) => format!("it is kept in {}", aside.display()),
                    Err(error) => format!("and can't be moved out of the way: {error}"),
                };
                self.complaints.push(format!("What was saved of {name} can't be restored ({error}), {kept}"));
            }
        }
    }
}
