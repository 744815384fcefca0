//! What a machine's guest can possibly say: a report beyond that is a lie or a
//! fault, and not a fact.

use dynmem_agent_protocol::Report;
use dynmem_core::{GuestReport, ReportSource};
use dynmem_units::Bytes;

/// The bounds that a machine sets to what its guest can have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All the memory that the machine can ever have.
    pub(crate) reach: Bytes,
}

impl Limits {
    /// The report as a fact, or a sentence why it can't be one. What the wire
    /// already checked (parts within their wholes) is not checked again.
    pub(crate) fn believe(self, report: &Report) -> Result<GuestReport, String> {
        for (field, claim, limit) in [
            ("visible_bytes", Some(report.visible_bytes), self.reach),
            ("reserved_bytes", report.reserved_bytes, self.reach),
            ("ballooned_bytes", report.ballooned_bytes, self.reach),
        ] {
            if let Some(claim) = claim.filter(|claim| *claim > limit) {
                return Err(format!("Field {field} is {claim}, and the whole machine can have {limit}"));
            }
        }
        Ok(GuestReport {
            source: ReportSource::Agent,
            visible: report.visible_bytes,
            available: report.available_bytes,
            committed: report.committed_bytes,
            hot_file: report.hot_file_bytes,
            reserved: report.reserved_bytes,
            ballooned: report.ballooned_bytes,
            swap_total: report.swap_total_bytes,
            swap_used: report.swap_used_bytes,
            swap_in_per_second: report.swap_in_bytes_per_s,
            refault_per_second: report.refault_bytes_per_s,
            stall: report.stall_hundredths,
        })
    }
}
