//! [`ApiThread`]: clients have a thread of their own, so that a list of a
//! thousand VMs for each of many delays no decision about memory, and no
//! decision delays them.
//!
//! ```text
//!  main thread: supervisor, actors ──Snapshot, Told──▶ API thread: connections, routes
//!                                  ◀─────Command──────
//! ```

use std::{
    io,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::watch,
    time::timeout,
};

use super::{
    access::TcpApi,
    serve::{serve, serve_tcp},
};
use crate::instance::ApiSocket;

/// Answers that are under way at the end may take this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// How far clients are served.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
pub(super) enum Service {
    /// All who come.
    Open,
    /// Those whose answers are under way.
    Closing,
    /// Nobody.
    Ended,
}

/// What connections see of it.
pub(super) type ServiceWatch = watch::Receiver<Service>;

/// Waits until the service is at this point, or past it.
pub(super) async fn reached(point: Service, service: &mut ServiceWatch) {
    let _ = service.wait_for(|service| *service >= point).await; // nobody who could end it is an end, too
}

/// The thread, while it serves. Dropped, it cuts off who is there, and the
/// socket is free.
pub(crate) struct ApiThread {
    service: watch::Sender<Service>,
    thread: Option<JoinHandle<()>>,
}

impl ApiThread {
    /// Serves all who come from now on.
    pub(crate) fn start(socket: ApiSocket, tcp: Option<TcpApi>, router: Router) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
        let (service, watched) = watch::channel(Service::Open);
        let work = move || {
            if let Err(error) = run(&runtime, &socket, tcp.as_ref(), router, watched.clone()) {
                tracing::error!(%error, "clients can't be served");
            }
            runtime.shutdown_background();
            drop((socket, watched)); // in this order: who hears of the end finds no socket
        };
        let thread = Builder::new().name("api".to_owned()).spawn(work)?;
        Ok(Self { service, thread: Some(thread) })
    }

    /// Waits until it ends by itself, which it should not.
    pub(crate) async fn ended(&self) {
        self.service.closed().await;
    }

    /// Lets the answers under way be given, if that does not take long, and
    /// ends.
    pub(crate) async fn stop(self) {
        self.service.send_replace(Service::Closing);
        if timeout(FAREWELL, self.ended()).await.is_err() {
            tracing::debug!("some connections are cut off");
        }
    }
}

impl Drop for ApiThread {
    fn drop(&mut self) {
        self.service.send_replace(Service::Ended);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the clients' thread has panicked");
        }
    }
}

fn run(
    runtime: &Runtime,
    socket: &ApiSocket,
    tcp: Option<&TcpApi>,
    router: Router,
    mut service: ServiceWatch,
) -> io::Result<()> {
    runtime.block_on(async {
        let local = UnixListener::from_std(socket.listener()?)?;
        let remote = tcp.map(|tcp| TcpListener::from_std(tcp.listener()?)).transpose()?;
        let watched = service.clone();
        let serving = async {
            let local = serve(&local, router.clone(), watched.clone());
            match (tcp, &remote) {
                (Some(tcp), Some(listener)) => {
                    tokio::join!(local, serve_tcp(listener, &tcp.access, router, watched));
                }
                _ => local.await,
            }
        };
        tokio::select! {
            () = serving => {}
            () = reached(Service::Ended, &mut service) => {}
        }
        Ok(())
    })
}
