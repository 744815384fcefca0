//! VMs as a table of Hyper-V's columns, as a table of settings, and one in
//! full.

use dynmem_api::{AdviceView, DriverView, Integration, MemoryStatus, SettingsView, SmartPagingView, VmState, VmView};
use dynmem_units::{Bytes, Percent};
use serde::Serialize;

use super::{
    Show, Style, pairs,
    sentences::{on_off, trouble_sentence},
    size::human,
    table::{Align, Cell, Column, Table, Tone},
    time::duration,
};

/// All VMs, a line each.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct VmList<'v>(pub(crate) &'v [VmView]);

/// The memory settings of VMs, a line each.
pub(crate) struct MemoryList<'v>(pub(crate) &'v [VmView]);

/// One VM in full.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Vm<'v>(pub(crate) &'v VmView);

/// A column of a table of VMs.
pub(super) struct VmColumn {
    column: Column,
    cell: fn(&VmView) -> Cell,
}

const fn left(title: &'static str, rank: u8, cell: fn(&VmView) -> Cell) -> VmColumn {
    VmColumn { column: Column { title, align: Align::Left, rank }, cell }
}

const fn right(title: &'static str, rank: u8, cell: fn(&VmView) -> Cell) -> VmColumn {
    VmColumn { column: Column { title, align: Align::Right, rank }, cell }
}

pub(super) const NAME: VmColumn = left("NAME", 0, |vm| Cell::from(&vm.name));
pub(super) const STATE: VmColumn = left("STATE", 0, state);
pub(super) const CPU: VmColumn = right("CPU", 5, cpu);
pub(super) const ASSIGNED: VmColumn = right("ASSIGNED", 0, |vm| human(vm.assigned_bytes).into());
pub(super) const DEMAND: VmColumn = right("DEMAND", 1, |vm| human(vm.demand_bytes).into());
pub(super) const PRESSURE: VmColumn = right("PRESSURE", 3, |vm| optional(vm.pressure_percent));
pub(super) const STATUS: VmColumn = left("STATUS", 1, status);
pub(super) const UPTIME: VmColumn = right("UPTIME", 6, |vm| vm.uptime_seconds.map(duration).unwrap_or_default().into());
pub(super) const DYNAMIC: VmColumn = left("DYNAMIC", 5, |vm| on_off(vm.settings.dynamic).into());
pub(super) const STARTUP: VmColumn = right("STARTUP", 4, |vm| human(vm.settings.startup_bytes).into());
pub(super) const MINIMUM: VmColumn = right("MINIMUM", 3, |vm| human(vm.settings.minimum_bytes).into());
pub(super) const MAXIMUM: VmColumn = right("MAXIMUM", 3, |vm| human(vm.settings.maximum_bytes).into());
pub(super) const BUFFER: VmColumn = right("BUFFER", 7, |vm| vm.settings.buffer_percent.to_string().into());
pub(super) const WEIGHT: VmColumn = right("WEIGHT", 7, |vm| vm.settings.weight.to_string().into());
pub(super) const MODEL: VmColumn = left("DEMAND MODEL", 8, |vm| vm.settings.demand_model.to_string().into());
pub(super) const INTEGRATION: VmColumn = left("INTEGRATION", 6, integration);
pub(super) const PAGING: VmColumn =
    left("SMART PAGING", 8, |vm| if vm.smart_paging.in_use { Cell::new("in use", Tone::Attention) } else { "".into() });

const LIST: [VmColumn; 15] = [
    NAME,
    STATE,
    CPU,
    ASSIGNED,
    DEMAND,
    STATUS,
    UPTIME,
    DYNAMIC,
    STARTUP,
    MINIMUM,
    MAXIMUM,
    BUFFER,
    WEIGHT,
    INTEGRATION,
    PAGING,
];
const SETTINGS: [VmColumn; 8] = [NAME, DYNAMIC, STARTUP, MINIMUM, MAXIMUM, BUFFER, WEIGHT, MODEL];

