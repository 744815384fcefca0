//! What can't be undone is done only by who means it: a person at a terminal is
//! told what would be lost and asked; a script says `--yes`.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Result, bail};
use dynmem_api::VmView;

use crate::{
    args::Yes,
    render::{lost_by_delete, lost_by_discard, lost_by_force, lost_by_metering, printable},
    usage::Usage,
};

/// The longest answer that is read: longer than every name.
const ANSWER_BYTES_MAX: u64 = 256;

/// An operation that loses something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Losing {
    Delete,
    Discard,
    Force,
    Metering,
}

impl Losing {
    /// What it would take from this VM, in words; none if nothing.
    fn loss(self, vm: &VmView) -> Option<String> {
        match self {
            Self::Delete => Some(lost_by_delete(vm)),
            Self::Discard => lost_by_discard(vm),
            Self::Force => lost_by_force(vm),
            Self::Metering => lost_by_metering(vm),
        }
    }
}

/// Goes on only if nothing is lost of `vms`, or that is wanted.
pub(super) fn confirm(losing: Losing, vms: &[VmView], yes: Yes) -> Result<()> {
    let losses: Vec<(&str, String)> =
        vms.iter().filter_map(|vm| losing.loss(vm).map(|loss| (vm.name.as_str(), loss))).collect();
    let (word, what) = match losses[..] {
        _ if yes.is_given() => return Ok(()),
        [] => return Ok(()),
        [(name, _)] => (name, "the VM's name"),
        _ => ("yes", "yes"),
    };
    let told: Vec<String> = losses.iter().map(|(name, loss)| format!("{name}: {}", printable(loss))).collect();
    let told = told.join("\n");
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!(Usage(format!("{told}\nNobody can be asked without a terminal: write --yes if that is wanted")));
    }
    if ask(&format!("{told}\nThat can't be undone. Type {what} to confirm ({word}): "))? != word {
        bail!("Nothing was done: {word:?} was not the answer");
    }
    Ok(())
}

fn ask(question: &str) -> io::Result<String> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
