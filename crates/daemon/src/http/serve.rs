//! Connections: so many at a time, and none for ever.
//!
//! ```text
//!  Unix socket ───────────────────────────────────▶ converse ──▶ router
//!  TCP ──▶ TLS handshake (in so much time) ────────▶ converse ──▶ token's role ──▶ router
//! ```
//! The dashboard's files are looked for before the token is, and hold no data.
//! Each kind has places of its own: whoever takes all of those over TCP keeps
//! nobody from the Unix socket.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, middleware::from_fn_with_state};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{
    access::Access,
    authority::authorize,
    dashboard,
    stall::StallGuard,
    thread::{Service, ServiceWatch, reached},
};

/// Connections over the Unix socket at a time; more wait until one ends.
const CONNECTIONS_MAX: usize = 256;
/// The same over TCP.
const TCP_CONNECTIONS_MAX: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// What was sent and not acknowledged for this long went to nobody.
const ACKNOWLEDGE_PATIENCE_MS: u32 = 30_000;
/// How long a request's head may take, and how long a connection may idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Request heads are small.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// After an accept that failed (no file descriptors left), until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves while the service is open; ends when the answers under way then are
/// given.
pub(super) async fn serve(listener: &UnixListener, router: Router, service: ServiceWatch) {
    let router = dashboard::beside(router);
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    let talk = |stream| converse(StallGuard::new(stream), router.clone(), service.clone());
    receive(accept, CONNECTIONS_MAX, talk, service.clone()).await;
}

/// The same over TCP, for those who have a token.
pub(super) async fn serve_tcp(
    listener: &TcpListener,
    access: &watch::Receiver<Arc<Access>>,
    router: Router,
    service: ServiceWatch,
) {
    let router = dashboard::beside(router.layer(from_fn_with_state(access.clone(), authorize)));
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    let talk = |stream| meet(stream, access.clone(), router.clone(), service.clone());
    receive(accept, TCP_CONNECTIONS_MAX, talk, service.clone()).await;
}

/// Accepts, and talks with up to so many at a time.
async fn receive<S, T: Future<Output = ()> + Send + 'static>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    places: usize,
    talk: impl Fn(S) -> T,
    mut service: ServiceWatch,
) {
    let places = Arc::new(Semaphore::new(places));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((poll_fn(&accept).await?, place))
        };
        let accepted = tokio::select! {
            () = reached(Service::Closing, &mut service) => break,
            accepted = next => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let talk = talk(stream);
        connections.spawn(async move {
            talk.await;
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}

/// A TCP client from its first byte to its last; the last comes at once when
/// other certificates or tokens hold than those that let it in.
async fn meet(stream: TcpStream, mut access: watch::Receiver<Arc<Access>>, router: Router, mut service: ServiceWatch) {
    let handshake = shake_hands(stream, Arc::clone(&access.borrow_and_update()));
    let stream = tokio::select! {
        stream = handshake => stream,
        () = reached(Service::Closing, &mut service) => return,
    };
    match stream {
        Ok(stream) => tokio::select! {
            () = converse(stream, router, service) => {}
            Ok(()) = access.changed() => tracing::debug!("a connection was let in by what holds no more"),
        },
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    }
}

async fn shake_hands(stream: TcpStream, access: Arc<Access>) -> io::Result<TlsStream<StallGuard<TcpStream>>> {
    stream.set_nodelay(true)?;
    set_tcp_user_timeout(&stream, ACKNOWLEDGE_PATIENCE_MS)?;
    timeout(HANDSHAKE_PATIENCE, access.acceptor.accept(StallGuard::new(stream))).await?
}

async fn converse<S>(stream: S, router: Router, mut service: ServiceWatch)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = reached(Service::Closing, &mut service) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}
