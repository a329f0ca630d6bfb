//! Connections: accepted, limited in number, and closed when the run ends, whatever the
//! clients do.

pub(crate) mod access;
mod assets;
mod feed;
pub(crate) mod listen;
pub(crate) mod local_run;
mod metrics;
mod relay;
pub(crate) mod remote_runs;
mod respond;
pub(crate) mod routes;
mod thumbnail;

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::base::lock::lock;
use access::Peer;

/// The most connections at a time, if the system allows enough descriptors.
const MAX_CONNECTIONS: u64 = 1100;
/// How long a connection may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a run waits for clients that still read.
const GRACE: Duration = Duration::from_secs(1);
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// One connection.
#[derive(Default)]
pub(crate) struct Connection {
    /// Whether the client has asked for anything.
    asked: AtomicBool,
    closed: Notify,
}

impl Connection {
    /// Closes the connection, even in the middle of an answer.
    pub(crate) fn close(&self) {
        self.closed.notify_one();
    }
}

/// Accepts connections and answers them with its routes.
pub(crate) struct Server {
    router: Router,
    max_connections: usize,
    connections: Mutex<Vec<Arc<Connection>>>,
    listeners: Mutex<JoinSet<()>>,
    /// None once the server shuts down.
    graceful: Mutex<Option<GracefulShutdown>>,
}

/// A source of connections.
pub(crate) trait Accept: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        self.accept().await.map(|(stream, _)| (stream, Peer::Socket))
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, remote) = self.accept().await?;
        // A short answer must not wait for more to send.
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?.ip();
        Ok((stream, Peer::Network { remote: remote.ip(), local }))
    }
}

impl Server {
    /// Creates a server that does not listen yet.
    pub(crate) fn new(router: Router) -> Arc<Self> {
        // The run needs most of the descriptors that the system allows.
        let soft = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft);
        Arc::new(Self {
            router,
            max_connections: usize::try_from(MAX_CONNECTIONS.min(soft / 4))
                .unwrap_or_default()
                .max(1),
            connections: Mutex::default(),
            listeners: Mutex::default(),
            graceful: Mutex::new(Some(GracefulShutdown::new())),
        })
    }

    /// Serves the clients of a listener until the server shuts down.
    pub(crate) fn listen(self: &Arc<Self>, listener: impl Accept) {
        lock(&self.listeners).spawn(Arc::clone(self).accept_from(listener));
    }

    /// Stops listening, closes idle connections at once and the others after a short grace.
    pub(crate) async fn shut_down(&self) {
        lock(&self.listeners).abort_all();
        let graceful = lock(&self.graceful).take();
        if let Some(graceful) = graceful {
            let _ = timeout(GRACE, graceful.shutdown()).await;
        }
    }

    async fn accept_from(self: Arc<Self>, listener: impl Accept) {
        loop {
            match listener.next().await {
                Ok((stream, peer)) => {
                    let watcher = lock(&self.graceful).as_ref().map(GracefulShutdown::watcher);
                    if let (Some(watcher), Some(connection)) = (watcher, self.admit()) {
                        let routes = TowerToHyperService::new(self.router.clone());
                        tokio::spawn(serve(stream, peer, connection, routes, watcher));
                    }
                }
                // No descriptor is left, or the client has gone already.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Admits one more connection. If the server is full, that closes the connection that has
    /// been open the longest without a request; if there is none, admits nothing.
    fn admit(&self) -> Option<Arc<Connection>> {
        let mut connections = lock(&self.connections);
        connections.retain(|connection| Arc::strong_count(connection) > 1);
        if connections.len() >= self.max_connections {
            let idle = connections.iter().position(|c| !c.asked.load(Ordering::Relaxed))?;
            connections.remove(idle).close();
        }
        let connection = Arc::<Connection>::default();
        connections.push(Arc::clone(&connection));
        Some(connection)
    }
}

async fn serve<S>(
    stream: S,
    peer: Peer,
    connection: Arc<Connection>,
    routes: TowerToHyperService<Router>,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::clone(&connection);
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Arc::clone(&asked));
        routes.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A failed connection is the client's concern only.
        _ = watcher.watch(serving) => {}
        () = connection.closed.notified() => {}
    }
}
