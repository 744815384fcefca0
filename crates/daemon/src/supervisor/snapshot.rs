//! [`Snapshot`]: what everybody may see, and its words in JSON, written once for
//! all who tell them.

use std::{cmp::Ordering, sync::OnceLock};

use axum::body::Bytes;
use dynmem_api::{DriverView, HostView, TroubleView, VmView};
use serde::Serialize;

use crate::internals::Internals;

/// The host and all VMs at one instant.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Counts snapshots.
    number: u64,
    pub(crate) host: HostView,
    /// By name.
    pub(crate) vms: Vec<VmView>,
    /// For each of them, a number that no VM had before: it tells a VM from an
    /// earlier one of its name.
    pub(crate) made: Vec<u64>,
    pub(crate) internals: Internals,
    /// The number of the snapshot in which each VM changed last.
    changed_in: Vec<u64>,
    /// Each VM in JSON, once somebody has asked for it.
    words: Vec<OnceLock<String>>,
    /// All VMs as an array, and all of it as a server-sent event, likewise.
    list: OnceLock<Bytes>,
    whole: OnceLock<Bytes>,
}

impl Snapshot {
    /// The one after `before`. `vms` are in the order of their names.
    pub(crate) fn after(before: &Self, host: HostView, vms: Vec<VmView>, made: Vec<u64>, internals: Internals) -> Self {
        let number = before.number + 1;
        let mut older = before.vms.iter().zip(&before.changed_in).peekable();
        let changed_in = vms.iter().map(|vm| {
            while older.next_if(|(old, _)| old.name < vm.name).is_some() {}
            match older.next_if(|(old, _)| old.name == vm.name) {
                Some((old, changed_in)) if is_same_but_older(old, vm) => *changed_in,
                _ => number,
            }
        });
        let changed_in = changed_in.collect();
        let words = vms.iter().map(|_| OnceLock::new()).collect();
        let (list, whole) = (OnceLock::new(), OnceLock::new());
        Self { number, host, vms, made, internals, changed_in, words, list, whole }
    }

    pub(crate) fn vm(&self, name: &str) -> Option<&VmView> {
        let at = self.vms.binary_search_by(|vm| vm.name.as_str().cmp(name)).ok()?;
        self.vms.get(at)
    }

    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        self.number > other.number
    }

    /// All VMs as a JSON array: with a thousand of them, hundreds of requests a
    /// second cost what one does.
    pub(crate) fn list(&self) -> Bytes {
        let array = || {
            let mut text = String::from("[");
            self.tell(&mut text, |_| true);
            text.push(']');
            Bytes::from(text)
        };
        self.list.get_or_init(array).clone()
    }

    /// All of it as a server-sent event.
    pub(crate) fn whole(&self) -> Bytes {
        let event = || {
            let head = format!("event: snapshot\ndata: {{\"host\":{},\"vms\":", json(&self.host));
            Bytes::from([head.as_bytes(), &self.list(), b"}\n\n"].concat())
        };
        self.whole.get_or_init(event).clone()
    }

    /// What has changed since `shown` as a server-sent event; none if nothing
    /// has.
    pub(crate) fn change_since(&self, shown: &Self) -> Option<Bytes> {
        let gone = self.gone_since(shown);
        let changed = |index: usize| self.changed_in.get(index).is_some_and(|number| *number > shown.number);
        if gone.is_empty() && self.host == shown.host && !(0..self.vms.len()).any(changed) {
            return None;
        }
        let mut text = format!("event: change\ndata: {{\"host\":{},\"vms\":[", json(&self.host));
        self.tell(&mut text, changed);
        text.push_str("],\"gone\":");
        text.push_str(&json(&gone));
        text.push_str("}\n\n");
        Some(text.into())
    }

    /// Appends some of the VMs, with commas between.
    fn tell(&self, text: &mut String, which: impl Fn(usize) -> bool) {
        let told = self.vms.iter().zip(&self.words).enumerate().filter(|(index, _)| which(*index));
        for (count, (_, (vm, words))) in told.enumerate() {
            if count > 0 {
                text.push(',');
            }
            text.push_str(words.get_or_init(|| json(vm)));
        }
    }

    fn gone_since<'a>(&self, shown: &'a Self) -> Vec<&'a str> {
        let mut present = self.vms.iter().peekable();
        let is_gone = |old: &&VmView| {
            while present.next_if(|vm| vm.name < old.name).is_some() {}
            present.peek().map_or(Ordering::Greater, |vm| vm.name.cmp(&old.name)) != Ordering::Equal
        };
        shown.vms.iter().filter(is_gone).map(|vm| vm.name.as_str()).collect()
    }
}

/// Views are plain data: they always have words.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// True if nothing but time has passed between the two. Most VMs have reported
/// meanwhile: their counters tell at once, and the rest is for the calm ones.
fn is_same_but_older(old: &VmView, new: &VmView) -> bool {
    if old.counters != new.counters || old.demand_bytes != new.demand_bytes {
        return false;
    }
    let mut aged = old.clone();
    aged.uptime_seconds = new.uptime_seconds;
    aged.autostart.starts_in_seconds = new.autostart.starts_in_seconds;
    aged.smart_paging.since_seconds = new.smart_paging.since_seconds;
    for (TroubleView { since_seconds, .. }, newer) in aged.troubles.iter_mut().zip(&new.troubles) {
        *since_seconds = newer.since_seconds;
    }
    if let (DriverView::Frozen { since_seconds, .. }, DriverView::Frozen { since_seconds: newer, .. }) =
        (&mut aged.driver, &new.driver)
    {
        *since_seconds = *newer;
    }
    if let (Some(meter), Some(newer)) = (&mut aged.meter, &new.meter) {
        (meter.period_seconds, meter.measured_seconds) = (newer.period_seconds, newer.measured_seconds);
    }
    aged == *new
}

