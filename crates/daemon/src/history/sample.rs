//! Views → samples, and points → views. The order of values is that of the
//! store's columns.

use dynmem_api::{EventView, HostHistory, HostPoint, HostView, MemoryStatus, VmHistory, VmPoint, VmState, VmView};
use dynmem_store::history::{Column, Point, Reading, Sample, Series, Subject};
use dynmem_units::{Bytes, Percent};

/// A state's number is its place. Only ever add to it: numbers are on disks.
const STATES: [VmState; 9] = [
    VmState::Off,
    VmState::Starting,
    VmState::Booting,
    VmState::Running,
    VmState::Paused,
    VmState::Stopping,
    VmState::Saving,
    VmState::Saved,
    VmState::Failed,
];
/// The same; a worse status has a larger number.
const STATUSES: [MemoryStatus; 3] = [MemoryStatus::Ok, MemoryStatus::Warning, MemoryStatus::Low];

fn number<T: PartialEq>(all: &[T], one: &T) -> Option<u64> {
    all.iter().position(|each| each == one).map(|place| place as u64)
}

/// A VM that is on.
pub(super) fn of_vm(columns: &[Column], at_unix_s: u64, vm: &VmView) -> Sample {
    // Before its guest first speaks, nothing is known of what it needs.
    let needs = vm.pressure_percent.is_some();
    let percent = |percent: Option<Percent>| percent.map(|percent| u64::from(percent.get()));
    let values = [
        Some(vm.assigned_bytes.get()),
        needs.then_some(vm.demand_bytes.get()),
        needs.then_some(vm.target_bytes.get()),
        vm.guest_visible_bytes.map(Bytes::get),
        Some(vm.ballooned_bytes.get()),
        percent(vm.pressure_percent),
        percent(vm.guest_stall_percent),
        vm.memory_status.and_then(|status| number(&STATUSES, &status)),
        number(&STATES, &vm.state),
    ];
    Sample::new(columns, at_unix_s, &values)
}

/// The host.
pub(super) fn of_host(columns: &[Column], at_unix_s: u64, host: &HostView) -> Sample {
    let values = [
        Some(host.available_bytes.get()),
        Some(host.charged_bytes.get()),
        Some(host.assigned_bytes.get()),
        Some(host.host_available_bytes.get()),
        Some(u64::from(host.stall_percent.get())),
    ];
    Sample::new(columns, at_unix_s, &values)
}

/// A point's values, by the names of their columns.
struct Values<'p> {
    columns: &'static [Column],
    point: &'p Point,
}

impl Values<'_> {
    fn get(&self, name: &str, which: fn(Reading) -> u32) -> Option<u64> {
        let place = self.columns.iter().position(|column| column.name == name)?;
        self.point.values[place].map(|reading| self.columns[place].unpacked(which(reading)))
    }

    fn average(&self, name: &str) -> Option<u64> {
        self.get(name, |reading| reading.average)
    }

    fn minimum(&self, name: &str) -> Option<u64> {
        self.get(name, |reading| reading.minimum)
    }

    fn maximum(&self, name: &str) -> Option<u64> {
        self.get(name, |reading| reading.maximum)
    }

    fn one_of<T: Copy>(&self, name: &str, all: &[T]) -> Option<T> {
        all.get(usize::try_from(self.average(name)?).ok()?).copied()
    }
}

fn bytes(value: Option<u64>) -> Option<Bytes> {
    value.map(Bytes::new)
}

fn percent(value: Option<u64>) -> Option<Percent> {
    value.map(|value| Percent::new(u32::try_from(value).unwrap_or(u32::MAX)))
}

fn vm_point(point: &Point) -> VmPoint {
    let values = Values { columns: Subject::Vm(String::new()).columns(), point };
    VmPoint {
        time_unix_ms: point.at_unix_s.saturating_mul(1000),
        samples: point.samples,
        assigned_bytes: bytes(values.average("assigned_bytes")),
        assigned_minimum_bytes: bytes(values.minimum("assigned_bytes")),
        assigned_maximum_bytes: bytes(values.maximum("assigned_bytes")),
        demand_bytes: bytes(values.average("demand_bytes")),
        demand_minimum_bytes: bytes(values.minimum("demand_bytes")),
        demand_maximum_bytes: bytes(values.maximum("demand_bytes")),
        target_bytes: bytes(values.average("target_bytes")),
        guest_visible_bytes: bytes(values.average("guest_visible_bytes")),
        ballooned_bytes: bytes(values.average("ballooned_bytes")),
        pressure_percent: percent(values.average("pressure_percent")),
        pressure_maximum_percent: percent(values.maximum("pressure_percent")),
        stall_percent: percent(values.average("stall_percent")),
        stall_maximum_percent: percent(values.maximum("stall_percent")),
        memory_status: values.one_of("status", &STATUSES),
        state: values.one_of("state", &STATES),
    }
}

