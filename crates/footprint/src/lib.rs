//! Nothing stays behind: not after a success, a panic, a Ctrl-C or a test
//! runner's time-out.
//!
//! Every daemon and virtual machine that a test starts carries the test's private
//! folder in its arguments, so the folder's path alone finds it: [`processes`]
//! reads `/proc`. The memory groups of its machines lie in a group of the folder's
//! name ([`group_name`], [`groups`]), swap files in use below it ([`swap_files`])
//! could not be deleted. A [`Footprint`] ends all of these and removes the folder
//! when it is dropped, and a thread that waits for signals does so for all
//! footprints there are.
//!
//! ```no_run
//! let folder = dynmem_footprint::Footprint::new().expect("a temporary folder");
//! std::fs::write(folder.path().join("dynmemd.toml"), "…").expect("written");
//! // … start what is to be tested …
//! // dropped, or interrupted: nothing of it is left
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dynmem_linux::{HostReader, SwapArea, SwapFile};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Folders that exist. The one place where a signal's thread and the tests meet.
static FOOTPRINTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A signal has come: what fails from now on fails because of it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A private folder, and the promise that it and everything that runs on it
/// are gone afterwards.
#[derive(Debug)]
pub struct Footprint {
    root: PathBuf,
}

impl Footprint {
    /// A new private folder, watched over from now on.
    pub fn new() -> io::Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// The same, in the folder `parent`.
    pub fn below(parent: &Path) -> io::Result<Self> {
        watch_signals();
        let root = tempfile::Builder::new().prefix("dynmem-lab-").tempdir_in(parent)?.keep();
        let mut footprints = FOOTPRINTS.lock().unwrap_or_else(PoisonError::into_inner);
        footprints.push(root.clone());
        Ok(Self { root })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        let mut footprints = FOOTPRINTS.lock().unwrap_or_else(PoisonError::into_inner);
        sweep(&self.root);
        footprints.retain(|root| *root != self.root);
    }
}

/// Daemons, virtual machines and containers that run on the folder `root`: pid and name.
pub fn processes(root: &Path) -> Vec<(u32, String)> {
    let Some(marker) = root.to_str() else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let arguments = String::from_utf8_lossy(&arguments);
            let program = arguments.split('\0').next()?.rsplit('/').next()?.to_owned();
            // Somebody's `tail -f` on our log is not ours to end.
            let ours = program == "dynmemd" || program == "unshare" || program.starts_with("qemu-system-");
            (ours && arguments.contains(marker)).then_some((pid, program))
        })
        .collect()
}

/// Where the kernel's memory groups may be: version 1, and version 2 alone or
/// beside it.
const HIERARCHIES: [&str; 3] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The name of the group that the groups of what runs on `root` lie in: to be
/// set as `host.cgroup`.
pub fn group_name(root: &Path) -> String {
    root.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The memory groups of what runs on `root`, innermost first.
pub fn groups(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in HIERARCHIES {
        collect_groups(&Path::new(hierarchy).join(group_name(root)), &mut found);
    }
    found
}

/// Whether a group is a machine's own, and not one that others lie in.
pub fn is_of_a_machine(group: &Path) -> bool {
    group.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vm-"))
}

fn collect_groups(group: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect_groups(&entry.path(), found);
    }
    found.push(group.to_owned());
}

/// The swap files below `root` that the kernel uses.
pub fn swap_files(root: &Path) -> Vec<SwapArea> {
    let areas = HostReader::default().swap_areas().unwrap_or_default();
    areas.into_iter().filter(|area| area.path.starts_with(root)).collect()
}

