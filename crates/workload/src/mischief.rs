//! What a guest can do to those who look after it: stop or kill its agent,
//! take the balloon's driver away and put it back.

use std::{fs, io, path::Path, thread};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::message::AgentFate;

/// The agent's name, as the kernel has it.
const AGENT: &str = "dynmem-agent";
/// virtio's number for a balloon.
const BALLOON_ID: &str = "0x0005";

/// Does to the agent what is asked; an error if there is none.
pub(crate) fn agent(root: &Path, fate: AgentFate) -> anyhow::Result<()> {
    let signal = match fate {
        AgentFate::Killed => Signal::KILL,
        AgentFate::Stopped => Signal::STOP,
        AgentFate::Continued => Signal::CONT,
    };
    let mut found = false;
    for entry in fs::read_dir(root.join("proc"))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.trim_end() == AGENT
            && let Some(pid) = Pid::from_raw(pid)
        {
            kill_process(pid, signal).context("The agent can't be signalled")?;
            found = true;
        }
    }
    ensure!(found, "No {AGENT} runs in this guest");
    Ok(())
}

/// Begins to bind the balloon's driver to its device, or to take it away: then
/// the guest has all memory that the balloon holds. That takes a while.
pub(crate) fn balloon(root: &Path, bound: bool) -> anyhow::Result<()> {
    let devices = root.join("sys/bus/virtio/devices");
    let is_balloon =
        |name: &String| fs::read_to_string(devices.join(name).join("device")).is_ok_and(|id| id.trim() == BALLOON_ID);
    let names = fs::read_dir(&devices)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let device = names.into_iter().find(is_balloon).context("This guest has no balloon")?;
    let control = root.join("sys/bus/virtio/drivers/virtio_balloon").join(if bound { "bind" } else { "unbind" });
    let write = move || -> io::Result<()> { fs::write(control, device) };
    thread::Builder::new().name("balloon".to_owned()).spawn(write).context("No thread can be started")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balloon_is_found_among_other_devices() {
        let root = tempfile::tempdir().expect("a folder");
        let bus = root.path().join("sys/bus/virtio");
        for (device, id) in [("virtio0", "0x0001"), ("virtio1", "0x0005")] {
            fs::create_dir_all(bus.join("devices").join(device)).expect("a folder");
            fs::write(bus.join("devices").join(device).join("device"), format!("{id}\n")).expect("written");
        }
        let driver = bus.join("drivers/virtio_balloon");
        fs::create_dir_all(&driver).expect("a folder");
        balloon(root.path(), false).expect("begun");
        while fs::read_to_string(driver.join("unbind")).unwrap_or_default() != "virtio1" {
            thread::yield_now();
        }
        assert!(!driver.join("bind").exists());
    }

    #[test]
    fn a_guest_without_an_agent_says_so() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("proc/1")).expect("a folder");
        fs::write(root.path().join("proc/1/comm"), "init\n").expect("written");
        let error = agent(root.path(), AgentFate::Killed).expect_err("no agent");
        assert_eq!(error.to_string(), "No dynmem-agent runs in this guest");
    }
}