/// A table with a line for each VM.
pub(super) fn table(columns: &[VmColumn], vms: &[VmView], style: &Style) -> String {
    let mut table = Table::new(columns.iter().map(|column| column.column));
    for vm in vms {
        table.row(columns.iter().map(|column| (column.cell)(vm)).collect());
    }
    table.text(style)
}

impl Show for VmList<'_> {
    fn text(&self, style: &Style) -> String {
        if self.0.is_empty() {
            return "No VM is defined".to_owned();
        }
        table(&LIST, self.0, style)
    }
}

impl Serialize for MemoryList<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'v> {
            name: &'v str,
            #[serde(flatten)]
            settings: &'v SettingsView,
        }
        serializer.collect_seq(self.0.iter().map(|vm| Line { name: &vm.name, settings: &vm.settings }))
    }
}

impl Show for MemoryList<'_> {
    fn text(&self, style: &Style) -> String {
        if self.0.is_empty() {
            return "No VM is defined".to_owned();
        }
        table(&SETTINGS, self.0, style)
    }
}

impl Show for Vm<'_> {
    fn text(&self, _: &Style) -> String {
        let vm = self.0;
        let mut blocks = vec![pairs(&identity(vm)), pairs(&memory(vm)), pairs(&settings(vm)), pairs(&counters(vm))];
        let troubles: Vec<_> = vm.troubles.iter().map(|trouble| ("Trouble", trouble_sentence(trouble))).collect();
        blocks.push(pairs(&troubles));
        if !vm.warnings.is_empty() {
            let warnings: Vec<_> = vm.warnings.iter().map(|warning| ("Warning", warning.clone())).collect();
            blocks.push(pairs(&warnings));
        }
        let advice = |advice: &AdviceView| ("Advice", format!("{}. {}", advice.sentence, advice.remedy));
        blocks.push(pairs(&vm.advice.iter().map(advice).collect::<Vec<_>>()));
        blocks.retain(|block| !block.is_empty());
        blocks.join("\n\n")
    }
}

fn identity(vm: &VmView) -> Vec<(&'static str, String)> {
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(|path| path.display().to_string());
    vec![
        ("Name", vm.name.clone()),
        ("State", vm.state.to_string()),
        ("Reason", vm.state_reason.clone().unwrap_or_default()),
        ("Uptime", vm.uptime_seconds.map(duration).unwrap_or_default()),
        ("Processors", vm.vcpus.to_string()),
        ("CPU", vm.cpu_percent.map(|percent| percent.to_string()).unwrap_or_default()),
        ("Accelerator", vm.accelerator.clone().unwrap_or_default()),
        ("Integration", if vm.state.is_on() { vm.integration.to_string() } else { String::new() }),
        ("Driver", driver(vm)),
        ("Console", path(&vm.console_path).unwrap_or_default()),
        ("Monitor", path(&vm.monitor_path).unwrap_or_default()),
        ("Process", vm.pid.map(|pid| pid.to_string()).unwrap_or_default()),
    ]
}

fn memory(vm: &VmView) -> Vec<(&'static str, String)> {
    let percent = |percent: Option<Percent>| percent.map(|percent| percent.to_string()).unwrap_or_default();
    let size = |size: Option<Bytes>| size.map(human).unwrap_or_default();
    if !vm.state.is_on() {
        return vec![
            ("Assigned", human(vm.assigned_bytes)),
            ("Demand", human(vm.demand_bytes)),
            ("Saved", size(vm.saved_bytes)),
        ];
    }
    vec![
        ("Assigned", human(vm.assigned_bytes)),
        ("Resident", resident(vm)),
        ("Demand", human(vm.demand_bytes)),
        ("Target", human(vm.target_bytes)),
        ("Status", vm.memory_status.map(|status| status.to_string()).unwrap_or_default()),
        ("Pressure", percent(vm.pressure_percent)),
        ("Available", vm.memory_available_percent.map(|percent| format!("{percent}%")).unwrap_or_default()),
        ("Buffer held", percent(vm.buffer_percent_held)),
        ("Guest visible", size(vm.guest_visible_bytes)),
        ("Guest available", size(vm.guest_available_bytes)),
        ("Ballooned", human(vm.ballooned_bytes)),
        ("Hot-added", human(vm.plugged_bytes)),
        ("Overhead", overhead(vm)),
        ("Memory limit", size(vm.memory_limit_bytes)),
    ]
}

