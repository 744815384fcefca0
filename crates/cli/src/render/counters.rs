//! Counters: their numbers, and which ones there are.

use anyhow::{Result, bail};
use dynmem_api::counters::{self, Counter, CounterSet, CountersView, Kind, Unit};
use dynmem_definition::wildcard;
use serde::Serialize;

use super::{
    Items, Show, Style,
    table::{Align, Column, Table},
    time::utc,
};

/// The numbers of one moment.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Counters<'c>(pub(crate) &'c CountersView);

const fn column(title: &'static str, align: Align, rank: u8) -> Column {
    Column { title, align, rank }
}

impl Show for Counters<'_> {
    const ITEMS: Items = Items::In { field: "samples", with: &["time_unix_ms"] };

    fn text(&self, style: &Style) -> String {
        let time = format!("{}Z", utc(self.0.time_unix_ms));
        if self.0.samples.is_empty() {
            return format!("{time}\nNone of these counters has a number now");
        }
        let mut table = Table::new([
            column("INSTANCE", Align::Left, 0),
            column("COUNTER", Align::Left, 0),
            column("VALUE", Align::Right, 0),
            column("UNIT", Align::Left, 0),
            column("SET", Align::Left, 1),
        ]);
        for sample in &self.0.samples {
            let unit = if sample.unit == Unit::Level { "" } else { sample.unit.symbol() };
            table.row(vec![
                (&sample.instance).into(),
                (&sample.counter).into(),
                sample.unit.text(sample.value).into(),
                unit.into(),
                (&sample.set).into(),
            ]);
        }
        format!("{time}\n{}", table.text(style))
    }
}

/// Which counters there are.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct CounterList(Vec<Described>);

#[derive(Serialize)]
struct Described {
    set: CounterSet,
    counter: &'static str,
    unit: Unit,
    kind: Kind,
    prometheus: &'static str,
    help: &'static str,
}

impl CounterList {
    /// Those whose name, family or metric fits one of `patterns`; all without any.
    pub(crate) fn new(patterns: &[String]) -> Result<Self> {
        let fits = |pattern: &str, counter: &Counter| {
            let family = counter.set.as_str();
            let names = [counter.name, counter.prometheus, family, &format!("Hyper-V {family}")];
            names.into_iter().any(|name| wildcard(pattern, name))
        };
        if let Some(pattern) = patterns.iter().find(|pattern| !counters::all().any(|counter| fits(pattern, counter))) {
            bail!("No counter is named {pattern:?}: `dynmem counters --list` shows all");
        }
        let wanted = |counter: &&Counter| patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, counter));
        let described = |counter: &Counter| {
            let Counter { set, name, unit, kind, prometheus, help, .. } = *counter;
            Described { set, counter: name, unit, kind, prometheus, help }
        };
        Ok(Self(counters::all().filter(wanted).map(described).collect()))
    }
}

impl Show for CounterList {
    fn text(&self, style: &Style) -> String {
        let mut table = Table::new([
            column("COUNTER", Align::Left, 0),
            column("UNIT", Align::Left, 1),
            column("SET", Align::Left, 2),
            column("PROMETHEUS", Align::Left, 3),
            column("WHAT IT SAYS", Align::Left, 4),
        ]);
        for counter in &self.0 {
            let unit = if counter.unit == Unit::Level { "" } else { counter.unit.symbol() };
            table.row(vec![
                counter.counter.into(),
                unit.into(),
                counter.set.as_str().into(),
                counter.prometheus.into(),
                counter.help.into(),
            ]);
        }
        table.text(style)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_in_the_units_that_people_read_and_exact_in_json() {
        let view: CountersView = serde_json::from_value(json!({"time_unix_ms": 1_767_225_600_000_u64, "samples": [
            {"set": "Dynamic Memory VM", "counter": "Physical Memory", "instance": "web01", "value": 1536 << 20, "unit": "bytes"},
            {"set": "Dynamic Memory VM", "counter": "Memory Available", "instance": "web01", "value": -25, "unit": "percent"},
            {"set": "Of The Future", "counter": "Odd", "instance": "\u{1b}x", "value": 3, "unit": "furlongs"},
        ]}))
        .expect("a view, also of a later daemon");
        assert_eq!(
            Counters(&view).text(&Style::default()),
            "\
2026-01-01 00:00:00Z
INSTANCE  COUNTER           VALUE  UNIT  SET
web01     Physical Memory    1536  MB    Dynamic Memory VM
web01     Memory Available    -25  %     Dynamic Memory VM
\u{fffd}x        Odd                   3        Of The Future"
        );
        let json = serde_json::to_value(Counters(&view)).expect("plain data");
        assert_eq!(json["samples"][0]["value"], 1_610_612_736);
        let none = CountersView { samples: Vec::new(), ..view };
        assert!(Counters(&none).text(&Style::default()).ends_with("has a number now"));
    }

    #[test]
    fn the_list_has_what_was_asked_for() {
        let patterns = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let all = CounterList::new(&[]).expect("nothing is asked").0.len();
        assert_eq!(all, counters::all().count());
        let balancer = CounterList::new(&patterns(&["hyper-v dynamic memory balancer"])).expect("a set");
        assert!(balancer.0.iter().all(|counter| counter.set == CounterSet::Balancer) && balancer.0.len() > 8);
        assert!(CounterList::new(&patterns(&["web01"])).is_err());
    }
}
