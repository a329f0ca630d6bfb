//! The router's thread: receives what workers report, lets the router decide,
//! sends what it wants done.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::link::Identity;
use super::wire::{FromWorker, ToWorker, VERSION};
use super::{ENDPOINT, Inproc, frames};
use crate::observe::Outlet;
use crate::router::{Action, Input, Router, Stop};

/// Messages taken in before the router decides again.
const MOST_AT_ONCE: usize = 256;

/// What other threads tell the hub.
pub(crate) enum Command {
    Stop(Stop),
    /// The worker's thread has ended though nobody told it to.
    Lost {
        worker: usize,
        reason: String,
    },
}

impl From<Command> for Input {
    fn from(command: Command) -> Self {
        match command {
            Command::Stop(stop) => Self::Stop(stop),
            Command::Lost { worker, reason } => Self::Lost { worker, reason },
        }
    }
}

/// Tells the hub something from any thread.
#[derive(Clone)]
pub(crate) struct Commander {
    commands: mpsc::Sender<Command>,
    /// A byte in this pipe wakes the hub.
    wake: Arc<Mutex<PipeWriter>>,
}

impl Commander {
    /// After the end of the run it does nothing.
    pub(crate) fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
            // Fails only once the hub has gone, when nothing is to be woken.
            let _ = wake.write(&[0]);
        }
    }
}

/// The receiving end of a [`Commander`].
pub(crate) struct Commands {
    commands: mpsc::Receiver<Command>,
    wake: PipeReader,
}

/// # Errors
/// If the process has no file descriptors left.
pub(crate) fn commands() -> std::io::Result<(Commander, Commands)> {
    let (sender, receiver) = mpsc::channel();
    let (wake_reader, wake_writer) = std::io::pipe()?;
    let wake = Arc::new(Mutex::new(wake_writer));
    Ok((Commander { commands: sender, wake }, Commands { commands: receiver, wake: wake_reader }))
}

impl Commands {
    /// The commands that have arrived, as inputs of the router.
    pub(crate) fn take(&self) -> impl Iterator<Item = Input> + '_ {
        self.commands.try_iter().map(Input::from)
    }

    /// Waits for a command, at most until `timeout` has passed.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Option<Input> {
        let command = match timeout {
            Some(timeout) => self.commands.recv_timeout(timeout).ok(),
            None => self.commands.recv().ok(),
        };
        command.map(Input::from)
    }
}

