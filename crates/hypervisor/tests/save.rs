//! Machines in files: real QEMU with firmware that finds nothing to boot, and
//! the imitation, on which writing can be slow or fail.

use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use dynmem_core::MemorySettings;
use dynmem_definition::{Accelerator, VmDefinition};
use dynmem_footprint::Footprint;
use dynmem_hypervisor::{
    Hypervisor, Launch, LaunchError, Machine, MachineEvent, Qemu, RunDir, RunState, SaveError, SavedDir,
    fake::{Behaviour, FakeHost, SaveMood},
};
use dynmem_units::Bytes;
use tokio::time::timeout;

const HOST: Bytes = Bytes::from_mib(4096);

/// A directory for one machine, which ends with it.
struct Site {
    folder: Footprint,
    hypervisor: Hypervisor,
    saved: SavedDir,
}

impl Site {
    fn new(hypervisor: Hypervisor) -> Self {
        let folder = Footprint::new().expect("a directory");
        let saved = SavedDir::new(folder.path().join("saved/web01"));
        Self { folder, hypervisor, saved }
    }

    async fn real() -> Self {
        let program = Path::new("qemu-system-x86_64");
        let qemu = Qemu::probe(program, Accelerator::Tcg, HOST, None).await.expect("QEMU is installed");
        Self::new(Hypervisor::Qemu(qemu))
    }

    fn imitated() -> (Self, FakeHost) {
        let host = FakeHost::new(HOST);
        (Self::new(Hypervisor::Fake(host.clone())), host)
    }

    fn run_dir(&self) -> RunDir {
        RunDir::new(self.folder.path().join("run/web01"))
    }

    fn job(&self) -> Launch {
        let memory = MemorySettings {
            dynamic: true,
            startup: Bytes::from_mib(64),
            minimum: Bytes::from_mib(32),
            maximum: Bytes::from_mib(128),
            ..MemorySettings::default()
        };
        let definition = VmDefinition { accelerator: Accelerator::Tcg, memory, ..VmDefinition::new("web01") };
        fs::create_dir_all(self.folder.path().join("run")).expect("a directory");
        Launch { definition, run_dir: self.run_dir().path().to_owned(), cgroups: Vec::new() }
    }

    async fn launch(&self) -> Machine {
        self.hypervisor.launch(&self.job()).await.expect("a machine")
    }

    async fn attach(&self) -> Machine {
        let found = self.hypervisor.attach(self.run_dir().path()).await;
        found.expect("no trouble").expect("it lives")
    }

    /// Saves the machine, and it is gone.
    async fn save(&self, mut machine: Machine) {
        let written = machine.write_to(&self.saved, |_| ()).await.expect("written");
        machine.commit(&self.saved, written).await.expect("saved");
        end(machine).await;
    }
}

async fn end(mut machine: Machine) {
    machine.kill();
    while !matches!(machine.next_event().await, MachineEvent::Exited(_)) {}
}

async fn state(machine: &mut Machine) -> RunState {
    machine.state().await.expect("it answers")
}

