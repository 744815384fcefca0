//! VMs in words: what was set, what came of it, what is wrong.

use std::time::Duration;

use dynmem_api::{TroubleView, VmState, VmView};

use super::{
    size::human,
    time::{duration, utc},
};

/// How far a static VM that runs has followed its startup after so long.
pub(crate) fn resize_sentence(vm: &VmView, waited: Duration) -> String {
    let (name, holds, asked) = (&vm.name, vm.assigned_bytes, vm.settings.startup_bytes);
    let no_more = if holds > asked { "given back" } else { "taken" };
    if holds == asked {
        return format!("{name} holds {holds}");
    }
    format!("{name} holds {holds}; {asked} was asked: its guest has {no_more} no more in {} s", waited.as_secs())
}

/// `stuck (for 00:01:15): It does not move its memory`.
pub(super) fn trouble_sentence(trouble: &TroubleView) -> String {
    format!("{} (for {}): {}", trouble.kind, duration(trouble.since_seconds), trouble.detail)
}

/// What `vm delete` takes.
pub(crate) fn lost_by_delete(vm: &VmView) -> String {
    let meter = if vm.meter.is_some() { ", with what was metered," } else { "" };
    format!("its definition{meter} would be deleted; its disks stay")
}

/// What `vm discard` takes, if it is there.
pub(crate) fn lost_by_discard(vm: &VmView) -> Option<String> {
    let size = vm.saved_bytes.map_or_else(String::new, |size| format!(" ({})", human(size)));
    let why = "all that its programs had not written to disk is in there";
    (vm.state == VmState::Saved).then(|| format!("what was saved of it{size} would be deleted; {why}"))
}

/// What `vm stop --force` takes, if it is on.
pub(crate) fn lost_by_force(vm: &VmView) -> Option<String> {
    let up = vm.uptime_seconds.map_or_else(String::new, |up| format!(", after {}", duration(up)));
    vm.state.is_on().then(|| {
        format!("it is {} and would be switched off{up}; what its guest has not written to disk is lost", vm.state)
    })
}

/// What `meter reset` and `meter disable` take, if it is metered.
pub(crate) fn lost_by_metering(vm: &VmView) -> Option<String> {
    let meter = vm.meter.as_ref()?;
    Some(format!("what was metered of it since {}Z would be forgotten", utc(meter.since_unix_ms)))
}

pub(super) fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use dynmem_units::Bytes;

    use super::*;
    use crate::render::samples;

    #[test]
    fn how_far_a_static_vm_followed_is_told_either_way() {
        let said = |holds, asked| {
            let mut vm = samples::running();
            (vm.assigned_bytes, vm.settings.startup_bytes) = (Bytes::from_mib(holds), Bytes::from_mib(asked));
            resize_sentence(&vm, Duration::from_secs(30))
        };
        assert_eq!(said(1024, 1024), "web01 holds 1GiB");
        assert_eq!(said(700, 512), "web01 holds 700MiB; 512MiB was asked: its guest has given back no more in 30 s");
        assert_eq!(said(700, 1024), "web01 holds 700MiB; 1GiB was asked: its guest has taken no more in 30 s");
    }
}