fn host_point(point: &Point) -> HostPoint {
    let values = Values { columns: Subject::Host.columns(), point };
    HostPoint {
        time_unix_ms: point.at_unix_s.saturating_mul(1000),
        samples: point.samples,
        available_bytes: bytes(values.average("available_bytes")),
        available_minimum_bytes: bytes(values.minimum("available_bytes")),
        available_maximum_bytes: bytes(values.maximum("available_bytes")),
        charged_bytes: bytes(values.average("charged_bytes")),
        assigned_bytes: bytes(values.average("assigned_bytes")),
        host_available_bytes: bytes(values.average("host_available_bytes")),
        host_available_minimum_bytes: bytes(values.minimum("host_available_bytes")),
        stall_percent: percent(values.average("stall_percent")),
        stall_maximum_percent: percent(values.maximum("stall_percent")),
    }
}

/// A VM's points as people see them.
pub(crate) fn vm_history(span: (u64, u64), series: &Series, events: Vec<EventView>) -> VmHistory {
    VmHistory {
        from_unix_seconds: span.0,
        to_unix_seconds: span.1,
        step_seconds: series.step_seconds,
        points: series.points.iter().map(vm_point).collect(),
        events,
    }
}

/// The host's points as people see them.
pub(crate) fn host_history(span: (u64, u64), series: &Series, events: Vec<EventView>) -> HostHistory {
    HostHistory {
        from_unix_seconds: span.0,
        to_unix_seconds: span.1,
        step_seconds: series.step_seconds,
        points: series.points.iter().map(host_point).collect(),
        events,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> VmView {
        let json = r#"{"name":"web01","state":"paused","assigned_bytes":1073741824,"demand_bytes":268435456,
            "target_bytes":536870912,"pressure_percent":25,"memory_status":"low","guest_visible_bytes":805306368,
            "guest_stall_percent":7,"ballooned_bytes":134217728,"vcpus":1,"integration":"agent","driver":{"state":"ok"},
            "settings":{"dynamic":true,"startup_bytes":536870912,"minimum_bytes":536870912,"maximum_bytes":1073741824,
            "buffer_percent":20,"weight":5000,"demand_model":"working-set"}}"#;
        serde_json::from_str(json).expect("a view")
    }

    #[test]
    fn each_value_of_a_vm_comes_back_under_its_name() {
        let columns = Subject::Vm(String::new()).columns();
        let point = vm_point(&Point::from(&of_vm(columns, 60, &vm())));
        let mib = |mib| Some(Bytes::from_mib(mib));
        assert_eq!((point.time_unix_ms, point.samples), (60_000, 1));
        assert_eq!(
            (point.assigned_bytes, point.assigned_minimum_bytes, point.assigned_maximum_bytes),
            (mib(1024), mib(1024), mib(1024))
        );
        assert_eq!(
            (point.demand_bytes, point.demand_minimum_bytes, point.demand_maximum_bytes),
            (mib(256), mib(256), mib(256))
        );
        assert_eq!(
            (point.target_bytes, point.guest_visible_bytes, point.ballooned_bytes),
            (mib(512), mib(768), mib(128))
        );
        assert_eq!(
            (point.pressure_percent, point.pressure_maximum_percent),
            (Some(Percent::new(25)), Some(Percent::new(25)))
        );
        assert_eq!((point.stall_percent, point.stall_maximum_percent), (Some(Percent::new(7)), Some(Percent::new(7))));
        assert_eq!((point.memory_status, point.state), (Some(MemoryStatus::Low), Some(VmState::Paused)));
        let silent = VmView { pressure_percent: None, guest_visible_bytes: None, memory_status: None, ..vm() };
        let point = vm_point(&Point::from(&of_vm(columns, 60, &silent)));
        assert_eq!(
            (point.demand_bytes, point.target_bytes, point.guest_visible_bytes, point.memory_status),
            (None, None, None, None)
        );
    }

    #[test]
    fn each_value_of_the_host_comes_back_under_its_name() {
        let host = HostView {
            available_bytes: Bytes::from_mib(1),
            charged_bytes: Bytes::from_mib(2),
            assigned_bytes: Bytes::from_mib(3),
            host_available_bytes: Bytes::from_mib(4),
            stall_percent: Percent::new(5),
            ..HostView::default()
        };
        let point = host_point(&Point::from(&of_host(Subject::Host.columns(), 60, &host)));
        let sizes = [point.available_bytes, point.charged_bytes, point.assigned_bytes, point.host_available_bytes];
        assert_eq!(sizes, [1, 2, 3, 4].map(|mib| Some(Bytes::from_mib(mib))));
        assert_eq!(point.available_minimum_bytes, point.available_maximum_bytes);
        assert_eq!(
            (point.stall_percent, point.host_available_minimum_bytes),
            (Some(Percent::new(5)), Some(Bytes::from_mib(4)))
        );
    }
}