/// `1.1 GiB (436 MiB of assigned not backed by the host)`.
fn resident(vm: &VmView) -> String {
    let Some(resident) = vm.resident_bytes else { return String::new() };
    let unbacked = vm.assigned_bytes.saturating_sub(resident);
    let rest = if unbacked.is_zero() {
        String::new()
    } else {
        format!(" ({} of assigned not backed by the host)", human(unbacked))
    };
    format!("{}{rest}", human(resident))
}

fn overhead(vm: &VmView) -> String {
    let how = if vm.overhead_measured { "measured" } else { "estimated" };
    format!("{} ({how})", human(vm.overhead_bytes))
}

fn settings(vm: &VmView) -> Vec<(&'static str, String)> {
    let paging = match (&vm.smart_paging.path, vm.smart_paging.in_use) {
        (Some(path), true) => format!("{}, in use: {}", path.display(), paging_use(&vm.smart_paging)),
        (Some(path), false) => path.display().to_string(),
        (None, true) => format!("in use: {}", paging_use(&vm.smart_paging)),
        (None, false) => String::new(),
    };
    vec![
        ("Dynamic", on_off(vm.settings.dynamic).to_owned()),
        ("Startup", human(vm.settings.startup_bytes)),
        ("Minimum", human(vm.settings.minimum_bytes)),
        ("Maximum", human(vm.settings.maximum_bytes)),
        ("Buffer", vm.settings.buffer_percent.to_string()),
        ("Weight", vm.settings.weight.to_string()),
        ("Demand model", vm.settings.demand_model.to_string()),
        ("Smart paging", paging),
        ("Autostart", vm.autostart.to_string()),
    ]
}

/// `120 MiB of 512 MiB`.
fn paging_use(paging: &SmartPagingView) -> String {
    let size = paging.file_bytes.map(|size| format!(" of {}", human(size)));
    format!("{}{}", human(paging.used_bytes), size.unwrap_or_default())
}

fn counters(vm: &VmView) -> Vec<(&'static str, String)> {
    if !vm.state.is_on() {
        return Vec::new();
    }
    let counters = &vm.counters;
    let pressure =
        [counters.pressure_minimum_percent, counters.pressure_average_percent, counters.pressure_maximum_percent]
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(|seen| format!("{} to {}, {} on average", seen[0], seen[2], seen[1]));
    vec![
        ("Added", moved(counters.added_bytes, counters.add_operations)),
        ("Removed", moved(counters.removed_bytes, counters.remove_operations)),
        ("Pressure seen", pressure.unwrap_or_default()),
        ("Most seen by guest", human(counters.guest_high_water_bytes)),
    ]
}

/// `1.5 GiB in 3 operations`.
pub(super) fn moved(size: Bytes, operations: u64) -> String {
    format!("{} in {operations} operation{}", human(size), if operations == 1 { "" } else { "s" })
}

fn driver(vm: &VmView) -> String {
    match &vm.driver {
        DriverView::Ok if vm.state.is_on() => "ok".to_owned(),
        DriverView::Ok => String::new(),
        DriverView::Frozen { reason, since_seconds } => format!("{reason} (for {})", duration(*since_seconds)),
    }
}

fn state(vm: &VmView) -> Cell {
    let tone = match vm.state {
        VmState::Running => Tone::Good,
        VmState::Starting | VmState::Booting | VmState::Stopping | VmState::Saving | VmState::Paused => Tone::Attention,
        VmState::Failed => Tone::Bad,
        VmState::Off | VmState::Saved => Tone::Quiet,
    };
    Cell::new(vm.state.as_str(), tone)
}

