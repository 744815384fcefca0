//! `GET /metrics`: all counters, and the daemon's own numbers, for Prometheus.
//!
//! ```text
//!  Snapshot ──▶ the table of counters ──▶ ┐
//!  Internals ─────────────────────────────┼──▶ Page ──▶ text
//!  /proc/self ────────────────────────────┘
//! ```
//! The page is made from the newest snapshot each time it is asked for, so
//! nothing remains of a VM that was deleted. It is written here, in some twenty
//! lines, and not by a library: a library's registry of metrics is a second
//! model beside the table of counters, and would have to be kept equal to it.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use dynmem_api::counters::{self, Counter, Kind, Unit};
use dynmem_linux::{HostReader, ProcessFacts};

use super::{live, routes::Shared};
use crate::{internals::Internals, supervisor::Snapshot};

/// Prometheus' own text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All counters, and the daemon's own numbers, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "host",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let snapshot = Arc::clone(&shared.snapshots.borrow());
    // It is in memory, and takes some microseconds.
    let own = HostReader::default().process(std::process::id()).ok().flatten();
    let streams = live::STREAMS_MAX.saturating_sub(shared.streams.available_permits());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page(&snapshot, streams, own.as_ref())).into_response()
}

/// The whole page.
fn page(snapshot: &Snapshot, streams: usize, own: Option<&ProcessFacts>) -> String {
    let mut page = Page::default();
    let host = &snapshot.host;
    page.info("dynmem_build_info", "The daemon's version.", &[("version", env!("CARGO_PKG_VERSION"))]);
    let hypervisor = [("accelerator", host.accelerator.as_str()), ("qemu_version", host.qemu_version.as_str())];
    page.info("dynmem_hypervisor_info", "What machines run on.", &hypervisor);
    for counter in counters::all() {
        page.counter(counter, snapshot);
    }
    page.internals(&snapshot.internals);
    page.single("dynmem_live_streams", Kind::Gauge, "Live streams that are open.", streams);
    if let Some(own) = own {
        page.process(own);
    }
    page.0
}

/// The text so far. Writing to a `String` never fails.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Cumulative => "counter",
        };
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// A number of its own.
    fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Words, as labels of the number 1.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, labels, 1);
    }

    /// One counter, of the host or of each VM, by name.
    fn counter(&mut self, counter: &Counter, snapshot: &Snapshot) {
        let (name, unit) = (counter.prometheus, counter.unit);
        self.family(name, counter.kind, counter.help);
        if !counter.is_per_vm() {
            if let Some(value) = counter.of_host(&snapshot.host) {
                self.sample(name, &[], in_base_units(unit, value));
            }
            return;
        }
        for vm in &snapshot.vms {
            if let Some(value) = counter.of_vm(vm) {
                self.sample(name, &[("vm", &vm.name)], in_base_units(unit, value));
            }
        }
    }

    fn internals(&mut self, internals: &Internals) {
        let Internals { engine_inputs, engine_decisions, engine_time, facts_waiting, events_logged, events_lost } =
            internals;
        let total = Kind::Cumulative;
        let inputs = "Facts and requests that the engine was given.";
        self.single("dynmem_engine_inputs_total", total, inputs, engine_inputs);
        self.single("dynmem_engine_decisions_total", total, "Decisions that the engine took.", engine_decisions);
        let seconds = "Time that the engine took for its inputs and decisions.";
        self.single("dynmem_engine_seconds_total", total, seconds, engine_time.as_secs_f64());
        let waiting = "Facts that waited for the engine when this snapshot was made.";
        self.single("dynmem_facts_waiting", Kind::Gauge, waiting, facts_waiting);
        self.single("dynmem_events_logged_total", total, "Events handed to the event log.", events_logged);
        let lost = "Events lost because the event log did not keep up or its disk took none.";
        self.single("dynmem_events_lost_total", total, lost, events_lost);
    }

    fn process(&mut self, own: &ProcessFacts) {
        let cpu = "Processor time that the daemon has used.";
        self.single("process_cpu_seconds_total", Kind::Cumulative, cpu, own.cpu.as_secs_f64());
        let resident = "Memory that the daemon holds.";
        self.single("process_resident_memory_bytes", Kind::Gauge, resident, own.resident.get());
    }
}

/// Prometheus wants parts of one, and everything else as we have it.
fn in_base_units(unit: Unit, value: i64) -> String {
    if unit != Unit::Percent {
        return value.to_string();
    }
    let (sign, percent) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    format!("{sign}{}.{:02}", percent / 100, percent % 100)
}

/// A label's value: backslash, quote and line feed are what ends it early.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use dynmem_api::{HostView, VmView};
    use serde_json::json;

    use super::*;

    fn snapshot(names: &[&str]) -> Snapshot {
        let vm = |name: &&str| -> VmView {
            serde_json::from_value(json!({
                "name": name, "state": "running", "assigned_bytes": 1 << 30, "demand_bytes": 1 << 29,
                "target_bytes": 0, "pressure_percent": 105, "memory_available_percent": -5, "vcpus": 1,
                "integration": "agent", "driver": {"state": "ok"},
                "settings": {"dynamic": true, "startup_bytes": 0, "minimum_bytes": 0, "maximum_bytes": 2_u64 << 30,
                    "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
            }))
            .expect("a view")
        };
        Snapshot::after(
            &Snapshot::default(),
            HostView::default(),
            names.iter().map(vm).collect(),
            Vec::new(),
            Internals::default(),
        )
    }

    #[test]
    fn every_counter_is_on_the_page_in_base_units_and_in_the_same_order_each_time() {
        let text = page(&snapshot(&["a", "b"]), 0, None);
        for counter in counters::all() {
            let head = format!("# HELP {} {}\n# TYPE {} ", counter.prometheus, counter.help, counter.prometheus);
            assert_eq!(text.matches(&head).count(), 1, "{} is not on the page", counter.prometheus);
        }
        assert!(text.contains("\ndynmem_vm_assigned_bytes{vm=\"a\"} 1073741824\ndynmem_vm_assigned_bytes{vm=\"b\"} "));
        assert!(text.contains("\ndynmem_vm_pressure_ratio{vm=\"a\"} 1.05\n"));
        assert!(text.contains("\ndynmem_vm_memory_available_ratio{vm=\"a\"} -0.05\n"));
        assert!(
            text.contains("\n# TYPE dynmem_vm_added_bytes_total counter\ndynmem_vm_added_bytes_total{vm=\"a\"} 0\n")
        );
        assert!(text.contains("\n# TYPE dynmem_host_available_bytes gauge\ndynmem_host_available_bytes 0\n"));
        assert_eq!(page(&snapshot(&["a", "b"]), 0, None), text);
        assert!(!page(&snapshot(&["a"]), 0, None).contains("vm=\"b\""), "nothing remains of what was deleted");
    }

    #[test]
    fn no_label_ends_early() {
        let text = page(&snapshot(&["a\"} 1\nevil 2\\"]), 0, None);
        assert!(text.contains(r#"dynmem_vm_on{vm="a\"} 1\nevil 2\\"} 1"#), "{text:.300}");
        assert!(!text.contains("\nevil"));
    }
}
