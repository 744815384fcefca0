//! `dynmem advice`.

use anyhow::Result;
use dynmem_api::{Client, VmView};
use dynmem_definition::NamePattern;

use super::select::select;
use crate::render::{Advice, Output};

/// Of the VMs that `names` mean; of all and the host for no names.
pub(super) async fn run(names: &[NamePattern], client: &Client, output: &mut Output) -> Result<()> {
    let vms: Vec<VmView> = select(client.vms().await?, names)?;
    let host = if names.is_empty() { client.host().await?.advice } else { Vec::new() };
    Ok(output.show(&Advice::new(&host, &vms))?)
}
