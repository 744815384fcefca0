//! Requests: what is checked, what is written first, and what is then done.
//!
//! A change of a definition is checked, written by another thread, and takes
//! effect when it is on the disk. Until then other requests wait; facts don't.
//! So what was checked can only have become more allowed when it takes effect.

use std::{path::Path, sync::Arc};

use dynmem_api::{ExplanationView, IfMatch, MemoryPatch, Problem, SettingsTag, VmView};
use dynmem_core::{Event, MemorySettings, VmId, VmState};
use dynmem_definition::VmDefinition;
use dynmem_hypervisor::RunDir;
use dynmem_store::{Definitions, DefinitionsError};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    Supervisor,
    command::{Action, Command, Reply, SettingsPatch, Target, shutting_down},
    roster::VMS_MAX,
};

/// A change that is being written.
pub(super) struct Change {
    what: What,
    writing: JoinHandle<Result<(), DefinitionsError>>,
}

/// What takes effect once it is written, and who waits for it.
enum What {
    Create(Box<VmDefinition>, Reply<VmView>),
    Delete(VmId, Reply<()>),
    Configure(VmId, Box<VmDefinition>, Reply<VmView>),
    Autostart(VmId, Box<VmDefinition>, Reply<VmView>),
    Discard(VmId, Reply<VmView>),
}

/// How the write went; for ever pending without one.
pub(super) async fn outcome(change: &mut Option<Change>) -> Result<(), Problem> {
    let Some(change) = change else { return std::future::pending().await };
    match (&mut change.writing).await {
        Ok(outcome) => outcome.map_err(|error| {
            let status = match error {
                DefinitionsError::Exists { .. } => 409,
                DefinitionsError::Rule(_) => 400,
                _ => 500,
            };
            Problem::new(status, error.to_string())
        }),
        Err(error) => Err(Problem::new(500, format!("Could not write the definition: {error}"))),
    }
}

/// No VM has this name.
pub(crate) fn unknown(name: &str) -> Problem {
    let shown: String = name.chars().take(80).collect();
    Problem::new(404, format!("No VM is named {shown:?}"))
}

/// Sends an answer; whoever asked may have gone.
pub(super) fn answer<T>(reply: Reply<T>, outcome: Result<T, Problem>) {
    let _ = reply.send(outcome);
}

impl Supervisor {
    pub(super) fn take_command(&mut self, command: Command) {
        match command {
            Command::Create(definition, reply) => self.create(definition, reply),
            Command::Delete(name, reply) => self.delete(&name, reply),
            Command::Discard(name, reply) => self.discard(&name, reply),
            Command::Explain(name, reply) => self.explain(&name, reply),
            Command::Meter(name, action, reply) => self.meter(&name, action, reply),
            Command::Set(target, patch, reply) => self.set(&target, patch, reply),
            Command::Preview(trial, reply) => answer(reply, self.preview(trial)),
            Command::Act(name, action, reply) => self.act(&name, action, reply),
        }
    }

    fn write(&mut self, what: What, job: impl FnOnce(&Definitions) -> Result<(), DefinitionsError> + Send + 'static) {
        let definitions = Arc::clone(&self.definitions);
        self.change = Some(Change { what, writing: spawn_blocking(move || job(&definitions)) });
    }

    /// The definition is on the disk, or can't be.
    pub(super) fn written(&mut self, outcome: Result<(), Problem>) {
        let Some(Change { what, .. }) = self.change.take() else { return };
        match (what, outcome) {
            (What::Create(definition, reply), Ok(())) => self.created(*definition, reply),
            (What::Delete(id, reply), Ok(())) => self.deleted(id, reply),
            (What::Configure(id, definition, reply), Ok(())) => self.configured(id, *definition, reply),
            (What::Autostart(id, definition, reply), Ok(())) => self.autostart_written(id, *definition, reply),
            (What::Create(_, reply) | What::Configure(_, _, reply) | What::Autostart(_, _, reply), Err(problem)) => {
                answer(reply, Err(problem));
            }
            (What::Discard(id, reply), Ok(())) => self.discarded(id, reply),
            (What::Discard(_, reply), Err(problem)) => answer(reply, Err(problem)),
            (What::Delete(_, reply), Err(problem)) => answer(reply, Err(problem)),
        }
    }

    fn explain(&self, name: &str, reply: Reply<ExplanationView>) {
        let explanation = self.roster.id_of(name).and_then(|id| self.engine.explain(self.clock.now(), id));
        answer(reply, explanation.map(|explanation| (&explanation).into()).ok_or_else(|| unknown(name)));
    }

