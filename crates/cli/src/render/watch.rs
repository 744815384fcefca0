//! One moment of `watch`: a line about the host, and the VMs.

use dynmem_api::{HostView, VmView};
use serde::Serialize;

use super::{
    Show, Style,
    size::human,
    time::utc,
    vm::{self, VmColumn},
};

/// The host and its VMs at one moment.
#[derive(Serialize)]
pub(crate) struct Frame {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub(crate) time_unix_ms: u64,
    /// The host.
    pub(crate) host: HostView,
    /// All VMs that are watched.
    pub(crate) vms: Vec<VmView>,
}

const COLUMNS: [VmColumn; 12] = [
    vm::NAME,
    vm::STATE,
    vm::CPU,
    vm::ASSIGNED,
    vm::DEMAND,
    vm::PRESSURE,
    vm::STATUS,
    vm::UPTIME,
    vm::MINIMUM,
    vm::MAXIMUM,
    vm::INTEGRATION,
    vm::PAGING,
];

impl Show for Frame {
    fn text(&self, style: &Style) -> String {
        let table = match self.vms.as_slice() {
            [] => "No VM is defined".to_owned(),
            vms => vm::table(&COLUMNS, vms, style),
        };
        format!("{}\n\n{table}", self.host_lines(style))
    }
}

impl Frame {
    /// The host's facts on as few lines as the width allows.
    fn host_lines(&self, style: &Style) -> String {
        let host = &self.host;
        let mut facts = vec![
            format!("{}Z", utc(self.time_unix_ms)),
            format!("host {}", human(host.memory_bytes)),
            format!("reserve {}", human(host.reserve_bytes)),
            format!("assigned {}", human(host.assigned_bytes)),
            format!("available {}", human(host.available_bytes)),
            format!("VMs {} of {}", host.vms_running, host.vms_total),
            format!("pressure {}", host.system_pressure_percent),
        ];
        if host.under_pressure {
            facts.push("HOST SHORT OF MEMORY".to_owned());
        }
        let mut lines: Vec<String> = Vec::new();
        for fact in facts {
            match lines.last_mut() {
                Some(line) if line.len() + 2 + fact.len() <= style.width.unwrap_or(usize::MAX) => {
                    line.push_str("  ");
                    line.push_str(&fact);
                }
                _ => lines.push(fact),
            }
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_moment_fits_the_screen() {
        let frame = Frame {
            time_unix_ms: 1_767_225_600_000,
            host: samples::host(),
            vms: vec![samples::running(), samples::off()],
        };
        assert_eq!(
            frame.text(&Style { width: Some(80), colour: false }),
            "\
2026-01-01 00:00:00Z  host 8 GiB  reserve 624 MiB  assigned 1.5 GiB
available 3.1 GiB  VMs 1 of 2  pressure 91%  HOST SHORT OF MEMORY

NAME   STATE    CPU  ASSIGNED   DEMAND  PRESSURE  STATUS   MINIMUM  MAXIMUM
web01  running  87%   1.5 GiB  1.4 GiB       91%  warning  256 MiB    4 GiB
db     off       0%         0        0                     512 MiB    1 TiB"
        );
    }
}
