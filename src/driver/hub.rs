//! The router's thread: receives what workers report, lets the router decide,
//! sends what it wants done.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::Loss;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker, VERSION};
use crate::router::{Action, ControlRequest, Input, Router, Stop};
use crate::sinks::RunSinks;
use crate::transport::descriptors::{OF_A_PROCESS, OF_A_START, OF_A_THREAD, make_room};
use crate::transport::zmq::link::Place;
use crate::transport::zmq::{ENDPOINT, Inproc, frames, ipc, link};

/// Messages taken in before the router decides again.
const MOST_AT_ONCE: usize = 256;
/// No step is given more workers than this at once.
const MOST_MORE: usize = 256;

/// What other threads tell the hub.
pub(crate) enum Command {
    Stop(Stop),
    /// What the run depends on has failed.
    Halt(String),
    /// The worker's thread or process has ended.
    Lost {
        place: Place,
        loss: Loss,
    },
    /// Threads of the worker, which has ended, wanted to send after their call had
    /// returned.
    Late {
        place: Place,
    },
    /// What an operator wants; the answer says whether it was done.
    Steer(ControlRequest, mpsc::Sender<Result<(), String>>),
    /// For the observers.
    Tell(Event),
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
    /// The commands that have arrived.
    pub(crate) fn take(&self) -> impl Iterator<Item = Command> + '_ {
        self.commands.try_iter()
    }

    /// Waits for a command, at most until `timeout` has passed.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Option<Command> {
        match timeout {
            Some(timeout) => self.commands.recv_timeout(timeout).ok(),
            None => self.commands.recv().ok(),
        }
    }
}

