//! Seeing and steering a run from other programs: over HTTP, on a socket for the programs
//! of this user and, if it is asked for, on the network.
//!
//! The run neither waits for nor depends on anybody who looks: the service has a thread
//! of its own, reads the run's stream of events, and ends with the run.

mod client;
mod directory;
mod server;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::sleep;

pub use client::{Client, ClientError, Lines, NextLine};
pub(crate) use client::{SseEvent, SseParser};
pub use directory::{LiveRun, find_run, live_runs, unsafe_places};

use crate::event::Level;
use crate::monitor::server::access::AccessPolicy;
use crate::monitor::server::listen::{Listening, NotListening, listen};
use crate::monitor::server::local_run::LocalRun;
use crate::monitor::server::remote_runs::RemoteRuns;
use crate::monitor::server::routes::{Shown, Site};
use crate::pipeline::Control;
use crate::plan::address::Address;
use crate::status::stream::Stream;
use directory::RunSocket;
use server::Server;

/// Where a run is to be seen, beside the socket of this user.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where it is served on the network, if anywhere.
    pub address: Option<Address>,
    /// What gives other machines the right to steer.
    pub token: Option<String>,
}

/// Shows a run for as long as it lasts.
pub struct Monitor {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// How soon a run notices that its socket was removed.
const NOTICE: Duration = Duration::from_secs(1);

/// What is said about the monitor itself.
type Say = Box<dyn Fn(Level, &str) + Send>;

impl Monitor {
    /// Shows the run of this stream, which `control` steers. What there is to say about
    /// it, such as where it is, is given to `say`; that it cannot be shown is no reason
    /// to end a run.
    ///
    /// # Errors
    /// If the system refuses a thread or a file descriptor.
    pub fn start(
        stream: Stream,
        control: Control,
        options: Options,
        say: impl Fn(Level, &str) + Send + 'static,
    ) -> io::Result<Self> {
        let own = LocalRun::new(stream, control);
        let socket = RunSocket::open(&own.run).map_err(|error| unseen(&say, &error)).ok();
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let show = move || {
            runtime.block_on(show(Arc::new(own), socket, options, Box::new(say), stopped));
            runtime.shutdown_timeout(Duration::ZERO);
        };
        let thread = std::thread::Builder::new().name("monitor".into()).spawn(show)?;
        Ok(Self { stop, thread })
    }

    /// Ends it after the end of the run: those who look see the last numbers, and are
    /// waited for a second at most.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()
}

async fn show(
    own: Arc<LocalRun>,
    socket: Option<RunSocket>,
    options: Options,
    say: Say,
    stopped: oneshot::Receiver<()>,
) {
    let Options { address, token } = options;
    let shown = Shown::LocalRun(Arc::clone(&own));
    let policy = AccessPolicy { token, names: names(address.as_ref()) };
    let has_token = policy.token.is_some();
    let (server, ending) =
        server::begin(crate::monitor::server::routes::router(Arc::new(Site { policy, shown })));
    // What runs have left here that were killed goes.
    drop(tokio::task::spawn_blocking(directory::live_runs));
    let teller = Arc::clone(&own);
    let telling = tokio::spawn(async move { teller.tell().await });
    let network = async {
        if let Some(address) = &address {
            open(address, &server, has_token, &say).await;
        }
        std::future::pending::<()>().await;
    };
    let findable = stay_findable(socket, &own.run, &server, &say);
    tokio::select! {
        () = network => {}
        () = findable => {}
        _ = stopped => {}
    }
    telling.abort();
    own.refresh();
    drop(server);
    ending.end().await;
}

/// Serves those who look for the run by its name. When its socket has gone, with a directory
/// that the system has removed, say, it is made again.
async fn stay_findable(
    mut socket: Option<RunSocket>,
    run: &str,
    server: &Arc<Server>,
    say: &(dyn Fn(Level, &str) + Send),
) {
    let mut is_known = socket.is_none();
    if let Some(socket) = &socket {
        serve_here(socket, server, say);
    }
    loop {
        sleep(NOTICE).await;
        if socket.as_ref().is_some_and(RunSocket::is_there) {
            continue;
        }
        match RunSocket::open(run) {
            Ok(again) => {
                serve_here(&again, server, say);
                let place = again.path.display();
                say(Level::Info, &format!("other programs find this run at {place} now"));
                (socket, is_known) = (Some(again), false);
            }
            Err(error) if !is_known => {
                unseen(say, &error);
                is_known = true;
            }
            Err(_) => {}
        }
    }
}

fn serve_here(socket: &RunSocket, server: &Arc<Server>, say: &(dyn Fn(Level, &str) + Send)) {
    match socket.listener.try_clone().and_then(UnixListener::from_std) {
        Ok(listener) => spawn(Arc::clone(server).serve(listener)),
        Err(error) => unseen(say, &error),
    }
}

fn unseen(say: &(dyn Fn(Level, &str) + Send), error: &io::Error) {
    say(Level::Warning, &format!("drpipe ctl and top cannot find this run: {error}"));
}

/// Listens on the network for a run, and says where.
async fn open(address: &Address, server: &Arc<Server>, has_token: bool, say: &Say) {
    match listen(address, true).await {
        Ok(listening) => {
            let (level, words) = listening.in_words(address, has_token);
            serve_all(server, listening);
            say(level, &words);
        }
        Err(NotListening::Shown) => {
            say(Level::Info, &format!("the monitor at http://{address}/ shows this run"));
        }
        Err(NotListening::Failed(why)) => {
            say(Level::Error, &format!("the run is not shown on the network: {why}"));
        }
    }
}

fn serve_all(server: &Arc<Server>, listening: Listening) {
    for listener in listening.listeners {
        spawn(Arc::clone(server).serve(listener));
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// The names that this machine may be asked by.
fn names(address: Option<&Address>) -> Vec<String> {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    address.map(|address| address.host.clone()).into_iter().chain([own]).collect()
}

/// A run elsewhere, or all runs that another monitor shows.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Its address, such as `http://localhost:5565/`.
    pub url: String,
    /// What gives the right to steer it.
    pub token: Option<String>,
}

/// Shows all runs of this user on this machine and those elsewhere, until the program ends.
///
/// # Errors
/// If it cannot be served, or an address is wrong; in words.
pub fn show_all(
    options: Options,
    elsewhere: &[Elsewhere],
    say: impl Fn(Level, &str),
) -> Result<(), String> {
    let clients = elsewhere.iter().map(|run| Client::address(&run.url, run.token.as_deref()));
    let clients = clients.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let default = || Address { host: "localhost".to_owned(), port: 5565 };
    let address = options.address.unwrap_or_else(default);
    let runtime = runtime().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let several = Arc::<RemoteRuns>::default();
        let policy = AccessPolicy { token: options.token, names: names(Some(&address)) };
        let has_token = policy.token.is_some();
        let shown = Shown::RemoteRuns(Arc::clone(&several));
        let (server, _ending) =
            server::begin(crate::monitor::server::routes::router(Arc::new(Site { policy, shown })));
        match listen(&address, false).await {
            Ok(listening) => {
                let (level, words) = listening.in_words(&address, has_token);
                serve_all(&server, listening);
                say(level, &words);
            }
            Err(NotListening::Failed(why)) => return Err(why),
            Err(NotListening::Shown) => return Ok(()),
        }
        several.look(clients).await;
        Ok(())
    })
}
