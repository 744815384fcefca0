//! `dynmem explain`.

use anyhow::Result;
use dynmem_api::Client;
use dynmem_definition::NamePattern;

use super::select::{known, select};
use crate::render::{Explanation, Explanations, Output};

/// One VM in full; several in a sentence each.
pub(super) async fn run(names: &[NamePattern], client: &Client, output: &mut Output) -> Result<()> {
    if let [name] = names
        && name.is_plain()
    {
        let name = name.as_str();
        return Ok(output.show(&Explanation(&known(client, name, client.explain(name).await).await?))?);
    }
    let mut explanations = Vec::new();
    for vm in select(client.vms().await?, names)? {
        explanations.push(client.explain(&vm.name).await?);
    }
    Ok(output.show(&Explanations(&explanations))?)
}
