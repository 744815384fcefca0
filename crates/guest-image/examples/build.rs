//! Builds a guest by hand and prints what QEMU needs to boot it.

use std::path::Path;

use anyhow::{Result, bail};
use dynmem_guest_image::{Image, Options, cache_dir};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [agent, workload] = &arguments[..] else { bail!("Usage: build AGENT_PROGRAM WORKLOAD_PROGRAM") };
    let options =
        Options { cache_dir: cache_dir(Path::new("target")), agent_bin: agent.into(), workload_bin: workload.into() };
    let image = Image::build(&options)?;
    println!("-kernel {} -initrd {}", image.kernel.display(), image.initrd.display());
    println!("-append '{}'", image.cmdline(true));
    Ok(())
}
