//! Connections: so many at a time, and none for ever.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

use super::stall::StallGuard;

/// Connections at a time; more wait until one ends.
const CONNECTIONS_MAX: usize = 256;
/// How long a request's head may take, and how long a connection may idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Request heads are small.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// After an accept that failed (no file descriptors left), until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is true or its sender gone; then ends when the answers
/// under way are given.
pub(crate) async fn serve(listener: &UnixListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = accept(listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.spawn(converse(stream, router.clone(), stop.clone(), place));
    }
    while connections.join_next().await.is_some() {}
}

/// Waits for the end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // nobody who could stop it is a stop, too
}

async fn accept(listener: &UnixListener, places: &Arc<Semaphore>) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, place))
}

async fn converse(stream: UnixStream, router: Router, mut stop: watch::Receiver<bool>, _place: OwnedSemaphorePermit) {
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(StallGuard::new(stream)), TowerToHyperService::new(router))
    );
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}
