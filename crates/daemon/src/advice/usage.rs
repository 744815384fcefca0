//! [`Usage`]: a VM's last week and day in a few figures.

use dynmem_store::history::{Point, Subject};
use dynmem_units::Bytes;

/// The growth of demand within a minute that is still steady, in thousandths
/// of the demand.
const STEADY_PER_MILLE: u64 = 20;

/// What a VM used, as its history tells. All zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Seconds of the last week in which it ran and its demand was known.
    pub(crate) week_seconds: u64,
    /// The most that it needed in that time.
    pub(crate) most_needed: Bytes,
    /// The least that it held in that time.
    pub(crate) least_held: Bytes,
    /// Whether its demand grew within no minute of it by more than 2 %, and was
    /// never near to what it had.
    pub(crate) is_steady: bool,
    /// Minutes of the last day that are known.
    pub(crate) day_minutes: u64,
    /// Those in which it needed more than it had for a moment, though the host
    /// had memory to lend all that minute.
    pub(crate) short_minutes: u64,
}

/// The figures of a week of minutes. `host` are those of the host.
pub(crate) fn usage(vm: &[Point], host: &[Point], now_unix_s: u64) -> Usage {
    let columns = Subject::Vm(String::new()).columns();
    let of = |name| columns.iter().position(|column| column.name == name).unwrap_or_default();
    let (assigned, demand, pressure) = (of("assigned_bytes"), of("demand_bytes"), of("pressure_percent"));
    let bytes = |column: usize, value| Bytes::new(columns[column].unpacked(value));
    let mut usage = Usage { is_steady: true, ..Usage::default() };
    for point in vm {
        let (Some(needed), Some(held)) = (point.values[demand], point.values[assigned]) else { continue };
        usage.week_seconds += u64::from(point.samples);
        usage.most_needed = usage.most_needed.max(bytes(demand, needed.maximum));
        let held = bytes(assigned, held.minimum);
        usage.least_held = if usage.least_held.is_zero() { held } else { usage.least_held.min(held) };
        let growth = u64::from(needed.maximum.saturating_sub(needed.minimum));
        let highest = point.values[pressure].map_or(0, |pressure| pressure.maximum);
        usage.is_steady &= growth * 1000 <= u64::from(needed.average) * STEADY_PER_MILLE && highest <= 90;
        if point.at_unix_s.saturating_add(86_400) >= now_unix_s {
            usage.day_minutes += 1;
            usage.short_minutes += u64::from(highest > 100 && had_memory(host, point.at_unix_s));
        }
    }
    usage.is_steady &= usage.week_seconds > 0;
    usage
}

/// Whether the host could lend something all through the stretch that begins
/// then.
fn had_memory(host: &[Point], at_unix_s: u64) -> bool {
    const ENOUGH: Bytes = Bytes::from_mib(512);
    let columns = Subject::Host.columns();
    let Some(available) = columns.iter().position(|column| column.name == "available_bytes") else { return false };
    let Ok(place) = host.binary_search_by_key(&at_unix_s, |point| point.at_unix_s) else { return false };
    host[place].values[available].is_some_and(|value| columns[available].unpacked(value.minimum) >= ENOUGH.get())
}

#[cfg(test)]
mod tests {
    use dynmem_store::history::{Sample, fold};

    use super::*;

    const NOW: u64 = 10 * 86_400;

    fn vm(at_unix_s: u64, assigned_mib: u64, demand_mib: u64) -> Sample {
        let columns = Subject::Vm(String::new()).columns();
        let (assigned, demand) = (assigned_mib << 20, demand_mib << 20);
        Sample::new(
            columns,
            at_unix_s,
            &[Some(assigned), Some(demand), None, None, None, Some(demand * 100 / assigned)],
        )
    }

    fn minutes(subject: &Subject, samples: &[Sample]) -> Vec<Point> {
        fold(samples.iter().map(Point::from).collect(), subject.columns(), 60)
    }

    #[test]
    fn a_week_in_figures_is_what_it_was() {
        let subject = Subject::Vm(String::new());
        let calm: Vec<Sample> = (NOW - 120..NOW).map(|at| vm(at, 1024, 500)).collect();
        let told = usage(&minutes(&subject, &calm), &[], NOW);
        assert_eq!(
            (told.week_seconds, told.most_needed, told.least_held),
            (120, Bytes::from_mib(500), Bytes::from_mib(1024))
        );
        assert_eq!((told.is_steady, told.day_minutes, told.short_minutes), (true, 2, 0));

        let mut spike = calm.clone();
        spike.push(vm(NOW, 512, 900));
        let told = usage(&minutes(&subject, &spike), &[], NOW);
        assert_eq!((told.most_needed, told.least_held), (Bytes::from_mib(900), Bytes::from_mib(512)));
        assert!(!told.is_steady);
        assert_eq!(usage(&[], &[], NOW), Usage::default(), "nothing is known of what is new");
    }

    #[test]
    fn a_short_minute_counts_only_if_the_host_had_memory_and_it_was_today() {
        let subject = Subject::Vm(String::new());
        let host = |available_mib: u64, at: u64| {
            let sample = Sample::new(Subject::Host.columns(), at, &[Some(available_mib << 20)]);
            minutes(&Subject::Host, &[sample])
        };
        let short = |vm: &[Sample], host: &[Point]| usage(&minutes(&subject, vm), host, NOW).short_minutes;
        assert_eq!(short(&[vm(NOW - 600, 500, 510)], &host(4096, NOW - 600)), 1);
        assert_eq!(short(&[vm(NOW - 600, 500, 500)], &host(4096, NOW - 600)), 0, "exactly enough is not short");
        assert_eq!(short(&[vm(NOW - 600, 500, 510)], &host(100, NOW - 600)), 0, "there was none");
        assert_eq!(short(&[vm(NOW - 600, 500, 510)], &host(4096, NOW)), 0, "nobody knows");
        assert_eq!(short(&[vm(NOW - 2 * 86_400, 500, 510)], &host(4096, NOW - 2 * 86_400)), 0, "that was before");
    }
}