#[cfg(test)]
mod tests {
    use dynmem_api::{Live, MeterView};
    use serde_json::json;

    use super::*;

    fn vm(name: &str) -> VmView {
        serde_json::from_value(json!({
            "name": name, "state": "running", "assigned_bytes": 0, "demand_bytes": 0, "target_bytes": 0,
            "vcpus": 1, "integration": "agent", "driver": {"state": "ok"}, "uptime_seconds": 5,
            "settings": {"dynamic": false, "startup_bytes": 0, "minimum_bytes": 0, "maximum_bytes": 0,
                "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
        }))
        .expect("a view")
    }

    /// What is told: the names of VMs, and of those that are gone.
    fn told(event: Option<Bytes>) -> Option<(Vec<String>, Vec<String>)> {
        let event = String::from_utf8(event?.to_vec()).expect("text");
        let lines: Vec<_> = event.lines().collect();
        let [name, data, ""] = lines[..] else { panic!("{event}") };
        let (name, data) = (name.trim_start_matches("event: "), data.trim_start_matches("data: "));
        let names = |vms: Vec<VmView>| vms.into_iter().map(|vm| vm.name).collect();
        match Live::read(name, data).expect("right").expect("known") {
            Live::Snapshot(snapshot) => Some((names(snapshot.vms), Vec::new())),
            Live::Change(change) => Some((names(change.vms), change.gone)),
            Live::Event(_) => panic!("{event}"),
        }
    }

    #[test]
    fn the_list_is_the_array_of_all() {
        let vms = vec![vm("a"), vm("b")];
        let snapshot =
            Snapshot::after(&Snapshot::default(), HostView::default(), vms.clone(), Vec::new(), Internals::default());
        assert_eq!(serde_json::from_slice::<Vec<VmView>>(&snapshot.list()).expect("an array"), vms);
        assert_eq!(&Snapshot::default().list()[..], b"[]");
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn time_that_passes_is_no_change_wherever_it_is_told() {
        let aged = |seconds: u64| -> VmView {
            let meter = json!({"since_unix_ms": 1, "period_seconds": seconds, "measured_seconds": seconds});
            let mut view = serde_json::to_value(vm("a")).expect("plain data");
            view["uptime_seconds"] = seconds.into();
            view["autostart"] = json!({"action": "start", "delay_seconds": 9, "starts_in_seconds": 9 - seconds});
            view["smart_paging"] = json!({"in_use": true, "since_seconds": seconds});
            view["troubles"] = json!([{"kind": "stuck", "since_seconds": seconds, "detail": "It does not move"}]);
            view["driver"] = json!({"state": "frozen", "reason": "It does not move", "since_seconds": seconds});
            view["meter"] = meter;
            serde_json::from_value(view).expect("a view")
        };
        assert!(is_same_but_older(&aged(1), &aged(2)));
        let calm = VmView { troubles: Vec::new(), ..aged(2) };
        let metered_more =
            aged(2).meter.map(|meter| MeterView { maximum_bytes: Some(dynmem_units::Bytes::MIB), ..meter });
        for different in [calm, VmView { meter: metered_more, ..aged(2) }, VmView { driver: DriverView::Ok, ..aged(2) }]
        {
            assert!(!is_same_but_older(&aged(1), &different), "{different:?}");
        }
    }

    #[test]
    fn only_what_changed_since_what_was_shown_is_told() {
        let host = HostView::default;
        let after = |before: &Snapshot, host, vms| Snapshot::after(before, host, vms, Vec::new(), Internals::default());
        let first = after(&Snapshot::default(), host(), vec![vm("a"), vm("b"), vm("d")]);
        assert_eq!(told(Some(first.whole())), Some((strings(&["a", "b", "d"]), Vec::new())));
        let grown = VmView { assigned_bytes: dynmem_units::Bytes::MIB, ..vm("b") };
        let second = after(&first, host(), vec![vm("a"), grown.clone(), vm("c")]);
        assert_eq!(told(second.change_since(&first)), Some((strings(&["b", "c"]), strings(&["d"]))));
        let older = VmView { uptime_seconds: Some(6), ..vm("a") };
        let third = after(&second, host(), vec![older, grown, vm("c"), vm("e")]);
        assert_eq!(told(third.change_since(&second)), Some((strings(&["e"]), Vec::new())), "time is no change");
        // Who has read slowly gets all of it at once.
        assert_eq!(told(third.change_since(&first)), Some((strings(&["b", "c", "e"]), strings(&["d"]))));
        let same = after(&third, host(), third.vms.clone());
        assert_eq!(told(same.change_since(&third)), None);
        let busy = HostView { vms_total: 9, ..host() };
        let fifth = after(&same, busy, third.vms.clone());
        assert_eq!(told(fifth.change_since(&same)), Some((Vec::new(), Vec::new())), "the host alone");
    }
}
