//! Counters and metrics, through the real socket.

mod common;

use std::{fs, path::Path};

use common::{Site, refusal};
use dynmem_api::{
    VmState,
    counters::{CountersQuery, all},
};
use serde_json::Value;

fn pattern(pattern: &str) -> CountersQuery {
    CountersQuery { pattern: Some(pattern.to_owned()) }
}

/// A file of `packaging/`.
fn packaged(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every text under one of these keys.
fn texts<'j>(json: &'j Value, keys: &[&str], found: &mut Vec<&'j str>) {
    match json {
        Value::Array(list) => list.iter().for_each(|value| texts(value, keys, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
                    value => texts(value, keys, found),
                }
            }
        }
        _ => {}
    }
}

/// The words of a query that name our metrics.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("dynmem_") || word.starts_with("process_"))
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_nothing_that_does_not_exist() {
    let site = Site::new().await;
    let (_, page) = site.raw(SCRAPE).await;
    let dashboard: Value = serde_json::from_str(&packaged("grafana/dynmem.json")).expect("JSON");
    let mut queries = Vec::new();
    texts(&dashboard, &["expr", "query", "definition"], &mut queries);
    assert!(queries.len() > 20, "{queries:?}");
    let rules = packaged("prometheus/dynmem.rules.yml");
    queries.extend(rules.lines().filter(|line| line.trim_start().starts_with("expr:")));
    let asked: Vec<&str> = queries.iter().flat_map(|query| metrics(query)).collect();
    assert!(asked.len() > 25, "{asked:?}");
    for metric in asked {
        assert!(page.contains(&format!("# TYPE {metric} ")), "{metric} is asked for, and does not exist");
    }
}

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// The number of a metric on a page.
fn value(page: &str, metric: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{metric} is missing")).parse().expect("a number")
}

#[tokio::test]
async fn a_running_vm_is_counted_the_same_in_its_view_in_the_api_and_for_prometheus() {
    let site = Site::new().await;
    site.run("web01").await;
    site.vm_until("web01", "reports", |vm| vm.counters.reports_taken > 0).await;
    site.client.pause("web01").await.expect("it runs"); // its numbers stand still
    let vm = site.vm_until("web01", "paused", |vm| vm.state == VmState::Paused).await;
    let view = site.client.counters(&pattern("web01")).await.expect("it is known");
    let (_, page) = site.raw(SCRAPE).await;
    for counter in all().filter(|counter| counter.is_per_vm()) {
        let sample =
            view.samples.iter().find(|sample| sample.counter == counter.name && sample.set == counter.set.as_str());
        if counter.name == "Uptime" || counter.name == "Processor Time" {
            continue; // these go on
        }
        assert_eq!(sample.map(|sample| sample.value), counter.of_vm(&vm), "{}", counter.name);
        let metric = format!("{}{{vm=\"web01\"}} ", counter.prometheus);
        assert_eq!(page.contains(&metric), sample.is_some(), "{metric}");
    }
    assert!((value(&page, "dynmem_vm_assigned_bytes{vm=\"web01\"}") - 536_870_912.0).abs() < 0.1);
    assert!(value(&page, "dynmem_vm_charged_bytes{vm=\"web01\"}") > 536_870_912.0, "overhead is charged, too");
}

#[tokio::test]
async fn the_daemon_counts_itself_and_forgets_vms_that_are_deleted() {
    let site = Site::new().await;
    site.define("web01").await;
    let (head, page) = site.raw(SCRAPE).await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(page.contains("dynmem_vm_on{vm=\"web01\"} 0\n"));
    assert!(page.contains(concat!("dynmem_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n")));
    assert!(value(&page, "dynmem_engine_inputs_total") >= 1.0);
    assert!(value(&page, "dynmem_events_logged_total") >= 2.0, "the daemon's start, and the creation");
    assert!(value(&page, "process_resident_memory_bytes") > 1e6);
    for counter in all() {
        assert!(page.contains(&format!("# TYPE {} ", counter.prometheus)), "{} is missing", counter.prometheus);
    }
    site.client.delete("web01").await.expect("it is off");
    let (_, page) = site.raw(SCRAPE).await;
    assert!(!page.contains("web01"), "nothing of it remains");
}

#[tokio::test]
async fn counters_that_nobody_knows_are_refused_with_what_was_meant() {
    let site = Site::new().await;
    let problem = refusal(site.client.counters(&pattern("Memory Demnad")).await);
    assert_eq!(problem.status, 400);
    assert_eq!(problem.detail, "No counter and no VM is named \"Memory Demnad\": did you mean \"Memory Demand\"?");
    let request = "GET /v1/counters?patern=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (head, body) = site.raw(request).await;
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("The query is not understood"), "{head} {body}");
    let all = site.client.counters(&CountersQuery::default()).await.expect("all of them");
    assert!(all.samples.iter().all(|sample| sample.instance == "System Balancer"), "there is no VM");
}
