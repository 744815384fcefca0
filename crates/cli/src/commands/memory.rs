//! `dynmem memory …`.

use anyhow::Result;
use dynmem_api::Client;

use super::{
    Outcome,
    operate::{AT_ONCE, operate},
    select::select,
};
use crate::{
    args::{GetArgs, MemoryCommand, SetArgs},
    render::{MemoryList, Output, settings_sentence},
};

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
    operate(&names, AT_ONCE, output, async |name| {
        let vm = client.set_memory(&name, patch).await?;
        Ok((settings_sentence(&vm.settings), Some(vm)))
    })
    .await
}
