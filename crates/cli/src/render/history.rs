//! What a VM or the host was, drawn in a few lines.

use dynmem_api::{EventView, HostHistory, HostPoint, VmHistory, VmPoint};
use dynmem_units::Bytes;
use serde::Serialize;

use super::{Items, Show, Style, printable, size::human, time::utc};

/// Columns of a drawing where there is no screen.
const WIDTH: usize = 80;
/// The longest drawing: more is no clearer.
const WIDTH_MAX: usize = 120;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LABEL_WIDTH: usize = 10;
/// Events under the drawing; `dynmem events` has all.
const EVENTS_MAX: usize = 10;

/// What a VM or the host was.
#[derive(Serialize)]
pub(crate) struct History<'h, P> {
    #[serde(skip)]
    name: &'h str,
    from_unix_seconds: u64,
    to_unix_seconds: u64,
    step_seconds: u64,
    points: &'h [P],
    events: &'h [EventView],
}

impl<'h> History<'h, VmPoint> {
    pub(crate) fn of_vm(name: &'h str, history: &'h VmHistory) -> Self {
        let VmHistory { from_unix_seconds, to_unix_seconds, step_seconds, ref points, ref events } = *history;
        Self { name, from_unix_seconds, to_unix_seconds, step_seconds, points, events }
    }
}

impl<'h> History<'h, HostPoint> {
    pub(crate) fn of_host(history: &'h HostHistory) -> Self {
        let HostHistory { from_unix_seconds, to_unix_seconds, step_seconds, ref points, ref events } = *history;
        Self { name: "host", from_unix_seconds, to_unix_seconds, step_seconds, points, events }
    }
}

/// What is known of one step, and how it is drawn.
pub(crate) trait Point: Serialize + Sized + 'static {
    /// A line of the drawing for each of these.
    const LINES: &'static [Line<Self>];
    /// Why a span can be without points.
    const GAP: &'static str;

    fn time_unix_ms(&self) -> u64;
    fn samples(&self) -> u32;
}

/// A line of the drawing: what it shows, and how its figures are written.
pub(crate) struct Line<P> {
    label: &'static str,
    value: fn(&P) -> Option<u64>,
    least: fn(&P) -> Option<u64>,
    most: fn(&P) -> Option<u64>,
    text: fn(u64) -> String,
}

fn size(value: u64) -> String {
    human(Bytes::new(value))
}

fn percent(value: u64) -> String {
    format!("{value}%")
}

/// A line of the drawing, of these fields.
macro_rules! line {
    ($label:literal, $value:ident, $least:ident, $most:ident, $text:ident) => {
        Line {
            label: $label,
            value: |point| point.$value.map(|value| u64::from(value.get())),
            least: |point| point.$least.map(|value| u64::from(value.get())),
            most: |point| point.$most.map(|value| u64::from(value.get())),
            text: $text,
        }
    };
}

impl Point for VmPoint {
    const LINES: &'static [Line<Self>] = &[
        line!("Assigned", assigned_bytes, assigned_minimum_bytes, assigned_maximum_bytes, size),
        line!("Demand", demand_bytes, demand_minimum_bytes, demand_maximum_bytes, size),
        line!("Pressure", pressure_percent, pressure_percent, pressure_maximum_percent, percent),
        line!("Stall", stall_percent, stall_percent, stall_maximum_percent, percent),
    ];
    const GAP: &'static str = "it was off, or no daemon ran";

    fn time_unix_ms(&self) -> u64 {
        self.time_unix_ms
    }

    fn samples(&self) -> u32 {
        self.samples
    }
}

impl Point for HostPoint {
    const LINES: &'static [Line<Self>] = &[
        line!("Assigned", assigned_bytes, assigned_bytes, assigned_bytes, size),
        line!("Charged", charged_bytes, charged_bytes, charged_bytes, size),
        line!("Available", available_bytes, available_minimum_bytes, available_maximum_bytes, size),
        line!("Host free", host_available_bytes, host_available_minimum_bytes, host_available_bytes, size),
        line!("Stall", stall_percent, stall_percent, stall_maximum_percent, percent),
    ];
    const GAP: &'static str = "no daemon ran";

    fn time_unix_ms(&self) -> u64 {
        self.time_unix_ms
    }

    fn samples(&self) -> u32 {
        self.samples
    }
}