/// `warning`, or `ok, stuck` where something is wrong with the guest, and
/// `ok, stuck +1` where that is not all.
fn status(vm: &VmView) -> Cell {
    let (word, tone) = match vm.memory_status {
        None => ("", Tone::Quiet),
        Some(status) => (status.as_str(), status_tone(status)),
    };
    let Some((first, others)) = vm.troubles.split_first() else { return Cell::new(word, tone) };
    let comma = if word.is_empty() { "" } else { ", " };
    let more = if others.is_empty() { String::new() } else { format!(" +{}", others.len()) };
    let tone = if tone == Tone::Bad { tone } else { Tone::Attention };
    Cell::new(format!("{word}{comma}{}{more}", first.kind), tone)
}

/// What a memory status means for the reader.
pub(super) fn status_tone(status: MemoryStatus) -> Tone {
    match status {
        MemoryStatus::Ok => Tone::Good,
        MemoryStatus::Warning => Tone::Attention,
        MemoryStatus::Low => Tone::Bad,
    }
}

fn integration(vm: &VmView) -> Cell {
    // A guest that does not exist or still boots has no say, and is no trouble.
    if !vm.state.is_on() || matches!(vm.state, VmState::Starting | VmState::Booting) {
        return "".into();
    }
    match (&vm.driver, vm.integration) {
        (DriverView::Frozen { .. }, _) => Cell::new("frozen", Tone::Bad),
        (DriverView::Ok, Integration::Agent) => "agent".into(),
        (DriverView::Ok, Integration::BalloonStatistics) => Cell::new("degraded", Tone::Attention),
        (DriverView::Ok, Integration::None) => Cell::new("none", Tone::Quiet),
    }
}

fn cpu(vm: &VmView) -> Cell {
    let idle = (!vm.state.is_on()).then_some(Percent::new(0)); // unknown is empty, off is none
    optional(vm.cpu_percent.or(idle))
}

