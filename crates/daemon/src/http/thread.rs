//! [`ApiThread`]: clients have a thread of their own, so that a list of a
//! thousand VMs for each of many delays no decision about memory, and no
//! decision delays them.
//!
//! ```text
//!  main thread: supervisor, actors ──Snapshot, Told──▶ API thread: connections, routes
//!                                  ◀─────Command──────
//! ```

use std::{io, thread::Builder, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    access::TcpApi,
    serve::{serve, serve_tcp, stopped},
};
use crate::instance::ApiSocket;

/// Answers that are under way at the end may take this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// The thread, while it serves.
pub(crate) struct ApiThread {
    stop: watch::Sender<bool>,
    /// Gone when the thread is.
    ended: oneshot::Receiver<()>,
}

impl ApiThread {
    /// Serves all who come from now on.
    pub(crate) fn start(socket: ApiSocket, tcp: Option<TcpApi>, router: Router) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
        let (stop, stopping) = watch::channel(false);
        let (alive, ended) = oneshot::channel();
        let work = move || {
            if let Err(error) = run(&runtime, &socket, tcp.as_ref(), router, stopping) {
                tracing::error!(%error, "clients can't be served");
            }
            runtime.shutdown_background();
            drop((socket, alive)); // in this order: who hears of the end finds no socket
        };
        Builder::new().name("api".to_owned()).spawn(work)?;
        Ok(Self { stop, ended })
    }

    /// Waits until it ends by itself, which it should not.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.ended).await; // an error is what tells of the end
    }

    /// Lets the answers under way be given, if that does not take long, and
    /// waits for the end.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.send(true); // it may have ended
        self.ended().await;
    }
}

fn run(
    runtime: &Runtime,
    socket: &ApiSocket,
    tcp: Option<&TcpApi>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    runtime.block_on(async {
        let local = UnixListener::from_std(socket.listener()?)?;
        let remote = tcp.map(|tcp| TcpListener::from_std(tcp.listener()?)).transpose()?;
        let stop = stopping.clone();
        let serving = async {
            let local = serve(&local, router.clone(), stop.clone());
            match (tcp, &remote) {
                (Some(tcp), Some(listener)) => {
                    tokio::join!(local, serve_tcp(listener, &tcp.access, router, stop));
                }
                _ => local.await,
            }
        };
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            () = &mut serving => return Ok(()),
            () = stopped(&mut stopping) => {}
        }
        if timeout(FAREWELL, serving).await.is_err() {
            tracing::debug!("some connections were cut off");
        }
        Ok(())
    })
}
