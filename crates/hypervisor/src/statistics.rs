//! What the guest's balloon driver says of its guest, for guests without an
//! agent: [`Statistics`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynmem_core::{GuestReport, ReportSource};
use dynmem_qmp::{
    QmpError,
    commands::{self, GuestStats},
};
use dynmem_units::Bytes;

use crate::{Machine, MachineError, machine::BALLOON_PATH};

/// The balloon driver's statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// What they say; its source is [`ReportSource::Balloon`].
    pub report: GuestReport,
    /// How long ago the guest gave them; a guest that hangs lets it grow.
    pub age: Duration,
}

/// The last figures that only grow, to make rates of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    last: Option<Reading>,
    swap_in_per_second: Bytes,
    refault_per_second: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    update_seconds: u64,
    swap_in: u64,
    major_faults: u64,
}

const PAGE_BYTES: u64 = 4096;

impl Machine {
    /// How often the guest is asked for statistics; 0 stops it. Asking wakes
    /// the guest, so it is worth stopping once an agent speaks.
    pub async fn ask_statistics_every(&mut self, seconds: u32) -> Result<(), MachineError> {
        Ok(self.client.call(interval(seconds)).await.map(drop)?)
    }

    /// The last statistics that the guest gave; `None` if it never has.
    pub async fn statistics(&mut self) -> Result<Option<Statistics>, MachineError> {
        let value = self.client.call(commands::QomGet { path: BALLOON_PATH, property: "guest-stats" }).await?;
        let stats = GuestStats::from_value(&value).ok_or_else(|| QmpError::Protocol {
            command: "qom-get",
            problem: "guest-stats has no statistics in it".to_owned(),
        })?;
        self.rates.take(&stats);
        let most = self.record.boot_bytes.saturating_add(self.record.plug_max_bytes);
        Ok(report(&stats, most, &self.rates).map(|report| Statistics { report, age: age(stats.last_update_seconds) }))
    }
}

pub(crate) fn interval(seconds: u32) -> commands::QomSet<'static> {
    let value = u64::from(seconds);
    commands::QomSet { path: BALLOON_PATH, property: "guest-stats-polling-interval", value }
}

fn age(update_seconds: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(update_seconds))
}

/// The guest's claims, none of them larger than the machine.
fn report(stats: &GuestStats, most: Bytes, rates: &Rates) -> Option<GuestReport> {
    if stats.last_update_seconds == 0 {
        return None;
    }
    let visible = Bytes::new(stats.total?).min(most);
    let guess = || Some(stats.free?.saturating_add(stats.disk_caches.unwrap_or(0)));
    let available = Bytes::new(stats.available.or_else(guess)?).min(visible);
    Some(GuestReport {
        swap_in_per_second: rates.swap_in_per_second,
        refault_per_second: rates.refault_per_second,
        ..GuestReport::new(ReportSource::Balloon, visible, available)
    })
}

impl Rates {
    /// Takes in new figures; between two updates of the guest the rates stay.
    fn take(&mut self, stats: &GuestStats) {
        let new = Reading {
            update_seconds: stats.last_update_seconds,
            swap_in: stats.swap_in.unwrap_or(0),
            major_faults: stats.major_faults.unwrap_or(0),
        };
        let Some(last) = self.last else {
            self.last = Some(new);
            return;
        };
        if last.update_seconds == new.update_seconds {
            return;
        }
        // By the host's whole seconds of the updates, not by when we looked.
        let seconds = new.update_seconds.saturating_sub(last.update_seconds).max(1);
        // Figures that sink come from a guest that has started anew.
        let swapped = new.swap_in.saturating_sub(last.swap_in);
        // A fault that swapped in counts as swapping, not twice.
        let faulted = new.major_faults.saturating_sub(last.major_faults).saturating_mul(PAGE_BYTES);
        self.swap_in_per_second = Bytes::new(swapped / seconds);
        self.refault_per_second = Bytes::new(faulted.saturating_sub(swapped) / seconds);
        self.last = Some(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Bytes = Bytes::GIB;

    fn stats(update: u64) -> GuestStats {
        GuestStats {
            last_update_seconds: update,
            total: Some(500 << 20),
            available: Some(200 << 20),
            ..GuestStats::default()
        }
    }

    #[test]
    fn a_guest_that_never_answered_has_no_statistics() {
        assert_eq!(report(&stats(0), MOST, &Rates::default()), None);
        assert!(report(&stats(1), MOST, &Rates::default()).is_some());
    }

    #[test]
    fn impossible_claims_are_cut_to_the_machines_size() {
        let wild = GuestStats { total: Some(10 << 40), available: Some(20 << 40), ..stats(1) };
        let report = report(&wild, MOST, &Rates::default()).expect("a report");
        assert_eq!((report.visible, report.available), (MOST, MOST));
    }

    #[test]
    fn without_an_available_figure_free_and_caches_stand_in() {
        let old = GuestStats { available: None, free: Some(10 << 20), disk_caches: Some(5 << 20), ..stats(1) };
        assert_eq!(report(&old, MOST, &Rates::default()).expect("a report").available, Bytes::from_mib(15));
        let bare = GuestStats { available: None, ..stats(1) };
        assert_eq!(report(&bare, MOST, &Rates::default()), None, "nothing is guessed");
    }

    #[test]
    fn growing_figures_become_rates_between_two_updates() {
        let mut rates = Rates::default();
        let with = |update, swap_in, major_faults| GuestStats {
            swap_in: Some(swap_in),
            major_faults: Some(major_faults),
            ..stats(update)
        };
        rates.take(&with(100, 1 << 20, 1000));
        assert_eq!(rates.swap_in_per_second, Bytes::ZERO, "one reading is no rate");
        rates.take(&with(102, 3 << 20, 2024));
        assert_eq!(rates.swap_in_per_second, Bytes::MIB);
        assert_eq!(rates.refault_per_second, Bytes::MIB, "4 MiB of faults, 2 MiB of them swapping, in 2 s");
        rates.take(&with(102, 9 << 20, 9999));
        assert_eq!(rates.swap_in_per_second, Bytes::MIB, "the same update changes nothing");
        rates.take(&with(103, 0, 0));
        assert_eq!((rates.swap_in_per_second, rates.refault_per_second), (Bytes::ZERO, Bytes::ZERO));
    }
}
