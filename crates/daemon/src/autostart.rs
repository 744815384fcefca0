//! [`Autostarts`]: what ran when the host went down, and what is to be started
//! now that it has come up.
//!
//! ```text
//!  rows that daemons before us kept ──▶ take_in ──▶ who is due, and when ──▶ next
//!  a machine runs, a person stopped it ──▶ note ──▶ the row to keep
//! ```
//! A row says whether a VM was wanted running, and in which boot of the host it
//! was last looked after. So a row of another boot is itself the news that the
//! host has been restarted since; once its VM has been looked after, it is of
//! this boot, whichever daemon did that. What nobody asked to end, the host's
//! own end above all, does not change what was wanted.

use std::{cmp::Reverse, collections::BTreeMap};

use dynmem_core::{Instant, VmId};
use dynmem_definition::{Autostart, VmDefinition};
use dynmem_units::Weight;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A VM's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// It was wanted running.
    ran: bool,
    /// The boot of the host in which it was last looked after, if that could
    /// be told.
    boot_id: Option<String>,
}

/// A VM that is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) vm: VmId,
    pub(crate) name: String,
    pub(crate) at: Instant,
    /// It ran when the host went down.
    pub(crate) ran: bool,
    weight: Weight,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Autostarts {
    /// This boot of the host. Without it every boot is taken for the same.
    boot_id: Option<String>,
    /// What is kept here outlives the daemon.
    durable: bool,
    kept: BTreeMap<String, Kept>,
    /// The next one first.
    due: Vec<Due>,
}

impl Autostarts {
    /// `rows` are what was kept before; what is no row of ours is ignored.
    pub(crate) fn new(boot_id: Option<String>, durable: bool, rows: BTreeMap<String, Value>) -> Self {
        let row = |(name, row)| Some((name, serde_json::from_value(row).ok()?));
        Self { boot_id, durable, kept: rows.into_iter().filter_map(row).collect(), due: Vec::new() }
    }

    /// A VM that is defined, and whether its machine `runs`. Gives the row to
    /// keep, if that has changed.
    pub(crate) fn take_in(&mut self, vm: VmId, definition: &VmDefinition, runs: bool, now: Instant) -> Option<Value> {
        let name = &definition.name;
        let ran = self.kept.get(name).is_some_and(|kept| kept.ran);
        if runs {
            return self.note(name, true);
        }
        if !self.host_has_restarted(name) {
            return self.note(name, ran);
        }
        let wanted = match definition.autostart {
            Autostart::Nothing => false,
            Autostart::StartIfRunning => ran,
            Autostart::Start => true,
        };
        if !wanted {
            return self.note(name, false);
        }
        let at = now.plus_millis(u64::from(definition.start_delay) * 1000);
        self.due.push(Due { vm, name: name.clone(), at, ran, weight: definition.memory.weight });
        self.due.sort_by(|one, other| one.order().cmp(&other.order()));
        None // until it is looked after: this daemon may end before that
    }

    /// True if the host was restarted since this VM was last looked after.
    fn host_has_restarted(&self, name: &str) -> bool {
        let Some(present) = &self.boot_id else { return false };
        match self.kept.get(name) {
            Some(Kept { boot_id: Some(boot_id), .. }) => boot_id != present,
            Some(Kept { boot_id: None, .. }) => false,
            // Its definition came here by hand, or the rows were lost. Where
            // none can be kept, that would be so at each start of a daemon.
            None => self.durable,
        }
    }

    /// Whether a VM is wanted running. Gives the row to keep, if it has
    /// changed.
    pub(crate) fn note(&mut self, name: &str, ran: bool) -> Option<Value> {
        let row = Kept { ran, boot_id: self.boot_id.clone() };
        if self.kept.get(name) == Some(&row) {
            return None;
        }
        self.kept.insert(name.to_owned(), row.clone());
        serde_json::to_value(row).ok()
    }

    /// The VM is not defined any more.
    pub(crate) fn forget(&mut self, name: &str) {
        self.kept.remove(name);
        self.due.retain(|due| due.name != name);
    }

    /// The next one that is due now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Due> {
        (self.due.first()?.at <= now).then(|| self.due.remove(0))
    }

    /// It is due, and there is no room for it yet.
    pub(crate) fn put_back(&mut self, due: Due) {
        self.due.insert(0, due);
    }

    /// When this VM starts by itself, if it does.
    pub(crate) fn due_at(&self, vm: VmId) -> Option<Instant> {
        self.due.iter().find(|due| due.vm == vm).map(|due| due.at)
    }

    /// This VM does not start by itself. False if it would not have.
    pub(crate) fn cancel(&mut self, vm: VmId) -> bool {
        let before = self.due.len();
        self.due.retain(|due| due.vm != vm);
        self.due.len() < before
    }
}