    fn create(&mut self, definition: Box<VmDefinition>, reply: Reply<VmView>) {
        if let Err(problem) = self.may_create(&definition) {
            return answer(reply, Err(problem));
        }
        let copy = definition.clone();
        self.write(What::Create(definition, reply), move |definitions| definitions.create(&copy));
    }

    pub(super) fn may_create(&self, definition: &VmDefinition) -> Result<(), Problem> {
        definition.check().map_err(|error| Problem::new(400, error.to_string()))?;
        let name = &definition.name;
        if self.roster.id_of(name).is_some() {
            return Err(Problem::new(409, format!("A VM named {name} exists already: choose another name")));
        }
        let holds_it = |path: &Path| path.file_stem().is_some_and(|stem| stem == name.as_str());
        if let Some(damaged) = self.host.damaged.iter().find(|damaged| holds_it(&damaged.path)) {
            let path = damaged.path.display();
            let problem = format!(
                "A definition of {name} is in {path}, and can't be read: mend or remove it, or choose another name"
            );
            return Err(Problem::new(409, problem));
        }
        if self.roster.is_full() {
            return Err(Problem::new(409, format!("There are {VMS_MAX} VMs, as many as there can be")));
        }
        Ok(())
    }

    fn created(&mut self, definition: VmDefinition, reply: Reply<VmView>) {
        let (name, settings) = (definition.name.clone(), definition.memory.clone());
        let Some(id) = self.roster.add(definition) else { return };
        self.forget_meter(id, &name);
        self.log.record(Some(name.clone()), "created", format!("{name} was created"), &[]);
        self.feed_vm(id, Event::Defined { name, settings });
        self.note_wanted(id, false);
        self.publish();
        answer(reply, self.view_of(id).ok_or_else(shutting_down));
    }

    fn delete(&mut self, name: &str, reply: Reply<()>) {
        let Some(id) = self.roster.id_of(name) else { return answer(reply, Err(unknown(name))) };
        let state = self.engine.vm_snapshot(self.clock.now(), id).map(|vm| vm.state);
        let off = matches!(state, None | Some(VmState::Off | VmState::Failed));
        if !off || self.roster.run_mut(id).is_some() {
            let state = state.unwrap_or_default();
            let first = if state == VmState::Saved { "discard that" } else { "stop it" };
            return answer(reply, Err(Problem::new(409, format!("Can't delete {name}: it is {state}; {first} first"))));
        }
        let name = name.to_owned();
        self.write(What::Delete(id, reply), move |definitions| definitions.remove(&name).map(drop));
    }

    fn discard(&mut self, name: &str, reply: Reply<VmView>) {
        let Some(id) = self.roster.id_of(name) else { return answer(reply, Err(unknown(name))) };
        let state = self.state_of(id).unwrap_or_default();
        if state != VmState::Saved {
            let problem = format!("Can't discard the saved state of {name}: it has none, it is {state}");
            return answer(reply, Err(Problem::new(409, problem)));
        }
        let saved = self.saved_dir(name);
        self.write(What::Discard(id, reply), move |_| {
            let failed = |source| DefinitionsError::Io { action: "remove", path: saved.path().to_owned(), source };
            saved.discard().map_err(failed)
        });
    }

    fn discarded(&mut self, id: VmId, reply: Reply<VmView>) {
        self.feed_vm(id, Event::Discarded);
        self.publish();
        answer(reply, self.view_of(id).ok_or_else(shutting_down));
    }

    fn deleted(&mut self, id: VmId, reply: Reply<()>) {
        if let Some(name) = self.roster.get(id).map(|vm| vm.definition.name.clone()) {
            self.forget_autostart(&name);
            self.forget_meter(id, &name);
            self.log.record(Some(name.clone()), "deleted", format!("{name} was deleted; its disks stay"), &[]);
        }
        self.feed_vm(id, Event::Forgotten);
        self.roster.remove(id);
        self.publish();
        answer(reply, Ok(()));
    }

    fn set(&mut self, target: &Target, patch: SettingsPatch, reply: Reply<VmView>) {
        let id = match self.find(target) {
            Ok(id) => id,
            Err(problem) => return answer(reply, Err(problem)),
        };
        match patch {
            SettingsPatch::Memory(patch) => self.configure(id, &patch, reply),
            SettingsPatch::Autostart(patch) => self.set_autostart(id, patch, reply),
        }
    }

