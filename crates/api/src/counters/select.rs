//! From patterns to samples: which counters of which VMs somebody asks for.
//!
//! A pattern is one of two things, in both of which `*` stands for any number
//! of characters, `?` for one, and case does not matter:
//! * a word: the name of a VM, or of a counter, a family or a Prometheus metric.
//!   Words about VMs and words about counters narrow each other down, so
//!   `web*` and `*Pressure` together are the pressures of those VMs;
//! * a path as performance counters have it,
//!   `\Hyper-V Dynamic Memory VM(*)\Average Pressure`, which stands for itself.

use std::borrow::Cow;

use dynmem_definition::{nearest, wildcard};
use serde::{Deserialize, Serialize};

use super::{Counter, CounterSet, HOST_INSTANCE, Unit, all};
use crate::{HostView, VmView};

/// The most samples in one answer.
pub const COUNTER_SAMPLES_MAX: usize = 100_000;
/// The most patterns in one question.
pub const PATTERNS_MAX: usize = 32;
const PATTERN_BYTES_MAX: usize = 255;
/// Of so many VMs the names are compared with one that is not known.
const NAMES_COMPARED_MAX: usize = 1000;

/// The number of one counter at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CounterSample {
    /// The counter's family.
    pub set: Cow<'static, str>,
    /// The counter.
    pub counter: Cow<'static, str>,
    /// The VM; `System Balancer` for the host.
    pub instance: String,
    /// The number, in base units: bytes, per cent, seconds.
    pub value: i64,
    /// What it counts.
    pub unit: Unit,
}

/// Counters at one moment: the answer of `GET /v1/counters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CountersView {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_unix_ms: u64,
    /// Family by family, VM by VM. A counter that has no number now, such as
    /// the pressure of a VM that is off, is not there.
    pub samples: Vec<CounterSample>,
}

/// The query of `GET /v1/counters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct CountersQuery {
    /// Which ones: words or paths with `*` and `?`, separated by commas, at most
    /// 32. All counters if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

impl CountersQuery {
    /// The patterns, one by one.
    pub fn patterns(&self) -> Vec<&str> {
        let list = self.pattern.as_deref().unwrap_or_default();
        list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).collect()
    }
}

/// Why patterns select nothing that exists: a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownCounter(String);

