//! Shows a run to other programs, which may also steer it: over HTTP, on a socket for the
//! programs of this user and, if asked, on the network.
//!
//! The run never waits for a viewer: the server has a thread of its own, reads the run's stream
//! of events, and ends with the run.

mod client;
mod directory;
mod server;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::sleep;

#[cfg(any(fuzzing, test))]
pub(crate) use client::LineSplitter;
pub use client::{Client, ClientError, Lines, NextLine};
pub(crate) use client::{SseEvent, SseParser};
pub(crate) use directory::unsafe_places;
pub use directory::{FindRunError, LiveRun, find_run, live_runs};

use crate::event::Level;
use crate::pipeline::Control;
use crate::plan::address::Address;
use crate::status::stream::Stream;
use directory::RunSocket;
use server::Server;
use server::access::AccessPolicy;
use server::listen::{ListenError, Listening, NotListening, listen};
use server::local_run::LocalRun;
use server::remote_runs::RemoteRuns;
use server::routes::{Runs, Site, router};

/// Where a run is shown, besides the socket of this user.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where it is shown on the network, if anywhere.
    pub address: Option<Address>,
    /// The token that lets other machines steer.
    pub token: Option<String>,
}

/// Shows a run for as long as it lasts.
pub struct Monitor {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// How soon a run notices that its socket was removed.
const SOCKET_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Receives messages about the monitor itself.
type Say = Box<dyn Fn(Level, &str) + Send>;

impl Monitor {
    /// Shows the run of this stream, which `control` steers. Reports to `say` where the run is
    /// shown, or why it is not; a failure to show it does not end the run.
    ///
    /// # Errors
    /// If the system refuses a thread or a file descriptor.
    pub fn start(
        stream: Stream,
        control: Control,
        options: Options,
        say: impl Fn(Level, &str) + Send + 'static,
    ) -> io::Result<Self> {
        let run = LocalRun::new(stream, control);
        let socket = RunSocket::open(&run.name).map_err(|error| not_found(&say, &error)).ok();
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let show = move || {
            runtime.block_on(show(Arc::new(run), socket, options, Box::new(say), stopped));
            runtime.shutdown_timeout(Duration::ZERO);
        };
        let thread = std::thread::Builder::new().name("monitor".into()).spawn(show)?;
        Ok(Self { stop, thread })
    }

    /// Ends the monitor after the end of its run. Viewers get the last numbers; waits for
    /// them for a second at most.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()
}

async fn show(
    run: Arc<LocalRun>,
    socket: Option<RunSocket>,
    options: Options,
    say: Say,
    stopped: oneshot::Receiver<()>,
) {
    let Options { address, token } = options;
    let policy = AccessPolicy { token, names: names(address.as_ref()) };
    let has_token = policy.token.is_some();
    let runs = Runs::Local(Arc::clone(&run));
    let server = Server::new(router(Arc::new(Site { policy, runs })));
    // Removes the sockets that killed runs have left.
    drop(tokio::task::spawn_blocking(directory::live_runs));
    let publisher = Arc::clone(&run);
    let publishing = tokio::spawn(async move { publisher.publish().await });
    let network = async {
        if let Some(address) = &address {
            listen_on_network(address, &server, has_token, &say).await;
        }
        std::future::pending::<()>().await;
    };
    let findable = stay_findable(socket, &run.name, &server, &say);
    tokio::select! {
        () = network => {}
        () = findable => {}
        _ = stopped => {}
    }
    publishing.abort();
    run.refresh();
    server.shut_down().await;
}

/// Serves the programs that look for the run by its name. If its socket is removed, for example
/// with a directory that the system cleans up, makes it again.
async fn stay_findable(
    mut socket: Option<RunSocket>,
    run: &str,
    server: &Arc<Server>,
    say: &(dyn Fn(Level, &str) + Send),
) {
    let mut is_reported = socket.is_none();
    if let Some(socket) = &socket {
        serve(socket, server, say);
    }
    loop {
        sleep(SOCKET_CHECK_INTERVAL).await;
        if socket.as_ref().is_some_and(RunSocket::is_there) {
            continue;
        }
        match RunSocket::open(run) {
            Ok(again) => {
                serve(&again, server, say);
                let place = again.path.display();
                say(Level::Info, &format!("other programs find this run at {place} now"));
                (socket, is_reported) = (Some(again), false);
            }
            Err(error) if !is_reported => {
                not_found(say, &error);
                is_reported = true;
            }
            Err(_) => {}
        }
    }
}

fn serve(socket: &RunSocket, server: &Arc<Server>, say: &(dyn Fn(Level, &str) + Send)) {
    match socket.listener.try_clone().and_then(UnixListener::from_std) {
        Ok(listener) => server.listen(listener),
        Err(error) => not_found(say, &error),
    }
}

fn not_found(say: &(dyn Fn(Level, &str) + Send), error: &io::Error) {
    say(Level::Warning, &format!("drpipe ctl and top cannot find this run: {error}"));
}

/// Listens on the network for a run, and reports where.
async fn listen_on_network(address: &Address, server: &Arc<Server>, has_token: bool, say: &Say) {
    match listen(address, true).await {
        Ok(listening) => {
            let (level, words) = listening.in_words(address, has_token);
            serve_all(server, listening);
            say(level, &words);
        }
        Err(NotListening::Shown) => {
            say(Level::Info, &format!("the monitor at http://{address}/ shows this run"));
        }
        Err(NotListening::Failed(error)) => {
            say(Level::Error, &format!("the run is not shown on the network: {error}"));
        }
    }
}

fn serve_all(server: &Arc<Server>, listening: Listening) {
    for listener in listening.listeners {
        server.listen(listener);
    }
}

/// The names by which clients may ask for this machine.
fn names(address: Option<&Address>) -> Vec<String> {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    address.map(|address| address.host.clone()).into_iter().chain([machine]).collect()
}

/// A run elsewhere, or all runs that another monitor shows.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere {
    /// Its address, such as `http://localhost:5565/`.
    pub(crate) url: String,
    /// The token that gives the right to steer it.
    pub(crate) token: Option<String>,
}

/// Why no runs can be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShowError {
    /// The address of a run elsewhere is wrong.
    #[error(transparent)]
    Address(#[from] ClientError),
    /// The system refuses a resource that a server needs.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The address cannot be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Shows all runs of this user on this machine and those elsewhere; blocks until the program
/// ends.
///
/// # Errors
/// If the server cannot start, or an address is wrong.
pub(crate) fn show_all(
    options: Options,
    elsewhere: &[Elsewhere],
    say: impl Fn(Level, &str),
) -> Result<(), ShowError> {
    let clients = elsewhere.iter().map(|run| Client::address(&run.url, run.token.as_deref()));
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let default = || Address { host: "localhost".to_owned(), port: 5565 };
    let address = options.address.unwrap_or_else(default);
    runtime()?.block_on(async {
        let remote = Arc::<RemoteRuns>::default();
        let policy = AccessPolicy { token: options.token, names: names(Some(&address)) };
        let has_token = policy.token.is_some();
        let runs = Runs::Remote(Arc::clone(&remote));
        let server = Server::new(router(Arc::new(Site { policy, runs })));
        match listen(&address, false).await {
            Ok(listening) => {
                let (level, words) = listening.in_words(&address, has_token);
                serve_all(&server, listening);
                say(level, &words);
            }
            Err(NotListening::Failed(error)) => return Err(error.into()),
            Err(NotListening::Shown) => return Ok(()),
        }
        remote.discover(clients).await;
        Ok(())
    })
}