/// True once this process was told to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Kills what runs on `root` and removes it. A daemon goes first, so that it
/// starts nothing new.
fn sweep(root: &Path) {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let mut running = processes(root);
        if running.is_empty() || Instant::now() > deadline {
            break;
        }
        running.sort_by_key(|(_, program)| program != "dynmemd");
        for (pid, _) in running {
            kill(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(20));
    }
    for group in groups(root) {
        // The kernel may take a moment to see that a process is gone.
        while let Err(error) = fs::remove_dir(&group) {
            if Instant::now() > deadline {
                eprintln!("Could not remove {}: {error}", group.display());
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    for area in swap_files(root) {
        let given_up = SwapFile::open(&area.path).and_then(|file| file.map_or(Ok(()), |file| file.deactivate()));
        if let Err(error) = given_up {
            eprintln!("{error}");
        }
    }
    if std::env::var_os("DYNMEM_KEEP").is_some() {
        eprintln!("Kept {} as DYNMEM_KEEP asks", root.display());
    } else if let Err(error) = fs::remove_dir_all(root) {
        eprintln!("Could not remove {}: {error}", root.display());
    }
}

/// Sends `signal`; a process that is gone already is fine.
pub fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Starts, once, the thread that sweeps all footprints when this process is
/// told to end.
fn watch_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let spawned = thread::Builder::new().name("signals".to_owned()).spawn(|| {
            let number = wait_for_signal();
            INTERRUPTED.store(true, Ordering::Relaxed);
            let footprints = FOOTPRINTS.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("\nInterrupted: cleaning up");
            footprints.iter().for_each(|root| sweep(root));
            process::exit(128 + number);
        });
        if let Err(error) = spawned {
            eprintln!("Could not watch for signals: {error}. Ctrl-C will leave processes behind");
        }
    });
}

/// The number of the first signal that asks this process to end.
fn wait_for_signal() -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let waited = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            Ok(tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = hangup.recv() => 1,
            })
        })
    });
    waited.unwrap_or_else(|error: io::Error| {
        eprintln!("Could not watch for signals: {error}. Ctrl-C will leave processes behind");
        loop {
            thread::park();
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// A stand-in for a daemon on this folder: any program under that name will do.
    fn stand_in(root: &Path) -> process::Child {
        let daemon = root.join("dynmemd");
        std::os::unix::fs::symlink("/bin/sleep", &daemon).expect("a link");
        let child = process::Command::new(&daemon).arg("600").spawn().expect("sleep");
        while processes(root).is_empty() {
            thread::yield_now(); // between fork and exec it still has our name
        }
        child
    }

    /// Says where its footprint is, and waits: the process that the test below ends.
    const WAITS: &str = "DYNMEM_FOOTPRINT_WAITS";

    #[test]
    fn a_process_that_is_told_to_end_leaves_nothing() {
        if std::env::var_os(WAITS).is_some() {
            let footprint = Footprint::new().expect("a temporary folder");
            let mut daemon = stand_in(footprint.path());
            eprintln!("{}", footprint.path().display());
            daemon.wait().expect("our child");
            loop {
                thread::park(); // the signal's thread ends this process
            }
        }
        let name = "tests::a_process_that_is_told_to_end_leaves_nothing";
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let mut command = process::Command::new(std::env::current_exe().expect("this test"));
            command.args(["--exact", name, "--nocapture"]).env(WAITS, "1").stderr(process::Stdio::piped());
            let mut told = command.spawn().expect("this test again");
            let mut said = BufReader::new(told.stderr.take().expect("piped")).lines().map_while(Result::ok);
            let root = PathBuf::from(said.next().expect("where it is"));
            assert_eq!(processes(&root).len(), 1, "{}", root.display());
            kill(told.id(), signal);
            assert_eq!(told.wait().expect("our child").code(), Some(code));
            assert_eq!((processes(&root), root.exists()), (Vec::new(), false));
        }
    }

    #[test]
    fn a_dropped_footprint_kills_what_runs_on_it_and_nothing_else() {
        let footprint = Footprint::new().expect("a temporary folder");
        let root = footprint.path().to_owned();
        let mut ours = stand_in(&root);
        let mut other = process::Command::new("/bin/sleep").arg("600").spawn().expect("sleep");

        let reaper = thread::spawn(move || ours.wait().expect("our child"));
        drop(footprint);

        assert!(!reaper.join().expect("the reaper").success());
        assert!(!root.exists());
        assert!(other.try_wait().expect("our child").is_none(), "a stranger was killed");
        other.kill().and_then(|()| other.wait()).expect("our child");
    }
}