impl<P: Point> Show for History<'_, P> {
    const ITEMS: Items = Items::In { field: "points", with: &[] };

    /// A head, a drawing of each figure with what it was at least and at most,
    /// and the last events.
    fn text(&self, style: &Style) -> String {
        let Self { from_unix_seconds, to_unix_seconds, step_seconds, points, events, .. } = *self;
        let mut lines = vec![format!(
            "{}  {} to {} UTC, every {step_seconds} s",
            printable(self.name),
            utc(from_unix_seconds.saturating_mul(1000)),
            utc(to_unix_seconds.saturating_mul(1000)),
        )];
        if points.is_empty() {
            lines.push(format!("Nothing is known of this span: {}", P::GAP));
        }
        let width = style.width.unwrap_or(WIDTH).min(WIDTH_MAX).saturating_sub(LABEL_WIDTH + 40).max(10);
        lines.extend(P::LINES.iter().filter_map(|line| line.text(self, width)));
        if !events.is_empty() {
            lines.push(String::new());
            let newest = &events[events.len().saturating_sub(EVENTS_MAX)..];
            lines.extend(newest.iter().map(|event| event.text(style)));
        }
        lines.join("\n")
    }
}

impl<P: Point> Line<P> {
    fn text(&self, history: &History<'_, P>, width: usize) -> Option<String> {
        let least = history.points.iter().filter_map(self.least).min()?;
        let most = history.points.iter().filter_map(self.most).max()?;
        let samples: Vec<(u64, u64)> = history
            .points
            .iter()
            .filter_map(|point| Some((u64::from(point.samples()), (self.value)(point)?)))
            .collect();
        let weight: u128 = samples.iter().map(|(samples, _)| u128::from(*samples)).sum();
        let sum: u128 = samples.iter().map(|(samples, value)| u128::from(*samples) * u128::from(*value)).sum();
        let average = u64::try_from(sum.checked_div(weight)?).unwrap_or(u64::MAX);
        let drawing = self.drawing(history, width, most);
        let text = self.text;
        Some(format!(
            "{:<LABEL_WIDTH$}{drawing}  {} to {}, {} on average",
            self.label,
            text(least),
            text(most),
            text(average)
        ))
    }

    /// A character for each part of the span: its highest value, of `most`; a
    /// blank where nothing is known.
    fn drawing(&self, history: &History<'_, P>, width: usize, most: u64) -> String {
        let (from, to) = (history.from_unix_seconds, history.to_unix_seconds);
        let span = u128::from(to.saturating_sub(from).max(1));
        let mut highest: Vec<Option<u64>> = vec![None; width];
        for point in history.points {
            let since = u128::from((point.time_unix_ms() / 1000).saturating_sub(from));
            // A step wider than a character fills all that it is about.
            let end = since + u128::from(history.step_seconds.max(1));
            let place = |seconds: u128| usize::try_from(seconds * width as u128 / span).unwrap_or(width);
            let Some(value) = (self.most)(point) else { continue };
            let last = place(end).max(place(since) + 1).min(width);
            for slot in highest.iter_mut().take(last).skip(place(since)) {
                *slot = Some(slot.map_or(value, |so_far| so_far.max(value)));
            }
        }
        highest.into_iter().map(|value| value.map_or(' ', |value| level(value, most))).collect()
    }
}

