//! What was is asked for through the real socket, and a history that is broken
//! stops nothing.

mod common;

use std::fs;

use common::{Site, mib, refusal, until};
use dynmem_api::{ClientError, HistoryQuery, StopMode, StopRequest, VmHistory, VmState};

const FORCE: StopRequest = StopRequest { mode: StopMode::Force, timeout_seconds: 60 };

async fn history(site: &Site, name: &str) -> Result<VmHistory, ClientError> {
    site.client.vm_history(name, &HistoryQuery::default()).await
}

async fn with_points(site: &Site, name: &str, count: usize) -> VmHistory {
    until(&format!("{count} samples of {name}"), || async {
        let told = history(site, name).await.map_err(|error| error.to_string())?;
        if told.points.len() >= count { Ok(told) } else { Err(format!("{told:#?}")) }
    })
    .await
}

#[tokio::test]
async fn a_vm_that_runs_has_a_point_each_second_and_its_events_beside_them() {
    let site = Site::new().await;
    site.run("web01").await;
    site.define("db01").await;
    let told = with_points(&site, "web01", 2).await;
    assert_eq!(told.step_seconds, 1);
    let last = told.points.last().expect("two");
    assert_eq!((last.assigned_bytes, last.state), (Some(mib(512)), Some(VmState::Running)));
    assert!(last.demand_bytes.is_some() && last.guest_visible_bytes.is_some(), "{last:?}");
    assert_eq!(last.samples, 1);
    assert!(told.from_unix_seconds + 3600 == told.to_unix_seconds, "an hour, unless another span is asked for");
    assert!(told.events.iter().any(|event| event.kind == "started"), "{:?}", told.events);
    assert!(told.events.iter().all(|event| event.vm.as_deref() == Some("web01")));
    assert!(history(&site, "db01").await.expect("it exists").points.is_empty(), "off is a gap");
    let host = site.client.host_history(&HistoryQuery::default()).await.expect("the host");
    let point = host.points.last().expect("it was sampled");
    assert_eq!(point.assigned_bytes, Some(mib(512)));
    assert!(host.events.iter().any(|event| event.kind == "daemon-started"), "{:?}", host.events);
}

#[tokio::test]
async fn what_was_outlives_the_daemon_and_not_the_vm() {
    let mut site = Site::new().await;
    site.run("web01").await;
    let before = with_points(&site, "web01", 1).await.points;
    site.stop_daemon().await;
    site.start_daemon().await;
    let after = history(&site, "web01").await.expect("it exists").points;
    assert!(after.starts_with(&before), "{before:?}, then {after:?}");
    site.client.stop("web01", &FORCE).await.expect("it ends");
    site.client.delete("web01").await.expect("it is off");
    assert_eq!(refusal(history(&site, "web01").await).status, 404);
    site.define("web01").await;
    until("another VM of that name begins anew", || async {
        let told = history(&site, "web01").await.map_err(|error| error.to_string())?;
        if told.points.is_empty() { Ok(()) } else { Err(format!("{told:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_question_that_can_not_be_answered_is_a_sentence() {
    let site = Site::new().await;
    site.define("web01").await;
    for (query, part) in [
        ("from=9&to=9", "from 9 is not before to 9"),
        ("from=1700000000000", "write seconds since 1970"),
        ("step=0", "step 0 is out of range"),
        ("last=1h", "last"),
        ("from=-1", "query is not understood"),
        ("format=xml", "xml"),
    ] {
        for path in ["/v1/vms/web01/history", "/v1/host/history"] {
            let request = format!("GET {path}?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let (head, body) = site.raw(&request).await;
            assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("application/problem+json"), "{query}: {head}");
            assert!(body.contains(part), "{query}: {body}");
        }
    }
}

#[tokio::test]
async fn points_are_a_table_for_whoever_wants_one() {
    let site = Site::new().await;
    site.run("web01").await;
    with_points(&site, "web01", 1).await;
    let get = "GET /v1/vms/web01/history?format=csv HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (head, body) = site.raw(get).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/csv"), "{head}");
    let mut lines = body.lines();
    assert!(lines.next().is_some_and(|names| names.starts_with("time_unix_ms,samples,assigned_bytes,")), "{body}");
    assert!(lines.next().is_some_and(|values| values.contains(",536870912,")), "{body}");
}

#[tokio::test]
async fn a_damaged_history_is_set_aside_and_the_daemon_starts() {
    let mut site = Site::without_daemon("[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\n");
    fs::create_dir_all(site.state("")).expect("a folder");
    fs::write(site.state("history.db"), "this is no database, and was none, and will be none".repeat(99))
        .expect("written");
    site.start_daemon().await;
    let event = site.event("history").await;
    assert!(event.message.contains("history.db.damaged-"), "{event:?}");
    site.run("web01").await;
    with_points(&site, "web01", 1).await;
}

#[tokio::test]
async fn without_a_place_for_it_there_is_the_history_of_some_minutes_and_an_event() {
    let mut site = Site::without_daemon("[host]\nmemory = \"2560MB\"\nreserve = \"512MB\"\n");
    fs::create_dir_all(site.state("history.db")).expect("a folder where the file should be");
    site.start_daemon().await;
    let event = site.event("history").await;
    assert!(event.message.starts_with("Nothing is written to the history: "), "{event:?}");
    site.run("web01").await;
    with_points(&site, "web01", 2).await;
}
