//! `dynmem meter …`.

use anyhow::Result;
use dynmem_api::{Client, ClientError, VmView};
use dynmem_definition::NamePattern;

use super::{
    Outcome,
    confirm::{Losing, confirm},
    operate::{AT_ONCE, operate},
    select::select,
};
use crate::{
    args::MeterCommand,
    render::{MeterList, Output, meter_sentence},
};

pub(super) async fn run(command: MeterCommand, client: &Client, output: &mut Output) -> Result<Outcome> {
    match command {
        MeterCommand::Show { names } => {
            let mut vms = select(client.vms().await?, &names)?;
            vms.retain(|vm| !names.is_empty() || vm.meter.is_some());
            output.show(&MeterList::new(&vms))?;
            Ok(Outcome::Done)
        }
        MeterCommand::Enable(args) => {
            let vms = select(client.vms().await?, args.names())?;
            each(vms, client, output, async |name| client.enable_meter(name).await).await
        }
        MeterCommand::Reset(args) => {
            let vms = metered(client, args.names.names()).await?;
            confirm(Losing::Metering, &vms, args.yes)?;
            each(vms, client, output, async |name| client.reset_meter(name).await).await
        }
        MeterCommand::Disable(args) => {
            let vms = metered(client, args.names.names()).await?;
            confirm(Losing::Metering, &vms, args.yes)?;
            each(vms, client, output, async |name| client.disable_meter(name).await).await
        }
    }
}

/// The VMs that are named; without names all that are metered.
async fn metered(client: &Client, names: &[NamePattern]) -> Result<Vec<VmView>> {
    let mut vms = select(client.vms().await?, names)?;
    vms.retain(|vm| !names.is_empty() || vm.meter.is_some());
    Ok(vms)
}

async fn each(
    vms: Vec<VmView>,
    client: &Client,
    output: &mut Output,
    operation: impl AsyncFn(&str) -> Result<VmView, ClientError>,
) -> Result<Outcome> {
    let names: Vec<_> = vms.into_iter().map(|vm| vm.name).collect();
    let operation = &operation;
    operate(&names, AT_ONCE, client, output, async |name| {
        let vm = operation(&name).await?;
        Ok((meter_sentence(&vm), Some(vm)))
    })
    .await
}