/// Why the hub had to give up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    #[error("the router's socket failed: {0}")]
    Socket(#[from] zmq::Error),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

pub(crate) struct Hub {
    socket: zmq::Socket,
    commands: Commands,
    router: Router,
    sinks: RunSinks,
    start: Instant,
    posts: Vec<WorkerSlot>,
}

/// Who holds a worker's place.
#[derive(Default)]
struct WorkerSlot {
    incarnation: u32,
    /// Of a worker process.
    lifeline: Option<Lifeline>,
}

/// Starts the worker in a place, of this step and with this number in it. A process gives the program's end of its
/// lifeline; one that cannot be started is told as lost.
pub(crate) type Spawn<'s> = dyn FnMut(Place, (usize, usize)) -> Option<Lifeline> + 's;

impl Hub {
    /// `private` is the run's directory for the endpoint of worker processes, if
    /// there are any.
    ///
    /// # Errors
    /// If an endpoint cannot be bound.
    pub(crate) fn bind(
        inproc: &Inproc,
        private: Option<&Path>,
        commands: Commands,
        router: Router,
        sinks: RunSinks,
    ) -> Result<Self, HubError> {
        let of_a_worker = if private.is_some() { OF_A_PROCESS } else { OF_A_THREAD };
        let workers = router.worker_count();
        make_room(workers * of_a_worker + OF_A_START, workers)?;
        let socket = inproc.0.socket(zmq::ROUTER)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_router_mandatory(true)?;
        socket.bind(ENDPOINT)?;
        if let Some(directory) = private {
            socket.bind(&ipc(directory))?;
        }
        let posts = (0..router.worker_count()).map(|_| WorkerSlot::default()).collect();
        Ok(Self { socket, commands, router, sinks, start: Instant::now(), posts })
    }

    /// Starts the workers and runs until the router says that the run is over.
    ///
    /// # Errors
    /// If the socket fails.
    pub(crate) fn run(&mut self, spawn: &mut Spawn<'_>) -> Result<Duration, HubError> {
        for worker in 0..self.posts.len() {
            if self.router.is_initial(worker) {
                self.spawn(worker, spawn);
            }
        }
        while !self.router.is_over() {
            let now = self.start.elapsed();
            self.take_reports(now)?;
            // After the reports: what a worker said before it died still counts.
            let commands: Vec<Command> = self.commands.take().collect();
            for command in commands {
                match command {
                    Command::Stop(stop) => self.router.handle(Input::Stop(stop), now),
                    Command::Halt(reason) => self.router.handle(Input::Halt { reason }, now),
                    Command::Lost { place, loss } if self.holds(place) => {
                        // What of it is still on its way is nobody's.
                        self.posts[place.worker].incarnation += 1;
                        self.router.handle(Input::Lost { worker: place.worker, loss }, now);
                    }
                    Command::Lost { .. } => {}
                    Command::Late { place } => self.router.sent_late(place.worker),
                    Command::Steer(steer, answer) => {
                        // Nobody waits for the answer any longer.
                        let _ = answer.send(self.steer(steer, now));
                    }
                    Command::Tell(event) => self.sinks.tell(event),
                }
            }
            let now = self.start.elapsed();
            for action in self.router.settle(now) {
                self.act(action, spawn)?;
            }
            self.sinks.progress(now, || self.router.snapshot(now));
            if !self.router.is_over() {
                self.wait()?;
            }
        }
        Ok(self.start.elapsed())
    }

    fn spawn(&mut self, worker: usize, spawn: &mut Spawn<'_>) {
        if worker >= self.posts.len() {
            self.posts.resize_with(worker + 1, WorkerSlot::default);
        }
        let post = &mut self.posts[worker];
        post.incarnation += 1;
        let place = Place { worker, incarnation: post.incarnation };
        post.lifeline = spawn(place, self.router.place_of(worker));
    }

    fn steer(&mut self, steer: ControlRequest, now: Duration) -> Result<(), String> {
        if let ControlRequest::SetWorkers { step, workers } = &steer {
            let more = workers.saturating_sub(self.router.staff(*step));
            let more = more.min(MOST_MORE);
            make_room(more * OF_A_PROCESS + OF_A_START, more)
                .map_err(|error| format!("the system refuses more workers: {error}"))?;
        }
        self.router.steer(steer, now)
    }

    /// Whether it is the worker that holds its place now.
    fn holds(&self, place: Place) -> bool {
        self.posts.get(place.worker).is_some_and(|post| post.incarnation == place.incarnation)
    }

    /// Closes the socket; to be called once the workers have ended. What they said
    /// at last is told.
    pub(crate) fn into_parts(mut self) -> (Router, RunSinks) {
        for command in self.commands.take() {
            match command {
                Command::Tell(event) => self.sinks.tell(event),
                Command::Late { place } => self.router.sent_late(place.worker),
                _ => {}
            }
        }
        for action in self.router.settle(self.start.elapsed()) {
            if let Action::Tell(event) = action {
                self.sinks.tell(event);
            }
        }
        (self.router, self.sinks)
    }

    fn take_reports(&mut self, now: Duration) -> Result<(), HubError> {
        for _ in 0..MOST_AT_ONCE {
            let Some(parts) = frames::receive(&self.socket, zmq::DONTWAIT)? else { break };
            let mut parts = parts.into_iter();
            let (identity, head) = (parts.next(), parts.next());
            let place = identity.as_deref().and_then(link::place_of);
            let known = place.filter(|place| self.holds(*place));
            if let (Some(Place { worker, .. }), Some(head)) = (known, head) {
                let lifeline = self.posts[worker].lifeline.as_ref();
                let input = match FromWorker::decode(head, parts.collect(), lifeline) {
                    Ok(FromWorker::Notes(notes)) => {
                        let (step, number) =
                            (self.router.step_name(worker), self.router.place_of(worker).1);
                        self.sinks.note(&step, number, notes);
                        continue;
                    }
                    Ok(message) => input_of(worker, message),
                    Err(error) => Input::Broken { worker, reason: error.to_string() },
                };
                self.router.handle(self.sinks.skip_completed(input, &self.router), now);
            }
        }
        Ok(())
    }

    /// Waits for a report, a command, a due retry or the next progress event.
    fn wait(&mut self) -> Result<(), HubError> {
        let now = self.start.elapsed();
        let wake = [self.router.next_wake(), Some(self.sinks.next_progress())];
        let timeout = match wake.into_iter().flatten().min() {
            // Rounded up: a poll that ends early would only be repeated.
            Some(at) => {
                let milliseconds = i64::try_from(at.saturating_sub(now).as_millis());
                milliseconds.map_or(-1, |milliseconds| milliseconds.saturating_add(1))
            }
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

    fn act(&mut self, action: Action, spawn: &mut Spawn<'_>) -> Result<(), HubError> {
        match action {
            Action::Grant { worker, count } => self.send(worker, ToWorker::Grant { count }),
            Action::Work { worker, batches } => self.send(worker, ToWorker::Work(batches)),
            Action::Finish { worker } => self.send(worker, ToWorker::Finish),
            Action::Stop { worker } => self.send(worker, ToWorker::Stop),
            Action::Spawn { worker } => {
                self.spawn(worker, spawn);
                Ok(())
            }
            Action::Quarantine(failed_input) => {
                self.sinks.quarantine(*failed_input);
                Ok(())
            }
            Action::Tell(event) => {
                self.sinks.tell(event);
                Ok(())
            }
            Action::Record(record) => {
                self.sinks.record(record);
                Ok(())
            }
            Action::Spans(spans) => {
                self.sinks.trace(spans);
                Ok(())
            }
        }
    }

    fn send(&mut self, worker: usize, message: ToWorker) -> Result<(), HubError> {
        let WorkerSlot { incarnation, lifeline } = &self.posts[worker];
        let identity = link::identity(Place { worker, incarnation: *incarnation });
        let sharing = lifeline.as_ref().map_or(Sharing::No, Sharing::Over);
        match frames::send(&mut self.socket, Some(&identity), message.encode(sharing)) {
            // It has gone, or has not come yet: its end is reported by itself.
            Err(zmq::Error::EHOSTUNREACH) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// What a worker's report is to the router.
pub(crate) fn input_of(worker: usize, message: FromWorker) -> Input {
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
        FromWorker::Notes(_) => {
            Input::Broken { worker, reason: "its notes came as a report".to_owned() }
        }
    }
}
