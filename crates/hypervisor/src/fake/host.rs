//! [`FakeHost`] and [`FakeGuest`]: the ends that a test holds, and
//! [`FakeProcess`], the end that a [`Machine`] holds.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dynmem_definition::VmDefinition;
use dynmem_qmp::QmpError;
use dynmem_units::Bytes;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Behaviour, Snapshot, VERSION,
    machine::{Act, FakeMachine, Message, Strings},
};
use crate::{
    AttachError, ChosenAccelerator, Launch, LaunchError, Machine, MachineExit, MachinePlan, MachineRecord, RunDir,
    SaveError, SavedDir, SavedRecord, attach,
    events::Translator,
    launch::{check_path_length, introduce, prepare_directory},
    process::Process,
    save,
    saved::keep_definition,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A host of imitated machines. Cheap to clone; all clones are one host. Its
/// machines live as long as the tokio runtime that launched them, or as the
/// process: see [`FakeHost::on_a_thread`].
#[derive(Clone, Debug)]
pub struct FakeHost {
    memory: Bytes,
    registry: Arc<Mutex<Registry>>,
    /// Where its machines live, if not where they are launched.
    elsewhere: Option<Handle>,
}

#[derive(Debug, Default)]
struct Registry {
    behaviour: Behaviour,
    guests: HashMap<String, FakeGuest>,
}

/// A test's handle of one imitated guest. Cheap to clone. Once the machine has
/// ended, nothing has any effect.
#[derive(Clone, Debug)]
pub struct FakeGuest {
    strings: Strings,
}

impl FakeHost {
    /// A host with so much memory.
    pub fn new(memory: Bytes) -> Self {
        Self { memory, registry: Arc::default(), elsewhere: None }
    }

    /// Its machines live in a thread of their own, named `imitations`, so that
    /// their work can be told from that of whoever orders them about. The
    /// thread ends with the process.
    pub fn on_a_thread(self) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let elsewhere = Some(runtime.handle().clone());
        let live = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("imitations".to_owned()).spawn(live)?;
        Ok(Self { elsewhere, ..self })
    }

    /// How guests behave that are launched from now on.
    pub fn set_default(&self, behaviour: Behaviour) {
        self.registry().behaviour = behaviour;
    }

    /// The guest of the machine of this name that was launched last.
    pub fn guest(&self, name: &str) -> Option<FakeGuest> {
        self.registry().guests.get(name).cloned()
    }

    pub(crate) fn plan(&self, definition: &VmDefinition) -> MachinePlan {
        MachinePlan::new(definition, ChosenAccelerator::Tcg, self.memory)
    }

    pub(crate) async fn launch(&self, launch: &Launch) -> Result<Machine, LaunchError> {
        self.launch_as(launch, self.plan(&launch.definition), None).await
    }

    pub(crate) async fn restore(
        &self,
        launch: &Launch,
        saved: &SavedDir,
        record: SavedRecord,
    ) -> Result<Machine, LaunchError> {
        let SavedRecord { definition, machine, .. } = record;
        let plan = MachinePlan {
            accelerator: machine.accelerator,
            boot: machine.boot_bytes,
            plug_max: machine.plug_max_bytes,
            plug_block: machine.plug_block_bytes,
            overhead: machine.overhead_bytes,
        };
        self.launch_as(&Launch { definition, ..launch.clone() }, plan, Some(saved)).await
    }

    /// Ends the machine that was launched in `dir`, if it is one of these.
    pub(crate) async fn end(&self, dir: &RunDir) {
        if let Some(guest) = self.guest(&dir.name()) {
            let mut process = FakeProcess { strings: guest.strings };
            process.kill();
            process.exited().await;
        }
    }

    async fn launch_as(
        &self,
        launch: &Launch,
        plan: MachinePlan,
        saved: Option<&SavedDir>,
    ) -> Result<Machine, LaunchError> {
        let dir = RunDir::new(&launch.run_dir);
        check_path_length(&dir)?;
        prepare_directory(&dir)?;
        let behaviour = self.registry().behaviour.clone();
        let io_error = |source| LaunchError::Io { doing: "listen in", path: dir.path().to_owned(), source };
        let strings = {
            let _there = self.elsewhere.as_ref().map(Handle::enter);
            FakeMachine::spawn(&dir, plan, behaviour, saved.is_some()).map_err(io_error)?
        };
        let name = launch.definition.name.clone();
        self.registry().guests.insert(name.clone(), FakeGuest { strings: strings.clone() });
        let process = FakeProcess { strings };
        let record = MachineRecord::new(&launch.definition, &plan, VERSION, 0, 0);
        match start(&dir, &launch.definition, &record, saved).await {
            Ok(connection) => {
                let translator = Translator { swallow_resume: true, ..Translator::default() };
                Ok(Machine::new(dir, record, connection, Process::Fake(process), translator))
            }
            Err(error) => {
                process.kill();
                let _ = dir.remove(); // the error that matters is the first one
                Err(match error {
                    StartError::Qmp(source) => LaunchError::Setup { name, source },
                    StartError::Io(source) => io_error(source),
                    StartError::Restore(source) => LaunchError::Restore { name, source },
                })
            }
        }
    }

    pub(crate) async fn attach(&self, run_dir: &Path) -> Result<Option<Machine>, AttachError> {
        let dir = RunDir::new(run_dir);
        let guest = self.guest(&dir.name()).filter(|guest| guest.strings.exit.borrow().is_none());
        match (guest, MachineRecord::read(&dir.record())) {
            (Some(guest), Ok(record)) if record.pid == 0 => {
                let process = Process::Fake(FakeProcess { strings: guest.strings });
                attach::take_over(&dir, record, process).await.map(Some)
            }
            // QEMU could be asked what was in it; this imitation can't.
            (Some(_), Err(source)) if source.kind() != io::ErrorKind::NotFound => {
                Err(AttachError::Unclear { doing: "read", path: dir.record(), source, record: None })
            }
            // Nobody of ours: perhaps a real one's, whose directory must not
            // be taken from under it.
            _ => attach::attach(&dir).await,
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum StartError {
    Qmp(QmpError),
    Io(io::Error),
    Restore(SaveError),
}

async fn start(
    dir: &RunDir,
    definition: &VmDefinition,
    record: &MachineRecord,
    saved: Option<&SavedDir>,
) -> Result<(dynmem_qmp::Client, dynmem_qmp::Events), StartError> {
    let (client, events) = dynmem_qmp::connect(&dir.qmp(), PATIENCE).await.map_err(StartError::Qmp)?;
    keep_definition(dir, definition).and_then(|()| record.write(&dir.record())).map_err(StartError::Io)?;
    match saved {
        None => introduce(&client).await.map_err(StartError::Qmp)?,
        Some(saved) => save::restore(&client, saved, dir).await.map_err(StartError::Restore)?,
    }
    Ok((client, events))
}

impl FakeGuest {
    /// Changes its behaviour; done when this returns.
    pub async fn change(&self, change: impl FnOnce(&mut Behaviour) + Send + 'static) {
        let (done, is_done) = oneshot::channel();
        let _ = self.strings.inbox.send(Message::Change(Box::new(change), done)).await;
        let _ = is_done.await;
    }

    /// What it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.strings.snapshot.borrow().clone()
    }

    /// Waits until it is so; the snapshot that was. If the machine ends first,
    /// its last snapshot.
    pub async fn wait_until(&self, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut snapshots = self.strings.snapshot.clone();
        let so = snapshots.wait_for(|snapshot| condition(snapshot)).await.map(|snapshot| snapshot.clone());
        so.unwrap_or_else(|_| self.snapshot())
    }

    /// The guest reboots by itself.
    pub async fn reboot(&self) {
        self.act(Act::Reboot).await;
    }

    /// The guest switches itself off.
    pub async fn power_off(&self) {
        self.act(Act::PowerOff).await;
    }

    /// The guest's kernel panics.
    pub async fn panic(&self) {
        self.act(Act::Panic).await;
    }

    /// The machine's control connections are closed; new ones are taken.
    pub async fn hang_up(&self) {
        self.act(Act::HangUp).await;
    }

    /// The machine's process ends suddenly.
    pub fn crash(&self, exit: MachineExit) {
        self.strings.end(exit);
    }

    async fn act(&self, act: Act) {
        let (done, is_done) = oneshot::channel();
        let _ = self.strings.inbox.send(Message::Act(act, done)).await;
        let _ = is_done.await;
    }
}

/// An imitated machine's "process".
#[derive(Debug)]
pub(crate) struct FakeProcess {
    strings: Strings,
}

impl FakeProcess {
    pub(crate) async fn exited(&mut self) -> MachineExit {
        let exit = self.strings.exit.wait_for(Option::is_some).await;
        exit.ok().and_then(|exit| *exit).unwrap_or(MachineExit::Unknown)
    }

    pub(crate) fn kill(&self) {
        self.strings.end(MachineExit::Signal(9));
    }
}

impl Strings {
    fn end(&self, exit: MachineExit) {
        let _ = self.end.try_send(exit); // full or closed: it ends or has ended
    }
}
