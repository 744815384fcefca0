//! `dynmem vm …`.

use anyhow::Result;
use dynmem_api::{Client, ClientError, VmView};
use dynmem_definition::NamePattern;

use super::{
    Outcome,
    confirm::{Losing, confirm},
    console,
    dry_run::try_each,
    history,
    operate::{AT_ONCE, operate},
    select::{one, select},
    watch,
};
use crate::{
    args::{CreateArgs, StartArgs, VmCommand, WatchArgs},
    render::{OperationResult, Output, Vm, VmList},
};

type Done = Result<(String, Option<VmView>), ClientError>;

pub(super) async fn run(command: VmCommand, client: &Client, output: &mut Output) -> Result<Outcome> {
    match command {
        VmCommand::Create(args) => return create(*args, client, output).await,
        VmCommand::List { names, watch: true } => watch::run(&WatchArgs::of(names), client, output).await?,
        VmCommand::List { names, watch: false } => output.show(&VmList(&select(client.vms().await?, &names)?))?,
        VmCommand::Show { name } => output.show(&Vm(&one(client.vms().await?, &name)?))?,
        VmCommand::History(args) => history::of_vm(&args.name, &args.span, client, output).await?,
        VmCommand::Console { name } => {
            output.refuse_forms("a console is what its guest says")?;
            console::run(&name, client, output).await?;
        }
        VmCommand::Set(args) => {
            let patch = args.patch();
            let set = async |name: &str| {
                let vm = client.set_autostart(name, &patch).await?;
                Ok((vm.autostart.to_string(), Some(vm)))
            };
            return each(&args.names.names, AT_ONCE, client, output, set).await;
        }
        VmCommand::Start(StartArgs { names, dry_run: true }) => {
            let names = selected(client, &names.names).await?;
            return try_each(&names, "started", output, async |name| client.dry_run_start(name).await).await;
        }
        VmCommand::Start(args) => {
            // One after the other: who comes first is served first.
            return each(&args.names.names, 1, client, output, async |name| done("started", client.start(name).await))
                .await;
        }
        VmCommand::Stop(args) => {
            if args.force {
                confirm(Losing::Force, &select(client.vms().await?, &args.names.names)?, args.yes)?;
            }
            let request = args.request();
            let stop = async |name: &str| done("stopped", client.stop(name, &request).await);
            return each(&args.names.names, AT_ONCE, client, output, stop).await;
        }
        VmCommand::Restart(args) => {
            let restart = async |name: &str| done("restarted", client.restart(name).await);
            return each(&args.names, AT_ONCE, client, output, restart).await;
        }
        VmCommand::Pause(args) => {
            let pause = async |name: &str| done("paused", client.pause(name).await);
            return each(&args.names, AT_ONCE, client, output, pause).await;
        }
        VmCommand::Resume(args) => {
            let resume = async |name: &str| done("resumed", client.resume(name).await);
            return each(&args.names, AT_ONCE, client, output, resume).await;
        }
        VmCommand::Save(args) => {
            // One after the other: a disk is not faster for two.
            return each(&args.names, 1, client, output, async |name| done("saved", client.save(name).await)).await;
        }
        VmCommand::Discard(args) => {
            confirm(Losing::Discard, &select(client.vms().await?, &args.names.names)?, args.yes)?;
            let discard = async |name: &str| done("discarded", client.discard(name).await);
            return each(&args.names.names, AT_ONCE, client, output, discard).await;
        }
        VmCommand::Delete(args) => {
            confirm(Losing::Delete, &select(client.vms().await?, &args.names.names)?, args.yes)?;
            let delete = async |name: &str| client.delete(name).await.map(|()| ("deleted".to_owned(), None));
            return each(&args.names.names, AT_ONCE, client, output, delete).await;
        }
    }
    Ok(Outcome::Done)
}

async fn create(args: CreateArgs, client: &Client, output: &mut Output) -> Result<Outcome> {
    let dry_run = args.dry_run;
    let definition = args.definition()?;
    if dry_run {
        let name = definition.name.clone();
        return try_each(&[name], "created", output, async |_| client.dry_run_create(&definition).await).await;
    }
    let vm = client.create(&definition).await?;
    let (name, detail) = (vm.name.clone(), "created".to_owned());
    output.show(&OperationResult { name, ok: true, detail, vm: Some(Box::new(vm)) })?;
    Ok(Outcome::Done)
}

/// Does `operation` for each VM that `names` mean.
async fn each(
    names: &[NamePattern],
    at_once: usize,
    client: &Client,
    output: &mut Output,
    operation: impl AsyncFn(&str) -> Done,
) -> Result<Outcome> {
    let names = selected(client, names).await?;
    let operation = &operation;
    operate(&names, at_once, client, output, async |name| operation(&name).await).await
}

/// The names of the VMs that `names` mean.
async fn selected(client: &Client, names: &[NamePattern]) -> Result<Vec<String>> {
    Ok(select(client.vms().await?, names)?.into_iter().map(|vm| vm.name).collect())
}

fn done(what: &str, answer: Result<VmView, ClientError>) -> Done {
    answer.map(|vm| (what.to_owned(), Some(vm)))
}