    /// The VM, if its settings are those that whoever asks has read. No other
    /// change comes between this and the change that is asked for: they wait
    /// for each other.
    pub(super) fn find(&self, Target { name, condition }: &Target) -> Result<VmId, Problem> {
        let id = self.roster.id_of(name).ok_or_else(|| unknown(name))?;
        let view = self.view_of(id).ok_or_else(|| unknown(name))?;
        let tag = SettingsTag::of(&view);
        if condition.as_ref().is_none_or(|condition: &IfMatch| condition.allows(&tag)) {
            return Ok(id);
        }
        let VmView { settings, autostart, .. } = view;
        Err(Problem::new(
            412,
            format!(
                "The settings of {name} are not those that you read, and nothing was changed. They are now: {settings}, autostart {autostart}, with ETag {tag}. Read {name} again, and repeat the change if you still want it"
            ),
        ))
    }

    fn configure(&mut self, id: VmId, patch: &MemoryPatch, reply: Reply<VmView>) {
        let Some(vm) = self.roster.get(id) else { return answer(reply, Err(shutting_down())) };
        let memory = patch.apply(&vm.definition.memory);
        if memory == vm.definition.memory {
            return answer(reply, self.view_of(id).ok_or_else(shutting_down));
        }
        if let Err(problem) = self.may_configure(id, &memory) {
            return answer(reply, Err(problem));
        }
        // Its guest may not have given yet what a lower maximum (of a static VM: startup)
        // leaves it, when another daemon finds it and it does not answer.
        let most = vm.definition.memory.most();
        let lowered = vm.run.is_some() && memory.most() < most;
        let former = lowered.then(|| (self.run_dir(&vm.definition.name), most));
        let definition = VmDefinition { memory, ..vm.definition.clone() };
        let copy = definition.clone();
        self.write(What::Configure(id, Box::new(definition), reply), move |definitions| {
            if let Some((path, most)) = former {
                let failed = |source| DefinitionsError::Io { action: "write to", path: path.clone(), source };
                RunDir::new(&path).remember_maximum(most).map_err(failed)?;
            }
            definitions.put(&copy)
        });
    }

    pub(super) fn may_configure(&self, id: VmId, memory: &MemorySettings) -> Result<(), Problem> {
        self.engine.check_settings(id, memory).map_err(|error| {
            let name = self.roster.get(id).map_or("", |vm| &vm.definition.name);
            Problem::new(400, format!("Can't change {name}: {error}"))
        })
    }

    pub(super) fn write_autostart(&mut self, id: VmId, definition: VmDefinition, reply: Reply<VmView>) {
        let copy = definition.clone();
        self.write(What::Autostart(id, Box::new(definition), reply), move |definitions| definitions.put(&copy));
    }

    fn configured(&mut self, id: VmId, definition: VmDefinition, reply: Reply<VmView>) {
        let settings = definition.memory.clone();
        let place = self.place_of(&definition);
        if let Some(vm) = self.roster.get_mut(id) {
            vm.definition = definition;
            if let Some(run) = &vm.run {
                run.handle.set_place(place);
            }
        }
        self.feed_vm(id, Event::Configured(settings));
        self.publish();
        answer(reply, self.view_of(id).ok_or_else(shutting_down));
    }

    fn act(&mut self, name: &str, action: Action, reply: Reply<VmView>) {
        let Some(id) = self.roster.id_of(name) else { return answer(reply, Err(unknown(name))) };
        if matches!(action, Action::Stop { .. }) && self.cancel_autostart(id) {
            self.publish();
            return answer(reply, self.view_of(id).ok_or_else(shutting_down));
        }
        let event = match self.event_for(id, action) {
            Ok(event) => event,
            Err(problem) => return answer(reply, Err(problem)),
        };
        let Some(vm) = self.roster.get_mut(id) else { return answer(reply, Err(unknown(name))) };
        match vm.waiters.add(action, reply) {
            Ok(()) => {
                self.feed_vm(id, event);
                if matches!(action, Action::Stop { .. }) {
                    self.note_wanted(id, false);
                }
            }
            Err(reply) => {
                answer(reply, Err(Problem::new(409, format!("Too many requests wait for {name}: try again later"))));
            }
        }
    }

    pub(super) fn event_for(&self, id: VmId, action: Action) -> Result<Event, Problem> {
        Ok(match action {
            Action::Start => {
                let vm = self.roster.get(id).ok_or_else(shutting_down)?;
                let plan = self
                    .hypervisor
                    .plan(&vm.definition)
                    .map_err(|error| Problem::new(409, format!("Can't start {}: {error}", vm.definition.name)))?;
                Event::Start { overhead: plan.overhead }
            }
            Action::Stop { grace_ms } => Event::Stop { grace_ms },
            Action::Restart { grace_ms } => Event::Restart { grace_ms },
            Action::Pause => Event::Pause,
            Action::Resume => Event::Resume,
            Action::Save => Event::Save,
        })
    }
}
