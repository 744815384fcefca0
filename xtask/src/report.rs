//! Results, one line each: for people on stderr, for programs as JSON on
//! stdout.

use serde::Serialize;
use serde_json::{Map, Number, Value};

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metric {
    #[serde(rename = "metric")]
    name: String,
    value: Number,
    unit: &'static str,
    /// What the value is compared with, and that one's own value.
    baseline: Option<&'static str>,
    baseline_value: Option<Number>,
    ratio: Option<Number>,
    /// How it was measured.
    params: Map<String, Value>,
}

impl Metric {
    /// A number without a comparison. One that is not finite counts as 0,
    /// which JSON can say; nothing here measures such a thing.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value: number(value),
            unit,
            baseline: None,
            baseline_value: None,
            ratio: None,
            params: Map::new(),
        }
    }

    /// Says how it was measured.
    #[must_use]
    pub(crate) fn with(mut self, parameter: &str, value: impl Into<Value>) -> Self {
        self.params.insert(parameter.to_owned(), value.into());
        self
    }

    /// Compares the value with what it should at most be.
    #[must_use]
    pub(crate) fn against_goal(self, goal: f64) -> Self {
        self.against("goal", goal)
    }

    /// Compares the value with somebody else's.
    #[must_use]
    pub(crate) fn against(mut self, baseline: &'static str, value: f64) -> Self {
        self.baseline = Some(baseline);
        self.baseline_value = Some(number(value));
        self.ratio = self.value.as_f64().filter(|_| value > 0.0).map(|own| number(own / value));
        self
    }
}

/// Whole numbers without a fraction, others to three digits after the point.
fn number(value: f64) -> Number {
    let rounded = (value * 1000.0).round() / 1000.0;
    #[expect(clippy::cast_possible_truncation, reason = "the value is whole and small")]
    let whole = (rounded.fract().abs() < f64::EPSILON && rounded.abs() < 1e15).then_some(rounded as i64);
    whole.map(Number::from).or_else(|| Number::from_f64(rounded)).unwrap_or_else(|| Number::from(0))
}

/// Prints the results: JSON lines on stdout if `json`, a table on stderr else.
#[expect(clippy::print_stdout, reason = "results are what stdout is for")]
pub(crate) fn print(metrics: &[Metric], json: bool) {
    for metric in metrics {
        if json {
            println!("{}", serde_json::to_string(metric).expect("plain data with text keys"));
            continue;
        }
        let beside = match (metric.baseline, &metric.baseline_value) {
            (Some("goal"), Some(goal)) => format!("  (goal: at most {goal} {})", metric.unit),
            (Some(baseline), Some(value)) => format!("  ({baseline}: {value})"),
            _ => String::new(),
        };
        eprintln!("{:32} {:>10} {}{beside}", metric.name, metric.value.to_string(), metric.unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_field_whether_known_or_not() {
        let line = serde_json::to_string(&Metric::new("guests_lost", 0.0, "count").with("guests", 4)).expect("data");
        assert_eq!(
            line,
            r#"{"metric":"guests_lost","value":0,"unit":"count","baseline":null,"baseline_value":null,"ratio":null,"params":{"guests":4}}"#
        );
        let line = serde_json::to_string(&Metric::new("p99", 61.23456, "ms").against_goal(250.0)).expect("data");
        assert!(line.contains(r#""value":61.235,"unit":"ms","baseline":"goal","baseline_value":250,"ratio":0.245"#));
    }
}