async fn goes_on_as_it_was_saved(site: &Site, mut machine: Machine) {
    let mut written_bytes = Bytes::ZERO;
    let written = machine.write_to(&site.saved, |bytes| written_bytes = bytes).await.expect("written");
    assert_ne!(state(&mut machine).await, RunState::Running, "it stands still from now on");
    assert!(!site.saved.is_whole(), "not yet");
    let held = machine.commit(&site.saved, written).await.expect("saved");
    end(machine).await;
    assert!(!site.run_dir().path().exists());
    let record = site.saved.read().expect("readable").expect("whole");
    assert_eq!(record.devices(), held);
    for file in ["memory", "saved.json"] {
        let mode = fs::metadata(site.saved.path().join(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file} is nobody else's business");
    }

    // Its definition has changed meanwhile; the machine is the same.
    let mut job = site.job();
    job.definition.memory.startup = Bytes::from_mib(32);
    let mut machine = site.hypervisor.restore(&job, &site.saved).await.expect("restored");
    assert_eq!(state(&mut machine).await, RunState::Running);
    assert_eq!(machine.facts().await.expect("it answers"), held);
    assert!(!site.saved.is_whole() && !site.run_dir().standing().exists(), "what was saved is void");
    end(machine).await;
}

#[tokio::test]
async fn a_machine_goes_on_as_it_was_saved() {
    let site = Site::real().await;
    let machine = site.launch().await;
    goes_on_as_it_was_saved(&site, machine).await;
}

#[tokio::test]
async fn an_imitated_machine_goes_on_as_it_was_saved() {
    let (site, host) = Site::imitated();
    let mut machine = site.launch().await;
    let (balloon, plugged) = (Bytes::from_mib(64), Bytes::from_mib(8));
    machine.order(balloon, plugged).await.expect("an order");
    host.guest("web01").expect("launched").wait_until(|guest| guest.plugged == plugged).await;
    goes_on_as_it_was_saved(&site, machine).await;
    let guest = host.guest("web01").expect("restored").snapshot();
    assert_eq!((guest.boots, guest.plugged), (1, plugged), "it did not boot again");
}

#[tokio::test]
async fn a_machine_can_be_saved_again_after_it_was_restored() {
    let site = Site::real().await;
    let machine = site.launch().await;
    site.save(machine).await;
    let machine = site.hypervisor.restore(&site.job(), &site.saved).await.expect("restored");
    site.save(machine).await;
    let mut machine = site.hypervisor.restore(&site.job(), &site.saved).await.expect("restored again");
    assert_eq!(state(&mut machine).await, RunState::Running);
    end(machine).await;
}

#[tokio::test]
async fn memory_that_is_no_machine_is_refused_and_kept() {
    let site = Site::real().await;
    let machine = site.launch().await;
    site.save(machine).await;
    let mut memory = OpenOptions::new().write(true).open(site.saved.path().join("memory")).expect("there");
    memory.seek(SeekFrom::Start(64)).and_then(|_| memory.write_all(&[0xA5; 4096])).expect("torn");
    let error = site.hypervisor.restore(&site.job(), &site.saved).await.expect_err("it is no machine");
    assert!(matches!(error, LaunchError::Restore { .. }), "{error}");
    assert!(error.to_string().ends_with("It is still saved; try again, or discard that"), "{error}");
    assert!(site.saved.is_whole() && !site.run_dir().path().exists());
}

#[tokio::test]
async fn nothing_can_not_be_restored() {
    let site = Site::real().await;
    let error = site.hypervisor.restore(&site.job(), &site.saved).await.expect_err("nothing is there");
    assert!(matches!(error, LaunchError::NotSaved { .. }), "{error}");
}

#[tokio::test]
async fn a_save_that_is_given_up_leaves_the_machine_as_it_was() {
    for real in [true, false] {
        let site = if real { Site::real().await } else { Site::imitated().0 };
        for pause in [false, true] {
            let mut machine = site.launch().await;
            if pause {
                machine.pause().await.expect("it runs");
            }
            let before = state(&mut machine).await;
            machine.write_to(&site.saved, |_| ()).await.expect("written");
            machine.abandon_save(&site.saved).await.expect("as before");
            let after = state(&mut machine).await;
            // QEMU has another word for a machine that stands still after that.
            assert_eq!(after == RunState::Running, before == RunState::Running, "real: {real}, paused: {pause}");
            assert!(!site.saved.path().exists() && !site.run_dir().standing().exists());
            machine.resume().await.expect("it can go on in any case");
            end(machine).await;
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_machine_goes_on() {
    let (site, host) = Site::imitated();
    host.set_default(Behaviour { save: SaveMood::DiskFull, ..Behaviour::default() });
    let mut machine = site.launch().await;
    let error = machine.write_to(&site.saved, |_| ()).await.expect_err("no room");
    assert_eq!(error.to_string(), "QEMU says: Unable to write to file: No space left on device");
    machine.abandon_save(&site.saved).await.expect("as before");
    assert_eq!(state(&mut machine).await, RunState::Running);
    assert!(!site.saved.path().exists());
}

#[tokio::test]
async fn a_machine_that_writes_more_than_it_can_be_is_given_up() {
    let (site, host) = Site::imitated();
    host.set_default(Behaviour { save: SaveMood::Bloated, ..Behaviour::default() });
    let mut machine = site.launch().await;
    let error = machine.write_to(&site.saved, |_| ()).await.expect_err("a full disk is everybody's");
    assert!(error.to_string().contains("it is larger than "), "{error}");
    machine.abandon_save(&site.saved).await.expect("as before");
    assert_eq!(state(&mut machine).await, RunState::Running);
    assert!(!site.saved.path().exists());
}

#[tokio::test]
async fn a_machine_that_its_guest_switched_off_is_not_saved() {
    let (site, host) = Site::imitated();
    let mut machine = site.launch().await;
    host.guest("web01").expect("launched").power_off().await;
    while machine.next_event().await != MachineEvent::PoweredOff {}
    let error = machine.write_to(&site.saved, |_| ()).await.expect_err("it is off");
    assert!(matches!(error, SaveError::State(RunState::PoweredOff)), "{error}");
}

/// The daemon is killed in the middle: its successor finds a machine that stands
/// still and is being written.
#[tokio::test]
async fn a_save_that_nobody_ends_is_undone_by_the_next_daemon() {
    let (site, host) = Site::imitated();
    host.set_default(Behaviour { save: SaveMood::Endless, ..Behaviour::default() });
    let mut machine = site.launch().await;
    let writing = machine.write_to(&site.saved, |_| ());
    assert!(timeout(Duration::from_millis(300), writing).await.is_err(), "it does not come to an end");
    assert_eq!(state(&mut machine).await, RunState::Paused);
    drop(machine);
    let mut machine = site.attach().await;
    assert_eq!(state(&mut machine).await, RunState::Running);
    assert!(site.saved.sweep().expect("swept"), "a half of it was there");
    end(machine).await;
}

/// The same a moment later: all is written, and the machine has not ended.
#[tokio::test]
async fn a_machine_that_is_whole_in_its_file_does_not_go_on_by_itself() {
    let site = Site::real().await;
    let mut machine = site.launch().await;
    let written = machine.write_to(&site.saved, |_| ()).await.expect("written");
    machine.commit(&site.saved, written).await.expect("saved");
    drop(machine);
    let mut machine = site.attach().await;
    assert_ne!(state(&mut machine).await, RunState::Running, "there would be two of them");
    drop(machine);
    site.hypervisor.end(site.run_dir().path()).await.expect("ended");
    assert!(!site.run_dir().path().exists());
    let machine = site.hypervisor.restore(&site.job(), &site.saved).await.expect("the one that is left");
    end(machine).await;
}

/// The daemon is killed between the end of a restore and the first step of the
/// machine's processors.
#[tokio::test]
async fn a_machine_that_was_about_to_go_on_goes_on() {
    let site = Site::real().await;
    let mut machine = site.launch().await;
    machine.pause().await.expect("it runs");
    // As a restore leaves it at that point.
    fs::write(site.run_dir().standing(), site.saved.path().as_os_str().as_encoded_bytes()).expect("noted");
    drop(machine);
    let mut machine = site.attach().await;
    assert_eq!(state(&mut machine).await, RunState::Running);
    assert!(!site.run_dir().standing().exists());
    end(machine).await;
}

#[tokio::test]
async fn what_a_person_paused_stays_so() {
    let site = Site::real().await;
    let mut machine = site.launch().await;
    machine.pause().await.expect("it runs");
    drop(machine);
    let mut machine = site.attach().await;
    assert_eq!(state(&mut machine).await, RunState::Paused);
    end(machine).await;
}