/// One pattern, understood.
enum Pattern<'p> {
    /// Names VMs.
    Instance(&'p str),
    /// Names counters, families or metrics.
    Counter(&'p str),
    Path {
        set: &'p str,
        instance: &'p str,
        counter: &'p str,
    },
}

/// The samples that `patterns` ask for; all there are without any. `vms` are by
/// name. An error if a pattern means nothing, or too much is asked.
pub fn select(patterns: &[&str], host: &HostView, vms: &[VmView]) -> Result<Vec<CounterSample>, UnknownCounter> {
    if patterns.len() > PATTERNS_MAX {
        let count = patterns.len();
        return Err(UnknownCounter(format!("{count} patterns are too many: ask for at most {PATTERNS_MAX}")));
    }
    let understood =
        patterns.iter().map(|pattern| understand(pattern, vms)).collect::<Result<Vec<_>, UnknownCounter>>()?;
    let mut samples = Vec::new();
    for set in CounterSet::ALL {
        if set == CounterSet::Balancer {
            take(set, HOST_INSTANCE, &understood, |counter| counter.of_host(host), &mut samples)?;
            continue;
        }
        for vm in vms {
            take(set, &vm.name, &understood, |counter| counter.of_vm(vm), &mut samples)?;
        }
    }
    Ok(samples)
}

/// Adds what is asked for of one instance.
fn take(
    set: CounterSet,
    instance: &str,
    patterns: &[Pattern<'_>],
    read: impl Fn(&Counter) -> Option<i64>,
    samples: &mut Vec<CounterSample>,
) -> Result<(), UnknownCounter> {
    for counter in all().filter(|counter| counter.set == set && is_wanted(patterns, counter, instance)) {
        let Some(value) = read(counter) else { continue };
        if samples.len() >= COUNTER_SAMPLES_MAX {
            let rule = format!("more than {COUNTER_SAMPLES_MAX} numbers are asked for: name fewer VMs or counters");
            return Err(UnknownCounter(format!("That is too much: {rule}")));
        }
        samples.push(CounterSample {
            set: Cow::Borrowed(set.as_str()),
            counter: Cow::Borrowed(counter.name),
            instance: instance.to_owned(),
            value,
            unit: counter.unit,
        });
    }
    Ok(())
}

fn is_wanted(patterns: &[Pattern<'_>], of: &Counter, at: &str) -> bool {
    let (mut words, mut instances, mut counters) = (false, None, None);
    for pattern in patterns {
        match pattern {
            Pattern::Path { set, instance, counter } => {
                if is_in(set, of.set) && wildcard(instance, at) && wildcard(counter, of.name) {
                    return true;
                }
            }
            Pattern::Instance(word) => {
                words = true;
                *instances.get_or_insert(false) |= wildcard(word, at);
            }
            Pattern::Counter(word) => {
                words = true;
                *counters.get_or_insert(false) |= names(word, of);
            }
        }
    }
    (words || patterns.is_empty()) && instances.unwrap_or(true) && counters.unwrap_or(true)
}

/// Families are found with and without the maker's name before them.
fn is_in(pattern: &str, set: CounterSet) -> bool {
    wildcard(pattern, set.as_str()) || wildcard(pattern, &format!("Hyper-V {set}"))
}

fn names(word: &str, counter: &Counter) -> bool {
    wildcard(word, counter.name) || wildcard(word, counter.prometheus) || is_in(word, counter.set)
}

fn understand<'p>(text: &'p str, vms: &[VmView]) -> Result<Pattern<'p>, UnknownCounter> {
    if text.len() > PATTERN_BYTES_MAX {
        let rule = format!("A pattern has at most {PATTERN_BYTES_MAX} bytes, not {}", text.len());
        return Err(UnknownCounter(rule));
    }
    if let Some(path) = text.strip_prefix('\\') {
        return understand_path(text, path, vms);
    }
    if wildcard(text, HOST_INSTANCE) || vms.iter().any(|vm| wildcard(text, &vm.name)) {
        return Ok(Pattern::Instance(text));
    }
    if all().any(|counter| names(text, counter)) {
        return Ok(Pattern::Counter(text));
    }
    let known = all().map(|counter| counter.name);
    let instances = vms.iter().take(NAMES_COMPARED_MAX).map(|vm| vm.name.as_str());
    Err(unknown("No counter and no VM is named", text, known.chain(instances)))
}

fn understand_path<'p>(text: &str, path: &'p str, vms: &[VmView]) -> Result<Pattern<'p>, UnknownCounter> {
    if path.starts_with('\\') {
        let rule = "a path begins with one \\; counters of other computers are asked there";
        return Err(UnknownCounter(format!("{text:?} names a computer: {rule}")));
    }
    let Some((object, counter)) = path.split_once('\\') else {
        let example = r"\Dynamic Memory VM(*)\Average Pressure";
        return Err(UnknownCounter(format!("{text:?} is not the path of a counter: write {example}")));
    };
    let (set, instance) = match object.strip_suffix(')').and_then(|object| object.split_once('(')) {
        Some((set, instance)) => (set, instance),
        None => (object, "*"),
    };
    if !CounterSet::ALL.into_iter().any(|known| is_in(set, known)) {
        return Err(unknown("No counter set is named", set, CounterSet::ALL.into_iter().map(CounterSet::as_str)));
    }
    let in_set = || all().filter(|known| is_in(set, known.set));
    if !in_set().any(|known| wildcard(counter, known.name)) {
        return Err(unknown(&format!("{set} has no counter"), counter, in_set().map(|known| known.name)));
    }
    let of_host = wildcard(instance, HOST_INSTANCE);
    if !of_host && !instance.contains(['*', '?']) && !vms.iter().any(|vm| wildcard(instance, &vm.name)) {
        let instances = vms.iter().take(NAMES_COMPARED_MAX).map(|vm| vm.name.as_str());
        return Err(unknown("No VM is named", instance, instances));
    }
    Ok(Pattern::Path { set, instance, counter })
}