impl Due {
    /// Whose delay ends first; of those, who has more weight.
    fn order(&self) -> (Instant, Reverse<Weight>, &str) {
        (self.at, Reverse(self.weight), &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "7fa756dd-9e5b-4473-83ad-5a92af449ba1";
    const BEFORE: &str = "11111111-9e5b-4473-83ad-5a92af449ba1";

    fn vm(name: &str, autostart: Autostart, start_delay: u32) -> VmDefinition {
        VmDefinition { autostart, start_delay, ..VmDefinition::new(name) }
    }

    fn row(ran: bool, boot_id: Option<&str>) -> Value {
        serde_json::json!({ "ran": ran, "boot_id": boot_id })
    }

    fn autostarts(boot_id: Option<&str>, rows: &[(&str, Value)]) -> Autostarts {
        let rows = rows.iter().map(|(name, row)| ((*name).to_owned(), row.clone())).collect();
        Autostarts::new(boot_id.map(str::to_owned), true, rows)
    }

    /// Whether `definition` is started, and as what it is: again, or anew.
    fn starts(definition: &VmDefinition, boot_id: Option<&str>, kept: Option<Value>) -> Option<bool> {
        let rows: Vec<_> = kept.into_iter().map(|row| (definition.name.as_str(), row)).collect();
        let mut autostarts = autostarts(boot_id, &rows);
        autostarts.take_in(VmId(0), definition, false, Instant(0));
        autostarts.next(Instant(0)).map(|due| due.ran)
    }

    #[test]
    fn after_a_restart_of_the_host_the_setting_and_what_ran_decide() {
        use Autostart::{Nothing, Start, StartIfRunning};
        for (autostart, ran, expected) in [
            (Nothing, true, None),
            (Nothing, false, None),
            (StartIfRunning, true, Some(true)),
            (StartIfRunning, false, None),
            (Start, true, Some(true)),
            (Start, false, Some(false)),
        ] {
            let started = starts(&vm("web01", autostart, 0), Some(BOOT), Some(row(ran, Some(BEFORE))));
            assert_eq!(started, expected, "{autostart}, ran: {ran}");
        }
    }

    #[test]
    fn nothing_is_started_while_the_host_is_the_same_or_can_not_be_told() {
        let eager = vm("web01", Autostart::Start, 0);
        for (present, before) in [(Some(BOOT), Some(BOOT)), (None, Some(BEFORE)), (Some(BOOT), None), (None, None)] {
            assert_eq!(starts(&eager, present, Some(row(true, before))), None, "{present:?} after {before:?}");
        }
    }

    #[test]
    fn a_vm_that_nobody_has_looked_after_yet_starts_only_if_rows_can_be_kept() {
        let eager = vm("web01", Autostart::Start, 0);
        assert_eq!(starts(&eager, Some(BOOT), None), Some(false));
        assert_eq!(starts(&eager, Some(BOOT), Some("nonsense".into())), Some(false));
        assert_eq!(starts(&vm("web01", Autostart::StartIfRunning, 0), Some(BOOT), None), None);
        let mut forgetful = Autostarts::new(Some(BOOT.to_owned()), false, BTreeMap::new());
        forgetful.take_in(VmId(0), &eager, false, Instant(0));
        assert_eq!(forgetful.next(Instant(0)), None);
    }

    #[test]
    fn a_row_stays_of_the_boot_before_until_its_vm_is_looked_after() {
        let mut autostarts = autostarts(Some(BOOT), &[("web01", row(true, Some(BEFORE)))]);
        let changed = autostarts.take_in(VmId(0), &vm("web01", Autostart::StartIfRunning, 60), false, Instant(0));
        assert_eq!(changed, None, "the next daemon has to start it, if this one ends before");
        assert_eq!(autostarts.note("web01", true), Some(row(true, Some(BOOT))));
        assert_eq!(autostarts.note("web01", true), None, "kept already");
        assert_eq!(
            autostarts.take_in(VmId(1), &vm("db", Autostart::Nothing, 0), true, Instant(0)),
            Some(row(true, Some(BOOT)))
        );
    }

    #[test]
    fn delays_come_first_and_then_weights_and_names() {
        let mut autostarts = autostarts(Some(BOOT), &[]);
        let mut heavy = vm("z-heavy", Autostart::Start, 5);
        heavy.memory.weight = Weight::MAX;
        let all = [vm("b", Autostart::Start, 5), vm("a", Autostart::Start, 5), heavy, vm("first", Autostart::Start, 0)];
        for (number, definition) in (0..).zip(&all) {
            autostarts.take_in(VmId(number), definition, false, Instant(1_000));
        }
        assert_eq!(autostarts.due_at(VmId(0)), Some(Instant(6_000)));
        let started = |autostarts: &mut Autostarts, now| -> Vec<String> {
            std::iter::from_fn(|| autostarts.next(Instant(now))).map(|due| due.name).collect()
        };
        assert_eq!(started(&mut autostarts, 5_999), ["first"]);
        assert!(autostarts.cancel(VmId(1)) && !autostarts.cancel(VmId(1)), "a person does not want it after all");
        assert_eq!(started(&mut autostarts, 6_000), ["z-heavy", "b"]);
    }
}
