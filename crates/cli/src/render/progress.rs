//! What goes on with a VM while somebody waits for it, in a line.

use std::time::Duration;

use dynmem_api::{ExplanationView, OwedView, VmState, VmView};

use super::{printable, size::human};

/// `web01: starting – waits for db02 to give back 300 MiB (12 s, and 2 more)`.
pub(crate) fn progress_line(
    vm: &VmView,
    why: Option<&ExplanationView>,
    waited: Duration,
    others: usize,
    width: usize,
) -> String {
    let reason = reason(vm, why).map_or_else(String::new, |reason| format!(" – {}", printable(&reason)));
    let more = if others == 0 { String::new() } else { format!(", and {others} more") };
    let line = format!("{}: {}{reason} ({} s{more})", vm.name, vm.state, waited.as_secs());
    let room = width.saturating_sub(1).max(1); // the cursor's place
    if line.chars().count() <= room {
        return line;
    }
    line.chars().take(room - 1).chain(['…']).collect()
}

/// What it waits for, the nearest first.
fn reason(vm: &VmView, why: Option<&ExplanationView>) -> Option<String> {
    let paging = &vm.smart_paging;
    let pages = paging.in_use.then(|| format!("smart paging, {} left", human(paging.used_bytes)));
    let (holds, asked) = (vm.assigned_bytes, vm.settings.startup_bytes);
    let follows = !vm.settings.dynamic && vm.state == VmState::Running && holds != asked;
    why.and_then(waits)
        .or_else(|| vm.state_reason.clone())
        .or(pages)
        .or_else(|| vm.troubles.first().map(|trouble| trouble.detail.clone()))
        .or_else(|| follows.then(|| format!("holds {}, going to {}", human(holds), human(asked))))
}

fn waits(explanation: &ExplanationView) -> Option<String> {
    if !["waits-to-start", "waits-for-others"].contains(&explanation.why.as_str()) {
        return None;
    }
    let Some(OwedView { name, bytes, stuck }) = explanation.owed.first() else {
        return Some(explanation.sentence.clone());
    };
    let stuck = if *stuck { ", which is stuck," } else { "" };
    let others = match explanation.owed.len() - 1 {
        0 => String::new(),
        others => format!(", and for {others} more: {} in all", human(explanation.owed_bytes)),
    };
    Some(format!("waits for {name}{stuck} to give back {}{others}", human(*bytes)))
}

#[cfg(test)]
mod tests {
    use dynmem_api::SmartPagingView;
    use dynmem_units::Bytes;
    use serde_json::json;

    use super::*;
    use crate::render::samples;

    fn line(vm: &VmView, why: Option<&ExplanationView>) -> String {
        progress_line(vm, why, Duration::from_secs(12), 0, 80)
    }

    fn explained(why: &str, owed: &serde_json::Value) -> ExplanationView {
        let zero = ["assigned", "promised", "demand", "wanted", "target", "due", "minimum", "maximum", "available"];
        let mut view = json!({"name": "web01", "sentence": "It needs 1 GiB", "why": why, "weight": 5000,
            "sharers_total": 0, "owed": owed, "owed_bytes": 812 << 20, "lendable_bytes": 0});
        for name in zero {
            view[format!("{name}_bytes")] = json!(0);
        }
        serde_json::from_value(view).expect("a view")
    }

    #[test]
    fn a_line_says_what_it_waits_for() {
        let mut vm = samples::off();
        vm.state = VmState::Starting;
        assert_eq!(line(&vm, None), "db: starting (12 s)");
        let owed = json!([{"name": "web01", "bytes": 300 << 20, "stuck": false}]);
        let why = explained("waits-to-start", &owed);
        assert_eq!(line(&vm, Some(&why)), "db: starting – waits for web01 to give back 300 MiB (12 s)");
        let owed = json!([{"name": "a", "bytes": 512 << 20, "stuck": true}, {"name": "b", "bytes": 300 << 20, "stuck": false}]);
        let why = explained("waits-to-start", &owed);
        assert_eq!(
            line(&vm, Some(&why)),
            "db: starting – waits for a, which is stuck, to give back 512 MiB, and for 1 mo…"
        );
        let why = explained("waits-to-start", &json!([]));
        assert_eq!(line(&vm, Some(&why)), "db: starting – It needs 1 GiB (12 s)");
        assert_eq!(line(&vm, Some(&explained("boots", &json!([])))), "db: starting (12 s)");

        vm.state = VmState::Saving;
        vm.state_reason = Some("Its memory is written, 120 MiB so\u{1b} far".to_owned());
        assert_eq!(line(&vm, None), "db: saving – Its memory is written, 120 MiB so\u{fffd} far (12 s)");
        assert_eq!(progress_line(&vm, None, Duration::ZERO, 2, 16), "db: saving – I…");
        vm.state_reason = None;
        assert_eq!(progress_line(&vm, None, Duration::ZERO, 2, 80), "db: saving (0 s, and 2 more)");
    }

    #[test]
    fn a_line_says_how_far_its_memory_is() {
        let mut vm = samples::running();
        vm.smart_paging =
            SmartPagingView { in_use: true, used_bytes: Bytes::from_mib(120), ..SmartPagingView::default() };
        vm.state = VmState::Booting;
        assert_eq!(line(&vm, None), "web01: booting – smart paging, 120 MiB left (12 s)");
        vm.smart_paging.in_use = false;
        vm.state = VmState::Running;
        vm.settings.dynamic = false;
        assert_eq!(line(&vm, None), "web01: running – holds 1.5 GiB, going to 512 MiB (12 s)");
    }
}
