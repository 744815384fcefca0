//! `dynmem memory …`.

use std::time::{Duration, Instant};

use anyhow::Result;
use dynmem_api::{Client, ClientError, VmState, VmView};
use tokio::time;

use super::{
    Outcome,
    dry_run::try_each,
    operate::{AT_ONCE, operate},
    select::select,
};
use crate::{
    args::{GetArgs, MemoryCommand, SetArgs},
    render::{MemoryList, Output, resize_sentence},
};

/// A guest whose static VM is made larger or smaller has this long to follow.
const RESIZE: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(command: MemoryCommand, client: &Client, output: &mut Output) -> Result<Outcome> {
    match command {
        MemoryCommand::Get(GetArgs { names }) => {
            output.show(&MemoryList(&select(client.vms().await?, &names)?))?;
            Ok(Outcome::Done)
        }
        MemoryCommand::Set(args) => set(&args, client, output).await,
    }
}

async fn set(args: &SetArgs, client: &Client, output: &mut Output) -> Result<Outcome> {
    let patch = &args.patch();
    let names: Vec<_> = select(client.vms().await?, &args.names.names)?.into_iter().map(|vm| vm.name).collect();
    if args.dry_run {
        return try_each(&names, "changed", output, async |name| client.dry_run_memory(name, patch).await).await;
    }
    operate(&names, AT_ONCE, client, output, async |name| {
        let vm = client.set_memory(&name, patch).await?;
        if patch.startup.is_none() || vm.settings.dynamic || vm.state != VmState::Running {
            return Ok((vm.settings.to_string(), Some(vm)));
        }
        let vm = resized(client, vm).await?;
        Ok((format!("{}; {}", vm.settings, resize_sentence(&vm, RESIZE)), Some(vm)))
    })
    .await
}

/// The VM once it holds what was asked, or when it has had its time for that.
async fn resized(client: &Client, mut vm: VmView) -> Result<VmView, ClientError> {
    let began = Instant::now();
    while vm.assigned_bytes != vm.settings.startup_bytes && vm.state.is_on() && began.elapsed() < RESIZE {
        time::sleep(LOOK).await;
        vm = client.vm(&vm.name).await?;
    }
    Ok(vm)
}