fn optional(percent: Option<Percent>) -> Cell {
    percent.map(|percent| percent.to_string()).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use dynmem_api::TroubleView;

    use super::*;
    use crate::render::samples;

    fn vms() -> Vec<VmView> {
        vec![samples::running(), samples::off()]
    }

    #[test]
    fn a_list_has_hyper_vs_columns() {
        let vms = vms();
        assert_eq!(
            VmList(&vms).text(&Style::default()),
            "\
NAME   STATE    CPU  ASSIGNED   DEMAND  STATUS        UPTIME  DYNAMIC  STARTUP  MINIMUM  MAXIMUM  BUFFER  WEIGHT  \
INTEGRATION  SMART PAGING
web01  running  87%   1.5 GiB  1.4 GiB  warning  1d 02:03:04  on       512 MiB  256 MiB    4 GiB     20%    5000  \
agent
db     off       0%         0        0                        off        2 GiB  512 MiB    1 TiB     20%    5000"
        );
        assert_eq!(VmList(&[]).text(&Style::default()), "No VM is defined");
    }

    #[test]
    fn a_narrow_list_keeps_what_matters() {
        let vms = vms();
        let narrow = VmList(&vms).text(&Style { width: Some(50), colour: false });
        assert_eq!(narrow.lines().next(), Some("NAME   STATE    ASSIGNED   DEMAND  STATUS"));
        let usual = VmList(&vms).text(&Style { width: Some(80), colour: false });
        assert_eq!(
            usual.lines().next(),
            Some("NAME   STATE    CPU  ASSIGNED   DEMAND  STATUS   STARTUP  MINIMUM  MAXIMUM")
        );
    }

    #[test]
    fn trouble_shows_in_words() {
        let mut vm = samples::running();
        vm.memory_status = Some(MemoryStatus::Low);
        vm.driver = DriverView::Frozen { reason: "The balloon does not move".into(), since_seconds: 75 };
        vm.smart_paging = SmartPagingView {
            in_use: true,
            file_bytes: Some(Bytes::from_mib(512)),
            used_bytes: Bytes::from_mib(120),
            ..vm.smart_paging
        };
        let text = VmList(std::slice::from_ref(&vm)).text(&Style::default());
        for word in ["low", "frozen", "in use"] {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
        vm.state = VmState::Booting; // when nobody can expect a driver yet
        assert!(!VmList(std::slice::from_ref(&vm)).text(&Style::default()).contains("frozen"));
        let trouble = |kind: &str, detail: &str| TroubleView {
            kind: kind.to_owned(),
            since_seconds: 75,
            detail: detail.to_owned(),
        };
        vm.troubles = vec![trouble("stuck", "It does not move its memory: asked for 1GiB, it stays at 2GiB")];
        let list = VmList(std::slice::from_ref(&vm)).text(&Style::default());
        assert!(list.contains("  low, stuck  "), "{list}");
        vm.troubles.push(trouble("agent-floods", "It has an agent that sends more than is read"));
        let list = VmList(std::slice::from_ref(&vm)).text(&Style::default());
        assert!(list.contains("  low, stuck +1  "), "{list}");
        let text = Vm(&vm).text(&Style::default());
        let block = "\n\nTrouble  stuck (for 00:01:15): It does not move its memory: asked for 1GiB, it stays at 2GiB\n\
                     Trouble  agent-floods (for 00:01:15): It has an agent that sends more than is read\n\nWarning";
        assert!(text.contains(block), "{text}");
        assert!(text.contains("Driver       The balloon does not move (for 00:01:15)"), "{text}");
        assert!(text.contains("/paging, in use: 120 MiB of 512 MiB\n"), "{text}");
    }

    #[test]
    fn one_vm_in_full() {
        assert_eq!(
            Vm(&samples::running()).text(&Style::default()),
            "\
Name         web01
State        running
Uptime       1d 02:03:04
Processors   2
CPU          87%
Accelerator  kvm
Integration  agent
Driver       ok
Console      /var/lib/dynmem/run/web01/console.sock
Process      4711

Assigned         1.5 GiB
Resident         1.1 GiB (436 MiB of assigned not backed by the host)
Demand           1.4 GiB
Target           1.6 GiB
Status           warning
Pressure         91%
Available        9%
Buffer held      49%
Guest visible    2.0 GiB
Guest available  300 MiB
Ballooned        0
Hot-added        1 GiB
Overhead         70 MiB (measured)
Memory limit     1.7 GiB

Dynamic       on
Startup       512 MiB
Minimum       256 MiB
Maximum       4 GiB
Buffer        20%
Weight        5000
Demand model  working-set
Smart paging  /var/lib/dynmem/run/web01/paging
Autostart     start after 30 s

Added               1 GiB in 3 operations
Removed             0 in 0 operations
Pressure seen       40% to 104%, 77% on average
Most seen by guest  2.0 GiB

Warning  The guest's swap is in use"
        );
        assert_eq!(
            Vm(&samples::off()).text(&Style::default()),
            "\
Name        db
State       off
Processors  1

Assigned  0
Demand    0

Dynamic       off
Startup       2 GiB
Minimum       512 MiB
Maximum       1 TiB
Buffer        20%
Weight        5000
Demand model  working-set
Autostart     start-if-running"
        );
        let mut vm = samples::off();
        vm.autostart.starts_in_seconds = Some(12);
        assert!(Vm(&vm).text(&Style::default()).ends_with("Autostart     start-if-running (starts in 12 s)"));
    }

    #[test]
    fn json_has_exact_bytes() {
        let vms = vms();
        let json = serde_json::to_value(MemoryList(&vms)).expect("plain data");
        assert_eq!(json[0]["name"], "web01");
        assert_eq!(json[0]["startup_bytes"], 536_870_912);
        let json = serde_json::to_value(VmList(&vms)).expect("plain data");
        assert_eq!(json[0]["assigned_bytes"], 1_610_612_736);
    }
}
