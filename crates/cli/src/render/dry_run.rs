//! What a change would come to.

use dynmem_api::{DryRunView, DryRunVm};
use serde::Serialize;

use super::{
    Show, Style, printable,
    size::human,
    table::{Align, Cell, Column, Table},
    vm::status_tone,
};

/// What a change of one VM would come to.
#[derive(Debug, Serialize)]
pub(crate) struct DryRun {
    /// The VM.
    pub(crate) name: String,
    /// Whether it would be done.
    pub(crate) ok: bool,
    /// What would be done, or why not.
    pub(crate) detail: String,
    /// What would come of it, if the daemon could say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<DryRunView>,
}

impl DryRun {
    /// What the daemon says of a change that is called `done` when it is made.
    pub(crate) fn new(name: String, done: &str, view: DryRunView) -> Self {
        let detail = match (&view.refusal, view.waits) {
            (Some(refusal), _) => format!("would be refused: {refusal}"),
            (None, false) => format!("would be {done}"),
            (None, true) => {
                format!("would be {done} once others have given {} back", human(view.reclaimed_bytes))
            }
        };
        Self { name, ok: view.accepted, detail, outcome: Some(view) }
    }
}

impl Show for DryRun {
    fn text(&self, style: &Style) -> String {
        let text = format!("{}: {}", self.name, printable(&self.detail));
        let Some(view) = self.outcome.as_ref().filter(|view| view.accepted) else { return text };
        if view.vms.is_empty() {
            return format!("{text}\nNo VM's memory would move");
        }
        let (now, then) = (human(view.available_bytes), human(view.available_after_bytes));
        let table = table(&view.vms, style);
        format!("{text}\nMemory that can be lent: {now} now, {then} then\n\n{table}")
    }
}

impl Show for Vec<DryRun> {
    fn text(&self, style: &Style) -> String {
        self.iter().map(|run| run.text(style)).collect::<Vec<_>>().join("\n\n")
    }
}

fn table(vms: &[DryRunVm], style: &Style) -> String {
    let column = |title, align, rank| Column { title, align, rank };
    let mut columns = vec![
        column("NAME", Align::Left, 0),
        column("NOW", Align::Right, 0),
        column("THEN", Align::Right, 0),
        column("STATUS", Align::Left, 1),
    ];
    let pages = vms.iter().any(|vm| vm.paged_bytes.is_some());
    columns.extend(pages.then(|| column("PAGED", Align::Right, 2)));
    let mut table = Table::new(columns);
    for DryRunVm { name, now_bytes, then_bytes, memory_status, paged_bytes } in vms {
        let status = memory_status.map_or("".into(), |status| Cell::new(status.as_str(), status_tone(status)));
        let mut cells = vec![name.into(), human(*now_bytes).into(), human(*then_bytes).into(), status];
        cells.extend(pages.then(|| paged_bytes.map(human).unwrap_or_default().into()));
        table.row(cells);
    }
    table.text(style)
}

#[cfg(test)]
mod tests {
    use dynmem_api::MemoryStatus;
    use dynmem_units::Bytes;

    use super::*;

    fn view() -> DryRunView {
        let vm = |name: &str, now, then, memory_status| DryRunVm {
            name: name.to_owned(),
            now_bytes: Bytes::from_mib(now),
            then_bytes: Bytes::from_mib(then),
            memory_status,
            paged_bytes: None,
        };
        DryRunView {
            accepted: true,
            refusal: None,
            available_bytes: Bytes::from_mib(100),
            available_after_bytes: Bytes::ZERO,
            waits: true,
            reclaimed_bytes: Bytes::from_mib(412),
            vms: vec![vm("db", 1000, 588, Some(MemoryStatus::Warning)), vm("web01", 0, 512, None)],
        }
    }

    #[test]
    fn a_dry_run_says_who_gives_and_who_gets() {
        assert_eq!(
            DryRun::new("web01".to_owned(), "started", view()).text(&Style::default()),
            "\
web01: would be started once others have given 412 MiB back
Memory that can be lent: 100 MiB now, 0 then

NAME        NOW     THEN  STATUS
db     1000 MiB  588 MiB  warning
web01         0  512 MiB"
        );
        let refused =
            DryRunView { accepted: false, refusal: Some("Can't start web01: it is off".to_owned()), ..view() };
        let run = DryRun::new("web01".to_owned(), "started", refused);
        assert!(!run.ok);
        assert_eq!(run.text(&Style::default()), "web01: would be refused: Can't start web01: it is off");
        let idle = DryRunView { waits: false, vms: Vec::new(), ..view() };
        let run = DryRun::new("web01".to_owned(), "changed", idle);
        assert_eq!(run.text(&Style::default()), "web01: would be changed\nNo VM's memory would move");
    }
}
