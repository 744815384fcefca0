//! `GET /v1/live`: the host and its VMs as server-sent events.
//!
//! ```text
//!  supervisor ──Snapshot (watch)──┐
//!                                 ├──▶ Stream of each client ──▶ snapshot, change, change …
//!  log thread ──Told (broadcast)──┘         (pulled: no queue)     event, event …
//! ```
//! A stream makes its next piece when its client has taken the last one: whoever
//! reads slowly gets fewer and larger steps, and whoever reads nothing is ended
//! by the connection's stall guard. What a VM looks like in JSON is written once
//! for a snapshot, whoever tells it first ([`Snapshot`] keeps it).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::IntoResponse,
};
use dynmem_api::LiveQuery;
use futures_util::stream::unfold;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, watch},
    time::{Instant, sleep_until},
};

use super::{
    answer::{Answer, problem, query},
    openapi::{BadRequest, Unavailable},
    routes::Shared,
};
use crate::{log::Told, supervisor::Snapshot};

/// Streams at a time: half of the connections are for requests.
pub(super) const STREAMS_MAX: usize = 128;
/// A stream that has nothing to say says so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The host and its VMs as they change, and events as they happen, as server-sent events without end.
///
/// First comes `event: snapshot`, whose data is a `LiveSnapshot`; then `event: change` with a `LiveChange` whenever
/// something has changed, and `event: event` with an `EventView` as it is written. Other names may come. A comment says
/// every 15 s that there is nothing to tell. There are at most 128 such streams.
#[utoipa::path(
    get,
    path = "/v1/live",
    operation_id = "watch",
    tag = "host",
    params(LiveQuery),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        BadRequest, Unavailable
    )
)]
pub(super) async fn live(
    State(shared): State<Shared>,
    asked: Result<Query<LiveQuery>, QueryRejection>,
) -> Answer<impl IntoResponse> {
    let interval_ms = query(asked)?.checked_interval_ms().map_err(|rule| problem(400, rule))?;
    let place = Arc::clone(&shared.streams).try_acquire_owned().map_err(|_| {
        problem(503, format!("There are {STREAMS_MAX} live streams, as many as there can be: end one, or read /v1/vms"))
    })?;
    let stream = Stream {
        events: shared.events.told(), // before the snapshot: what happens after it is told
        snapshots: shared.snapshots,
        shown: None,
        interval: Duration::from_millis(interval_ms.into()),
        told_at: Instant::now(),
        due: Instant::now(),
        _place: place,
    };
    let pieces = unfold(stream, async |mut stream| {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(pieces)))
}

/// One client's.
struct Stream {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: broadcast::Receiver<Told>,
    /// What the client has seen.
    shown: Option<Arc<Snapshot>>,
    interval: Duration,
    /// When it was told anything last.
    told_at: Instant,
    /// From when on a change may be told.
    due: Instant,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// The next piece; none when the daemon ends.
    async fn next(&mut self) -> Option<Bytes> {
        let piece = loop {
            let Some(shown) = &self.shown else {
                let snapshot = self.snapshots.borrow_and_update().clone();
                self.due = Instant::now() + self.interval;
                break self.shown.insert(snapshot).whole();
            };
            tokio::select! {
                told = self.events.recv() => match told {
                    Ok(told) => break told,
                    Err(broadcast::error::RecvError::Lagged(_)) => {} // the ids tell
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                newer = newer(&mut self.snapshots, shown, self.due) => {
                    let newer = newer?;
                    let change = newer.change_since(shown);
                    self.shown = Some(newer);
                    if let Some(change) = change {
                        self.due = Instant::now() + self.interval;
                        break change;
                    }
                }
                () = sleep_until(self.told_at + KEEP_ALIVE) => break Bytes::from_static(b": keep-alive\n\n"),
            }
        };
        self.told_at = Instant::now();
        Some(piece)
    }
}

/// A snapshot that is newer than what was `shown`, from `due` on; none, and that
/// at once, when there will be no more.
async fn newer(
    snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    shown: &Snapshot,
    due: Instant,
) -> Option<Arc<Snapshot>> {
    loop {
        let early = Instant::now() < due;
        let latest = snapshots.borrow_and_update().clone();
        if !early && latest.is_newer_than(shown) {
            return Some(latest);
        }
        tokio::select! {
            () = sleep_until(due), if early => {}
            changed = snapshots.changed() => changed.ok()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use dynmem_api::HostView;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::internals::Internals;

    /// A stream, and what feeds it.
    async fn fed(interval_ms: u64) -> (Stream, watch::Sender<Arc<Snapshot>>, broadcast::Sender<Told>) {
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let (tell, events) = broadcast::channel(4);
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("a place");
        let (told_at, due, interval) = (Instant::now(), Instant::now(), Duration::from_millis(interval_ms));
        (Stream { snapshots, events, shown: None, interval, told_at, due, _place: place }, publish, tell)
    }

    fn publish(snapshots: &watch::Sender<Arc<Snapshot>>, vms_total: u64) {
        let host = HostView { vms_total, ..HostView::default() };
        let next = Snapshot::after(&snapshots.borrow(), host, Vec::new(), Vec::new(), Internals::default());
        snapshots.send_replace(Arc::new(next));
    }

    async fn piece(stream: &mut Stream) -> String {
        String::from_utf8(stream.next().await.expect("it goes on").to_vec()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_slowly_is_told_the_newest_alone_and_nobody_too_often() {
        let (mut stream, snapshots, _tell) = fed(1_000).await;
        assert!(piece(&mut stream).await.starts_with("event: snapshot\ndata: {"));
        let began = Instant::now();
        (1..=500).for_each(|number| publish(&snapshots, number));
        let change = piece(&mut stream).await;
        assert!(change.starts_with("event: change\n") && change.contains("\"vms_total\":500,"), "{change}");
        assert_eq!(began.elapsed(), Duration::from_secs(1), "the least that was asked for");
        publish(&snapshots, 501);
        assert!(piece(&mut stream).await.contains("\"vms_total\":501,"));
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_to_say_is_said_and_no_change() {
        let (mut stream, snapshots, tell) = fed(100).await;
        piece(&mut stream).await;
        publish(&snapshots, 0); // the same again
        let began = Instant::now();
        assert_eq!(piece(&mut stream).await, ": keep-alive\n\n");
        assert_eq!(began.elapsed(), KEEP_ALIVE);
        // Events that come quicker than they are read lose the oldest, not the stream.
        (0..10).for_each(|id| assert!(tell.send(format!("id: {id}\n\n").into()).is_ok()));
        assert_eq!(piece(&mut stream).await, "id: 6\n\n");
        drop(snapshots);
        while let Some(rest) = stream.next().await {
            assert!(rest.starts_with(b"id: "), "the last events, and then the end");
        }
    }
}
