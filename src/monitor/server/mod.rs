//! Connections: accepted, limited in number, and closed at the end of the run whatever
//! those at their other ends do.

pub(crate) mod access;
pub(crate) mod assets;
pub(crate) mod feed;
pub(crate) mod listen;
pub(crate) mod local_run;
pub(crate) mod metrics;
pub(crate) mod relay;
pub(crate) mod remote_runs;
pub(crate) mod routes;
pub(crate) mod thumbnail;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

use access::Peer;

/// The most connections at a time.
const MOST: u64 = 1100;
/// A connection on which nobody asks for anything is closed after this time.
const TO_ASK: Duration = Duration::from_secs(10);
/// At the end of a run, those who still read are waited for this long.
const GRACE: Duration = Duration::from_secs(1);
/// The longest head of a request, in bytes.
const MOST_HEAD: usize = 32 << 10;

/// One connection.
#[derive(Default)]
pub(crate) struct Connection {
    /// Whether anything was asked for.
    asked: AtomicBool,
    closed: Notify,
}

impl Connection {
    /// Closes it, whatever it is at.
    pub(crate) fn close(&self) {
        self.closed.notify_one();
    }
}

/// What the connections of a service have in common.
pub(crate) struct Server {
    router: Router,
    most: usize,
    open: Mutex<Vec<Arc<Connection>>>,
    /// Told once, at the end.
    ending: watch::Sender<bool>,
    /// Every connection and listener holds a sender.
    alive: mpsc::Sender<()>,
}

/// What connections come from.
pub(crate) trait Accept: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
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
        let (stream, peer) = self.accept().await?;
        // Small answers are not to wait for more to send.
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?.ip();
        Ok((stream, Peer::Network { peer: peer.ip(), local }))
    }
}

/// What ends a service.
pub(crate) struct Ending {
    server: Arc<Server>,
    gone: mpsc::Receiver<()>,
}

/// Begins a service; nothing listens yet.
pub(crate) fn begin(router: Router) -> (Arc<Server>, Ending) {
    // The run needs most of the descriptors that the system allows.
    let soft = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft);
    let (alive, gone) = mpsc::channel(1);
    let server = Arc::new(Server {
        router,
        most: usize::try_from(MOST.min(soft / 4)).unwrap_or_default().max(1),
        open: Mutex::default(),
        ending: watch::channel(false).0,
        alive,
    });
    (Arc::clone(&server), Ending { server, gone })
}

impl Ending {
    /// Closes idle connections at once and the others after a little while.
    pub(crate) async fn end(mut self) {
        self.server.ending.send_replace(true);
        // The service itself holds a sender too, which goes with it.
        drop(self.server);
        let _ = timeout(GRACE, self.gone.recv()).await;
    }
}

impl Server {
    /// Serves those who come, to the end of the service.
    pub(crate) async fn serve(self: Arc<Self>, listener: impl Accept) {
        let mut ending = self.ending.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.next() => accepted,
                _ = ending.wait_for(|ending| *ending) => return,
            };
            match accepted {
                Ok((stream, way)) => {
                    if let Some(connection) = self.room() {
                        tokio::spawn(Arc::clone(&self).hold(stream, way, connection));
                    }
                }
                // No descriptor is left, or the other end has gone already.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A place for one more connection; if need be that of the one that has been there
    /// for the longest time without asking for anything.
    fn room(&self) -> Option<Arc<Connection>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| Arc::strong_count(connection) > 1);
        if open.len() >= self.most {
            let idle = open.iter().position(|c| !c.asked.load(Ordering::Relaxed))?;
            open.remove(idle).close();
        }
        let connection = Arc::<Connection>::default();
        open.push(Arc::clone(&connection));
        Some(connection)
    }

    async fn hold<S>(self: Arc<Self>, stream: S, way: Peer, connection: Arc<Connection>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let alive = self.alive.clone();
        let mut ending = self.ending.subscribe();
        let routes = TowerToHyperService::new(self.router.clone());
        drop(self);
        let mine = Arc::clone(&connection);
        let service = service_fn(move |mut request: Request<Incoming>| {
            mine.asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(way);
            request.extensions_mut().insert(Arc::clone(&mine));
            routes.call(request)
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(TO_ASK)
            .max_buf_size(MOST_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let mut told = false;
        loop {
            tokio::select! {
                // What goes wrong with a connection is its other end's to see.
                _ = &mut serving => break,
                () = connection.closed.notified() => break,
                _ = ending.wait_for(|ending| *ending), if !told => {
                    told = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
        drop(alive);
    }
}
