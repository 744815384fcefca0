//! VMs in words: what was set, what came of it, what is wrong.

use std::time::Duration;

use dynmem_api::{AutostartView, SettingsView, TroubleView, VmView};

use super::time::duration;

/// Settings in a line, with exact sizes.
pub(crate) fn settings_sentence(settings: &SettingsView) -> String {
    let SettingsView { startup_bytes, minimum_bytes, maximum_bytes, buffer_percent, weight, demand_model, .. } =
        settings;
    let folder = settings.smart_paging_folder.as_ref();
    let folder = folder.map(|folder| format!(", smart paging folder {}", folder.display())).unwrap_or_default();
    format!(
        "dynamic {}, startup {startup_bytes}, minimum {minimum_bytes}, maximum {maximum_bytes}, \
         buffer {buffer_percent}, weight {weight}, demand model {demand_model}{folder}",
        on_off(settings.dynamic)
    )
}

/// How far a static VM that runs has followed its startup after so long.
pub(crate) fn resize_sentence(vm: &VmView, waited: Duration) -> String {
    let (name, holds, asked) = (&vm.name, vm.assigned_bytes, vm.settings.startup_bytes);
    let no_more = if holds > asked { "given back" } else { "taken" };
    if holds == asked {
        return format!("{name} holds {holds}");
    }
    format!("{name} holds {holds}; {asked} was asked: its guest has {no_more} no more in {} s", waited.as_secs())
}

/// `start-if-running after 30 s`, and when that is if it is about to happen.
pub(crate) fn autostart_sentence(autostart: &AutostartView) -> String {
    let AutostartView { action, delay_seconds, starts_in_seconds } = autostart;
    let delay = if *delay_seconds > 0 { format!(" after {delay_seconds} s") } else { String::new() };
    let soon = starts_in_seconds.map(|seconds| format!(" (starts in {seconds} s)")).unwrap_or_default();
    format!("{action}{delay}{soon}")
}

/// `stuck (for 00:01:15): It does not move its memory`.
pub(super) fn trouble_sentence(trouble: &TroubleView) -> String {
    format!("{} (for {}): {}", trouble.kind, duration(trouble.since_seconds), trouble.detail)
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

    #[test]
    fn settings_are_told_exactly() {
        assert_eq!(
            settings_sentence(&samples::running().settings),
            "dynamic on, startup 512MiB, minimum 256MiB, maximum 4GiB, buffer 20%, weight 5000, \
             demand model working-set"
        );
    }
}