fn unknown<'n>(complaint: &str, word: &str, known: impl Iterator<Item = &'n str>) -> UnknownCounter {
    let hint = match nearest(word, known) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => "`dynmem counters --list` shows all".to_owned(),
    };
    UnknownCounter(format!("{complaint} {word:?}: {hint}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vms() -> Vec<VmView> {
        let vm = |name: &str, state: &str| {
            serde_json::from_value(json!({
                "name": name, "state": state, "assigned_bytes": 1 << 30, "demand_bytes": 1 << 29, "target_bytes": 0,
                "pressure_percent": 50, "vcpus": 1, "integration": "none", "driver": {"state": "ok"},
                "settings": {"dynamic": true, "startup_bytes": 0, "minimum_bytes": 0, "maximum_bytes": 2_u64 << 30,
                    "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
            }))
            .expect("a view")
        };
        vec![vm("db", "off"), vm("web01", "running"), vm("web02", "running")]
    }

    fn selected(patterns: &[&str]) -> Result<Vec<String>, String> {
        let samples = select(patterns, &HostView::default(), &vms()).map_err(|error| error.to_string())?;
        let shown = |sample: &CounterSample| format!("{}({})={}", sample.counter, sample.instance, sample.value);
        Ok(samples.iter().map(shown).collect())
    }

    #[test]
    fn words_about_vms_and_about_counters_narrow_each_other_down() {
        assert_eq!(
            selected(&["WEB*", "current pressure"]).expect("known"),
            ["Current Pressure(web01)=50", "Current Pressure(web02)=50"]
        );
        assert_eq!(
            selected(&["web01", "dynmem_vm_assigned_bytes", "Memory Demand"]).expect("known"),
            ["Physical Memory(web01)=1073741824", "Memory Demand(web01)=536870912"]
        );
        let all_of_one = selected(&["web01"]).expect("known");
        assert!(all_of_one.len() > 20 && all_of_one.iter().all(|sample| sample.contains("(web01)")), "{all_of_one:?}");
        assert!(all_of_one.contains(&"Maximum Memory(web01)=2147483648".to_owned()), "the guest's own is one of them");
        let all_there_are = selected(&[]).expect("nothing is asked");
        assert_eq!(selected(&["*"]).expect("known"), all_there_are);
        let balancer = selected(&["Dynamic Memory Balancer"]).expect("known");
        assert!(balancer.iter().all(|sample| sample.contains("(System Balancer)")) && balancer.len() > 10);
    }

    #[test]
    fn a_path_is_what_performance_counters_have() {
        let expected = ["Current Pressure(web01)=50", "Current Pressure(web02)=50"];
        for path in [
            r"\Hyper-V Dynamic Memory VM(*)\Current Pressure",
            r"\dynamic memory vm(web*)\current pressure",
            r"\Dynamic Memory VM\Current Pressure",
        ] {
            assert_eq!(selected(&[path]).expect(path), expected, "{path}");
        }
        let both = [r"\Dynamic Memory VM(web01)\Current Pressure", r"\Hyper-V * Balancer(*)\Available Memory"];
        assert_eq!(
            selected(&both).expect("known"),
            ["Current Pressure(web01)=50", "Available Memory(System Balancer)=0"]
        );
    }

    #[test]
    fn a_counter_without_a_number_is_left_out() {
        assert_eq!(selected(&["db", "Current Pressure"]).expect("known"), Vec::<String>::new());
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_was_probably_meant() {
        for (pattern, sentence) in [
            ("Averge Pressure", r#"No counter and no VM is named "Averge Pressure": did you mean "Average Pressure"?"#),
            ("wbe01", r#"No counter and no VM is named "wbe01": did you mean "web01"?"#),
            ("nonsense*", r#"No counter and no VM is named "nonsense*": `dynmem counters --list` shows all"#),
            (
                r"\Dynamic Memory MV(*)\Average Pressure",
                r#"No counter set is named "Dynamic Memory MV": did you mean "Dynamic Memory VM"?"#,
            ),
            (
                r"\Dynamic Memory VM(*)\Avg Pressure",
                r#"Dynamic Memory VM has no counter "Avg Pressure": did you mean "Average Pressure"?"#,
            ),
            (r"\Dynamic Memory VM(web03)\Average Pressure", r#"No VM is named "web03": did you mean "web01"?"#),
            (r"\\HOST1\Dynamic Memory VM(*)\Average Pressure", "names a computer"),
            (r"\Average Pressure", "is not the path of a counter"),
            (&"x".repeat(256), "at most 255 bytes"),
        ] {
            let error = selected(&[pattern]).expect_err(pattern);
            assert!(error.contains(sentence), "{pattern}: {error}");
        }
        assert!(selected(&["*"; 33]).expect_err("too many").contains("at most 32"));
    }

    #[test]
    fn more_than_an_answer_holds_is_refused() {
        let many: Vec<VmView> = (0..4_000).map(|_| vms().remove(1)).collect();
        let error = select(&[], &HostView::default(), &many).expect_err("too much").to_string();
        assert!(error.contains("more than 100000 numbers"), "{error}");
    }
}
