//! What is advised is seen where the VM is.

mod common;

use common::{Site, definition, mib};

#[tokio::test]
async fn a_vm_that_can_never_start_is_told_so_until_it_can() {
    let site = Site::new().await; // lends 2 GiB
    let mut giant = definition("giant");
    (giant.memory.startup, giant.memory.maximum) = (mib(4096), mib(4096));
    site.client.create(&giant).await.expect("a definition");
    site.define("web01").await;
    let advised = site.vm_until("giant", "advised", |vm| !vm.advice.is_empty()).await.advice;
    assert_eq!(advised.iter().map(|advice| advice.kind.as_str()).collect::<Vec<_>>(), ["startup-beyond-host"]);
    assert_eq!(advised[0].sentence, "Its startup, 4GiB, is more than this host ever lends, 2GiB: it can't start");
    assert!(site.vm("web01").await.advice.is_empty());
    let fits = dynmem_api::MemoryPatch { startup: Some(mib(1024)), ..dynmem_api::MemoryPatch::default() };
    site.client.set_memory("giant", &fits).await.expect("it is off");
    site.vm_until("giant", "no longer advised", |vm| vm.advice.is_empty()).await;
}