/// Why the hub had to give up.
#[derive(Debug, thiserror::Error)]
#[error("the router's socket failed: {0}")]
pub(crate) struct HubError(#[from] zmq::Error);

pub(crate) struct Hub {
    socket: zmq::Socket,
    commands: Commands,
    router: Router,
    outlet: Outlet,
    start: Instant,
}

impl Hub {
    /// # Errors
    /// If the endpoint cannot be bound.
    pub(crate) fn bind(
        inproc: &Inproc,
        commands: Commands,
        router: Router,
        outlet: Outlet,
    ) -> Result<Self, HubError> {
        let socket = inproc.0.socket(zmq::ROUTER)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_router_mandatory(true)?;
        socket.bind(ENDPOINT)?;
        Ok(Self { socket, commands, router, outlet, start: Instant::now() })
    }

    /// Runs until the router says that the run is over. `spawn` starts a
    /// worker in a place that has become free.
    ///
    /// # Errors
    /// If the socket fails.
    pub(crate) fn run(&mut self, spawn: &mut dyn FnMut(usize)) -> Result<Duration, HubError> {
        while !self.router.is_over() {
            let now = self.start.elapsed();
            for input in self.commands.take() {
                self.router.handle(input, now);
            }
            self.take_reports(now)?;
            let now = self.start.elapsed();
            for action in self.router.settle(now) {
                self.act(action, spawn)?;
            }
            self.outlet.progress(now, || self.router.snapshot(now));
            if !self.router.is_over() {
                self.wait()?;
            }
        }
        Ok(self.start.elapsed())
    }

    /// Closes the socket; to be called once the workers have ended.
    pub(crate) fn into_parts(self) -> (Router, Outlet) {
        (self.router, self.outlet)
    }

    fn take_reports(&mut self, now: Duration) -> Result<(), HubError> {
        for _ in 0..MOST_AT_ONCE {
            let Some(parts) = frames::receive(&self.socket, zmq::DONTWAIT)? else { break };
            let mut parts = parts.into_iter();
            let (identity, head) = (parts.next(), parts.next());
            let worker = identity.as_deref().and_then(Identity::parse);
            let known = worker.filter(|worker| *worker < self.router.worker_count());
            if let (Some(worker), Some(head)) = (known, head) {
                let input = match FromWorker::decode(head, parts.collect()) {
                    Ok(message) => input_of(worker, message),
                    Err(error) => Input::Broken { worker, reason: error.to_string() },
                };
                self.router.handle(input, now);
            }
        }
        Ok(())
    }

    /// Waits for a report, a command, a due retry or the next progress event.
    fn wait(&mut self) -> Result<(), HubError> {
        let now = self.start.elapsed();
        let wake = [self.router.next_wake(), self.outlet.next_progress()];
        let timeout = match wake.into_iter().flatten().min() {
            // Rounded up: a poll that ends early would only be repeated.
            Some(at) => at.saturating_sub(now).as_millis() as i64 + 1,
            None => -1,
        };
        let mut items = [
            self.socket.as_poll_item(zmq::POLLIN),
            zmq::PollItem::from_fd(self.commands.wake.as_raw_fd(), zmq::POLLIN),
        ];
        frames::retry_interrupted(|| zmq::poll(&mut items, timeout))?;
        if items[1].is_readable() {
            // One read takes every byte that has gathered; the commands
            // themselves are in the channel.
            let _ = self.commands.wake.read(&mut [0; 64]);
        }
        Ok(())
    }

    fn act(&mut self, action: Action, spawn: &mut dyn FnMut(usize)) -> Result<(), HubError> {
        match action {
            Action::Grant { worker, count } => self.send(worker, ToWorker::Grant { count }),
            Action::Work { worker, parcels } => self.send(worker, ToWorker::Work(parcels)),
            Action::Finish { worker } => self.send(worker, ToWorker::Finish),
            Action::Stop { worker } => self.send(worker, ToWorker::Stop),
            Action::Spawn { worker } => {
                spawn(worker);
                Ok(())
            }
            Action::Quarantine(casualty) => {
                self.outlet.quarantine(*casualty);
                Ok(())
            }
            Action::Tell(event) => {
                self.outlet.tell(event);
                Ok(())
            }
        }
    }

    fn send(&mut self, worker: usize, message: ToWorker) -> Result<(), HubError> {
        let identity = Identity::of(worker);
        match frames::send(&mut self.socket, Some(identity.as_bytes()), message.encode()) {
            // It has gone, or has not come yet: its thread's end reports itself.
            Err(zmq::Error::EHOSTUNREACH) => Ok(()),
            result => Ok(result?),
        }
    }
}

fn input_of(worker: usize, message: FromWorker) -> Input {
    match message {
        FromWorker::Ready { version: VERSION } => Input::Ready { worker },
        FromWorker::Ready { version } => Input::Broken {
            worker,
            reason: format!("it speaks version {version} of the protocol, expected {VERSION}"),
        },
        FromWorker::InitFailed(failure) => Input::InitFailed { worker, failure },
        FromWorker::Done { completions, outputs } => Input::Done { worker, completions, outputs },
        FromWorker::Produced { production, outputs } => {
            Input::Produced { worker, production, outputs }
        }
        FromWorker::Finished { result, outputs } => Input::Finished { worker, result, outputs },
    }
}
