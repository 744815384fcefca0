//! The host and its VMs told as they change, by the real daemon.

mod common;

use common::{Site, mib, refusal, until};
use dynmem_api::{ClientError, Live, LiveQuery, LiveState, LiveStream, StopMode, StopRequest, VmState};

const OFTEN: LiveQuery = LiveQuery { interval_ms: Some(100) };

/// Reads on until what was told is so; the test runner's own limit ends a wait
/// for what never comes.
async fn told_until(stream: &mut LiveStream, state: &mut LiveState, so: impl Fn(&Live, &LiveState) -> bool) {
    loop {
        let told = stream.next().await.expect("it goes on").expect("it goes on");
        state.apply(told.clone());
        if so(&told, state) {
            return;
        }
    }
}

#[tokio::test]
async fn a_snapshot_comes_first_then_what_changes_what_happens_and_what_is_gone() {
    let site = Site::new().await;
    site.define("idle").await;
    let (mut stream, mut state) = (site.client.live(OFTEN).await.expect("a stream"), LiveState::default());
    let first = stream.next().await.expect("it goes on").expect("it goes on");
    let Live::Snapshot(snapshot) = &first else { panic!("{first:?}") };
    assert_eq!(snapshot.vms, [site.vm("idle").await]);
    assert_eq!(snapshot.host.vms_total, 1);
    state.apply(first);

    site.run("busy").await;
    told_until(&mut stream, &mut state, |told, state| {
        if let Live::Change(change) = told {
            assert!(change.vms.iter().all(|vm| vm.name != "idle"), "it has not changed: {change:?}");
        }
        state.vms.get("busy").is_some_and(|vm| vm.state == VmState::Running && vm.assigned_bytes == mib(512))
    })
    .await;
    assert_eq!(state.host.vms_running, 1);

    let force = StopRequest { mode: StopMode::Force, ..StopRequest::default() };
    site.client.stop("busy", &force).await.expect("it runs");
    let stopped = |told: &Live| matches!(told, Live::Event(event) if event.kind == "stopped");
    told_until(&mut stream, &mut state, |told, _| stopped(told)).await;
    told_until(&mut stream, &mut state, |_, state| state.vms["busy"].state == VmState::Off).await;
    site.client.delete("busy").await.expect("it is off");
    told_until(&mut stream, &mut state, |told, _| matches!(told, Live::Change(change) if change.gone == ["busy"]))
        .await;
    assert_eq!(state.vms.into_values().collect::<Vec<_>>(), site.client.vms().await.expect("a list"));
}

#[tokio::test]
async fn an_event_that_is_told_is_the_one_in_the_log() {
    let site = Site::new().await;
    let mut stream = site.client.live(LiveQuery::default()).await.expect("a stream");
    stream.next().await.expect("it goes on").expect("a snapshot");
    site.define("web01").await;
    let mut told = None;
    told_until(&mut stream, &mut LiveState::default(), |live, _| matches!(live, Live::Event(e) if e.kind == "created"))
        .await;
    site.client.delete("web01").await.expect("it is off");
    while told.is_none() {
        if let Live::Event(event) = stream.next().await.expect("it goes on").expect("it goes on") {
            told = Some(event);
        }
    }
    assert_eq!(told, Some(site.event("deleted").await));
}

#[tokio::test]
async fn streams_are_bounded_refused_with_a_reason_and_free_again() {
    let site = Site::new().await;
    let mut streams = Vec::new();
    let refused = loop {
        match site.client.live(OFTEN).await {
            Ok(stream) => streams.push(stream),
            refused => break refusal(refused.map(|_| "a stream")),
        }
        assert!(streams.len() <= 128, "no bound");
    };
    assert_eq!((streams.len(), refused.status), (128, 503));
    assert!(refused.detail.starts_with("There are 128 live streams, as many as there can be"), "{refused:?}");
    site.define("web01").await; // requests are served all the same
    let (_, page) = site.raw("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(page.contains("\ndynmem_live_streams 128\n"), "{page}");
    for stream in &mut streams {
        let seen = |told: &Live| match told {
            Live::Snapshot(snapshot) => snapshot.vms.len() == 1,
            Live::Change(change) => change.vms.len() == 1,
            Live::Event(_) => false,
        };
        told_until(stream, &mut LiveState::default(), |told, _| seen(told)).await;
    }
    streams.truncate(127);
    until("a place", || async { site.client.live(OFTEN).await.map(drop).map_err(|error| error.to_string()) }).await;
}

#[tokio::test]
async fn an_interval_out_of_range_or_a_query_that_is_none_is_refused() {
    let site = Site::new().await;
    let problem = refusal(site.client.live(LiveQuery { interval_ms: Some(99) }).await.map(|_| ()));
    assert_eq!(problem.status, 400);
    assert_eq!(problem.detail, "Interval 99 ms is out of range: ask for 100 to 60000 ms");
    for query in ["interval=100", "interval_ms=-1", "interval_ms=100&vm=a"] {
        let request = format!("GET /v1/live?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (head, body) = site.raw(&request).await;
        assert!(head.starts_with("HTTP/1.1 400") && body.contains("The query is not understood"), "{head} {body}");
    }
}

#[tokio::test]
async fn the_end_of_the_daemon_ends_a_stream_at_once() {
    let mut site = Site::new().await;
    // It would tell the next change in a minute.
    let mut stream = site.client.live(LiveQuery { interval_ms: Some(60_000) }).await.expect("a stream");
    stream.next().await.expect("it goes on").expect("a snapshot");
    let read_on = tokio::spawn(async move {
        while stream.next().await?.is_some() {}
        Ok::<_, ClientError>(())
    });
    site.stop_daemon().await;
    read_on.await.expect("no panic").expect("ended, and not cut off");
}