fn level(value: u64, most: u64) -> char {
    let place = (u128::from(value) * 8).div_ceil(u128::from(most.max(1))).saturating_sub(1);
    LEVELS[usize::try_from(place).unwrap_or(7).min(7)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::{Data, Sheet, samples};

    fn history(points: &[(u64, u64)]) -> VmHistory {
        let point = |(minute, mib): &(u64, u64)| {
            let bytes = mib << 20;
            json!({"time_unix_ms": 1_767_225_600_000 + minute * 60_000, "samples": 60, "assigned_bytes": bytes,
                "assigned_minimum_bytes": bytes, "assigned_maximum_bytes": bytes, "demand_bytes": null,
                "demand_minimum_bytes": null, "demand_maximum_bytes": null, "target_bytes": null,
                "guest_visible_bytes": null, "ballooned_bytes": null, "pressure_percent": 50,
                "pressure_maximum_percent": 120, "stall_percent": null, "stall_maximum_percent": null,
                "memory_status": "ok", "state": "running"})
        };
        let points: Vec<_> = points.iter().map(point).collect();
        serde_json::from_value(json!({"from_unix_seconds": 1_767_225_600, "to_unix_seconds": 1_767_226_200,
            "step_seconds": 60, "points": points, "events": []}))
        .expect("a history")
    }

    #[test]
    fn a_history_is_drawn_with_its_gaps_and_told_in_figures() {
        let mut history = history(&[(0, 512), (1, 512), (2, 1024), (5, 256), (9, 0)]);
        history.events.push(samples::event());
        let text = History::of_vm("web01", &history).text(&Style { width: Some(60), colour: false });
        assert_eq!(
            text,
            "web01  2026-01-01 00:00:00 to 2026-01-01 00:10:00 UTC, every 60 s\n\
             Assigned  ▄▄█  ▂   ▁  0 to 1 GiB, 460.8 MiB on average\n\
             Pressure  ███  █   █  50% to 120%, 50% on average\n\
             \n\
             2026-01-01 00:00:00Z  web01         start-refused       Not enough memory"
        );
    }

    #[test]
    fn a_history_without_points_says_so() {
        let text = History::of_vm("web01", &history(&[])).text(&Style::default());
        assert!(text.ends_with("\nNothing is known of this span: it was off, or no daemon ran"), "{text}");
    }

    #[test]
    fn no_point_is_outside_of_the_drawing() {
        let mut history = history(&[(0, 512), (9, 5), (10, 7), (99_999, 9)]);
        history.step_seconds = u64::MAX;
        History::of_vm("web01", &history).text(&Style::default());
        (history.from_unix_seconds, history.to_unix_seconds) = (u64::MAX, 0);
        History::of_vm("web01", &history).text(&Style::default());
    }

    #[test]
    fn the_hosts_history_is_drawn_too() {
        let mib = |mib: u64| json!(mib << 20);
        let history: HostHistory = serde_json::from_value(json!({"from_unix_seconds": 1_767_225_600,
            "to_unix_seconds": 1_767_225_660, "step_seconds": 60, "points": [{
                "time_unix_ms": 1_767_225_600_000_u64, "samples": 60, "available_bytes": mib(512),
                "available_minimum_bytes": mib(256), "available_maximum_bytes": mib(1024), "charged_bytes": mib(700),
                "assigned_bytes": mib(640), "host_available_bytes": null, "host_available_minimum_bytes": null,
                "stall_percent": 1, "stall_maximum_percent": 7}]}))
        .expect("a history");
        assert_eq!(
            History::of_host(&history).text(&Style { width: Some(60), colour: false }),
            "host  2026-01-01 00:00:00 to 2026-01-01 00:01:00 UTC, every 60 s\n\
             Assigned  ██████████  640 MiB to 640 MiB, 640 MiB on average\n\
             Charged   ██████████  700 MiB to 700 MiB, 700 MiB on average\n\
             Available ██████████  256 MiB to 1 GiB, 512 MiB on average\n\
             Stall     ██████████  1% to 7%, 1% on average"
        );
    }

    #[test]
    fn as_a_sheet_it_is_what_the_daemon_writes_as_one() {
        let history = history(&[(0, 512), (1, 1024)]);
        let data = Data::of(&History::of_vm("web01", &history)).expect("plain data");
        let ours = Sheet::default().lines(&data, &<History<'_, VmPoint> as Show>::ITEMS).expect("a sheet");
        assert_eq!(ours, dynmem_api::history_csv(&history.points).expect("a sheet"));
    }
}
